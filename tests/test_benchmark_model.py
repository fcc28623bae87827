"""`benchmark_model`: every format its builds print, told apart and read; its command lines; fallbacks found out.

The logs under android_app/fixtures are written after the formats of the tool's sources, with the numbers made up.
"""

import base64
import hashlib
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from android.standin import Kept, StandIn
from colour_model import COLOURS, colour_model

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.android import adb, connected_phones, fleet, phone_options
from tfcompact.measure.backends import benchmark_log, benchmark_result, delegation_log, runtime_info
from tfcompact.measure.backends.backend import Job, RunFailed
from tfcompact.measure.backends.benchmark_command import CLASSIC, LITERT, Tool, command_line
from tfcompact.measure.backends.benchmark_model import BenchmarkModel
from tfcompact.measure.backends.delegation_log import Delegation, judged
from tfcompact.measure.measurer import File
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.records.measurement import ColdStart, Summary
from tfcompact.tflite import metadata

FIXTURES = Path(__file__).parent / "android_app" / "fixtures"
MB = 1.048576
SHA = "49b3b84f696398d847af01d254975e8b2c0745bcca505de59a698c3df578d230"


def log(name):
    return (FIXTURES / name).read_text()


@pytest.mark.parametrize("name", ["classic.log", "apk_logcat.log"])
def test_a_log_is_read_with_and_without_prefixes(name):
    read = benchmark_log.read(log(name))
    assert read.summary == Summary(50, 119.614, 111.842, 119.614, 115.246, 1.329, 112.107, 115.350, 116.620)
    assert read.cold == ColdStart(None, 1361.236, 125.113)
    assert read.warmup_runs == 5
    assert read.memory_mb is None  # what the process grew by is no peak


def test_scientific_notation_stray_escapes_and_absent_percentiles():
    read = benchmark_log.read(log("classic_bare_scientific.log"))
    assert read.summary == Summary(144, 1041.76, 1030.0, 1100.0, 1041.76, 1.012)
    assert read.cold == ColdStart(None, 25.021, 1061.765)
    assert read.warmup_runs == 1
    assert read.memory_mb == pytest.approx(43.5 * MB)  # what was watched for, not what the process grew by


def test_a_single_run_is_its_own_minimum_and_median():
    summary = benchmark_log.read(log("classic_single.log")).summary
    once = 1041.765
    assert summary == Summary(1, once, once, once, once, 0.0, once, once, once)


def test_the_older_footer_has_no_first_inference():
    read = benchmark_log.read(log("old_footer.log"))
    assert read.cold == ColdStart(None, 7.155, None)
    assert (read.summary.count, read.summary.mean_ms, read.warmup_runs) == (50, 69.0214, 7)


def test_the_block_of_litert_is_in_ms():
    read = benchmark_log.read(log("litert.log"))
    assert read.summary == Summary(102, None, 9.70, 12.21, 9.92, 0.21)
    assert read.cold == ColdStart(None, 512.23, 24.01)
    assert (read.warmup_runs, read.memory_mb) == (41, None)  # its peak was not available


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (log("no_result.log"), "it said: Failed to initialize the interpreter"),
        ("STARTING!\nINFO: count=0\nThe end.\n", "it said: The end."),
        ("", "it said: nothing at all"),
        ('linker: CANNOT LINK EXECUTABLE: library "libc++_shared.so" not found\n\n', "libc\\+\\+_shared.so"),
        (log("litert.log").replace("(102 runs)", "(0 runs)"), "benchmark_model gave no result"),
    ],
)
def test_without_a_result_the_error_quotes_the_tool_in_one_line(text, words):
    with pytest.raises(UserError, match=words) as caught:
        benchmark_log.read(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("classic.log", [Delegation("xnnpack", 642, 685, None, False)]),  # 19 partitions: 9 or 10 of them its own
        ("gpu_full.log", [Delegation("gpu", 65, 65, 1, True, "OpenCL")]),
        ("gpu_partial.log", [Delegation("gpu", 60, 65, 2, False), Delegation("xnnpack", 5, 5, 1, True)]),
        ("nnapi_fallback.log", [Delegation("xnnpack", 64, 65, 1, False)]),
        ("old_nnapi.log", [Delegation("nnapi", 31, None, None, None)]),
        ("litert.log", [Delegation("gpu", 65, 65, 1, True)]),
        ("old_footer.log", []),
    ],
)
def test_the_proof_of_delegation(name, expected):
    assert delegation_log.delegations(log(name)) == expected


