"""Who may import whom (one direction, no way around), and a proof that a violation would be noticed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "gcc_search"

# Package or module of ours -> what of ours it may import. Nothing points up or sideways.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "passwords": set(),
    "letters": set(),
    "homes": {"errors"},
    "seeding": set(),
    "plugins": {"errors"},
    "settings": {"plugins"},
    "cores": set(),
    "earned": set(),
    "baseline": {"settings"},
    "atomic": {"errors"},
    "occupancy": {"errors"},
    "yaml_file": {"errors", "letters"},
    "objectives": {"errors"},
    "pareto": set(),
    "patience": {"errors"},
    "failures": {"atomic", "errors", "results"},
    "storage": {"atomic", "errors", "patience"},
    "complaints": {"objectives", "settings"},
    "vocabulary": {"complaints", "objectives", "settings"},
    "space": {"baseline", "complaints", "errors", "objectives", "settings", "vocabulary", "yaml_file"},
    "saliency": set(),
    "results": {"errors", "atomic"},
    "training": {"saliency", "seeding", "settings", "errors", "atomic", "cores", "earned", "homes", "plugins"},
    "analysis": {"results", "objectives", "pareto", "errors", "atomic", "saying", "earned", "passwords"},
    "collapse": {"results", "settings"},
    "trial": {"collapse", "training", "results", "settings", "patience"},
    "assistants": {"trial", "training", "settings", "failures"},
    "footprint": {"trial", "training", "failures", "settings", "errors"},
    "cost": {"baseline", "footprint", "trial", "training", "failures", "settings"},
    "identity": {"complaints", "errors", "plugins", "results", "settings"},
    "keeper": {
        "identity",
        "trial",
        "training",
        "results",
        "settings",
        "errors",
        "atomic",
        "patience",
        "failures",
    },
    "reference": {"results", "patience", "atomic", "errors"},
    "recording": {
        "assistants",
        "reference",
        "identity",
        "keeper",
        "trial",
        "training",
        "results",
        "settings",
        "errors",
        "atomic",
        "patience",
        "occupancy",
    },
    "working_folder": {"identity", "errors", "results", "settings", "storage", "patience"},
    "fetching": {"results", "storage"},
    "repeating": {"identity", "results", "settings", "storage", "atomic", "errors"},
    "saying": {"atomic", "letters"},
    "targets": {"storage", "errors"},
    "preparation": {"plugins", "training", "saying", "letters", "homes", "settings", "errors"},
    "model_file": {"atomic", "errors"},
    "trained": {"plugins", "model_file", "identity", "training", "results", "settings", "complaints", "errors"},
    "card_code": {"model_file", "plugins"},
    "model_card": {"card_code", "model_file", "analysis", "plugins"},
    "exporting": {
        "trained",
        "model_file",
        "model_card",
        "training",
        "analysis",
        "results",
        "targets",
        "atomic",
        "errors",
    },
    "frontier_export": {
        "exporting",
        "model_card",
        "model_file",
        "analysis",
        "results",
        "saying",
        "targets",
        "atomic",
        "errors",
    },
    "broken_off": {
        "errors",
        "keeper",
        "results",
        "settings",
        "storage",
    },
    "confirming": {
        "analysis",
        "atomic",
        "complaints",
        "errors",
        "identity",
        "letters",
        "results",
        "settings",
        "space",
        "targets",
        "yaml_file",
    },
    "cose": {"trained", "training", "analysis", "saying"},
    "scoring": {
        "cose",
        "targets",
        "trained",
        "trial",
        "keeper",
        "preparation",
        "saying",
        "training",
        "analysis",
        "results",
        "space",
        "settings",
        "errors",
    },
    "posthoc": {"training", "objectives", "errors"},
    "explaining": {
        "targets",
        "posthoc",
        "trained",
        "trial",
        "preparation",
        "saying",
        "training",
        "saliency",
        "analysis",
        "results",
        "atomic",
        "errors",
    },
    "single": {
        "broken_off",
        "storage",
        "identity",
        "trial",
        "recording",
        "atomic",
        "repeating",
        "patience",
        "preparation",
        "saying",
        "results",
        "settings",
        "errors",
    },
    "search": {
        "plugins",
        "passwords",
        "homes",
        "baseline",
        "collapse",
        "cores",
        "cost",
        "footprint",
        "identity",
        "keeper",
        "working_folder",
        "storage",
        "trial",
        "recording",
        "preparation",
        "saying",
        "results",
        "complaints",
        "vocabulary",
        "space",
        "settings",
        "objectives",
        "pareto",
        "seeding",
        "patience",
        "atomic",
        "errors",
        "occupancy",
    },
    "__main__": {"cli"},
    "cli": {
        "targets",
        "search",
        "analysis",
        "results",
        "single",
        "repeating",
        "confirming",
        "exporting",
        "frontier_export",
        "scoring",
        "explaining",
        "fetching",
        "storage",
        "space",
        "objectives",
        "yaml_file",
        "passwords",
        "letters",
        "errors",
    },
}

# Third-party package -> the only packages or modules of ours that may import it.
OWNERS: dict[str, set[str]] = {
    "ray": {"search"},
    "optuna": {"search"},
    "torch": {
        "saliency",
        "training",
        "trial",
        "assistants",
        "cost",
        "failures",
        "footprint",
        "keeper",
        "recording",
        "preparation",
        "single",
        "model_file",
        "scoring",
        "posthoc",
        "explaining",
        "search",
    },
    "torchvision": {"training"},
    "matplotlib": {"analysis"},
    "pytorch_grad_cam": {"posthoc"},
    "typer": {"cli"},
    "yaml": {"yaml_file"},
}


def find_violations(root: Path) -> list[str]:
    """One line per import that the tables above do not allow, wherever in a file it stands."""
    found = []
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root).parts[0].removesuffix(".py")
        for name in imports_of(path):
            first, *rest = name.split(".")
            if first == "gcc_search" and rest:
                allowed = rest[0] == place or rest[0] == "__version__" or rest[0] in ALLOWED.get(place, set())
            else:
                allowed = place in OWNERS.get(first, {place})
            if not allowed:
                found.append(f"{path.relative_to(root)} imports {name}")
    return found


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            own = node.module == "gcc_search"
            yield from (f"gcc_search.{alias.name}" for alias in node.names) if own else (node.module or "",)


def test_imports_point_one_way():
    assert find_violations(ROOT) == []


def test_every_package_and_module_has_a_rule():
    places = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")}
    assert places - {"__init__"} == ALLOWED.keys()


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("saliency/maps.py", "import ray"),
        ("training/loop.py", "def f():\n    from optuna import create_study"),
        ("analysis/figures.py", "import torch.nn"),
        ("results/reader.py", "from gcc_search.analysis import frontier"),
        ("training/loop.py", "from gcc_search import search"),
    ],
)
def test_a_planted_violation_is_noticed(tmp_path, place, line):
    (tmp_path / place).parent.mkdir()
    (tmp_path / place).write_text(line)
    assert len(find_violations(tmp_path)) == 1


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a fresh Python has loaded after `statement`."""
    command = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_trial_runs_without_ray_or_optuna_and_torchvision_waits_for_a_network_of_its_own():
    unwanted = {"ray", "optuna", "torchvision"}
    assert unwanted & loaded_by("import gcc_search.single, gcc_search.recording") == set()


def test_who_looks_on_at_a_cluster_waits_neither_for_torch_nor_for_ray_tune():
    modules = "gcc_search.search.remote, gcc_search.search.following, gcc_search.search.joining"
    # Ray Tune loads pandas first.
    assert {"torch", "optuna", "pandas"} & loaded_by(f"import {modules}") == set()


def test_results_are_read_without_torch_or_ray():
    modules = (
        "gcc_search.analysis.report, gcc_search.analysis.recommendation_text, gcc_search.analysis.explanations_figure"
    )
    assert {"torch", "ray", "optuna"} & loaded_by(f"import {modules}") == set()


def test_a_space_is_checked_without_torch_or_ray():
    assert {"torch", "ray", "optuna", "numpy"} & loaded_by("import gcc_search.space, gcc_search.cli") == set()


def test_the_probe_would_notice():
    assert {"torch", "ray", "optuna", "pandas"} <= loaded_by("import gcc_search.search.progress")
