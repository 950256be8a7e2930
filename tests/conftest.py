"""What every test starts from: one thread, a cache of its own, and images that are drawn once."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
import torch

# Says how Ray is to be started, and must be first to: tests of cluster files import Ray's own.
import gcc_search.search  # noqa: F401
from gcc_search.identity import Identity
from gcc_search.preparation import describe_images
from gcc_search.recording import record_trial
from gcc_search.results.schema import RunRecord
from gcc_search.results.writer import write_run
from gcc_search.settings import DataSettings, EvaluationSettings, Explanation, Recipe, TrialSettings
from gcc_search.training.datasets import DataSet, load_dataset
from tests.once import made_once

# A busy machine is no failure, and a failure is one tomorrow as well.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def surroundings_of_tests(tmp_path_factory):
    """Sums are in one order with one thread, and nobody's own cache is touched.

    Of the processes that tests start, too: on a busy machine two threads of one step wait for each other, and spin.
    """
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("GCC_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shapes_settings() -> DataSettings:
    """64 images to train on, 16 to validate, 16 to test; eight classes."""
    return DataSettings(name="shapes", num_images=96)


@pytest.fixture(scope="session")
def shapes(shapes_settings) -> DataSet:
    return load_dataset(shapes_settings, image_size=32)


@pytest.fixture(scope="session")
def tiny_trial(shapes_settings) -> TrialSettings:
    """Two epochs of four steps with every term of the loss, at 32 pixels."""
    return TrialSettings(
        network="convnet_small",
        weights="none",
        data=shapes_settings,
        recipe=Recipe(epochs=2, batch_size=16, lr=0.01, image_size=32),
        explanation=Explanation(alpha=1.0, beta=0.1),
        evaluation=EvaluationSettings(insertion_images=2, batch_size=16),
        seed=7,
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_trial, shapes, tmp_path_factory) -> Path:
    """A run directory as a search leaves it, trained without Ray: baselines/base and trials/t1."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    record = RunRecord(
        name="tiny",
        created="2026-01-02T03:04:05+00:00",
        command="gcc-search --space tiny.yaml",
        space={"metrics": [{"name": "corrected_consistency"}], "constraints": []},
        seed=tiny_trial.seed,
        data=[describe_images(32, shapes)],
        versions={},
        host="here",
    )
    write_run(run, record)
    for place, identity, weight in (
        ("baselines/base", Identity(id="base", role="baseline"), 0.0),
        ("trials/t1", Identity(id="t1", baseline="base"), 0.01),
    ):
        settings = tiny_trial.model_copy(update={"explanation": Explanation(alpha=weight, beta=weight)})
        (*_, end) = record_trial(settings, run / place, identity, device=torch.device("cpu"))
        assert end.status == "finished"
    return run


@pytest.fixture(scope="module")
def one_ray():
    """The searches of a file share it: Ray's own start costs more than a tiny search."""
    from gcc_search.search.cluster import local_ray
    from gcc_search.search.machines import plan_machines
    from gcc_search.vocabulary import Resources

    with local_ray(plan_machines(Resources(), gpus=0)):
        yield


@pytest.fixture(scope="session")
def tiny_search(tmp_path_factory):
    """(result, printed) of one real search of three trials, for those that only look."""
    # Ray is loaded for those that ask.
    from tests.search.conftest import make_space, run_space

    return made_once(tmp_path_factory, "tiny_search", lambda folder: run_space(make_space(), folder))
