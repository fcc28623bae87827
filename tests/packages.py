"""The packages of tfcompact: what each knows, what each may import. One table, for tests and for `docs/design.md`.

python tests/packages.py --write    puts the table into docs/design.md
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
ROOT = REPOSITORY / "tfcompact"
DESIGN = REPOSITORY / "docs" / "design.md"
BEGIN, END = "<!-- packages: python tests/packages.py --write -->", "<!-- packages end -->"
EVERYBODY = ("errors", "options", "frameworks", "files")
"""The modules on the top level that every package may import."""


class Package(NamedTuple):
    """A line of the table. `may` is what it may import besides `EVERYBODY`; `light` that it brings no TensorFlow."""

    name: str
    knows: str
    may: tuple[str, ...] = ()
    light: bool = True


PACKAGES = (
    Package("records", "what flows and is JSON: artifacts, measurements, devices, the table of file formats"),
    Package("runs", "the runs directory: runs, what made them, measurements beside them", ("records",)),
    Package("data", "images: folders and sets, splits, decoding, batches", ("records",)),
    Package("models", "architectures as data: families, blocks, search spaces", ("records",), light=False),
    Package(
        "networks",
        "Keras graphs as values: rewriting, operators, costs, squeeze-and-excite",
        ("models",),
        light=False,
    ),
    Package("tflite", "a `.tflite` file's bytes, and what runs them", ("records", "data")),
    Package("training", "one resumable loop, with hooks", ("records", "data", "networks"), light=False),
    Package(
        "compress",
        "ways to make a network smaller, a package each",
        ("records", "models", "networks", "training"),
        light=False,
    ),
    Package(
        "weights",
        "networks from disk, ours or others'",
        ("records", "runs", "data", "models", "networks"),
        light=False,
    ),
    Package("measure", "files on devices, as measurements", ("records", "runs", "tflite")),
    Package("latency", "tables of what operators cost, and predictions", ("records", "tflite", "measure")),
    Package(
        "export",
        "from Keras models to verified files",
        ("records", "data", "models", "compress", "tflite"),
    ),
    Package("report", "rows, tables, plots, pages", ("records", "runs", "models", "networks")),
    Package(
        "stages", "what a stage is, and a file for each", ("records", "data", "networks", "training", "compress")
    ),
    Package(
        "supernet",
        "one network that holds every member of a search space",
        ("models", "training"),
        light=False,
    ),
    Package(
        "sensitivity",
        "which layers rounding hurts, and files with layers kept float",
        (
            *("records", "runs", "data", "models", "networks", "tflite", "compress", "weights"),
            *("measure", "export", "report"),
        ),
        light=False,
    ),
    Package(
        "pipeline",
        "from a target and a config to a finished run: parents, identity, recipes",
        (
            *("records", "runs", "data", "models", "networks", "training", "compress", "weights"),
            *("measure", "latency", "export", "stages"),
        ),
    ),
    Package(
        "comparison",
        "ways of making a network smaller side by side: plans, rows, tables",
        (
            *("records", "runs", "models", "networks", "tflite", "weights", "measure", "report", "stages"),
            "pipeline",
        ),
    ),
    Package(
        "choice",
        "the network that fits a budget: prices, short trainings against each other, the file",
        ("models", "export", "latency", "measure", "report", "runs", "pipeline", "weights"),
    ),
    Package(
        "search",
        "ways of searching for an architecture: rewards, controllers, shared trials",
        ("records", "models", "training", "supernet", "report", "pipeline"),
    ),
    Package(
        "cli",
        "words typed",
        (
            *("records", "runs", "models", "networks", "measure", "latency", "export", "report"),
            *("stages", "sensitivity", "pipeline", "comparison", "search", "choice"),
        ),
    ),
)


class Import(NamedTuple):
    """One of our modules that a file imports. `inside` a function, or at the top."""

    module: str
    inside: bool


@cache
def modules() -> dict[str, Path]:
    """Every module's name without `tfcompact.` -> its file."""
    names = {path: path.relative_to(ROOT).with_suffix("") for path in sorted(ROOT.rglob("*.py"))}
    return {".".join(name.parts).removesuffix(".__init__"): path for path, name in names.items()}


@cache
def imports(path: Path) -> frozenset[Import]:
    """What a file imports of tfcompact, but for imports that only a type checker sees."""
    return frozenset(_imports(ast.parse(path.read_text(encoding="utf-8")), inside=False))


def _imports(node: ast.AST, *, inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == "tfcompact":
            for alias in child.names:
                whole = f"{child.module}.{alias.name}".removeprefix("tfcompact.")
                own = (child.module or "").removeprefix("tfcompact").lstrip(".")
                yield Import(whole if whole in modules() else own or "__init__", inside)
        within = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(child, inside=inside or within)


def package(module: str) -> str:
    """`tflite` of `tflite.metadata`; of a module on the top level its own name."""
    return module.split(".")[0]


def table() -> str:
    """The table of `docs/design.md`."""
    lines = ["| package | knows | may import | TensorFlow |", "|---|---|---|---|"]
    for row in PACKAGES:
        may = ", ".join(f"`{name}`" for name in row.may) or "–"
        lines.append(f"| `{row.name}` | {row.knows} | {may} | {'no' if row.light else 'yes'} |")
    return "\n".join(lines)


def rendered(page: str) -> str:
    """The page with the table of now between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        DESIGN.write_text(rendered(DESIGN.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())
