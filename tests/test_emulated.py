"""Instructions counted under QEMU: exact, the same each time, and of the answer that this computer gives."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from android.standin import Kept
from benchmarks import instructions as benchmark
from native import environment, small_files

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure import emulation
from tfcompact.measure.backends import arm_processors, instruction_proxy
from tfcompact.measure.measurer import File, quiet
from tfcompact.records.measurement import Measurement
from tfcompact.tflite import runtime

arm64 = pytest.mark.skipif(environment.hindrance() is not None, reason=str(environment.hindrance()))

LOOP = """
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static void __attribute__((noinline)) spin(long n) { __asm__ volatile("1: subs %0, %0, #1\\n b.ne 1b" : "+r"(n)); }
int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    long n = atol(argv[i]);
    syscall(0x7fc0, 1);
    spin(n);
    syscall(0x7fc0, 2);
    spin(n);
  }
  return 0;
}
"""
"""A program with marks around loops of two instructions a turn, and a loop after each that is not to be counted."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return small_files.write(tmp_path_factory.mktemp("files"))


@arm64
def test_the_plugin_counts_a_loop_of_known_length_exactly(tmp_path):
    (tmp_path / "loop.c").write_text(LOOP)
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    subprocess.run([compiler, "-O1", "-static", "-o", "loop", "loop.c"], cwd=tmp_path, check=True)
    plugin = instruction_proxy.build_plugin("cortex-a53") / "insn_count.so"
    turns = (1, 1000, 2000, 200_000)
    command = ["qemu-aarch64", "-plugin", f"{plugin},out=counts", "./loop", *map(str, turns)]
    subprocess.run(command, cwd=tmp_path, check=True)
    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert [count - counts[0] for count in counts] == [2 * (n - 1) for n in turns]
    assert 0 < counts[0] < 100


@arm64
def test_the_plugin_refuses_to_run_without_a_file(tmp_path):
    plugin = instruction_proxy.build_plugin("cortex-a53") / "insn_count.so"
    done = subprocess.run(["qemu-aarch64", "-plugin", plugin, "x"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "give out=FILE" in done.stderr


@arm64
@pytest.mark.parametrize("name", ["int8", "float32", "unlowered"])
def test_the_count_is_the_same_in_every_process_and_under_every_path(files, tmp_path, name):
    elsewhere = tmp_path / ("long" * 20)
    elsewhere.mkdir()
    copy = elsewhere / "of-another-name.tflite"
    shutil.copy(files[name], copy)
    first, again = instruction_proxy.count(files[name]), instruction_proxy.count(copy)
    assert first.each == again.each
    assert len(first.each) == instruction_proxy.COUNTED_RUNS
    assert first.steady
    assert first.instructions == instruction_proxy.instructions(str(files[name]))


@arm64
def test_without_the_option_the_runner_sets_no_marks(files):
    """The system call of a mark would kill an app on a phone."""
    with instruction_proxy._Emulator("cortex-a76", None, files["int8"], None) as emulator:
        emulator.run(("-plugin", "./insn_count.so,out=counts"), ("--runs", "1"))
        assert (emulator.directory / "counts").read_text() == ""


@arm64
@pytest.mark.parametrize("cpu", arm_processors.PROCESSORS)
@pytest.mark.parametrize("name", ["int8", "unlowered"])
def test_the_answer_is_this_computers_to_the_bit(files, cpu, name):
    model = runtime.LiteModel(files[name])
    found = instruction_proxy.count(files[name], cpu, image=small_files.image(model).tobytes())
    assert found.output == small_files.answer(files[name])


@arm64
def test_processor_and_kernels_are_what_was_asked_for(files):
    old, new = (instruction_proxy.instructions(files["int8"], cpu) for cpu in ("cortex-a53", "cortex-a76"))
    assert old > 1.1 * new  # the dot product is four products and sums in one instruction
    assert instruction_proxy.instructions(files["int8"], delegate="builtin") > 1.1 * new
    assert instruction_proxy.instructions(files["unlowered"]) > new


@arm64
def test_an_outcome_has_no_time_and_makes_a_row(files):
    backend = instruction_proxy.InstructionProxy("cortex-a53")
    backend.prepare()
    job = small_files.job(files["unlowered"])
    found = backend.run(job)
    assert found.instructions == instruction_proxy.instructions(files["unlowered"], "cortex-a53")
    assert (found.wall_ms, found.process_ms, found.summary, found.cold, found.operators) == ((), (), None, None, ())
    assert found.peak_memory_mb is None
    told = runtime.partitions(files["unlowered"])
    assert (found.partitions, found.delegated_nodes, found.total_nodes) == dataclasses.astuple(told)
    assert found.flags == {"fell_back": False, "unsteady": False}
    assert "qemu-aarch64" in found.command
    assert found.command in found.log
    assert "wall" not in found.log
    artifact = dataclasses.replace(job.artifact, sha256=hashlib.sha256(job.path.read_bytes()).hexdigest())
    kept, config = Kept(), emulation.Config(cpu="cortex-a53")
    (row,) = emulation.Emulation(config).measure([File(job.path, artifact)], kept, quiet).rows
    assert [kept_row for kept_row, _ in kept.rows] == [row] == [Measurement.from_json(row.to_json())]
    assert (row.device.name, row.device.kind) == ("arm64-cortex-a53-insn", "emulated")
    assert (row.instructions, row.wall_ms, row.output.identical) == (found.instructions, (), True)
    assert row.validity == {"fell_back": False, "unsteady": False, "output_differs": False}


@arm64
def test_what_does_not_run_is_told_in_one_line(files, tmp_path):
    junk = tmp_path / "junk.tflite"
    junk.write_text("hello")
    with pytest.raises(UserError, match=r"junk.tflite under qemu-aarch64 -cpu cortex-a76 does not run") as error:
        instruction_proxy.instructions(junk)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="nothing.tflite is not there"):
        instruction_proxy.instructions(tmp_path / "nothing.tflite")
    with pytest.raises(UserError, match="counts one thread, not 2"):
        instruction_proxy.InstructionProxy().run(small_files.job(files["int8"], threads=2))


def test_options_that_are_not_known_are_told():
    with pytest.raises(UserError, match="no reference kernels"):
        instruction_proxy.instructions("x.tflite", delegate="reference")
    with pytest.raises(UnknownName, match="did you mean cortex-a76"):
        instruction_proxy.InstructionProxy("cortex-a77")
    with pytest.raises(UnknownName, match="known: cortex-a53, cortex-a72, cortex-a76"):
        instruction_proxy.build_plugin("snapdragon")


def test_a_missing_emulator_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install qemu-user"):
        instruction_proxy.InstructionProxy().prepare()
    with pytest.raises(UserError, match="apt-get install gcc libc6-dev"):
        instruction_proxy.build_plugin("cortex-a53", tmp_path)


def test_an_emulator_without_plugins_is_told(tmp_path, files, monkeypatch):
    tool = tmp_path / "qemu-aarch64"
    tool.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo version 10.0.2 && exit\necho "-plugin: no" >&2; exit 1\n'
    )
    tool.chmod(0o755)
    fake = dataclasses.make_dataclass("Bundle", ["files", "start"])({}, [])
    monkeypatch.setattr(instruction_proxy, "build_bundle", lambda _: fake)
    monkeypatch.setattr(instruction_proxy, "build_plugin", lambda *_: tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UserError, match=r"does not take our plugin \(-plugin: no\)"):
        instruction_proxy.instructions(files["int8"])


