"""Networks that other packages bring, from the space file to the exported network: real Ray, real processes."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch.testing import assert_close

from gcc_search.analysis.recommendation import Wish, recommend
from gcc_search.errors import ResultsError, SpaceError
from gcc_search.exporting import export_recommended
from gcc_search.identity import package_versions
from gcc_search.patience import UNHEARD
from gcc_search.plugins import bringers, brought_networks, factory_of, import_line, versions_of
from gcc_search.results.reader import read_run
from gcc_search.search.baselines import find_baseline
from gcc_search.search.inspection import Probe, Wanted, _look
from gcc_search.search.readiness import SearchOptions, reopen_search
from gcc_search.space import load_space
from gcc_search.trained import open_trained
from gcc_search.training.networks import empty_network
from tests.brought import NAMES, SOURCE, folder_of_packages, forget, own_nets, packages
from tests.search.conftest import ONE_AT_A_TIME, make_space, run_space

__all__ = ["own_nets", "packages"]

POINTS = [{"alpha": 0.5, "beta": 0.02}, {"alpha": 2.0, "beta": 0.1}]


def complaint(packages, name: str) -> str:
    path = packages.path / "space.yaml"
    path.write_text(
        f"name: demo\nnetworks: [{name}]\ndata: {{name: shapes}}\nparameters: {{alpha: {{value: 1}}}}\n"
        "metrics: [{name: gini}]\nrun_cap: 1\n"
    )
    with pytest.raises(SpaceError) as caught:
        load_space(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_names_are_those_of_entry_points_that_can_be_a_part_of_a_folders_name(packages):
    packages.bring(names=NAMES | {"a/b": "own_nets:small", "-x": "own_nets:small", "y" * 33: "own_nets:small"})
    assert list(brought_networks()) == ["own_residual", "own_small"]
    assert bringers("own_small") == ("own-nets",)
    assert bringers("resnet18") == ()


def test_a_name_that_cannot_be_a_part_of_a_folders_is_told_as_such(packages):
    packages.bring(names={"my-net": "own_nets:small", "mine": "own nets:small"})
    told = "networks.0: must be a letter, then at most 31 letters, digits or underscores, got my-net; rename it"
    assert complaint(packages, "my-net") == told
    # What it stands for is no place in a module.
    assert bringers("mine") == ()


def test_nothing_of_a_package_is_imported_to_know_its_names(packages):
    packages.bring("raise ImportError('no such thing')")
    assert make_space(networks=["own_small"]).networks == ("own_small",)


@pytest.mark.usefixtures("own_nets")
def test_a_misspelt_one_is_answered_with_the_nearest(own_nets):
    assert complaint(own_nets, "own_smal") == (
        'networks.0: must be one of 25 names, got "own_smal"; did you mean own_small?'
    )


def test_a_name_of_two_networks_is_refused(packages):
    packages.bring(names={"resnet18": "own_nets:small", "mine": "own_nets:small"})
    told = "networks.0: must be one network, got ours and that of the package own-nets; rename that one"
    assert complaint(packages, "resnet18") == told
    packages.bring(names={"mine": "own_nets:small"}, package="other-nets")
    told = complaint(packages, "mine")
    assert told.startswith("networks.0: must be one network, got one of each of o")
    assert told.endswith("; rename one")


def test_a_package_that_cannot_be_imported_is_a_line(packages):
    packages.bring("raise ImportError('no such thing')")
    with pytest.raises(SpaceError) as caught:
        run_space(make_space(networks=["own_small"], weights="none", start=None), packages.path)
    rule = "networks: own_small: must be importable as own_nets:small, of the package own-nets"
    assert str(caught.value) == f"{rule}, got ImportError: no such thing; mend it there"
    assert not (packages.path / "tiny").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"resources": {"activation_checkpointing": True}},
            "activation_checkpointing: must be false for a network whose features are no nn.Sequential, got Residual; "
            "leave it out",
        ),
        (
            {},
            "image_size: must be larger for own_residual, whose maps have one cell, got 32; "
            "raise it, or name a part before it",
        ),
    ],
)
def test_what_does_not_go_with_a_network_is_told_before_a_search(own_nets, changes, message):
    recipe = {"epochs": 2, "image_size": 64 if changes else 32}
    space = make_space(networks=["own_residual"], weights="none", start=None, recipe=recipe, **changes)
    with pytest.raises(SpaceError) as caught:
        run_space(space, own_nets.path)
    assert str(caught.value) == message
    assert not (own_nets.path / "tiny").exists()


def test_machines_are_looked_at_for_the_packages_of_a_searchs_networks(own_nets, shapes_settings):
    place, probe = str(own_nets.path / "runs"), Probe(name="probe", content=b"")
    wanted = Wanted(
        networks=("own_small",), data=shapes_settings, fingerprints={}, weights=(), published={}, place=place
    )
    assert _look(wanted, probe, "here").versions["own-nets"] == versions_of(["own_small"])["own-nets"]


def test_logits_are_counted_in_the_layer_of_classes_whatever_comes_after_it(packages, tiny_run):
    after, made = "net.after = nn.Linear(2, 3)", "return OwnNetwork(net, features='stages', head='fc')"
    packages.bring(f"{SOURCE}\n\ndef small(n):\n    net = Small(n)\n    {after}\n    {made}\n")
    trained = replace(open_trained(tiny_run / "trials" / "t1"), network=empty_network("own_small", 5))
    assert trained.num_classes == 5


def test_versions_are_of_the_packages_asked_for_and_change_with_their_code(own_nets):
    assert versions_of(["resnet18"]) == {}
    before = versions_of(["own_small", "own_residual", "convnet_small"])
    assert before["own-nets"].startswith("0.1 (")
    own_nets.bring(SOURCE + "# Another line.\n")
    after = package_versions(["own_small"])
    assert after["own-nets"] != before["own-nets"]
    own_nets.bring(SOURCE)
    assert versions_of(["own_small"]) == before


def test_what_code_is_looked_at_is_all_that_a_package_says_it_holds(own_nets):
    about = own_nets.path / "own_nets-0.1.dist-info"
    (about / "top_level.txt").write_text("own_nets\nown_helpers\n")
    helpers = own_nets.path / "own_helpers"
    (helpers / "inner").mkdir(parents=True)
    (helpers / "__init__.py").write_text("")
    found = []
    for content in ("a = 1", "a = 2"):
        (helpers / "inner" / "some.py").write_text(content)
        forget()
        found.append(versions_of(["own_small"])["own-nets"])
    # An editor's mark of a file that is open.
    (helpers / ".#some.py").symlink_to("nowhere")
    # And pip's of a package that is edited in place, which says where that is.
    (own_nets.path / "__editable___own_nets_finder.py").write_text("MAPPING = {'own_nets': '/home/me/own_nets'}")
    (about / "RECORD").write_text("__editable___own_nets_finder.py,,\n")
    forget()
    assert versions_of(["own_small"])["own-nets"] == found[1]
    assert found[0] != found[1]


def test_a_package_that_ends_the_process_is_a_line(packages):
    packages.bring("raise SystemExit('no licence')")
    with pytest.raises(SpaceError, match=r"got SystemExit: no licence; mend it there$"):
        factory_of("own_small")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search of `convnet_small` and of the same by other hands: its folder, what was printed, and the packages."""
    with (
        pytest.MonkeyPatch.context() as patch,
        folder_of_packages(tmp_path_factory.mktemp("site"), patch) as folder,
    ):
        folder.bring()
        networks = ["convnet_small", "own_small"]
        space = make_space(networks=networks, method="points", points=POINTS, run_cap=None, **ONE_AT_A_TIME)
        result, printed = run_space(space, tmp_path_factory.mktemp("runs"))
        yield result.run, printed, folder


