"""Every module imports, imports point one way, and importing the package loads nothing heavy."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import contrarec

SOURCE = Path(contrarec.__file__).parent

# From the bottom to the top: a part imports from itself and from the layers below its own.
LAYERS = (
    {"errors"},
    {"files", "toml"},
    {"config", "tensorfile", "vectors"},
    {"data", "kernels", "losses", "optimizers", "presets"},
    {"evaluation"},
    {"baselines"},
    {"backbones", "foldin", "frames", "sampling", "settings"},
    {"methods", "rankings"},
    {"rules", "runs", "scored", "training"},
    {"answers", "fitted", "model"},
    {"growth"},
    {"recommender"},
    {"comparison"},
    {"audit", "serving", "tuning"},
    {"distributed"},
    {"report"},
    {"cli", "integrations"},
)
SIDEWAYS = {
    ("losses", "kernels"),
    ("losses", "optimizers"),
    ("optimizers", "kernels"),
    ("data", "kernels"),
}
"""The only imports within a layer."""
STRANGERS = {("evaluation", "losses"), ("baselines", "losses")}
"""Below, but not to be imported: evaluation knows scores, no model."""

RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
HEAVY = {"torch", "numpy", "scipy", "numba", "polars", "narwhals", "safetensors", "typer", "rich"}
HEAVY |= {"triton"}


NEEDS = {
    "contrarec.kernels.gpu.": "triton",
    "contrarec.integrations.lightning": "lightning",
    "contrarec.integrations.recbole": "recbole",
}
"""Modules that are importable only where a package is there."""


def module_names() -> list[str]:
    found = pkgutil.walk_packages(contrarec.__path__, "contrarec.")
    missing = tuple(prefix for prefix, package in NEEDS.items() if not find_spec(package))
    names = [module.name for module in found if not module.name.startswith(missing or ("-",))]
    return [name for name in names if not name.endswith("__main__")]


def imported_modules(tree: ast.AST, package: list[str]) -> Iterator[str]:
    """Dotted names of what a file imports, wherever in it; a name counts as a possible module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def violations(part: str, tree: ast.AST, package: list[str]) -> list[str]:
    """What a file of this part imports although it must not."""
    wrong = []
    for name in imported_modules(tree, package):
        root, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if root != "contrarec" or other == part or (part, other) in SIDEWAYS:
            continue
        below = RANK.get(other, len(LAYERS)) < RANK[part]
        if not below or (part, other) in STRANGERS:
            wrong.append(f"{part} imports {name}")
    return wrong


@pytest.mark.parametrize("name", module_names())
def test_a_module_imports(name: str) -> None:
    importlib.import_module(name)


def test_imports_point_one_way() -> None:
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE)
        if relative == Path("__init__.py"):  # the public names come from everywhere
            continue
        part = relative.parts[0].removesuffix(".py")
        assert part in RANK, f"{relative} has no place in LAYERS yet: give it one"
        package = ["contrarec", *relative.parts[:-1]]
        wrong += violations(part, ast.parse(path.read_text()), package)
    assert wrong == []


@pytest.mark.parametrize(
    ("part", "line", "allowed"),
    [
        ("losses", "from contrarec.errors import ConfigError", True),
        ("losses", "from contrarec.losses.functional import bpr", True),
        ("losses", "from contrarec.kernels.scores import sampled_scores", True),
        ("losses", "from contrarec.data import dataset", False),
        ("losses", "from contrarec import data", False),
        ("losses", "import contrarec.backbones.mf", False),
        ("losses", "from ..data import dataset", False),
        ("losses", "from .. import data", False),
        ("losses", "from . import functional", True),
        ("losses", "def f():\n    from contrarec.data import dataset", False),
        ("losses", "if TYPE_CHECKING:\n    from contrarec.data import dataset", False),
        ("kernels", "from contrarec.losses import functional", False),
        ("kernels", "from contrarec import Dataset", False),
        ("evaluation", "from contrarec.data.dataset import TestSet", True),
        ("evaluation", "from contrarec.backbones import MF", False),
        ("config", "from contrarec.data import dataset", False),
        ("cli", "from contrarec.recommender import Recommender", True),
        ("cli", "from contrarec.nowhere import x", False),
        ("data", "import numpy as np", True),
    ],
)
def test_the_reader_of_imports_sees_them_all(part: str, line: str, allowed: bool) -> None:
    assert (violations(part, ast.parse(line), ["contrarec", part]) == []) is allowed


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import contrarec, sys; print(*sys.modules); print(*dir(contrarec))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, names = (set(line.split()) for line in done.stdout.splitlines())
    assert "contrarec" in modules
    assert {module.partition(".")[0] for module in modules} & HEAVY == set()
    assert set(contrarec.__all__) <= names


def test_compiled_code_is_loaded_by_the_kernels_that_run_it() -> None:
    code = "import contrarec.recommender, sys; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", contrarec.__all__)
def test_a_public_name_is_there(name: str) -> None:
    value = getattr(contrarec, name)
    assert value is getattr(contrarec, name)
    assert name in dir(contrarec)
    if name != "__version__":
        assert value.__name__.rpartition(".")[2] == name


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'contrarec' has no attribute 'Recomender'"):
        contrarec.Recomender  # noqa: B018


def test_a_type_checker_sees_the_public_names_where_they_are() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: (node.module, f"{node.module}.{alias.name}")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(seen) | {"__version__"} == set(contrarec.__all__)
    for name, places in seen.items():
        assert contrarec._MODULES[name] in places


def test_standard_output_is_left_to_the_command_line() -> None:
    """Elsewhere a `print` names its stream: it would end up in somebody's JSON."""
    calls = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path.relative_to(SOURCE).parts[0] != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
        if "file" not in {keyword.arg for keyword in node.keywords}
    ]
    assert calls == []