@pytest.fixture
def counted(monkeypatch):
    """Stands in for QEMU: every call gives the next number."""
    calls = []

    def take(path, cpu, delegate):
        calls.append((Path(path).name, cpu))
        return numbers[len(calls) - 1]

    numbers = [1_000_000, 1_000_000, 3_000_000, 3_000_001]
    fake = dataclasses.make_dataclass("Bundle", ["digest"])("0" * 64)
    monkeypatch.setattr(benchmark, "build_bundle", lambda: fake)
    monkeypatch.setattr(instruction_proxy, "build_plugin", lambda cpu: Path(f"{cpu}-0123"))
    monkeypatch.setattr(instruction_proxy, "instructions", take)
    monkeypatch.setattr(instruction_proxy, "_emulator_version", lambda: "7.2.0")
    return calls


def test_the_benchmark_goes_on_where_it_was_and_fails_where_counts_differ(counted, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.tflite").write_bytes(b"a")
    (tmp_path / "b.tflite").write_bytes(b"b")

    def run(*files: str) -> int:
        words = ["instructions.py", *files, "--folder", str(tmp_path), "--cpus", "cortex-a53"]
        monkeypatch.setattr(sys, "argv", words)
        return benchmark.main()

    assert run(f"first={tmp_path / 'a.tflite'}") == 0
    assert "| first | 1.00 |" in capsys.readouterr().out
    assert run(f"first={tmp_path / 'a.tflite'}", f"second={tmp_path / 'b.tflite'}") == 1
    shown = capsys.readouterr()
    assert "| second | 3.00 |" in shown.out
    assert "b.tflite on cortex-a53: 3000000, 3000001" in shown.err
    assert [name for name, _ in counted] == ["a.tflite", "a.tflite", "b.tflite", "b.tflite"]
    assert sorted(map(len, json.loads((tmp_path / "counts.json").read_text()).values())) == [2, 2]
    assert run("nothing.tflite") == 2
    assert "nothing.tflite is not there" in capsys.readouterr().err
