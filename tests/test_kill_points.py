"""`train`, killed before every distinct file operation and started again: the same files, to the bit.

An audit hook sees what the process is about to do to files. Operations are distinct by what they do and by the name,
numbers and hashes left out. `--exhaustive` kills before every one of them, else before a few.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small_training import command, exported, leftovers, words

SAMPLE = 2  # kill points of a run that is not exhaustive
HOOK = """
import os, re, signal, sys
root, log, point = sys.argv[1], sys.argv[2], int(sys.argv[3])
seen, me = {}, os.getpid()
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def name(path):
    path = os.fsdecode(path)
    path = path if os.path.isabs(path) else os.path.abspath(path)
    return re.sub("[0-9a-f]{8,}|[0-9]+", "N", os.path.relpath(path, root)) if path.startswith(root) else None

def hook(event, arguments):
    if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate") or os.getpid() != me:
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
        return
    if not isinstance(arguments[0], (str, bytes)) or (what := name(arguments[0])) is None:
        return
    key = event + " " + what
    if key in seen:
        return
    seen[key] = len(seen)
    if point < 0:
        print(key, file=log_file, flush=True)
    elif seen[key] == point:
        os.kill(me, signal.SIGKILL)

log_file = open(log, "w")
sys.addaudithook(hook)
sys.argv = ["tfcompact", *sys.argv[4:]]
from tfcompact.cli.main import main
sys.exit(main())
"""


def train(folder: Path, point: int | None) -> subprocess.CompletedProcess[str]:
    """Runs the command; with a `point` it is killed before that operation, with -1 all of them are listed."""
    called = command(folder)
    if point is not None:
        hooked = [HOOK, str(folder), str(folder.parent / "operations"), str(point)]
        called = [sys.executable, "-c", *hooked, *words(folder)]
    return subprocess.run(called, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_same_files_whenever_it_was_killed(tmp_path, capsys, request) -> None:
    calm = tmp_path / "calm"
    calm.mkdir()
    done = train(calm, -1)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    expected = exported(calm)
    assert set(expected) == {"model.uint8.tflite", "model.float32.tflite"}
    operations = (tmp_path / "operations").read_text().splitlines()
    points = range(len(operations))
    if not request.config.getoption("--exhaustive"):
        step = len(operations) // (SAMPLE + 1)
        points = range(step, len(operations) - 1, step)[:SAMPLE]
    bad = []
    for point in points:
        folder = tmp_path / f"rough{point}"
        folder.mkdir()
        if train(folder, point).returncode != -signal.SIGKILL:
            bad.append(f"{operations[point]}: not killed")
            continue
        again = train(folder, None)
        if again.returncode != 0:
            bad.append(f"{operations[point]}: {again.stderr[-300:]}")
        elif exported(folder) != expected:
            bad.append(f"{operations[point]}: other bytes")
        elif left := leftovers(folder):
            bad.append(f"{operations[point]}: left {left}")
        if not bad:
            subprocess.run(["rm", "-rf", str(folder)], check=True)
    with capsys.disabled():
        print(f"\n{len(points)} kills at {len(operations)} distinct file operations: {len(bad)} bad")
        print(*bad, sep="\n", end="")
    assert not bad
