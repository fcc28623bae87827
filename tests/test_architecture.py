"""The layers of the house: who may import whom, and who comes without TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tfcompact

ROOT = Path(tfcompact.__file__).parent

LAYERS = (  # from the top; a module may import from lower lines, and from its own where that makes no circle
    ("__main__",),
    ("cli",),
    ("device_options",),
    ("arguments",),
    ("describe", "sensitivity"),
    ("pipeline", "report", "keeping"),
    ("recipe",),
    ("stages", "export", "untrained", "measure", "plots", "listing"),
    ("results",),
    ("lineage",),
    ("loop", "quantization", "equalization", "delegation", "pretrained", "saved", "switches"),
    ("shifting",),
    ("training", "lowering", "excitation", "profile", "ranges", "quantizers"),
    ("models", "space", "target", "divergence", "mixed", "latency"),
    ("parts",),
    ("data", "graph", "lite", "isolation", "reading"),
    ("runs",),
    ("metadata",),
    ("metadata_slots",),
    ("layout",),
    ("columns", "backend", "types", "costs"),
    ("options",),
    ("errors",),
    ("__init__",),
)
HEIGHT = {name: len(LAYERS) - i for i, line in enumerate(LAYERS) for name in line}
HEAVY = ("tensorflow", "tf_keras", "keras", "keras_cv", "tensorflow_model_optimization")
LIGHT = (
    *("errors", "options", "types", "runs", "report", "models", "training", "stages.fit", "stages.quantize"),
    *("metadata", "data.images", "lite", "cli", "target", "listing", "results", "measure.host", "pipeline", "export"),
    *("costs", "layout", "columns", "describe", "space"),
    *("latency", "parts", "measure.latency_table", "measure.meters"),
)


def _files() -> dict[str, Path]:
    """Module name without `tfcompact.` -> file."""
    names = {path: path.relative_to(ROOT).with_suffix("") for path in sorted(ROOT.rglob("*.py"))}
    return {".".join(name.parts).removesuffix(".__init__"): path for path, name in names.items()}


def _imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, anywhere in it, without `tfcompact.`."""
    found = set()
    modules = _files()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from tfcompact import runs` imports a module, `from tfcompact.runs import Run` something of one
            as_modules = {name for name in inside if name.removeprefix("tfcompact.") in modules}
            found |= as_modules | ({node.module} if as_modules != inside else set())
    ours = {name for name in found if name.split(".")[0] == "tfcompact"}
    return {name.removeprefix("tfcompact.") if "." in name else "__init__" for name in ours}


def test_every_module_has_its_layer() -> None:
    tops = {name.split(".")[0] for name in _files()}
    assert tops == set(HEIGHT)


@pytest.mark.parametrize("module", _files())
def test_imports_go_down_only(module: str) -> None:
    own = module.split(".")[0]
    for imported in _imports(_files()[module]):
        top = imported.split(".")[0]
        if top != own:
            assert top in HEIGHT, f"{top} has no line in LAYERS"
            assert HEIGHT[top] <= HEIGHT.get(own, 0), f"{module} imports {imported}, which is above it"


def test_no_circles() -> None:
    graph = {name: _imports(path) - {name, "__init__"} for name, path in _files().items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " imports ".join((*trail, name))
        if name not in done:
            for imported in graph.get(name, ()):
                visit(imported, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_stages_do_not_measure_or_export() -> None:
    """A stage's only door outward is its context."""
    for module, path in _files().items():
        if module.split(".")[0] == "stages":
            assert not {i.split(".")[0] for i in _imports(path)} & {"measure", "export", "pipeline", "report"}


def test_one_module_walks_keras_graphs() -> None:
    walkers = [m for m, path in _files().items() if "_nodes_by_depth" in path.read_text()]
    assert walkers == ["graph"]


def test_these_import_without_tensorflow() -> None:
    """One process for all, in turn; it says which module was first to bring in which heavy one."""
    code = f"""
import importlib, sys
for name in {LIGHT!r}:
    importlib.import_module("tfcompact." + name)
    heavy = [h for h in {HEAVY!r} if h in sys.modules]
    if heavy:
        sys.exit(f"tfcompact.{{name}} imports {{heavy[0]}}")
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


def test_no_file_is_long() -> None:
    """Read top-down in one sitting: 200 lines wanted, 300 with a reason."""
    long = {m: n for m, path in _files().items() if (n := len(path.read_text().splitlines())) > 300}
    reasons = {
        "loop": "one loop, its state and its log",
        "quantization": "rules, calibration and the way out read together",
        "types": "every record that flows, in one vocabulary",
        "lite": "a file as a function, and its insides",
        "metadata": "writer and reader of one format",
        "results": "every table of the report",
        "pipeline": "every face goes through it",
        "cli": "one function a command",
        "measure.adb": "one program's every way to fail",
        "measure.turns": "one turn, from the cool-down to the row",
        "measure.phone": "every answer of a phone about itself",
        "measure.meters": "the three ways to a cost",
        "measure.benchmark_log": "one program's every way to print",
    }
    assert set(long) <= set(reasons), long
