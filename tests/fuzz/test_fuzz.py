"""The short form of the fuzz tests; the long one is `make fuzz`."""

import pytest

from gcc_search.errors import GccSearchError, ResultsError
from gcc_search.results.reader import read_run
from tests.fuzz.rounds import run_round
from tests.fuzz.targets import Target, make_targets

# A few thousand in all, by the targets' shares.
INPUTS = 3000
NAMES = [
    "space loader",
    "constraint parser",
    "run.json",
    "trial.json",
    "epochs.parquet",
    "images.parquet",
    "analyze, run.json",
    "analyze, trial.json",
    "analyze, baseline's trial.json",
    "analyze, images.parquet",
]


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> dict[str, Target]:
    return {target.name: target for target in make_targets(tmp_path_factory.mktemp("fuzz"))}


def test_the_targets_share_all_inputs_among_them(targets):
    assert list(targets) == NAMES
    assert sum(target.share for target in targets.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_our_own_errors_comes_out(targets, name):
    inputs = round(INPUTS * targets[name].share)
    count = run_round(targets[name], inputs=inputs, seed=0)
    assert dict(count.others) == {}, count.examples
    assert count.inputs == inputs


def test_a_fault_would_be_counted_with_its_place():
    import hypothesis.strategies as st

    def read(content: int) -> None:
        if content > 2:
            raise KeyError(content)
        if content == 2:
            raise GccSearchError("two\nlines")
        if content == 1:
            raise GccSearchError("one line")

    count = run_round(Target(name="demo", share=1, inputs=st.integers(0, 9), read=read), inputs=10, seed=0)
    assert set(count.others) <= {"KeyError at ?", "a message that is not one line"}
    assert "KeyError at ?" in count.others


def test_a_trial_under_another_name_than_its_folder_is_refused(targets, tmp_path):
    """Its id would lead elsewhere: resume writes to the folder of that name."""
    from tests.fuzz.run_folders import make_run

    run = make_run(tmp_path / "run")
    (run / "trials/resnet18-0000").rename(run / "trials/other")
    (problem,) = read_run(run).problems
    assert "id must be the folder's name, got that of resnet18-0000; was the folder renamed?" in problem


@pytest.mark.parametrize("field", ["id", "baseline", "network"])
@pytest.mark.parametrize("name", ["../x", "/abs", "a/../../b", "..", "a\x00b", ".hidden", ""])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, trial_record, field, name):
    from dataclasses import replace

    from gcc_search.results.reader import read_trial
    from gcc_search.results.writer import write_trial

    write_trial(tmp_path, replace(trial_record, **{field: name}))
    with pytest.raises(ResultsError, match=rf"trial.json: {field}: must be a plain name without slashes, got"):
        read_trial(tmp_path)
