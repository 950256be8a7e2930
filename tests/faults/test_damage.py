"""Every file that a run writes, damaged in every way: refused by name or recovered, never silence.

Looked at as `analyze` looks (`find`) and as `resume` does before it starts Ray (`recall`).
"""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from optuna.storages import InMemoryStorage
from rich.console import Console

from gcc_search.analysis.findings import find
from gcc_search.errors import GccSearchError
from gcc_search.results.reader import read_run, read_trial
from gcc_search.search.job_queue import JobQueue
from gcc_search.search.launch import run_search
from gcc_search.search.readiness import Prepared, SearchOptions, reopen_search
from gcc_search.search.recall import recall
from gcc_search.space import SearchSpace
from gcc_search.training.checkpoint import load_checkpoint
from tests.faults.census import finished_files, results_of
from tests.faults.lives import Undisturbed

pytestmark = pytest.mark.usefixtures("one_ray")

BLOCK = 4096


def _truncated(length: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: max(0, length(path.stat().st_size))])


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _zero_block(path: Path) -> None:
    content = path.read_bytes()
    start = max(0, len(content) // 2 - BLOCK // 2)
    path.write_bytes(content[:start] + bytes(len(content[start : start + BLOCK])) + content[start + BLOCK :])


def _flipped(seed: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content, chance = bytearray(path.read_bytes()), random.Random(seed)
        place = chance.randrange(len(content)) if content else 0
        content[place : place + 1] = bytes(byte ^ 1 << chance.randrange(8) for byte in content[place : place + 1])
        path.write_bytes(content)

    return flip


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut to 0 bytes": _truncated(lambda size: 0),
    "cut to 1 byte": _truncated(lambda size: 1),
    "cut to half": _truncated(lambda size: size // 2),
    "cut by 1 byte": _truncated(lambda size: size - 1),
    "zeroed": _zeroed,
    "a block of zeros": _zero_block,
    "a bit flipped": _flipped(1),
    "another bit flipped": _flipped(2),
    "removed": Path.unlink,
    "a folder": _folder,
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the two commands said: `refused` by raising, `told` among problems and printed lines."""

    refused: str | None
    told: str

    def names(self, path: Path) -> bool:
        return str(path) in (self.refused or "") or str(path) in self.told


def analyzed(run: Path) -> Look:
    try:
        return Look(refused=None, told="\n".join(find(read_run(run)).problems))
    except GccSearchError as error:
        return Look(refused=str(error), told="")


def prepared_resume(run: Path, prepared: Prepared) -> tuple[Look, JobQueue | None]:
    """As far as `resume` comes before it starts Ray. `prepared`: of the sound run; run.json still says the same.

    A study in memory costs Optuna nothing; in a database, where its tables are made each time, most of the seconds.
    """
    console = Console(file=io.StringIO(), width=10_000)
    try:
        found = read_run(run)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gcc_search.search.recall.open_storage", lambda url: InMemoryStorage())
            queue, _ = recall(prepared, found, console)
    except GccSearchError as error:
        return Look(refused=str(error), told=""), None
    return Look(refused=None, told=console.file.getvalue()), queue  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def interrupted(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run as a kill in its last trial's second epoch leaves it: with a checkpoint after the first."""
    import dataclasses

    import torch

    from gcc_search.identity import Identity
    from gcc_search.recording import record_trial
    from gcc_search.settings import TrialSettings

    run = tmp_path_factory.mktemp("interrupted") / "tiny"
    shutil.copytree(undisturbed.run, run)
    folder = run / "trials/convnet_small-0005"
    record = read_trial(folder).record
    shutil.rmtree(folder)
    identity = Identity(id=record.id, sampled=record.sampled, baseline=record.baseline)
    settings = TrialSettings.model_validate(record.settings)
    events = record_trial(settings, folder, identity, device=torch.device("cpu"))
    # Its state after the first epoch is written when the second one is asked for.
    next(events), next(events)
    kept = shutil.copytree(folder, run.parent / "kept")
    events.close()
    shutil.rmtree(folder)
    kept.rename(folder)
    from gcc_search.results.writer import write_trial

    write_trial(folder, dataclasses.replace(read_trial(folder).record, status="running", reason=None))
    return run


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy to damage, under the name the search has."""
    return lambda run: shutil.copytree(run, tmp_path / "tiny")


def prepare(run: Path, *, storage: str | None = "sqlite://") -> Prepared:
    """What `resume` looks at first, with the study in memory or, None, in study.db. It stays good for each copy."""
    options = SearchOptions(out=run.parent, gpus=0, storage=storage)
    return reopen_search(read_run(run), options, Console(file=io.StringIO()))


def _files(run: Path) -> Iterator[str]:
    """One of each kind of file, below the first folder that has it."""
    seen: set[tuple[str, ...]] = set()
    roles = {trial.folder: trial.record.role for trial in read_run(run).baselines.values()}
    for path in sorted(run.rglob("*")):
        kind = (roles.get(path.parent, ""), path.parent.name[:9], path.name.split("-")[0])
        if path.is_file() and "analysis" not in path.parts and kind not in seen:
            seen.add(kind)
            yield str(path.relative_to(run))


# Caches and marks of a process: what is in them is made again, or says nothing about results.
REMADE = ("study.db", "driver.lock")


@pytest.mark.timeout(900)
def test_each_damage_to_a_finished_run_is_named_or_harmless(undisturbed, copy):
    silent, prepared = [], prepare(undisturbed.run)
    on_disk = prepare(undisturbed.run, storage=None)
    expected = find(read_run(undisturbed.run))
    for name in _files(undisturbed.run):
        for damage, do in DAMAGES.items():
            run = copy(undisturbed.run)
            do(run / name)
            # The copy is where the run of that name would be.
            kept = on_disk if name == "study.db" else prepared
            here = replace(kept, options=replace(kept.options, out=run.parent))
            looks = analyzed(run), prepared_resume(run, here)[0]
            is_told = any(look.names(run / name) for look in looks) or any(
                look.names((run / name).parent) for look in looks
            )
            if name in REMADE:
                is_told = looks[0].refused is None and find(read_run(run)).rows == expected.rows
            # heatmaps are kept or not; a run may be copied without its networks.
            if not is_told and not (damage == "removed" and name.endswith("heatmaps.parquet")):
                silent.append(f"{name}: {damage}")
            shutil.rmtree(run)
    assert silent == []


@pytest.mark.timeout(900)
def test_each_damage_to_a_state_goes_back_to_the_one_before_or_begins_anew(interrupted, copy):
    folder = "trials/convnet_small-0005"
    states = sorted(path.name for path in (interrupted / folder / "checkpoint").iterdir())
    assert states
    newest = states[-1]
    for damage, do in DAMAGES.items():
        run = copy(interrupted)
        do(run / folder / "checkpoint" / newest)
        found = load_checkpoint(run / folder / "checkpoint")
        assert found is None, damage
        look, queue = prepared_resume(run, prepare(run))
        assert look.refused is None, damage
        assert queue is not None
        assert queue.num_waiting == 1, damage
        shutil.rmtree(run)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["trial.json", "epochs.parquet"])
def test_each_damage_to_a_trial_that_was_running_lets_it_go_on(interrupted, copy, name):
    for damage, do in DAMAGES.items():
        run = copy(interrupted)
        do(run / "trials/convnet_small-0005" / name)
        look, queue = prepared_resume(run, prepare(run))
        assert look.refused is None, damage
        assert queue is not None
        assert queue.num_waiting == 1, damage
        shutil.rmtree(run)


def _resumed(run: Path) -> str:
    console = Console(file=io.StringIO(), width=10_000)
    run_search(reopen_search(read_run(run), SearchOptions(out=run.parent, gpus=0), console), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.timeout(900)
def test_a_run_damaged_in_many_places_is_mended_by_one_resume(undisturbed, interrupted, copy):
    """The study, a baseline's rows, the start network, a state and a record: all made again, to the bit."""
    run = copy(interrupted)
    (state,) = (run / "trials/convnet_small-0005/checkpoint").iterdir()
    by_role = {trial.record.role: trial.folder for trial in read_run(run).baselines.values()}
    _zeroed(run / "study.db")
    _flipped(1)(by_role["baseline"] / "epochs.parquet")
    _flipped(1)(by_role["start"] / "network.safetensors")
    _truncated(lambda size: size // 2)(state)
    _truncated(lambda size: 10)(run / "trials/convnet_small-0004/trial.json")
    before = finished_files(run)
    printed = _resumed(run)
    assert "network.safetensors: must be as it was written, got other bytes" in printed
    assert results_of(read_run(run)) == results_of(read_run(undisturbed.run))
    assert find(read_run(run)).problems == ()
    after = finished_files(run)
    # One that collapsed is not among the finished.
    untouched = {f"trials/convnet_small-{number:04d}" for number in range(4)} & before.keys()
    assert untouched
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}


def test_a_changed_start_network_is_refused_by_name(undisturbed, copy):
    from gcc_search.errors import WeightsError
    from gcc_search.identity import START
    from gcc_search.recording import _resolve_weights

    run = copy(undisturbed.run)
    start = next(t for t in read_run(run).baselines.values() if t.record.role == "start")
    _flipped(1)(start.folder / "network.safetensors")
    space = SearchSpace.model_validate(read_run(run).record.space)
    settings = space.settings("convnet_small", {}).model_copy(update={"weights": START + start.record.id})
    with pytest.raises(WeightsError, match=r"network.safetensors: must be as it was written, got other bytes"):
        _resolve_weights(settings, run / "trials/convnet_small-0000")
