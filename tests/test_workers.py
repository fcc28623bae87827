"""Several processes that train one network: real ones, on loopback, with one runs directory."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfcompact.errors import UserError
from tfcompact.models.architecture import Architecture, Row
from tfcompact.models.space_network import from_architecture
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.target import Target
from tfcompact.runs import store
from tfcompact.training import strategy

ARCHITECTURE = Architecture(px=32, width=1.0, classes=10, stem=8, head=16, rows=(Row(8, 2, 1, 1, 3, False, "relu6"),))
"""Few layers, so that rounding does not grow. It does in larger ones: where the first weights of MobileNetV1 0.25
differ by 1e-7, eight steps in one process alone end at weights that differ by a hundredth of an array's largest."""
MODEL = from_architecture(ARCHITECTURE, "small").name
WORDS = (
    *("fit", "--px", "32", "--batch", "32", "--epoch-images", "64", "--validation-images", "60"),
    *("--epochs", "12", "--norm-batches", "2", "--data", "digits"),
)
REPOSITORY = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-5
"""How far weights may lie apart, as a share of an array's largest, or of 1 where that is smaller (a shift that
normalization takes away again is zero but for rounding). Sums over two processes round otherwise than over one; 5e-6
was measured."""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(runs: Path, ports: list[int], *words: str) -> list[subprocess.Popen[str]]:
    """A process for each port, all with the same command; none ports: one process by itself."""
    file = runs.parent / "small.json"
    file.write_text(json.dumps(ARCHITECTURE.to_json()))
    found = []
    for index in range(max(1, len(ports))):
        env = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"} | {"PYTHONPATH": str(REPOSITORY)}
        if ports:
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            env["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        command = [sys.executable, "-m", "tfcompact", *WORDS, "--model", str(file), *words, "--runs", str(runs)]
        pipe = subprocess.PIPE
        found.append(
            subprocess.Popen(
                command, env=env, stdout=pipe, stderr=pipe, text=True, cwd=REPOSITORY, start_new_session=True
            )
        )
    return found


def ended(children: list[subprocess.Popen[str]], seconds: float = 600) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each; what is left after `seconds` is killed."""
    end = time.monotonic() + seconds
    told = []
    for child in children:
        try:
            out, err = child.communicate(timeout=max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
        told.append((child.returncode, out, err))
    return told


def weights(runs: Path, name: str) -> list[np.ndarray]:
    return Pipeline(Target(MODEL, runs=runs)).load(name).get_weights()


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """The runs directory of two workers."""
    runs = tmp_path_factory.mktemp("together") / "runs"
    for status, _, errors in ended(start(runs, free_ports(2))):
        assert status == 0, errors
    return runs


@pytest.mark.slow
def test_two_workers_make_one_run_that_is_a_single_process_s(together, tmp_path) -> None:
    (run,) = store.finished(together, MODEL)
    assert not list((together / MODEL).glob("*.partial"))
    ((status, out, errors),) = ended(start(tmp_path / "runs", []))
    assert status == 0, errors
    alone = store.Run(Path(out.splitlines()[-1]))
    assert alone.name == run.name
    for ours, theirs in zip(weights(together, run.name), weights(tmp_path / "runs", alone.name), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * max(np.abs(theirs).max(), 1.0))
    assert run.provenance["workers"] == 2
    assert run.notes["validation_accuracy"] == pytest.approx(alone.notes["validation_accuracy"], abs=1 / 30)


@pytest.mark.slow
def test_asked_again_both_find_the_finished_run(together) -> None:
    (run,) = store.finished(together, MODEL)
    for status, out, errors in ended(start(together, free_ports(2))):
        assert status == 0, errors
        assert Path(out.splitlines()[-1]) == run.path


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line_and_the_next_call_goes_on(together, tmp_path) -> None:
    runs = tmp_path / "runs"
    children = start(runs, free_ports(2))
    checkpoint = f"{MODEL}/fit-*.partial/scratch/checkpoint.npz"
    end = time.monotonic() + 500
    while not list(runs.glob(checkpoint)) and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(children[1].pid, signal.SIGKILL)
    (status, _, errors), _ = ended(children)
    assert status == 2
    (line,) = errors.splitlines()
    assert "worker 1 of 2 (127.0.0.1:" in line
    assert "is gone; start all workers again: the training goes on after epoch " in line
    again = ended(start(runs, free_ports(2)))
    assert [status for status, _, _ in again] == [0, 0], again
    assert re.search(r"goes on after epoch \d+ of 12", again[0][1])
    (undisturbed,), (resumed,) = store.finished(together, MODEL), store.finished(runs, MODEL)
    assert resumed.name == undisturbed.name
    assert all(map(np.array_equal, weights(together, undisturbed.name), weights(runs, resumed.name)))


@pytest.mark.parametrize(("config", "chief", "several"), [
    (None, True, False),
    ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}, True, True),
    ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}, False, True),
    ({"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}, True, True),
    ({"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}, False, True),
])  # fmt: skip
def test_the_chief_is_the_one_that_tf_config_names_first(monkeypatch, config, chief, several) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    found = strategy.workers()
    assert (found.chief, found.several) == (chief, several)


@pytest.mark.parametrize("text", [
    "{", "[]", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}',
    '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
])  # fmt: skip
def test_a_tf_config_that_makes_no_sense_is_one_line(monkeypatch, text) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG names no chief or worker this could be"):
        strategy.workers()
