"""`gcc-search train`: one network, trained for real, and what its user sees."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
import torch

from gcc_search.errors import DataError, GccSearchError, OccupiedError, ResourceError, ResultsError, WeightsError
from gcc_search.identity import Identity
from gcc_search.occupancy import only_writer
from gcc_search.recording import record_trial
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.writer import write_run, write_trial
from gcc_search.settings import DataSettings, Explanation, Recipe, TrialSettings
from gcc_search.single import _name_of, train_one


@pytest.fixture(scope="module")
def one_epoch(tiny_trial) -> TrialSettings:
    return tiny_trial.model_copy(update={"recipe": tiny_trial.recipe.model_copy(update={"epochs": 1})})


@pytest.fixture(scope="module")
def three_epochs(tiny_trial) -> TrialSettings:
    return tiny_trial.model_copy(update={"recipe": tiny_trial.recipe.model_copy(update={"epochs": 3})})


def train(settings: TrialSettings, out, *, name: str | None = "one", device: str | None = "cpu"):
    run, _ = train_one(settings, out=out, name=name, device=device, command="gcc-search train --dataset shapes")
    return run


def complaint(kind: type[GccSearchError], settings: TrialSettings, out, **changes) -> str:
    """The one line that is told, after which nothing lies in `out`."""
    with pytest.raises(kind) as caught:
        train(settings, out, **changes)
    assert list(out.iterdir()) == []
    return str(caught.value)


def test_a_run_is_trained_printed_and_written(one_epoch, tmp_path, capsys):
    run = train(one_epoch, tmp_path)
    number = r"-?\d+\.\d+"
    epoch, end, where = capsys.readouterr().out.splitlines()
    assert re.match(rf"epoch 1: loss {number}  accuracy_points {number}  consistency {number}  .*\(\d+ s\)$", epoch)
    assert re.match(rf"finished; test: accuracy_points {number}  .*iauc {number}  dauc {number}  box_mass", end)
    assert where == f"results: {run}/trials/convnet_small"
    assert run == tmp_path / "one"


def test_the_run_directory_is_one_like_any_other(one_epoch, tmp_path):
    run = read_run(train(one_epoch, tmp_path))
    (trial,) = run.trials
    assert (run.problems, trial.record.status, trial.record.id) == ((), "finished", "convnet_small")
    assert (run.record.name, run.record.seed) == ("one", 7)
    assert run.record.command == "gcc-search train --dataset shapes"
    assert run.record.space["single"] == json.loads(one_epoch.model_dump_json())


def test_a_run_without_a_name_is_named_after_its_settings(one_epoch, tmp_path):
    assert train(one_epoch, tmp_path, name=None).name == "shapes-convnet_small-a1-b0.1-p1-lr0.01-seed7"


def test_runs_of_other_seeds_rates_and_distances_have_other_names(tiny_trial):
    def named(*, seed=0, lr=0.001, distance="ssim") -> str:
        parts = {"seed": seed, "recipe": Recipe(lr=lr), "explanation": Explanation(distance=distance)}
        return _name_of(tiny_trial.model_copy(update=parts))

    assert named() == "shapes-convnet_small-a0-b0-p1"
    assert named(seed=3) == "shapes-convnet_small-a0-b0-p1-seed3"
    assert named(lr=0.02) == "shapes-convnet_small-a0-b0-p1-lr0.02"
    assert named(seed=3, distance="correlation") == "shapes-convnet_small-a0-b0-p1-correlation-seed3"


class Interrupted(io.StringIO):
    """A terminal at which somebody presses Ctrl-C when the second epoch is told, or that goes away."""

    def __init__(self, by: type[BaseException]) -> None:
        super().__init__()
        self.by = by

    def write(self, text: str) -> int:
        if "epoch 2:" in text and "epoch 2:" not in self.getvalue():
            super().write(text)
            raise self.by
        return super().write(text)


def interrupt(settings: TrialSettings, out, monkeypatch, by: type[BaseException] = KeyboardInterrupt) -> str:
    """What was printed of a run that was broken off after its second epoch."""
    terminal = Interrupted(by)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        with pytest.raises(by):
            train(settings, out)
    return terminal.getvalue()


def test_a_run_that_was_broken_off_goes_on_and_ends_as_the_undisturbed_one(three_epochs, tmp_path, capsys, monkeypatch):
    (whole,) = read_run(train(three_epochs, tmp_path / "undisturbed")).trials
    assert interrupt(three_epochs, tmp_path, monkeypatch).endswith("go on:   gcc-search train --dataset shapes\n")
    assert read_run(tmp_path / "one").trials[0].record.status == "interrupted"
    capsys.readouterr()
    (trial,) = read_run(train(three_epochs, tmp_path)).trials
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == [
        f"goes on with {tmp_path}/one",
        "epoch 2",
        "epoch 3",
        "finished; test",
        "results",
    ]
    assert (trial.record.status, trial.record.attempts) == ("finished", 2)
    assert trial.record.test == whole.record.test
    assert (trial.folder / "network.safetensors").read_bytes() == (whole.folder / "network.safetensors").read_bytes()


def test_a_run_that_was_broken_off_goes_on_with_its_own_settings_and_images_alone(tiny_trial, tmp_path, monkeypatch):
    interrupt(tiny_trial, tmp_path, monkeypatch)
    with pytest.raises(ResultsError, match=r"one: must be a new name, got one of other settings"):
        train(tiny_trial.model_copy(update={"seed": 8}), tmp_path)
    record = read_run(tmp_path / "one").record
    write_run(tmp_path / "one", replace(record, data=[record.data[0] | {"fingerprint": "others"}]))
    with pytest.raises(DataError, match=r"one: images must be those it began with, got others"):
        train(tiny_trial, tmp_path)
    assert read_run(tmp_path / "one").trials[0].record.status == "interrupted"


def test_a_run_that_has_ended_is_not_gone_on_with(one_epoch, tmp_path):
    train(one_epoch, tmp_path)
    with pytest.raises(ResultsError, match=r"one: must be a new name, got one that has ended \(finished\)"):
        train(one_epoch, tmp_path)


def test_nor_with_one_of_another_trial(one_epoch, tmp_path):
    run = train(one_epoch, tmp_path)
    (run / "trials/convnet_small").rename(run / "trials/another")
    with pytest.raises(ResultsError, match=r"one: must be a new name, got one of other settings"):
        train(one_epoch, tmp_path)


def test_what_was_broken_off_goes_on_whatever_its_record_says_and_wherever_its_images_lie(
    three_epochs, tmp_path, monkeypatch
):
    interrupt(three_epochs, tmp_path, monkeypatch)
    record, folder = read_run(tmp_path / "one").record, tmp_path / "one/trials/convnet_small"
    older = {name: value for name, value in record.space["single"].items() if name != "collapse"}
    older["data"] |= {"root": "/elsewhere"}
    write_run(tmp_path / "one", replace(record, space=record.space | {"single": older}))
    (folder / "trial.json").write_text("{")
    (trial,) = read_run(train(three_epochs, tmp_path)).trials
    assert (trial.record.status, len(trial.epochs())) == ("finished", 3)


def test_one_that_another_process_trains_is_told_at_once_and_never_begun_anew(one_epoch, tmp_path):
    run = train(one_epoch, tmp_path)
    folder = run / "trials/convnet_small"
    began = read_trial(folder).record
    write_trial(folder, replace(began, status="running"))
    with only_writer(folder), pytest.raises(OccupiedError, match="must have one writer at a time"):
        train(one_epoch, tmp_path)
    write_trial(folder, began)
    rows = record_trial(one_epoch, folder, Identity(id="convnet_small"), device=torch.device("cpu"), is_alone=True)
    assert list(rows) == []
    assert read_trial(folder).record == began


def test_a_terminal_that_goes_away_is_no_early_stopping(three_epochs, tmp_path, monkeypatch):
    interrupt(three_epochs, tmp_path, monkeypatch, by=SystemExit)
    folder = tmp_path / "one/trials/convnet_small"
    assert read_trial(folder).record.status == "running"
    assert any((folder / "checkpoint").iterdir())


def test_a_diverged_run_says_so(one_epoch, tmp_path, capsys):
    recipe = one_epoch.recipe.model_copy(update={"lr": 1e30})
    train(one_epoch.model_copy(update={"recipe": recipe}), tmp_path)
    epoch, end, _ = capsys.readouterr().out.splitlines()
    assert epoch.startswith("epoch 1: loss nan  accuracy_points 0.000")
    assert end == "diverged (loss was not finite in epoch 1)"


def test_a_name_that_exists_is_one_line_and_keeps_what_is_there(one_epoch, tmp_path):
    (tmp_path / "one").mkdir()
    with pytest.raises(ResultsError) as caught:
        train(one_epoch, tmp_path)
    advice = "choose another with --name, or remove it"
    assert str(caught.value) == f"{tmp_path}/one: must be a new name, got one that exists; {advice}"
    assert list((tmp_path / "one").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/abs", "a/b", "..", "-rf", ""])
def test_a_name_cannot_leave_the_folder_of_the_runs(one_epoch, tmp_path, name):
    with pytest.raises(
        ResultsError, match=r"--name: must be 1 to 64 letters, digits, .*; the folder around it is --out"
    ):
        train(one_epoch, tmp_path / "runs", name=name)
    assert list(tmp_path.iterdir()) == []


def test_missing_images_leave_nothing_behind(one_epoch, tmp_path):
    settings = one_epoch.model_copy(update={"data": DataSettings(name="caltech101")})
    assert complaint(DataError, settings, tmp_path).startswith("data.root: folder must be given for caltech101")


def test_missing_weights_leave_nothing_behind(one_epoch, tmp_path):
    settings = one_epoch.model_copy(update={"weights": "none.pth"})
    assert complaint(WeightsError, settings, tmp_path).startswith("weights: none.pth: must be a file")


def test_a_start_network_goes_with_a_search(one_epoch, tmp_path):
    message = complaint(WeightsError, one_epoch.model_copy(update={"weights": "baseline"}), tmp_path)
    assert message == "weights: must be a file, none or a torchvision name, got baseline; that goes with a search"


def test_an_unknown_device_is_one_line(one_epoch, tmp_path):
    assert complaint(ResourceError, one_epoch, tmp_path, device="tpu") == "--device: must be cpu or cuda, got tpu"


def test_a_gpu_that_is_not_there_is_one_line(one_epoch, tmp_path, monkeypatch):
    # On a machine that has one, too.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = complaint(ResourceError, one_epoch, tmp_path, device="cuda")
    assert message == "--device: must be cpu, got cuda on a machine without a GPU that torch can use"


def test_a_folder_that_cannot_be_written_is_one_line(one_epoch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResultsError, match=r"run.json: must be writable, got: Not a directory; "):
        train(one_epoch, tmp_path / "file")
