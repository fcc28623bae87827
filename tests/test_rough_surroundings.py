"""`train` on a disk that is full, under a limit of file sizes, and beside another process that does the same.

A disturbed command ends in one line, and leaves nothing that is taken for whole: once the disturbance is gone, the
same command makes the same files, to the bit. `--exhaustive` tries more sizes and offsets.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small_training import command, exported, leftovers

pytestmark = pytest.mark.slow


def train(folder: Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder), capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """A training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    done = train(folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """A file system in memory: called with a size it is made, or given another one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def sized(size: str) -> Path:
        nonlocal mounted
        what = ["-o", f"remount,size={size}"] if mounted else ["-t", "tmpfs", "-o", f"size={size}", "none"]
        done = subprocess.run(["mount", *what, str(place)], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here ({done.stderr.strip()}); be root, with CAP_SYS_ADMIN")
        mounted = True
        return place

    if not shutil.which("mount") or os.geteuid() != 0:
        pytest.skip("a small file system is mounted by root alone")
    yield sized
    if mounted:
        subprocess.run(["umount", str(place)], check=True)


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> str | None:
    """What is wrong with how a command ended, None where it is one line with one of these words."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("tfcompact")]
    if done.returncode == 0:
        return "it went through"
    if "Traceback" in done.stderr or len(lines) != 1 or not any(word in lines[0] for word in words):
        return f"status {done.returncode}: {done.stderr[-400:]}"
    return None


def told(capsys, what: str, tried: int, bad: list[str]) -> None:
    with capsys.disabled():
        print(f"\n{what}: {tried} tried, {len(bad)} bad")
        print(*bad, sep="\n", end="")
    assert not bad


def test_a_full_disk(calm, disk, capsys, request) -> None:
    """Sizes of the file system, as shares of what an undisturbed training leaves."""
    whole = sum(path.stat().st_size for path in calm.rglob("*") if path.is_file())
    shares = [0.02, *(i / 12 for i in range(1, 12))] if request.config.getoption("--exhaustive") else [0.8]
    bad = []
    for share in shares:
        place = disk(str(int(whole * share)))
        if fault := one_line(train(place), "No space left", "no space left"):
            bad.append(f"{share:.2f} of {whole:,} bytes: {fault}")
        disk("1g")
        again = train(place)
        if again.returncode != 0:
            bad.append(f"{share:.2f}, with room again: {again.stderr[-300:]}")
        elif exported(place) != exported(calm):
            bad.append(f"{share:.2f}, with room again: other bytes")
        elif left := leftovers(place):
            bad.append(f"{share:.2f}: left {left}")
        for path in place.iterdir():
            shutil.rmtree(path)
    told(capsys, "full disks", len(shares), bad)


def test_a_limit_of_file_sizes(calm, tmp_path, capsys, request) -> None:
    limits = [1_000, 20_000, 100_000, 300_000, 700_000, 1_500_000] if request.config.getoption("--exhaustive") else [
        300_000
    ]  # fmt: skip
    bad = []
    for limit in limits:
        folder = tmp_path / f"limit{limit}"
        folder.mkdir()

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        if fault := one_line(train(folder, preexec_fn=limited), "File too large"):
            bad.append(f"{limit:,} bytes: {fault}")
        again = train(folder)
        if again.returncode != 0:
            bad.append(f"{limit:,}, without it: {again.stderr[-300:]}")
        elif exported(folder) != exported(calm):
            bad.append(f"{limit:,}, without it: other bytes")
        elif left := leftovers(folder):
            bad.append(f"{limit:,}: left {left}")
    told(capsys, "limits of file sizes", len(limits), bad)


def test_two_at_once(calm, tmp_path, capsys, request) -> None:
    """The same command twice, the second some seconds later, with one runs folder and one cache; others look on."""
    offsets = [0.0, 1.5, 4.0, 6.0, 8.0, 10.0, 12.0] if request.config.getoption("--exhaustive") else [0.0]
    bad = []
    for offset in offsets:
        folder = tmp_path / f"offset{offset}"
        folder.mkdir()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        first = subprocess.Popen(command(folder), **pipes)
        time.sleep(offset)
        second = subprocess.Popen(command(folder), **pipes)
        looks = 0
        while first.poll() is None or second.poll() is None:
            for word in ("runs", "report"):
                look = subprocess.run(
                    [sys.executable, "-m", "tfcompact", word, "--runs", str(folder / "runs")],
                    capture_output=True,
                    text=True,
                )
                looks += 1
                nothing_yet = word == "report" and "no measurements" in look.stderr
                if "Traceback" in look.stderr or (look.returncode != 0 and not nothing_yet):
                    bad.append(f"{offset} s, {word}: {look.stderr[-300:]}")
        ended = [(process.communicate()[1], process.returncode) for process in (first, second)]
        if all(code != 0 for _, code in ended):
            bad.append(f"{offset} s: neither finished: {ended}")
        for said, code in ended:  # one may find the other at work, and say so
            lines = [line for line in said.splitlines() if line.startswith("tfcompact train: another process is")]
            if code != 0 and ("Traceback" in said or len(lines) != 1):
                bad.append(f"{offset} s: status {code}: {said[-400:]}")
        again = train(folder)
        if again.returncode != 0:
            bad.append(f"{offset} s, again: {again.stderr[-300:]}")
        if exported(folder) != exported(calm):
            bad.append(f"{offset} s: other bytes")
        elif left := leftovers(folder):
            bad.append(f"{offset} s: left {left}")
    told(capsys, "two at once", len(offsets), bad)
