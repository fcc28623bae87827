"""Every file of a run, damaged in every way: each command works on, or says one line and what to do."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import fake_runs
import pytest

from tfcompact.cli import main as command_line
from tfcompact.runs import exports

MODEL = "mobilenet_v2"
FILES = {
    "provenance of a training": "fit-*/provenance.json",
    "provenance of an export": "export-*/provenance.json",
    "records of the files": "export-*/artifacts.json",
    "a file": "export-*/model.uint8.tflite",
    "a measurement": "measurements/*.json",
    "a sample": "export-*/samples/*.png",
}


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a byte changed": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\xff" + path.read_bytes()[-8:]),
    "an empty list": lambda path: path.write_text("[]"),
    "an empty object": lambda path: path.write_text("{}"),
    "null": lambda path: path.write_text("null"),
    "a number too large": lambda path: path.write_text("[1e400]"),
    "nested without end": lambda path: path.write_text("[" * 200_000),
    "gone": Path.unlink,
    "a folder": _folder,
    "a pipe": _pipe,
    "a link to itself": _loop,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "runs"
    fake_runs.build(root, tuple(fake for fake in fake_runs.FAKES if fake.model.startswith(MODEL)))
    return root


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("pattern", FILES.values(), ids=FILES)
def test_no_damage_is_more_than_a_line(pattern, damage, whole, tmp_path, capfd) -> None:
    root = tmp_path / "runs"
    shutil.copytree(whole, root)
    damage(sorted((root / MODEL).glob(pattern))[0])
    commands = (
        ["report", "--runs", str(root)],
        ["runs", "--runs", str(root)],
        ["measure", "--model", MODEL, "--runs", str(root), "--repeats", "50", "--min-seconds", "0", "--images", "2"],
        ["quantize", "--model", MODEL, "--runs", str(root), "--epochs", "0"],
    )
    for words in commands:
        status = command_line.main(words)
        said = capfd.readouterr()
        assert status in (0, 2), words
        assert "Traceback" not in said.err + said.out
        if status == 2:
            (line,) = [line for line in said.err.splitlines() if line.startswith("tfcompact ")]
            assert len(line) < 1000
    exports.samples(root, exports.exports(root).rows)