def test_a_search_gives_what_it_gives_with_the_same_network_of_ours(searched):
    run, printed, _ = searched
    found = {}
    for trial in read_run(run).trials:
        record = trial.record
        found[record.network, record.sampled["alpha"]] = [*map(_timeless, trial.epochs().to_pylist()), record.test]
    assert len(found) == 4
    for point in POINTS:
        assert found["own_small", point["alpha"]] == found["convnet_small", point["alpha"]]
    assert "own_small-0000: finished" in printed


def _timeless(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if "seconds" not in name and "bytes" not in name}


def test_what_was_found_is_exported_with_the_lines_that_load_it(searched, tmp_path, monkeypatch):
    run, _, _ = searched
    wish, version = Wish(max_accuracy_drop=100, network="own_small"), versions_of(["own_small"])["own-nets"]
    export_recommended(recommend(read_run(run), wish), wish, tmp_path / "model.safetensors")
    trained, card = open_trained(tmp_path / "model.safetensors"), (tmp_path / "model.md").read_text()
    assert (trained.versions["own-nets"], trained.notes) == (version, [])
    assert "library_name: pytorch\n" in card
    assert f"| own-nets | {version} |" in card
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30), (200, 40, 40)).save("IMAGE.jpg")
    names: dict[str, Any] = {}
    exec(card.partition("```python\n")[2].partition("```")[0], names)
    images = torch.rand(2, 3, 32, 32)
    assert_close(names["network"](images), trained.network(images))


