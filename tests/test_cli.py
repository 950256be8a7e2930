"""The command line as a user meets it: real processes, their exit codes and what they print."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest
import typer
import yaml
from typer.testing import CliRunner

from gcc_search.cli import app
from gcc_search.cli.options import listed_classes
from gcc_search.errors import SpaceError
from tests.search.conftest import ONE_AT_A_TIME, TINY

PROGRAM = [sys.executable, "-m", "gcc_search"]


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240, check=False)


def write_space(folder: Path, **changes: object) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(TINY | ONE_AT_A_TIME | changes))
    return path


def test_help_names_the_commands(tmp_path):
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("search", "train", "analyze", "recommend", "evaluate", "explain"):
        assert command in done.stdout


def test_no_command_at_all_shows_the_help_and_is_no_success(tmp_path):
    done = run(cwd=tmp_path)
    assert done.returncode == 1
    assert "recommend" in done.stdout


def test_a_mistake_in_a_space_file_is_one_line_and_exit_code_1(tmp_path):
    (tmp_path / "bad.yaml").write_text(
        yaml.safe_dump(
            TINY | {"parameters": {"alpha": {"distribution": "log_uniform_values", "min": 10.0, "max": 0.001}}}
        )
    )
    done = run("--space", "bad.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gcc-search: bad.yaml: parameters.alpha: min must be below max, got 10.0 and 0.001\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "nowhere.yaml"], "nowhere.yaml: must be a readable file, got: No such file or directory"),
        (["analyze", "nowhere"], "nowhere: must be a run directory"),
        (
            ["train", "--dataset", "shapes", "--model", "resnet19"],
            "--model: must be one of",
        ),
        (["train", "--dataset", "shapes", "--model", "resnet19"], 'got "resnet19"; did you mean resnet18?'),
        (
            ["train", "--dataset", "shapes", "--model", "convnet_small", "--epochs", "0"],
            "gcc-search: --epochs: must be",
        ),
        (["train", "--dataset", "caltech101", "--model", "resnet18"], "data.root"),
        (["train", "--dataset", "shapes"], "--model: must be given, or --like with a trial to repeat"),
        (["recommend", "nowhere"], "nowhere: must be a run directory"),
        (["recommend", "nowhere", "--export", "model.pth"], "--export: must end in .safetensors, got model.pth"),
        (["recommend", "nowhere", "--seeds", "3"], "--seeds: must go with --confirm, which writes the space file"),
        (["recommend", "nowhere", "--confirm", "seeds.json"], "--confirm: must end in .yaml or .yml, got seeds.json"),
        (["evaluate", "nowhere"], "nowhere: must be a trial directory or a model that gcc-search exported"),
        (["explain", "nowhere"], "explain: must be given either --images FILES or --test N, got neither"),
        (["train", "--like", "nowhere"], "nowhere: must be a trial directory (with a trial.json), got no folder"),
        (["train", "--like", "nowhere", "--lr", "1", "--batch-size", "2"], "must stand without --lr, --batch-size"),
        (
            ["train", "--dataset", "shapes", "--model", "convnet_small", "--device", "tpu", "--weights", "none"],
            "--device: must be cpu or cuda, got tpu",
        ),
        (
            ["train", "--dataset", "shapes", "--model", "convnet_small", "--classes", "a\nb"],
            "must be names on one line",
        ),
        (["analyze", "nowhere", "--out", "s3://bucket/a"], "--out: must be a path on this machine, got s3://bucket/a;"),
        # What the system says of a name, on its own.
        (["analyze", "x" * 300], f"{'x' * 300}/run.json: must be within reach, got: File name too long; look at"),
        (["evaluate", "x" * 300], f"{'x' * 300}: must be within reach, got: File name too long; look at"),
    ],
)
def test_other_mistakes_are_one_line_too(tmp_path, arguments, message):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "-1"], "--gpus: must be greater than or equal to 0, got -1; see gcc-search search --help"),
        (["--gpus", "two"], "--gpus: must be a valid integer, got two; see gcc-search search --help"),
        (["--spase", "x"], "--spase: must be an option that there is; did you mean --seed or --space or --storage?;"),
        (["search", "--xyz"], "--xyz: must be an option that there is; see gcc-search search --help"),
        (["--space", "x", "--format", "xml"], "--format: must be one of 'text', 'json', got xml; see gcc-search sea"),
        (["analyze"], "RUNS: must be given, got nothing; see gcc-search analyze --help"),
        (["recommend", "x", "--max-accuracy-drop", "nan"], "--max-accuracy-drop: must be greater than or equal to 0, "),
        (
            ["evaluate", "x", "--cose-images", "0"],
            "--cose-images: must be greater than or equal to 1, got 0; see gcc-sea",
        ),
        (["--space"], "--space: must be given a value, got none; see gcc-search search --help"),
        (["anlyze", "x"], "anlyze: must be a command that there is; did you mean analyze?; see gcc-search --help"),
        (["xyz"], "xyz: must be a command that there is; see gcc-search --help"),
    ],
)
def test_a_misused_command_is_one_line_and_not_the_exit_code_of_trials_that_failed(arguments, message):
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"gcc-search: {message}")


def test_a_name_in_a_message_is_escaped_and_cut_in_its_middle(tmp_path):
    done = run("analyze", "a\n\x1b[31m\x1eb", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("gcc-search: a\\n\\x1b[31m\\x1eb: must be a run directory")
    done = run("analyze", "x/" * 2500, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n"), len(done.stderr) < 1300) == (1, 1, True)
    assert " ... " in done.stderr


def test_what_an_encoding_lacks_is_escaped(tiny_run, tmp_path):
    done = subprocess.run(
        [*PROGRAM, "recommend", str(tiny_run)],
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u2191" in done.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_change_nothing_but_what_is_heard(tiny_run, tmp_path, closed):
    command = shlex.join([*PROGRAM, "recommend", str(tiny_run)])
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "written", [["--images", "a.jpg", "b.jpg", "--device", "cpu"], ["--images", "a.jpg", "--images", "b.jpg"]]
)
def test_image_files_are_written_one_after_the_other(written):
    command = typer.main.get_command(app).commands["explain"]
    given = command.make_context("explain", ["first", "second", *written]).params
    assert given["networks"] == ["first", "second"]
    assert given["images"] == [Path("a.jpg"), Path("b.jpg")]


def test_classes_that_cannot_be_read_are_refused():
    for written in ('"a,b', "a\nb", '"a\nb"', "\n"):
        with pytest.raises(SpaceError, match="--classes: must be names on one line"):
            listed_classes(written)


@pytest.mark.parametrize(
    ("written", "names"),
    [(None, None), ("", None), ("cat,dog", ("cat", "dog")), ('cat,"crab, red"', ("cat", "crab, red"))],
)
def test_classes_are_separated_by_commas_and_may_hold_them_in_quotes(written, names):
    assert listed_classes(written) == names


def test_more_gpus_than_there_are_is_one_line(tmp_path):
    done = run("--space", write_space(tmp_path), "--gpus", 4096, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("gcc-search: --gpus: must be at most ")


def test_an_output_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = run("--space", write_space(tmp_path), "--gpus", 0, "--out", "file/runs", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "file/runs: must be a folder that can be written to" in done.stderr


def test_a_database_that_cannot_be_used_is_one_line_and_keeps_the_name_free(tmp_path):
    space = write_space(tmp_path)
    done = run("--space", space, "--gpus", 0, "--storage", "postgres://me@host/studies", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("gcc-search: --storage: must be the SQLAlchemy URL of a database that answers, got ")
    assert list(tmp_path.iterdir()) == [space]


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    done = run("--space", write_space(tmp_path), "--gpus", 0, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "convnet_small: 3 trials of about" in done.stdout
    assert "results   runs/tiny" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_for_machines_prints_the_plan_as_json_alone_on_stdout(tmp_path):
    done = run("--space", write_space(tmp_path), "--gpus", 0, "--dry-run", "--format", "json", cwd=tmp_path)
    plan = json.loads(done.stdout)
    assert (plan["run"], plan["trials"]) == (str(tmp_path / "runs/tiny"), 3)
    assert plan["seconds"] > 0
    assert "results   runs/tiny" in done.stderr


def test_search_then_analyze_ends_in_figures(tmp_path):
    done = run("--space", write_space(tmp_path, run_cap=2), "--gpus", 0, "--name", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "done: trials 2 finished" in done.stdout
    assert done.stdout.endswith("next:    gcc-search analyze runs/mine\n")

    analyzed = run("analyze", "runs/mine", cwd=tmp_path)
    assert analyzed.returncode == 0, analyzed.stderr
    for name in ("frontier.png", "frontier.svg", "tradeoff.png", "tradeoff.svg", "trials.csv"):
        assert (tmp_path / "runs/mine/analysis" / name).stat().st_size > 0

    again = run("--space", "space.yaml", "--gpus", 0, "--name", "mine", cwd=tmp_path)
    assert again.returncode == 1
    assert "runs/mine: must be a new name, got one that exists" in again.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_search_ends_and_says_what_was_interrupted(tmp_path, stop):
    recipe = {"epochs": 500, "lr": 0.01, "image_size": 32}
    command = [*PROGRAM, "--space", str(write_space(tmp_path, recipe=recipe)), "--gpus", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        wait_for_baseline(tmp_path / "runs/tiny", process)
        process.send_signal(stop)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "stopped: trials" in out
    assert "go on:   gcc-search resume runs/tiny" in out
    statuses = {json.loads(path.read_text())["status"] for path in (tmp_path / "runs/tiny").glob("*/*/trial.json")}
    assert statuses == {"finished", "interrupted"}


def test_a_search_whose_terminal_is_closed_ends_in_order_and_leaves_nothing_running(tmp_path):
    recipe = {"epochs": 500, "lr": 0.01, "image_size": 32}
    command = [*PROGRAM, "--space", str(write_space(tmp_path, recipe=recipe)), "--gpus", "0"]
    ours, terminal = os.openpty()

    def take_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    with subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=tmp_path,
        start_new_session=True,
        preexec_fn=take_terminal,
    ) as process:
        os.close(terminal)
        while len(list((tmp_path / "runs/tiny").glob("baselines/*/epochs.parquet"))) < 2:
            assert process.poll() is None, "the search ended by itself"
            # A terminal that nobody reads fills up.
            if select.select([ours], [], [], 0.2)[0]:
                os.read(ours, 1 << 16)
        started = psutil.Process(process.pid).children(recursive=True)
        os.close(ours)
        assert process.wait(timeout=60) == 130
    statuses = {json.loads(path.read_text())["status"] for path in (tmp_path / "runs/tiny").glob("*/*/trial.json")}
    assert statuses == {"finished", "interrupted"}
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []


def test_any_command_that_is_stopped_says_so(tmp_path, monkeypatch):
    def stopped(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("gcc_search.space.load_space", stopped)
    done = CliRunner().invoke(app, ["--space", str(write_space(tmp_path))])
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "gcc-search: stopped\n")


def test_a_search_that_is_stopped_while_ray_starts_ends_and_leaves_nothing_running(tmp_path):
    command = [*PROGRAM, "--space", str(write_space(tmp_path)), "--gpus", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        # Written just before Ray is started, which takes seconds.
        while not (tmp_path / "runs/tiny/study.db").exists():
            assert process.poll() is None, "the search ended by itself"
            time.sleep(0.02)
        while not (started := psutil.Process(process.pid).children(recursive=True)):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "go on:   gcc-search resume runs/tiny --gpus 0" in out
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []


def test_json_is_all_that_a_search_prints_on_stdout_and_no_more_than_a_line_where_it_cannot_run(tmp_path):
    points = [{"alpha": 1.0, "beta": 1.0}]
    space = write_space(tmp_path, weights="none", start=None, method="points", points=points, run_cap=None)
    done = run("--space", space, "--gpus", 0, "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary == {
        "run": str(tmp_path / "runs/tiny"),
        "exit_code": 0,
        "trials": {"finished": 1, "interrupted": 0},
        "not_trained": 0,
        "feasible": 1,
        "failed": [],
        "frontier": ["convnet_small-0000"],
        "gave_up": False,
        "out_of_time": False,
        "resume": "gcc-search resume runs/tiny --gpus 0",
    }
    assert "convnet_small-0000: finished, accuracy" in done.stderr

    again = run("--space", space, "--gpus", 0, "--format", "json", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert "or go on with it: gcc-search resume runs/tiny" in again.stderr


def wait_for_baseline(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the start network is done and the baseline's first epoch is on disk."""
    for _ in range(600):
        if len(list(folder.glob("baselines/*/epochs.parquet"))) == 2:
            return
        assert process.poll() is None, "the search ended by itself"
        time.sleep(0.2)
    raise AssertionError("the baseline never began")


def test_a_network_that_diverges_alone_is_exit_code_2(tmp_path):
    what = ("--dataset", "shapes", "--set", "data.num_images=96", "--model", "convnet_small", "--weights", "none")
    done = run("train", *what, "--epochs", 1, "--image-size", 32, "--lr", 1e30, "--device", "cpu", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    assert "diverged (loss was not finite in epoch 1)" in done.stdout


def test_train_prints_an_epoch_a_line_and_keeps_a_run(tmp_path):
    done = run(
        *(
            "train",
            "--dataset",
            "shapes",
            "--model",
            "convnet_small",
            "--weights",
            "none",
            "--alpha",
            0.1,
            "--beta",
            0.1,
        ),
        *("--epochs", 2, "--image-size", 32, "--insertion-images", 2, "--name", "one", "--device", "cpu"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("epoch 1: loss ")
    assert lines[2].startswith("finished; test: accuracy_points ")
    assert lines[3] == "results: runs/one/trials/convnet_small"
    assert [path.name for path in (tmp_path / "runs/one/trials").iterdir()] == ["convnet_small"]
