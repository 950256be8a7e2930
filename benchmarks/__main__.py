"""`make bench`, or `python -m benchmarks NAME...`: runs the benchmarks and leaves a dated results file."""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.markdown import in_markdown
from gcc_search.atomic import write_atomically

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "kornia", "numpy", "pyarrow", "matplotlib", "ray", "optuna", "SQLAlchemy")


def main() -> None:
    asked = _parse(sys.argv[1:])
    found: dict[str, Any] = {"hardware": f"{psutil.cpu_count()}-cpu", "minutes": {}}
    today = datetime.now(UTC).date().isoformat()
    versions = {"python": platform.python_version()} | _versions()
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    for name in asked.names:
        began = time.monotonic()
        found |= BENCHMARKS[name](asked)
        found["minutes"][name] = (time.monotonic() - began) / 60
        # After each: whoever ends it early keeps what was measured.
        parts = [today, found["hardware"], *(asked.names if len(asked.names) < len(BENCHMARKS) else [])]
        path = RESULTS / f"{'-'.join(parts).replace(' ', '-').lower()}.json"
        whole = {"date": today, "command": command, "versions": versions} | found
        write_atomically(path, json.dumps(whole, indent=1).encode())
        write_atomically(path.with_suffix(".md"), in_markdown(whole).encode())
        print(f"wrote {path} and {path.with_suffix('.md').name}", file=sys.stderr)


def _versions() -> dict[str, str]:
    """Of what is installed: not every benchmark needs Ray."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--trials", type=int, default=10_000, help="analysis_scale: trials with a scored test split")
    parser.add_argument("--images", type=int, default=2_000, help="analysis_scale: test images of each")
    parser.add_argument(
        "--networks",
        nargs="+",
        metavar="NETWORK",
        help="step, precision: which; default: those of the paper, of which precision takes resnet18 alone on a CPU",
    )
    parser.add_argument(
        "--not-compiled", action="store_true", help="precision: without torch.compile, which takes minutes"
    )
    parser.add_argument("--batch-size", type=int, help="step: images a step; default: 32 on a GPU, 4 on a CPU")
    parser.add_argument(
        "--no-work", type=int, nargs="+", default=[300], metavar="N", help="scale: searches of so many trials each"
    )
    parser.add_argument("--rounds", type=int, default=1, help="scale: how often each search is done, in turn")
    parser.add_argument(
        "--gate", type=int, default=0, metavar="N", help="scale: so many trials of a second on 16 slots"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        help="input, evaluation: folder that holds caltech101; default: made-up pictures",
    )
    parser.add_argument(
        "--in-one-process",
        type=int,
        default=100,
        metavar="N",
        help="turnaround: trials of one process",
    )
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"NAME must be one of {', '.join(BENCHMARKS)}, got {unknown[0]}")
    asked.names = asked.names or list(BENCHMARKS)
    return asked


def _step(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.step import measure_steps

    return measure_steps(asked.networks, batch_size=asked.batch_size)


def _precision(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.precision import measure_precision

    return measure_precision(asked.networks, compiled=not asked.not_compiled)


def _input(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.input import measure_input

    return measure_input(asked.data_root)


def _evaluation(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.evaluation import measure_evaluation

    return measure_evaluation(asked.data_root)


def _analysis_scale(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.analysis_scale import measure_scale

    return {"analysis_scale": measure_scale(trials=asked.trials, images=asked.images)}


def _safety(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.safety import measure_safety

    return measure_safety()


def _scale(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.scale import measure_scheduling

    return {"scale": measure_scheduling(sizes=asked.no_work, rounds=asked.rounds, gate=asked.gate)}


def _busy(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.busy import measure_busy

    return measure_busy()


def _packing(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.packing import measure_packing

    return measure_packing()


def _turnaround(asked: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.turnaround import measure_turnaround

    return measure_turnaround(trials=asked.in_one_process)


BENCHMARKS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "analysis_scale": _analysis_scale,
    "step": _step,
    "precision": _precision,
    "input": _input,
    "evaluation": _evaluation,
    "safety": _safety,
    "scale": _scale,
    "busy": _busy,
    "packing": _packing,
    "turnaround": _turnaround,
}

if __name__ == "__main__":
    main()
