"""The C runner, its bundle, and the back end that brings it to a device: run here, and for ARM64 under QEMU."""

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from native import environment, small_files
from native.standin import LocalPhone

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.backends import bundle, instruction_proxy, native, runner_answer
from tfcompact.measure.backends.backend import Job, RunFailed
from tfcompact.tflite import flatbuffer, runtime

here = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or not shutil.which("gcc"),
    reason="the runner is compiled for and run on x86-64 Linux; needs gcc: apt-get install gcc libc6-dev",
)
arm64 = pytest.mark.skipif(environment.hindrance() is not None, reason=str(environment.hindrance()))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return small_files.write(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def phone(tmp_path_factory):
    return LocalPhone(tmp_path_factory.mktemp("phone") / "x86", "x86_64")


@here
@pytest.mark.parametrize("delegate", native.DELEGATES)
@pytest.mark.parametrize("name", ["int8", "float32", "unlowered"])
def test_the_runner_answers_as_the_python_runtime_does(files, cache, phone, name, delegate):
    found = native.Native(cache).run(phone, small_files.job(files[name], delegate=delegate))
    assert found.output == small_files.answer(files[name], delegate)
    assert (found.delegate, found.flags) == (delegate, {"fell_back": False})


@here
@pytest.mark.parametrize(("name", "fewest"), [("int8", 1), ("float32", 1), ("unlowered", 3)])
def test_pieces_of_xnnpack_are_those_of_the_interpreter(files, cache, phone, name, fewest):
    found = native.Native(cache).run(phone, small_files.job(files[name]))
    told = runtime.partitions(files[name])
    assert told.count >= fewest
    assert (found.partitions, found.delegated_nodes, found.total_nodes) == dataclasses.astuple(told)


@here
def test_every_sample_is_kept_and_the_way_to_the_first_answer_told(files, cache, phone):
    found = native.Native(cache).run(phone, small_files.job(files["int8"], repeats=300, warmup=7))
    assert len(found.wall_ms) == len(found.process_ms) == 300
    assert found.warmup_runs == 7
    assert min(found.wall_ms) > 0
    assert 0.5 < np.median(found.process_ms) / np.median(found.wall_ms) < 1.5
    assert min(found.cold.load_ms, found.cold.compile_ms, found.cold.first_ms) > 0
    assert 1 < found.peak_memory_mb < 200
    assert (found.operators, found.instructions) == ((), None)
    assert "./runner ./libLiteRt.so" in found.command
    assert found.command in found.log
    assert '"wall_ns"' in found.log


@here
def test_warming_up_takes_its_runs_and_its_seconds(files, cache, phone):
    """As many runs as fit into the seconds, if they are more than was asked for."""
    runner = native.Native(cache)
    least = runner.run(phone, small_files.job(files["int8"], warmup=7, warmup_seconds=0))
    longer = runner.run(phone, small_files.job(files["int8"], warmup=7, warmup_seconds=0.2))
    assert longer.warmup_runs > least.warmup_runs == 7


@here
def test_runs_go_on_for_the_least_seconds_and_end_after_the_most(files, cache, phone):
    longer = native.Native(cache).run(phone, small_files.job(files["int8"], repeats=2, min_seconds=0.2))
    assert sum(longer.wall_ms) >= 200 > sum(longer.wall_ms[:-1])
    shorter = native.Native(cache).run(phone, small_files.job(files["int8"], repeats=10**9, max_seconds=0.2))
    assert sum(shorter.wall_ms) >= 200 > sum(shorter.wall_ms[:-1])


@here
@pytest.mark.parametrize("delegate", native.DELEGATES)
def test_a_profile_has_each_operator_in_order(files, cache, phone, delegate):
    found = native.Native(cache).run(phone, small_files.job(files["unlowered"], delegate=delegate, profile=True))
    kinds = [operator.type for operator in found.operators]
    assert kinds.count("HARD_SWISH") == flatbuffer.operators(files["unlowered"]).count("HARD_SWISH") > 0
    assert any("Convolution (NHWC" in kind for kind in kinds) == (delegate == "xnnpack")
    if delegate == "builtin":
        assert kinds == flatbuffer.operators(files["unlowered"])
    assert sum(operator.share for operator in found.operators) == pytest.approx(1, abs=1e-6)
    assert len({operator.name for operator in found.operators}) == len(kinds)


@here
def test_cores_and_threads_are_those_asked_for(files, cache, phone):
    found = native.Native(cache).run(phone, small_files.job(files["int8"], affinity="1", threads=2))
    assert "taskset 1 ./ld-linux" in found.command
    assert "--threads 2" in found.command
    assert found.output == small_files.answer(files["int8"])
    assert (found.affinity, found.flags) == ("1", {"fell_back": False})
    free = native.Native(cache).run(phone, small_files.job(files["int8"]))
    assert int(free.affinity, 16).bit_count() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("asked", "before", "after", "told"),
    [("", "f", "f", False), ("f0", "f0", "f0", False), ("f0", "f0", "30", True), ("f0", "30", "30", True),
     ("", "ff", "f", True)],
)  # fmt: skip
def test_cores_that_the_system_did_not_grant_are_told(asked, before, after, told):
    data = {"wall_ns": [1], "process_ns": [1], "warmup": 1, "load_ms": 1, "compile_ms": 1, "first_ms": 1,
            "peak_memory_kb": 1, "cores_before": before, "cores": after}  # fmt: skip
    job = Job(Path("m.tflite"), None, "xnnpack", 1, b"", affinity=asked)
    found = runner_answer.outcome(job, data, None, command="", log="", output=b"")
    assert (found.affinity, found.flags.get("other_cores", False)) == (after, told)