def test_the_nodes_of_several_subgraphs_are_added():
    line = "Replacing {0} out of {0} node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions{1}.\n"
    text = line.format(8, " for subgraph 0") + line.format(3, " for subgraph 1")
    assert delegation_log.delegations(text) == [Delegation("xnnpack", 11, 11, 2, True)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("TfLiteXNNPackDelegate", "xnnpack"),
        ("TfLiteGpuDelegateV2", "gpu"),
        ("LITERT_CL", "gpu"),
        ("LITERT_WEBGPU", "gpu"),
        ("TfLiteNnapiDelegate", "nnapi"),
        ("DispatchDelegate", "npu"),
        ("TfLiteQnnDelegate", "npu"),
        ("unknown", "unknown"),
        ("TfLiteFlexDelegate", "flex"),
    ],
)
def test_the_names_of_delegates(name, kind):
    assert delegation_log.delegate_kind(name) == kind


FULL = Delegation("gpu", 65, 65, 1, True)
CPU = Delegation("xnnpack", 64, 65, 1, False)


@pytest.mark.parametrize(
    ("asked", "found", "ran", "took", "flags"),
    [
        ("gpu", [FULL], "gpu", FULL, {"fell_back": False, "partly_delegated": False}),
        (
            "gpu",
            [replace(FULL, replaced=9, complete=False)],
            "gpu",
            ...,
            {"fell_back": False, "partly_delegated": True},
        ),
        ("gpu", [CPU], "xnnpack", CPU, {"fell_back": True}),
        ("nnapi", [], "builtin", None, {"fell_back": True}),
        ("gpu", [replace(FULL, replaced=0), CPU], "xnnpack", CPU, {"fell_back": True}),
        ("xnnpack", [CPU], "xnnpack", CPU, {"fell_back": False}),
        ("xnnpack", [], "xnnpack", None, {"fell_back": False, "delegation_unproven": True}),
        ("builtin", [], "builtin", None, {"fell_back": False}),
        ("builtin", [CPU], "xnnpack", CPU, {"fell_back": True}),  # an old build that has XNNPACK always on
    ],
)
def test_a_fallback_is_marked_as_one(asked, found, ran, took, flags):
    answer = judged(asked, found)
    assert answer[0] == ran
    assert answer[1] == (found[0] if took is ... else took)
    assert answer[2] == flags


def test_operators_of_the_regular_runs_with_the_delegates_own():
    table = benchmark_log.operators(log("profile.log"))
    assert [(row.type, row.name, row.mean_ms) for row in table] == [
        ("SOFTMAX", "[probs, top, 5]:64", 0.1),
        ("Convolution (NHWC, QC8) IGEMM", "Delegate/Convolution (NHWC, QC8) IGEMM:0", 3.0),
        ("Add (ND, QS8) 2", "Delegate/Add (ND, QS8):1", 0.9),
    ]
    assert [row.share for row in table] == pytest.approx([0.025, 0.75, 0.225])


def test_operators_of_older_tables_and_of_csv():
    old = benchmark_log.operators(log("profile_start.log"))
    assert [(row.type, row.name, row.mean_ms) for row in old] == [
        ("QUANTIZE", "[tfl.quantize]:0", 0.093),
        ("CONV_2D", "[a, b, c]:266", 3.640),
    ]
    csv = benchmark_log.operators(log("profile.csv"))
    assert [(row.type, row.mean_ms, row.share) for row in csv] == [
        ("Convolution (NHWC, QC8) IGEMM", 0.12, 0.75),
        ("Fully Connected (NC, QS8, QC8W) GEMM", 0.04, 0.25),
    ]
    assert csv[1].name == "Identity:267"
    assert benchmark_log.operators(log("classic.log")) == ()


