"""No file of a run, no space file and no weights file can execute code: nothing here unpickles or evaluates."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "gcc_search"

# Modules that turn bytes into objects of any class.
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "read_pickle",
    "unsafe_load",
    "full_load",
    "unsafe_load_all",
}
# Called with this argument they read values only.
SAFE_ONLY_WITH = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
SAFE_LOADERS = {"_Loader", "SafeLoader", "CSafeLoader"}


def find_loads(root: Path) -> list[str]:
    """One line per place that could execute what it reads."""
    return [
        f"{path.relative_to(root)}:{line} {what}"
        for path in sorted(root.rglob("*.py"))
        for line, what in _of_module(ast.parse(path.read_text()))
    ]


def _of_module(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, f"imports {name}") for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            problem = _of_call(node)
            if problem:
                yield node.lineno, problem
        elif isinstance(node, ast.ClassDef) and any(_is_unsafe_loader(base) for base in node.bases):
            yield node.lineno, f"derives {node.name} from a loader of any class"


def _of_call(call: ast.Call) -> str | None:
    name = ast.unparse(call.func).replace("np.", "numpy.")
    last = name.rsplit(".", 1)[-1]
    # `re.compile` and a network's own `eval()` are other things.
    is_other = (last == "compile" and name != "compile") or (last == "eval" and not call.args)
    if last in FORBIDDEN_CALLS and not is_other:
        return f"calls {name}"
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in SAFE_ONLY_WITH:
        argument, value = SAFE_ONLY_WITH[name]
        return None if given.get(argument) == str(value) else f"calls {name} without {argument}={value}"
    if name in ("yaml.load", "yaml.load_all"):
        return None if given.get("Loader") in SAFE_LOADERS else f"calls {name} without a safe loader"
    return None


def _is_unsafe_loader(base: ast.expr) -> bool:
    name = ast.unparse(base)
    return name.startswith("yaml.") and name.endswith("Loader") and name.removeprefix("yaml.") not in SAFE_LOADERS


def test_nothing_that_is_read_can_execute_code():
    assert find_loads(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.unsafe_load(text)",
        "import yaml\nclass _Loader(yaml.FullLoader): pass",
        "eval(text)",
        "exec(text)",
        "def load():\n    __import__(name)",
        "import pandas\npandas.read_pickle(path)",
    ],
)
def test_a_planted_violation_is_noticed(tmp_path, line):
    (tmp_path / "planted.py").write_text(line)
    assert len(find_loads(tmp_path)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import torch\ntorch.load(path, 'cpu', weights_only=True)",
        "import yaml\nyaml.load(text, Loader=_Loader)",
        "network.model.eval()",
        "import re\nre.compile('a')",
    ],
)
def test_what_only_reads_values_is_left_alone(tmp_path, line):
    (tmp_path / "sound.py").write_text(line)
    assert find_loads(tmp_path) == []
