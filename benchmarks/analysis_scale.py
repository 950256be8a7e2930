"""What `gcc-search analyze` takes on a run of many trials: seconds, memory, bytes read. Linux."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.large_run import write_large_run

# What is asked of ten thousand trials with two thousand test images each, on so many cores.
LIMIT_SECONDS, LIMIT_BYTES, CORES = 60.0, 2 * 2**30, 2
# So many images.parquet lose their end, spread over the run: each must be refused by name, and the rest used.
TORN = 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One analysis.

    Args:
        cache: `cold`: the run's files were dropped from the page cache before; `warm`: the analysis ran just before.
        cpu_seconds: user and system, over all threads; on an idle machine close to `seconds`.
        peak_bytes: of resident memory.
        read_bytes: through system calls; some 300 MiB are Python's modules and matplotlib's fonts, whatever the run.
        refused: files that the report counts as refused.
    """

    cache: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    read_bytes: int
    refused: int


def measure_scale(*, trials: int, images: int) -> dict[str, Any]:
    """The section of the results file, printed as well. The run is written to a temporary folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="gcc-search-bench-") as temporary:
        folder = Path(temporary) / "large"
        begun = time.perf_counter()
        write_large_run(folder, trials=trials, images=images)
        written = time.perf_counter() - begun
        torn = _tear(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"wrote {trials:,} trials with {images:,} images each: {size / 2**30:.1f} GiB in {written:.0f} s")
        _forget(files)
        measured = [_analyze(folder, cache) for cache in ("cold", "warm")]
    for one in measured:
        _show(one, torn)
    return {
        "trials": trials,
        "images": images,
        "image_rows": trials * images,
        "run_bytes": size,
        "write_seconds": written,
        "torn": torn,
        "limits": {"seconds": LIMIT_SECONDS, "peak_bytes": LIMIT_BYTES, "cores": CORES},
        "analyses": [asdict(one) for one in measured],
    }


def _tear(folder: Path) -> int:
    """How many files were torn."""
    tables = sorted(folder.glob("trials/*/images.parquet"))
    torn = tables[:: max(len(tables) // TORN, 1)][:TORN]
    for path in torn:
        path.write_bytes(path.read_bytes()[:-20])
    return len(torn)


def _forget(files: list[Path]) -> None:
    # Pages that wait to be written stay in the cache.
    os.sync()
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _analyze(folder: Path, cache: str) -> Measured:
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    command = [sys.executable, "-m", "gcc_search", "analyze", str(folder)]
    with tempfile.TemporaryFile("w+") as told:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=told, preexec_fn=lambda: os.sched_setaffinity(0, cores))
        peak = _watch(process.pid)
        seconds = time.perf_counter() - begun
        read = re.search(r"rchar: (\d+)", Path(f"/proc/{process.pid}/io").read_text())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        refused = re.search(r"refused files: (\d+)", told.read())
    if process.returncode != 0 or read is None:
        raise SystemExit(f"{' '.join(command)}: must end with 0, got {process.returncode}")
    return Measured(
        cache=cache,
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=peak,
        read_bytes=int(read[1]),
        refused=int(refused[1]) if refused else 0,
    )


def _watch(process: int) -> int:
    """Peak resident bytes of a process until it ends, which it does not yet notice: its accounts can still be read.

    Not ru_maxrss, which a child takes over from its parent.
    """
    peak = 0
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
        peak = max(peak, int(found[1]) * 1024 if found else 0)
        time.sleep(0.05)
    return peak


def _show(one: Measured, torn: int) -> None:
    print(
        f"{one.cache}: {one.seconds:.1f} s (at most {LIMIT_SECONDS:.0f}), {one.cpu_seconds:.1f} s of CPU, "
        f"{one.peak_bytes / 2**30:.2f} GiB (at most {LIMIT_BYTES / 2**30:.0f}), read {one.read_bytes / 2**20:.0f} MiB, "
        f"refused {one.refused} of {torn} torn files"
    )