def test_without_the_package_a_line_says_what_is_missing(searched, tmp_path):
    run, _, folder = searched
    (found,) = [trial for trial in read_run(run).trials if trial.record.id == "own_small-0000"]
    shutil.copytree(run, tmp_path / "tiny")
    about = folder.path / "own_nets-0.1.dist-info"
    about.rename(tmp_path / "away")
    forget()
    told = 'must come with a package that is installed, got "own_small"; install the one that versions names'
    with pytest.raises(ResultsError) as caught:
        open_trained(found.folder)
    assert str(caught.value) == f"{found.folder}/trial.json: settings: network: {told}"
    with pytest.raises(ResultsError) as caught:
        reopen_search(read_run(tmp_path / "tiny"), SearchOptions(out=tmp_path, gpus=0), Console(file=io.StringIO()))
    assert str(caught.value) == f"{tmp_path}/tiny/run.json: space: networks.1: {told}"
    (tmp_path / "away").rename(about)
    forget()


def test_where_the_code_has_changed_no_baseline_is_lent_and_a_resume_says_so(searched, tmp_path):
    run, _, folder = searched
    keys = {trial.record.network: trial.record.id for trial in read_run(run).baselines.values()}
    beside = tmp_path / "runs"
    shutil.copytree(run.parent, beside)

    def is_lent(network: str, to: str) -> bool:
        return find_baseline(beside / to, keys[network], UNHEARD, on_gpu=False) is not None

    def said_at_resume() -> str:
        console = Console(file=io.StringIO(), width=200)
        reopen_search(read_run(beside / "tiny"), SearchOptions(out=beside, gpus=0), console)
        return console.file.getvalue()

    assert is_lent("own_small", "before")
    assert "note: own-nets" not in said_at_resume()
    before = versions_of(["own_small"])["own-nets"]
    folder.bring(SOURCE + "# Another line.\n")
    after = versions_of(["own_small"])["own-nets"]
    assert not is_lent("own_small", "after")
    assert is_lent("convnet_small", "after")
    told = f"note: own-nets is {after}, and was {before}: networks from now on may be others than before"
    assert told in said_at_resume()
    trained = open_trained(beside / "before" / "baselines" / keys["own_small"])
    assert trained.notes == [
        f"note: own-nets is {after}, and was {before} when baseline was trained: its measures may be others"
    ]
    assert open_trained(beside / "after" / "baselines" / keys["convnet_small"]).notes == []
    folder.bring()


def test_the_import_is_of_the_name_before_the_first_dot(packages):
    packages.bring(SOURCE + "\n\nclass Made:\n    one = staticmethod(small)\n", {"mine": "own_nets:Made.one"})
    line, name = import_line("mine")
    assert (line, name) == ("from own_nets import Made", "Made.one")