@here
def test_the_bundle_is_pushed_once_and_leaves_no_answer_behind(files, cache, tmp_path):
    phone = LocalPhone(tmp_path / "phone", "x86_64")
    backend = native.Native(cache)
    backend.prepare(phone)
    backend.run(phone, small_files.job(files["int8"]))
    backend.run(phone, small_files.job(files["float32"]))
    assert phone.pushed.count("libLiteRt.so") == 1
    assert not list((tmp_path / "phone").glob("*/output-*"))


@here
def test_what_does_not_run_is_told_in_one_line(files, cache, phone, tmp_path):
    junk = tmp_path / "junk.tflite"
    junk.write_text("hello")
    backend = native.Native(cache)
    job = small_files.job(files["int8"])
    with pytest.raises(
        UserError, match=r"junk.tflite on the device does not run \(.*cannot be read\)\); export"
    ) as error:
        backend.run(phone, dataclasses.replace(job, path=junk, remote=str(junk)))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="must have 768 bytes"):
        backend.run(phone, dataclasses.replace(job, image=b"short"))
    with pytest.raises(UserError, match="no reference kernels.*take delegate builtin, or --device host"):
        backend.run(phone, dataclasses.replace(job, delegate="reference"))
    with pytest.raises(UnknownName, match="did you mean xnnpack"):
        backend.run(phone, dataclasses.replace(job, delegate="xnpack"))


def test_a_processor_without_bundle_is_told(tmp_path):
    with pytest.raises(UserError, match="processor is armv7l.*take --backend benchmark_model"):
        native.Native(tmp_path).prepare(LocalPhone(tmp_path / "phone", "armv7l"))


def test_a_runner_that_dies_is_told_by_its_signal_and_last_words():
    with pytest.raises(UserError, match=r"ended with signal 11: last words\); export"):
        runner_answer.parse(139, "", "first\nlast words\n", "x.tflite")
    with pytest.raises(UserError, match="ended with status 0"):
        runner_answer.parse(0, '{"wall_ns": [1, ', "", "x.tflite")
    with pytest.raises(UserError, match="ended with status 3"):
        runner_answer.parse(3, json.dumps({"wall_ns": [1]}), "", "x.tflite")


def test_operators_of_several_runs_are_averaged_and_runs_that_differ_refused():
    events = [["Conv", True, 0, 30], ["SOFTMAX", False, 9, 10], ["Conv", True, 0, 50], ["SOFTMAX", False, 9, 30]]
    conv, softmax = runner_answer.operators(events, 2)
    assert (conv.mean_ms, softmax.mean_ms) == (0.04, 0.02)
    assert conv.share == pytest.approx(2 / 3)
    assert runner_answer.delegation(events[:2]) == (1, 1, 1)
    for bad in (events[:3], [*events[:3], ["ADD", False, 9, 30]], []):
        with pytest.raises(UserError, match="differ"):
            runner_answer.operators(bad, 2)


@here
def test_a_bundle_is_made_once_and_appears_whole(tmp_path):
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(bundle.build_bundle(tmp_path, "x86_64"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.directory for each in made}) == 1
    assert [path.name for path in (tmp_path / "native").iterdir()] == [made[0].directory.name]
    runner = made[0].directory / "runner"
    before = runner.stat().st_mtime_ns
    assert bundle.build_bundle(tmp_path, "x86_64") == made[0]
    assert runner.stat().st_mtime_ns == before
    assert sum(path.stat().st_size for path in made[0].files.values()) < 16e6


