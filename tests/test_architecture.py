"""The house: which package may import which, which come without TensorFlow, and how large its rooms may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter

import pytest

sys.path.insert(0, __file__.rpartition("/")[0])
from packages import BEGIN, DESIGN, EVERYBODY, PACKAGES, imports, modules, package, rendered

NAMES = {row.name for row in PACKAGES}
TOP = ("__init__", "__main__", *EVERYBODY)
HEAVY = ("tensorflow", "tf_keras", "keras", "keras_cv", "tensorflow_model_optimization")
LONGEST = 300


def used(name: str) -> set[str]:
    """The packages that modules of `name` import, besides itself and what everybody may."""
    found = {package(i.module) for m, path in modules().items() if package(m) == name for i in imports(path)}
    return found - {name, "__init__", *EVERYBODY}


def test_every_module_lies_in_a_package_of_the_table() -> None:
    tops = {package(name) for name in modules()} - {""}
    assert tops <= NAMES | set(TOP)
    assert len(TOP) <= 6


@pytest.mark.parametrize("row", PACKAGES, ids=lambda row: row.name)
def test_a_package_imports_what_it_may_and_may_what_it_imports(row) -> None:
    assert used(row.name) == set(row.may)


def test_the_table_goes_down_only() -> None:
    order = [row.name for row in PACKAGES]
    for row in PACKAGES:
        assert all(order.index(name) < order.index(row.name) for name in row.may), row.name


def test_modules_on_the_top_know_no_package() -> None:
    for name in EVERYBODY:
        assert {package(i.module) for i in imports(modules()[name])} <= {*EVERYBODY, "__init__"}


def test_no_circles() -> None:
    graph = {name: {i.module for i in imports(path)} - {name, "__init__"} for name, path in modules().items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " imports ".join((*trail, name))
        if name not in done:
            for imported in graph.get(name, ()):
                visit(imported, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_two_modules_share_a_name() -> None:
    names = Counter(name.rpartition(".")[2] for name, path in modules().items() if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_imports_inside_functions_keep_tensorflow_out_and_nothing_else() -> None:
    """The command line imports when a command is chosen; elsewhere only what brings TensorFlow may come late."""
    light = {row.name for row in PACKAGES if row.light} | set(EVERYBODY)
    found = [
        f"{name} imports {i.module} in a function"
        for name, path in modules().items()
        for i in imports(path)
        if i.inside and package(name) not in ("cli", "__main__") and package(i.module) in light
    ]
    assert found == []


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_name_with_an_underscore_leaves_its_module() -> None:
    found = []
    for name, path in modules().items():
        tree = ast.parse(path.read_text())
        ours = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tfcompact"):
                found += [f"{name}: {alias.name}" for alias in node.names if is_private(alias.name)]
                ours |= {
                    alias.asname or alias.name
                    for alias in node.names
                    if f"{node.module}.{alias.name}".removeprefix("tfcompact.") in modules()
                }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours:
                found += [f"{name}: {node.value.id}.{node.attr}"] if is_private(node.attr) else []
    assert found == []


def test_stages_do_not_measure_or_export() -> None:
    """A stage's only door outward is its context."""
    assert not used("stages") & {"measure", "export", "pipeline", "report", "latency", "runs"}


def test_one_module_walks_keras_graphs() -> None:
    walkers = [m for m, path in modules().items() if "_nodes_by_depth" in path.read_text()]
    assert walkers == ["networks.rewrite"]


def test_light_packages_import_without_tensorflow() -> None:
    """One process for all, in turn; it says which module was first to bring in which heavy one."""
    light = {row.name for row in PACKAGES if row.light} | set(EVERYBODY)
    names = [name for name in modules() if package(name) in light]
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module("tfcompact." + name)
    heavy = [h for h in {HEAVY!r} if h in sys.modules]
    if heavy:
        sys.exit(f"tfcompact.{{name}} imports {{heavy[0]}}")
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


def test_no_file_is_long() -> None:
    """Read top-down in one sitting: 200 lines wanted, none above 300."""
    long = {m: n for m, path in modules().items() if (n := len(path.read_text().splitlines())) > LONGEST}
    assert long == {}


def test_the_design_page_has_this_table() -> None:
    page = DESIGN.read_text(encoding="utf-8")
    assert BEGIN in page
    assert page == rendered(page), "python tests/packages.py --write"
