"""How far our networks are from those of other libraries, with the same weights, as the tests find it.

    python tests/benchmarks/references.py [--against keras.applications torchvision timm counts]

Runs the tests that compare every variant, and records the largest difference of logits of each; `counts` are the
tests of parameters and multiply-adds. torchvision and timm need their own environment
(tests/torch_reference/environment.py).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from recorded import checkout, tables
from recorded.arguments import Arguments
from recorded.record import Book, recording

APPLICATIONS, TORCH = "tests/test_applications.py", "tests/test_torch.py"
TESTS = {
    "keras.applications": [APPLICATIONS, "-k", "keras_applications"],
    "torchvision": [TORCH, "-k", "other_library and torchvision"],
    "timm": [TORCH, "-k", "other_library and timm"],
    "counts": ["tests/test_models.py", "-k", "counts"],
}
WORKERS = 2


def cases(words: list[str]) -> list[ET.Element]:
    """Runs tests and gives what passed. Ends the program where one failed or was skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        spread = ["--numprocesses", str(WORKERS), "--dist", "load"]
        command = [sys.executable, "-m", "pytest", "--exhaustive", "--slow", *spread, f"--junitxml={report}", *words]
        done = subprocess.run(command, cwd=checkout.ROOT, stdout=sys.stderr, check=False)
        found = list(ET.parse(report).getroot().iter("testcase"))
    if done.returncode or not found or any(case.find("skipped") is not None for case in found):
        sys.exit(f"not all of {' '.join(words)} passed: nothing is recorded")
    return found


def add(against: str, found: list[ET.Element], book: Book) -> None:
    """A row for each network with what its test said of it, or how many tests there were."""
    if against == "counts":
        book.add("counts", networks=len(found), workers=WORKERS)
        return
    for case in found:
        said: dict[str, Any] = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
        difference = float(said["difference"])
        book.add("logits", network=said["network"], against=against, px=int(said["px"]), difference=difference)


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_selection("--against", choices=tuple(TESTS), default=tuple(TESTS))
    options = arguments.parse_args()
    for against in options.against:
        with recording(arguments.call(options), against, flag="--against", threads=WORKERS) as book:
            add(against, cases(TESTS[against]), book)
        if "logits" in book.tables:
            print(f"\n{tables.markdown(tables.of('references', 'logits'), book.tables['logits'])}")


if __name__ == "__main__":
    main()