def test_a_missing_compiler_names_the_packages(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"):
        bundle.build_bundle(tmp_path, "aarch64")
    with pytest.raises(UnknownName, match="did you mean aarch64"):
        bundle.build_bundle(tmp_path, "aarch")


def test_a_wheel_that_is_not_the_known_one_is_refused(tmp_path, monkeypatch):
    def pip(command, **_):
        name = f"ai_edge_litert-{bundle.RUNTIME_VERSION}-cp311-cp311-{target.tag}.whl"
        (Path(command[command.index("-d") + 1]) / name).write_bytes(b"?")
        return subprocess.CompletedProcess(command, 0, "", "")

    target = bundle.TARGETS["aarch64"]
    monkeypatch.setattr(bundle.subprocess, "run", pip)
    with pytest.raises(UserError, match="has SHA-256 8a8de823d5ed.* not 853fc608f96d.*not the one known here"):
        bundle._wheel(target, tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(bundle.subprocess, "run", lambda c, **_: subprocess.CompletedProcess(c, 1, "", "x\nno route"))
    with pytest.raises(UserError, match=r"pip cannot download ai-edge-litert==2.3.0 .*no route\); or put"):
        bundle._wheel(target, tmp_path)


def test_the_runtime_is_the_one_that_the_c_declarations_are_for():
    requirements = (Path(__file__).parent.parent / "requirements.lock").read_text()
    assert f"ai-edge-litert=={bundle.RUNTIME_VERSION} " in requirements
    assert all(f"sha256:{target.sha256}" in requirements for target in bundle.TARGETS.values())


def test_nothing_here_imports_tensorflow():
    modules = "tfcompact.measure.backends.native, tfcompact.measure.emulation"
    code = f"import sys, {modules}; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@arm64
@pytest.mark.parametrize("name", ["int8", "unlowered"])
def test_the_arm64_bundle_gives_this_computers_answer_to_the_bit(files, tmp_path, name):
    root = instruction_proxy.build_plugin("cortex-a76") / "root"
    phone = LocalPhone(tmp_path / "phone", "aarch64", root)
    found = native.Native().run(phone, small_files.job(files[name]))
    assert found.output == small_files.answer(files[name])
    assert found.partitions == runtime.partitions(files[name]).count
    assert len(found.wall_ms) == 5


@here
def test_times_outlive_what_fails_after_them(files, cache, phone, monkeypatch):
    """The cable may go, or the profile fail: what was timed is kept, and flags say what is missing."""
    backend = native.Native(cache)
    backend.prepare(phone)

    def gone(remote, local):
        raise UserError("the device went away")

    monkeypatch.setattr(phone, "pull", gone)
    found = backend.run(phone, small_files.job(files["int8"]))
    assert (len(found.wall_ms), found.output, found.flags["answer_lost"]) == (5, None, True)
    assert "the answer was not fetched: the device went away" in found.log
    shell = phone.shell
    monkeypatch.setattr(phone, "shell", lambda c, t=60.0: shell("echo broken >&2; exit 3" if "--profile" in c else c))
    found = backend.run(phone, small_files.job(files["int8"]))
    assert (len(found.wall_ms), found.total_nodes, found.flags["profile_failed"]) == (5, None, True)
    assert "the operators were not seen: " in found.log
    assert "broken" in found.log


@here
def test_a_failure_carries_its_command_and_what_was_said(files, cache, phone, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(files["int8"].read_bytes()[:400])
    with pytest.raises(RunFailed) as failure:
        native.Native(cache).run(phone, dataclasses.replace(small_files.job(files["int8"]), remote=str(broken)))
    assert "./runner" in failure.value.command
    assert failure.value.command in failure.value.log


@here
def test_times_outlive_a_profile_that_contradicts_itself(files, cache, phone, monkeypatch):
    """Runs that differ in their operators prove nothing of the delegate, and take no times away."""
    parse = native.parse

    def odd(*arguments):
        data = parse(*arguments)
        return data | {"wall_ns": [*data["wall_ns"], 1]} if data.get("events") else data

    monkeypatch.setattr(native, "parse", odd)
    found = native.Native(cache).run(phone, small_files.job(files["int8"], profile=True))
    assert len(found.wall_ms) >= 5
    assert (found.operators, found.flags["profile_failed"]) == ((), True)
    assert "operators of 21 runs that differ" in found.log


class _Refuses:
    """A phone whose shell answers everything in one way."""

    serial = "R5CT10"

    def __init__(self, code: int, said: str) -> None:
        self.answer = SimpleNamespace(code=code, out="", err=said)

    def shell(self, command: str, *_: object) -> SimpleNamespace:
        return self.answer


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (126, "sh: ./ld-linux-aarch64.so.1: can't execute: Permission denied", "SELinux, or a file system mounted"),
        (1, "./ld-linux-aarch64.so.1: error while loading", "the runner does not start on R5CT10 .*litert_app"),
        (139, "Segmentation fault", "the runner does not start on R5CT10"),
    ],
)
def test_a_phone_that_does_not_start_the_runner_is_told(code: int, said: str, expected: str) -> None:
    bundle = SimpleNamespace(start=["./ld-linux-aarch64.so.1", "./runner"])
    with pytest.raises(UserError, match=expected):
        native._try(_Refuses(code, said), bundle, "/data/local/tmp/x")


def test_a_mask_that_the_phone_does_not_take_is_told() -> None:
    with pytest.raises(UserError, match=r"does not run on the cores f0 \(.*Invalid argument\).*--affinity all"):
        native._check_mask(_Refuses(1, "taskset: failed to set affinity: Invalid argument"), "f0")
    native._check_mask(_Refuses(0, ""), "f0")
    native._check_mask(_Refuses(1, "not asked"), "")