def field(number, value):
    """One field of a protocol buffer: an int as varint, a float in 32 bits, bytes with their length."""
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    if isinstance(value, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", value)
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


LATENCY = b"".join(
    field(i, x) for i, x in enumerate((9.92, 9.7, 12.25, 0.25, 9.875, 9.75, 10.25, 512.25, 24.0, 12.5), 1)
)


def result(runs=300):
    """A result file's bytes."""
    memory = field(1, 86_220) + field(2, 86_528) + field(3, 90.5)
    misc = field(1, 0.98) + field(2, runs) + field(3, 41) + field(4, 1.18)
    return field(1, b"") + field(2, LATENCY) + field(3, memory) + field(4, misc)


RESULT = result()


def test_the_result_file_is_a_protocol_buffer():
    told = benchmark_result.read_result_file(RESULT)
    f32 = struct.unpack("<f", struct.pack("<f", 9.92))[0]
    assert told.summary == Summary(300, None, pytest.approx(9.7), 12.25, f32, 0.25, 9.75, 9.875, 10.25)
    assert told.cold == ColdStart(None, 512.25, 24.0)
    assert (told.warmup_runs, told.memory_mb) == (41, pytest.approx(90.5 * MB))


@pytest.mark.parametrize("content", [RESULT[:-1], RESULT[:40], b'{"avg": 1}', b"", b"\x80" * 11])
def test_a_damaged_result_file_is_an_error(content):
    with pytest.raises(UserError, match="result file"):
        benchmark_result.read_result_file(content)


ARTIFACT = Artifact("mobilenet_v2_0.5", "export-1", "model.int8.tflite", "int8", SHA, 9, 64, 10, Normalization())
JOB = Job(Path("model.int8.tflite"), ARTIFACT, "xnnpack", 4, b"", remote="/data/local/tmp/tfcompact/a b/m.tflite")


def flags(name):
    return frozenset(line.split("=")[0].strip()[2:] for line in log(name).splitlines() if line.startswith("\t--"))


@pytest.mark.parametrize(
    ("dialect", "delegate", "has", "lacks"),
    [
        (CLASSIC, "xnnpack", ["--use_xnnpack=true"], ["use_gpu"]),
        (CLASSIC, "builtin", ["--use_xnnpack=false"], ["use_gpu"]),
        (CLASSIC, "gpu", ["--use_gpu=true", "--use_xnnpack=true", "--require_full_delegation=true"], []),
        (CLASSIC, "nnapi", ["--use_nnapi=true", "--require_full_delegation=true"], ["use_gpu"]),
        (LITERT, "xnnpack", ["--use_cpu=true", "--use_gpu=false"], ["require_full", "xnnpack="]),
        (LITERT, "gpu", ["--use_cpu=false", "--use_gpu=true", "--require_full_delegation=true"], []),
        (LITERT, "npu", ["--use_cpu=false", "--use_npu=true"], ["use_gpu=true"]),
    ],
)
def test_the_command_line_of_each_dialect(dialect, delegate, has, lacks):
    listed = flags("help_classic.txt" if dialect == CLASSIC else "help_litert.txt")
    tool = Tool("/data/tool", dialect, listed, libraries=delegate == "npu")
    line = command_line(tool, replace(JOB, delegate=delegate, affinity="f0"), full=True)
    program = "env LD_LIBRARY_PATH=/data ADSP_LIBRARY_PATH=/data /data/tool" if delegate == "npu" else "/data/tool"
    assert line.startswith(f"taskset f0 {program} --graph='/data/local/tmp/tfcompact/a b/m.tflite' --num_threads=4 ")
    assert "--warmup_runs=10 --warmup_min_secs=0.5 --num_runs=100 --min_secs=1 --max_secs=150" in line
    assert all(word in line.split() for word in has), line
    assert not any(word in line for word in lacks), line
    if "--use_gpu=true" in has and dialect == CLASSIC:  # delegates are applied in the order of their flags
        assert line.index("--use_gpu") < line.index("--use_xnnpack")


def test_a_delegate_the_dialect_or_the_build_lacks_is_an_error():
    with pytest.raises(
        UnknownName, match="no delegate of TensorFlow Lite's benchmark_model named 'npu'; did you mean gpu"
    ):
        command_line(Tool("tool", CLASSIC, flags("help_classic.txt")), replace(JOB, delegate="npu"))
    with pytest.raises(UserError, match="has no --use_gpu; leave gpu out"):
        command_line(Tool("tool", CLASSIC, flags("help_classic.txt") - {"use_gpu"}), replace(JOB, delegate="gpu"))
    with pytest.raises(UserError, match="an NPU needs its libraries beside the tool; .* --benchmark-libs FOLDER"):
        command_line(Tool("tool", LITERT, flags("help_litert.txt")), replace(JOB, delegate="npu"))


class Result(NamedTuple):
    """As `adb.Result`."""

    code: int
    out: str
    err: str = ""


class FakePhone:
    """A device whose binary answers with a fixture, and keeps what it was told to run."""

    serial = "R5CT10"

    def __init__(
        self, *, usage="help_classic.txt", answer="classic.log", profile="profile.log", result=RESULT, code=0
    ):
        self.usage, self.answer, self.profile, self.result, self.code = usage, answer, profile, result, code
        self.commands, self.pushed, self.runtime = [], [], b""

    def push_files_by_sha256(self, files):
        self.pushed += files.values()
        return "/data/local/tmp/tfcompact/abc"

    def shell(self, command, timeout_s=60.0):
        self.commands.append(command)
        if command.endswith("--help"):
            return Result(1, "", log(self.usage) if "/" not in self.usage else self.usage)
        if command.startswith("base64"):
            saved = self.runtime if ".runtime" in command else self.result
            return Result(0, base64.encodebytes(saved).decode()) if saved else Result(1, "", "no such file")
        watched = "profil" in command
        name = self.profile if watched else self.answer
        return Result(0 if watched else self.code, "", name if "\n" in name else log(name))


@pytest.fixture
def binary(tmp_path):
    path = tmp_path / "android_aarch64_benchmark_model"
    path.write_bytes(b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + (183).to_bytes(2, "little") + b"code")
    return path


def test_a_whole_run(binary):
    phone, backend = FakePhone(), BenchmarkModel(binary)
    backend.prepare(phone)
    out = backend.run(phone, replace(JOB, profile=True))
    assert phone.pushed == [binary]
    assert out.runtime.startswith("benchmark_model of TensorFlow Lite, sha256 ")
    assert out.summary.p50_ms == 115.35  # the result file is of another number of runs, so it adds nothing
    assert (out.delegate, out.delegated_nodes, out.total_nodes) == ("xnnpack", 642, 685)
    assert out.flags == {"fell_back": False}
    assert len(out.operators) == 3
    assert out.log.count("$ ") == 1  # the second command line, before what it said
    assert not any("profil" in command for command in phone.commands[:3])
    assert "--result_file_path=" in out.command
    assert out.wall_ms == ()


def test_what_the_log_lacks_is_filled_from_the_result_file(binary):
    phone = FakePhone(usage="help_litert.txt", answer="litert.log", result=result(runs=102))
    out = BenchmarkModel(binary).run(phone, replace(JOB, delegate="gpu"))
    assert out.summary == Summary(102, None, 9.70, 12.21, 9.92, 0.21, 9.75, 9.875, 10.25)
    assert (out.delegate, out.flags) == ("gpu", {"fell_back": False, "partly_delegated": False})
    without = BenchmarkModel(binary).run(replace_result(phone, b""), replace(JOB, delegate="gpu"))
    assert without.summary.p50_ms is None


def replace_result(phone, result):
    phone.result = result
    return phone


def test_a_fallback_is_the_delegate_that_ran(binary):
    out = BenchmarkModel(binary).run(FakePhone(answer="nnapi_fallback.log"), replace(JOB, delegate="nnapi"))
    assert (out.delegate, out.flags, out.delegated_nodes) == ("xnnpack", {"fell_back": True}, 64)


@pytest.mark.parametrize(("delegate", "answer"), [("nnapi", "nnapi_fallback.log"), ("gpu", "gpu_partial.log")])
def test_with_full_delegation_required_it_is_an_error(binary, delegate, answer):
    backend = BenchmarkModel(binary, require_full_delegation=True)
    with pytest.raises(UserError, match=f"did not run model.int8.tflite with {delegate}.*try another of --delegates"):
        backend.run(FakePhone(answer=answer), replace(JOB, delegate=delegate))


def test_a_tool_that_fails_is_quoted(binary):
    with pytest.raises(UserError, match=r"with status 1 \(Failed to initialize the interpreter\)"):
        BenchmarkModel(binary).run(FakePhone(answer="no_result.log", code=1), JOB)


def test_a_binary_that_is_none_or_does_not_start(binary, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<html>")
    with pytest.raises(UserError, match="is not a program for Android"):
        BenchmarkModel(page)
    with pytest.raises(UserError, match="give --benchmark-model PATH"):
        BenchmarkModel(tmp_path / "absent")
    with pytest.raises(UserError, match="--benchmark-model PATH"):
        BenchmarkModel(None)
    x86 = tmp_path / "linux_x86-64_benchmark_model"
    x86.write_bytes(binary.read_bytes().replace(b"\xb7\0code", b"\x3e\0code"))
    phone = FakePhone(usage=f"/system/bin/sh: {x86.name}: not executable: 64-bit ELF file")
    with pytest.raises(UserError, match="a program for x86-64, does not run on R5CT10 .*not executable"):
        BenchmarkModel(x86).prepare(phone)


def test_the_whole_way_from_an_export_to_rows(tmp_path):
    """Through the adb client's stand-in, with a script in the tool's place: rows, logs, a fallback under its name."""
    phone = StandIn(tmp_path / "phone")
    tool = tmp_path / "benchmark_model"
    tool.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"*--help*) cat '{FIXTURES}/help_classic.txt' >&2; exit 1 ;;\n"
        f"*use_nnapi=true*) cat '{FIXTURES}/nnapi_fallback.log' ;;\n"
        f"*use_gpu=true*) cat '{FIXTURES}/gpu_full.log' ;;\n"
        f"*) cat '{FIXTURES}/classic.log' ;;\n"
        "esac\n"
    )
    path = tmp_path / "model.int8.tflite"
    content = metadata.attach(
        colour_model("int8"), name="m", description="", labels=tuple(COLOURS), normalization=Normalization()
    )
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    artifact = replace(ARTIFACT, sha256=sha256, bytes=len(content), image_px=32, classes=len(COLOURS))
    config = phone_options.Config(
        backend="benchmark_model", benchmark_model=tool, delegates=("xnnpack", "gpu", "nnapi"), adb=str(phone.client)
    )
    kept = {}
    measured = fleet.measure(
        [File(path, artifact)],
        connected_phones.phones(adb.Adb(phone.client)),
        config,
        fleet.backend_of(config),
        Kept(lambda row, text: kept.update({row.delegate: (row, text)})),
    )
    assert measured.failures == ()
    assert set(kept) == {"xnnpack", "gpu", "xnnpack-instead-of-nnapi"}
    row, text = kept["gpu"]
    assert (row.backend, row.device.kind, row.summary.p50_ms, row.wall_ms) == (
        "benchmark_model",
        "android",
        9.901,
        (),
    )
    assert (row.delegated_nodes, row.total_nodes) == (65, 65)
    assert "completely executed by the delegate" in text
    assert kept["xnnpack-instead-of-nnapi"][0].validity["fell_back"]
    assert not row.validity["fell_back"]


@pytest.mark.parametrize("damage", [RESULT[:5], b"\xff\xff\xff\xff"], ids=["cut off", "garbage"])
def test_a_damaged_result_file_takes_nothing_away(binary, damage):
    phone = FakePhone(result=damage)
    out = BenchmarkModel(binary).run(phone, JOB)
    assert out.summary.p50_ms == 115.35
    removed = next(i for i, command in enumerate(phone.commands) if command.startswith("rm -f"))
    ran = next(i for i, command in enumerate(phone.commands) if "--graph=" in command)
    assert removed < ran  # nor can one of an earlier run be read


def test_times_outlive_a_profile_that_fails(binary):
    phone = FakePhone()
    backend = BenchmarkModel(binary)
    shell = phone.shell

    def broken(command, timeout_s=60.0):
        result = shell(command, timeout_s)
        return Result(134, "", "Aborted") if "op_profiling" in command else result

    phone.shell = broken
    out = backend.run(phone, replace(JOB, profile=True))
    assert (out.summary.p50_ms, out.operators, out.flags["profile_failed"]) == (115.35, (), True)
    assert "# no profile: benchmark_model did not run" in out.log
    assert "Aborted" in out.log


def test_a_failure_carries_its_command_and_what_was_said(binary):
    with pytest.raises(RunFailed) as failure:
        BenchmarkModel(binary).run(FakePhone(answer="no_result.log", code=1), JOB)
    assert "--graph=" in failure.value.command
    assert failure.value.log.strip() == log("no_result.log").strip()


def test_flags_of_the_users_own(binary):
    given = "--gpu_backend=cl --gpu_precision_loss_allowed=false --external_delegate_path='/data/my delegate.so'"
    with pytest.raises(UserError, match=r"the delegate external is the one of a library: give both"):
        BenchmarkModel(binary, arguments=given).run(FakePhone(), JOB)
    flags = frozenset({"graph", "external_delegate_path"})
    tool = Tool("/data/tool", CLASSIC, flags)
    more = BenchmarkModel(binary, arguments=given).arguments
    line = command_line(tool, replace(JOB, delegate="external"), more=more)
    assert "--use_xnnpack" not in line.partition("--external_delegate_path")[0]
    phone = FakePhone()
    BenchmarkModel(binary, arguments="--gpu_backend=cl").run(phone, JOB)
    assert any("--gpu_backend=cl" in command for command in phone.commands)
    assert "--gpu_backend=cl --gpu_precision_loss_allowed=false" in line
    assert "'--external_delegate_path=/data/my delegate.so'" in line
    for wrong in ("--num_runs=3", "gpu", "--gpu_backend cl", "--model_runtime_info_output_file=x"):
        with pytest.raises(UserError, match="takes flags as --name=value that no other option sets"):
            BenchmarkModel(binary, arguments=wrong)
    with pytest.raises(UserError, match="cannot be read as words .No closing quotation.; close its quotes"):
        BenchmarkModel(binary, arguments="--gpu_backend='cl")


def test_an_npu_with_its_libraries(binary, tmp_path):
    folder = tmp_path / "qnn libs"
    folder.mkdir()
    with pytest.raises(UserError, match="holds no library"):
        BenchmarkModel(binary, libraries=folder)
    with pytest.raises(UserError, match="is no folder of libraries"):
        BenchmarkModel(binary, libraries=binary)
    names = ("libLiteRtDispatch_Qualcomm.so", "libQnnHtp.so", "libc++.so.1")
    for name in (*names, "README.txt"):
        (folder / name).write_bytes(b"\x7fELF")
    phone = FakePhone(usage="help_litert.txt", answer=log("litert.log").replace("LITERT_CL", "DispatchDelegate"))
    out = BenchmarkModel(binary, libraries=folder).run(phone, replace(JOB, delegate="npu"))
    assert [path.name for path in phone.pushed] == [binary.name, *sorted(names)]
    home = "/data/local/tmp/tfcompact/abc"
    assert out.command.startswith(
        f"env LD_LIBRARY_PATH={home} ADSP_LIBRARY_PATH={home} {home}/{binary.name} --graph="
    )
    assert f"--dispatch_library_path={home} --compiler_plugin_library_path={home}" in out.command
    given = BenchmarkModel(binary, libraries=folder, arguments="--dispatch_library_path=/vendor/lib64")
    line = given.run(phone, replace(JOB, delegate="npu")).command
    assert line.count("--dispatch_library_path") == 1
    assert "--dispatch_library_path=/vendor/lib64" in line


def details(*subgraphs):
    """A file about nodes, made by TensorFlow's classes: for each subgraph, what its delegates took, and the rest."""
    from tensorflow.lite.profiling.proto import model_runtime_info_pb2 as proto

    made = proto.ModelRuntimeDetails(model_name="m")
    for delegates, left in subgraphs:
        graph = made.subgraphs.add(subgraph_type=proto.RuntimeSubgraph.TFLITE_SUBGRAPH)
        graph.edges.add(id=0, shape=[1, 64, 64, 3])
        count = left + sum(taken for _, taken in delegates)
        for index in range(count):
            graph.nodes.add(id=index, name="CONV_2D", type="3", inputs=[0], outputs=[1])
        graph.execution_plan.extend(range(count - left, count))
        first = 0
        for at, (name, taken) in enumerate(delegates, count):
            node = graph.nodes.add(id=at, name=name, type=name)
            node.delegate_node_details.delegate_name = name
            node.delegate_node_details.tflite_node_ids_replaced.extend(range(first, first + taken))
            graph.execution_plan.append(at)
            first += taken
    return made.SerializeToString()


def test_the_file_about_nodes_is_read_as_its_own_classes_write_it():
    two = details(([("TfLiteGpuDelegateV2", 200), ("TfLiteGpuDelegateV2", 30), ("TfLiteXNNPackDelegate", 4)], 1))
    assert runtime_info.read(two) == [Delegation("gpu", 230, 235, 2, False), Delegation("xnnpack", 4, 235, 1, False)]
    several = details(([("TfLiteXNNPackDelegate", 7)], 0), ([("TfLiteXNNPackDelegate", 300)], 0))
    assert runtime_info.read(several) == [Delegation("xnnpack", 307, 307, 2, True)]
    assert runtime_info.read(details(([], 65))) == []
    for damaged in (two[:-1], two[: len(two) // 2], b"{}", b"\x12\x05abc", b"\x80" * 11, b"\x10\x01"):
        with pytest.raises(UserError, match="file about nodes is damaged"):
            runtime_info.read(damaged)


@pytest.mark.parametrize(
    ("asked", "log_name", "nodes", "ran", "taken", "flags"),
    [
        ("xnnpack", "old_footer.log", ([("TfLiteXNNPackDelegate", 60)], 5), "xnnpack", (60, 65),
         {"fell_back": False}),
        ("xnnpack", "old_footer.log", ([], 65), "builtin", (None, None), {"fell_back": True}),
        ("xnnpack", "old_footer.log", None, "xnnpack", (None, None),
         {"fell_back": False, "delegation_unproven": True}),
        ("gpu", "old_footer.log", ([("TfLiteXNNPackDelegate", 65)], 0), "xnnpack", (65, 65), {"fell_back": True}),
        ("gpu", "gpu_full.log", ([("TfLiteGpuDelegateV2", 65)], 0), "gpu", (65, 65),
         {"fell_back": False, "partly_delegated": False}),
    ],
)  # fmt: skip
def test_the_file_about_nodes_proves_what_the_log_leaves_open(binary, asked, log_name, nodes, ran, taken, flags):
    usage = log("help_classic.txt") + "\t--model_runtime_info_output_file=\tstring\toptional\t/\n"
    phone = FakePhone(usage=usage, answer=log_name)
    phone.runtime = details(nodes) if nodes else b"\xff"
    out = BenchmarkModel(binary).run(phone, replace(JOB, delegate=asked))
    assert "--model_runtime_info_output_file=" in out.command
    assert (out.delegate, out.delegated_nodes, out.total_nodes, out.flags) == (ran, *taken, flags)


CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "benchmark_logs"
PUBLIC = {  # file -> runs, mean ms, what delegates took (who, how many, of how many, pieces)
    "01_tf112_2019.log": (17, 61.1024, []),
    "02_old_runorder_noheading.log": (42, 23.3135, []),
    "03_gpu_2020.log": (50, 119.4, [("gpu", None, None, None)]),
    "04_gpu_opengl.log": (50, 31.2, [("gpu", None, None, None)]),
    "07_studio_logcat.log": (50, 109.6, [("nnapi", None, None, None)]),
    "08_old_studio_logcat.log": (50, 9.2, [("hexagon", 95, 96, None)]),
    "09_qnn_external.log": (811, 1.228, [("external", 31, 31, 1)]),
    "11_hexagon_2020.log": (80, 12.25, [("hexagon", 60, 63, 2)]),
    "13_litert_npu_partial.log": (502, 1.92, [("npu", 153, 161, 2), ("xnnpack", 8, 10, None)]),
    "14_fail_xnnpack.log": "Failed to apply XNNPACK delegate.",
    "15_fail_gpu_ops.log": "No shader implementation for transpose",
    "16_fail_load.log": "Failed to mmap model",
    "18_all_same.log": (3, 0.028, []),
    "21_flex.log": (50, 791.0, [("flex", 76, 5623, 51), ("xnnpack", 4000, 5598, 200)]),
    "26_nnapi_reference.log": (50, 491.0, []),
    "28_killed.log": "Killed",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_logs_of_the_forms_that_people_posted(name):
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there")
    text = (CASES / name).read_bytes().decode()
    expected = PUBLIC[name]
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            benchmark_log.read(text)
        return
    read = benchmark_log.read(text).summary
    assert (read.count, pytest.approx(read.mean_ms)) == expected[:2]
    assert [(d.delegate, d.replaced, d.total, d.pieces) for d in delegation_log.delegations(text)] == expected[2]


@pytest.mark.parametrize(("api", "name"), [("OpenCL", "03_gpu_2020.log"), ("OpenGL", "04_gpu_opengl.log")])
def test_what_a_gpu_was_asked_by(api, name):
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there")
    (gpu,) = delegation_log.delegations((CASES / name).read_text())
    assert gpu.api == api


def test_a_delegate_that_nobody_asked_for_is_an_error():
    for stranger in ("hexagon", "gpu", "npu"):
        with pytest.raises(UserError, match=f"the delegate {stranger} ran, and xnnpack was asked for"):
            judged("xnnpack", [Delegation(stranger, 60, 63, 2, False)])
    assert judged("gpu", [Delegation("flex", 3, 9, 1, False), Delegation("gpu", 6, 9, 1, False)])[0] == "gpu"


REPLACING = "INFO: Replacing {} out of {} node(s) with delegate ({}) node, yielding {} partitions for subgraph 0."
SELECTED = "INFO: Partitioned subgraph<0>, selected 161 ops, from a total of 161 ops. resulted in 1 partitions."
FORMS = {
    "a vendor's driver": (
        "NeuronDelegate delegate: 12 nodes delegated out of 15 nodes with 3 partitions.\n"
        + REPLACING.format(12, 15, "NeuronDelegate", 7),
        [("npu", 12, 15, 3)],
    ),
    "two accelerators of NNAPI": (
        "NNAPI accelerators available: [qti-dsp,nnapi-reference]\n"
        + REPLACING.format(65, 65, "TfLiteNnapiDelegate", 1),
        [("nnapi", 65, 65, 1)],
    ),
    "an accelerator by Vulkan": (
        "Initialized Vulkan-based API.\nExplicitly applied GPU delegate, and the model graph will be partially "
        "executed by the delegate w/ 3 delegate kernels.",
        [("gpu", None, None, 3)],
    ),
    "a compiler that took all": (
        f"{SELECTED}\n" + REPLACING.format(1, 1, "DispatchDelegate", 1),
        [("npu", 161, 161, 1)],
    ),
    "a compiler alone": (SELECTED, []),
}


@pytest.mark.parametrize(("text", "expected"), FORMS.values(), ids=FORMS)
def test_other_forms_of_proof(text, expected):
    assert [(d.delegate, d.replaced, d.total, d.pieces) for d in delegation_log.delegations(text)] == expected
