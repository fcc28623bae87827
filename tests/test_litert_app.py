"""The back end `litert_app`: a whole run, and every way in which the app, or Android, lets it down.

The device is a stand-in: its shell is this computer's, with programs `am`, `pm`, `pidof` and `logcat` of our own, and
a folder for the app's files. What the app itself does is tests/test_kotlin.py's.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.android import adb
from tfcompact.measure.android.phone import DIRECTORY
from tfcompact.measure.backends import litert_app
from tfcompact.measure.backends.backend import Job, RunFailed
from tfcompact.measure.backends.litert_app import FILES, PACKAGE, LitertApp
from tfcompact.records.artifact import Artifact, Normalization

GOLDEN = Path(__file__).parent / "golden" / "measurement_native.json"
CONTENT = b"TFL3 as far as this test goes"
ARTIFACT = Artifact(
    "mobilenet_v3_small",
    "export-1",
    "model.int8.tflite",
    "int8",
    hashlib.sha256(CONTENT).hexdigest(),
    len(CONTENT),
    64,
    10,
    Normalization(),
)

AM = """#!/bin/sh
"exec" "{python}" "$0" "$@"
import hashlib, json, os, pathlib, sys
words = sys.argv[1:]
state = json.loads(pathlib.Path({state!r}).read_text())
with open({calls!r}, "a") as calls:
    print(json.dumps(words), file=calls)
if words[0] != "start" or state["does"] == "nothing":
    sys.exit()
if state["does"] == "not installed":
    print("Starting: Intent {{ cmp=... }}")
    print("Error type 3")
    print("Error: Activity class {{...BenchmarkActivity}} does not exist.", file=sys.stderr)
    sys.exit()
extras = {{words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "--es"}}
def denied(name):  # on the real phone's paths, as the app would name them
    path = extras.get(name, "")
    local = next((local for local in state["places"] if path.startswith(local)), "")
    if local and state["places"][local] in state["denied"]:
        return path.replace(local, state["places"][local])
out = pathlib.Path(extras["out"])
out.parent.mkdir(parents=True, exist_ok=True)
if "probe" in extras:
    answer = {{"schema": 2, "runtime": "LiteRT 2.3.0", "accelerators": state["accelerators"]}}
elif unreadable := denied("model") or denied("image"):
    answer = {{"schema": 2, "error": unreadable + " cannot be read by the app (EACCES)", "unreadable": unreadable}}
elif state["does"] == "error":
    answer = {{"schema": 2, "error": "LiteRT does not run this file on the gpu (Some ops are not accelerated)"}}
else:
    content = pathlib.Path(extras["model"]).read_bytes()
    answer = json.loads(pathlib.Path({golden!r}).read_text())
    answer |= {{"artifact_sha256": hashlib.sha256(content).hexdigest(), "backend": "litert_app", "mode": "burst"}}
    answer |= {{"delegate": extras["accelerator"], "threads": int(extras["threads"])}}
    answer |= {{"validity": {{"throttled": False, "in_background": False, "screen_off": False}}}}
    answer |= {{"wall_ms": [2.5] * int(extras["runs"]), "summary": None, "instructions": None}} | state["row"]
    answer["pid"] = 4711
    if "image" in extras:
        (out.parent / (out.name + ".output")).write_bytes(pathlib.Path(extras["image"]).read_bytes()[::-1])
text = "not JSON" if state["does"] == "garbage" and "probe" not in extras else json.dumps(answer)
out.write_text(text)
print("Status: ok")
"""


class Result(NamedTuple):
    """As `adb.Result`."""

    code: int
    out: str
    err: str


class StandIn:
    """A device's shell on this computer, and the client's `install`."""

    serial = "R5CT10"

    def __init__(self, home):
        self.home, self.files, self.programs = home, home / "files", home / "programs"
        self.programs.mkdir(parents=True)
        self.calls, self.state = home / "calls", home / "state"
        self.calls.touch()
        self.log, self.install = "", Result(0, "Success", "")
        self.fails = {}  # by a pattern of commands, the error that the connection ends with
        self.places = {FILES: str(self.files), DIRECTORY: str(home / "pushed")}
        self.does("well")
        words = {"state": str(self.state), "calls": str(self.calls), "golden": str(GOLDEN), "python": sys.executable}
        self.program("am", AM.format(**words))
        self.program("pm", f"#!/bin/sh\necho package:/data/app/{PACKAGE}.apk\n")
        self.program("pidof", "#!/bin/sh\necho 4711\n")
        self.program("logcat", f"#!/bin/sh\ncat '{home}/log'\n")
        self.adb = self

    def program(self, name, text):
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def does(self, what, accelerators=("cpu", "gpu"), row=None, denied=()):
        places = {local: real for real, local in self.places.items()}
        state = {"does": what, "accelerators": accelerators, "row": row or {}, "denied": denied, "places": places}
        self.state.write_text(json.dumps(state))

    def said(self):
        return [json.loads(line) for line in self.calls.read_text().splitlines()]

    def local(self, text):
        for real, local in self.places.items():
            text = text.replace(real, local)
        return text

    def shell(self, command, timeout_s=60.0):
        (self.home / "log").write_text(self.log)
        for pattern, error in self.fails.items():
            if re.search(pattern, command):
                raise error
        local = self.local(command)
        path = f"{self.programs}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", local], capture_output=True, text=True, timeout=20, env=os.environ | {"PATH": path}
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def push_by_sha256(self, path):
        content = path.read_bytes()
        target = f"{DIRECTORY}/{hashlib.sha256(content).hexdigest()}/{path.name}"
        local = Path(self.local(target))
        local.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, local)
        local.chmod(0o600)
        local.parent.chmod(0o700)
        return target

    def call(self, *words, serial, timeout_s):
        assert serial == self.serial
        self.calls.write_text(self.calls.read_text() + json.dumps(words) + "\n")
        return self.install


def extras_of(phone):
    """The extras of every start of the app."""
    starts = [words for words in phone.said() if words[0] == "start"]
    return [{w[i + 1]: w[i + 2] for i, word in enumerate(w) if word == "--es"} for w in starts]


@pytest.fixture
def phone(tmp_path):
    return StandIn(tmp_path / "phone")


@pytest.fixture
def job(tmp_path, phone):
    path = tmp_path / "model.int8.tflite"
    path.write_bytes(CONTENT)
    return Job(path, ARTIFACT, "gpu", 2, b"\1\2\3", remote=phone.push_by_sha256(path), repeats=60)


REPLACED = (
    "11-24 12:50:02.123  4711  4722 I tflite  : Replacing {} out of 65 node(s) with delegate (LITERT_CL) node, "
    "yielding {} partitions for subgraph 0 (main).\n"
)


def test_a_whole_run(phone, job):
    phone.log = REPLACED.format(65, 1)
    backend = LitertApp()
    backend.prepare(phone)
    out = backend.run(phone, job)
    assert out.wall_ms == (2.5,) * 60
    assert (out.runtime, out.delegate, out.warmup_runs) == ("LiteRT 2.3.0", "gpu", 10)
    assert (out.partitions, out.delegated_nodes, out.total_nodes) == (1, 65, 65)
    assert out.flags == {
        "throttled": False,
        "in_background": False,
        "screen_off": False,
        "fell_back": False,
        "partly_delegated": False,
        "answer_lost": False,
    }
    assert out.output == b"\3\2\1"
    assert out.cold is not None
    assert out.cold.compile_ms == 18.5
    assert out.peak_memory_mb == 23.4
    assert "Replacing 65" in out.log
    assert f"am start -W -n {PACKAGE}/.BenchmarkActivity" in out.command
    extras = extras_of(phone)[-1]
    names = ("accelerator", "threads", "warmup", "warmup_seconds", "runs", "min_seconds")
    assert {name: extras[name] for name in names} == {
        "accelerator": "gpu",
        "threads": "2",
        "warmup": "10",
        "warmup_seconds": "0.5",
        "runs": "60",
        "min_seconds": "1",
    }
    assert list(phone.files.iterdir()) == []  # nothing is left in the app's folder


XNNPACK = REPLACED.format(65, 1).replace("LITERT_CL", "TfLiteXNNPackDelegate")


@pytest.mark.parametrize(
    ("asked", "log", "ran", "nodes", "flags"),
    [
        ("gpu", REPLACED.format(65, 1), "gpu", 65, {"fell_back": False, "partly_delegated": False}),
        ("gpu", REPLACED.format(60, 4), "gpu", 60, {"fell_back": False, "partly_delegated": True}),
        ("npu", REPLACED.format(65, 1).replace("LITERT_CL", "DispatchDelegate"), "npu", 65, {"fell_back": False}),
        ("gpu", XNNPACK, "xnnpack", 65, {"fell_back": True}),
        ("npu", XNNPACK, "xnnpack", 65, {"fell_back": True}),
        ("npu", REPLACED.format(0, 1).replace("LITERT_CL", "DispatchDelegate") + XNNPACK, "xnnpack", 65, None),
        ("gpu", "", "gpu", None, {"delegation_unproven": True}),
        ("cpu", XNNPACK, "cpu", 65, {"fell_back": False}),
        ("cpu", "", "cpu", None, {"delegation_unproven": True}),
        # Another app's lines, with another process' number, prove nothing.
        ("gpu", XNNPACK + REPLACED.format(65, 1).replace("4711", "2222"), "xnnpack", 65, {"fell_back": True}),
        ("cpu", XNNPACK + REPLACED.format(65, 1).replace("4711", "2222"), "cpu", 65, {"fell_back": False}),
        ("gpu", REPLACED.format(65, 1).replace("4711", "2222"), "gpu", None, {"delegation_unproven": True}),
    ],
)
def test_what_ran_is_what_the_log_proves(phone, job, asked, log, ran, nodes, flags):
    phone.does("well", accelerators=("cpu", "gpu", "npu"))
    phone.log = log
    out = LitertApp().run(phone, replace(job, delegate=asked))
    assert (out.delegate, out.delegated_nodes) == (ran, nodes)
    judged = ("fell_back", "partly_delegated", "delegation_unproven")
    found = {name: value for name, value in out.flags.items() if name in judged}
    expected = {"fell_back": True} if flags is None else flags
    assert found == expected | ({"partly_delegated": False} if asked == ran == "npu" else {})


def test_what_the_app_saw_of_itself_is_in_the_flags(phone, job):
    phone.does("well", row={"validity": {"in_background": True, "screen_off": True}})
    flags = LitertApp().run(phone, job).flags
    assert (flags["in_background"], flags["screen_off"]) == (True, True)


def test_the_app_reads_what_was_pushed_where_it_may(phone, job):
    LitertApp().run(phone, job)
    started = extras_of(phone)[-1]
    assert started["model"] == phone.local(job.remote)
    assert started["image"].startswith(phone.places[DIRECTORY])
    assert started["out"].startswith(str(phone.files))
    model = Path(started["model"])
    modes = [oct(path.stat().st_mode & 0o777) for path in (model, model.parent, model.parent.parent)]
    assert modes == ["0o644", "0o755", "0o755"]


def test_it_gets_a_copy_where_it_may_not(phone, job):
    backend = LitertApp()
    backend.prepare(phone)
    phone.does("well", denied=[DIRECTORY])
    out = backend.run(phone, job)
    assert (len(out.wall_ms), out.output) == (60, b"\3\2\1")
    refused, copied = extras_of(phone)[1:]
    assert refused["model"] == phone.local(job.remote)
    assert [Path(copied[name]).parent for name in ("model", "image")] == [phone.files] * 2
    backend.run(phone, job)
    assert len(extras_of(phone)) == 4, "what it may not read is not tried again"
    assert list(phone.files.iterdir()) == []
    phone.does("well", denied=[DIRECTORY, FILES])
    with pytest.raises(RunFailed, match=rf"the app on R5CT10: {FILES}/\S+ cannot be read by the app \(EACCES\)"):
        LitertApp().run(phone, job)
    assert list(phone.files.iterdir()) == []


def test_the_apps_own_error_is_the_error(phone, job):
    backend = LitertApp()
    backend.prepare(phone)
    phone.does("error")
    phone.log = "11-24 12:50:02.123  4711  4722 E tflite  : Node number 3 (DEPTHWISE_CONV_2D) failed to prepare.\n"
    words = r"the app on R5CT10: LiteRT does not run this file on the gpu \(Some ops"
    with pytest.raises(RunFailed, match=words) as failure:
        backend.run(phone, job)
    assert "--es accelerator gpu" in failure.value.command
    assert "failed to prepare" in failure.value.log


def test_an_accelerator_it_has_not_is_named_before_anything_runs(phone, job):
    phone.does("well", accelerators=("cpu",))
    with pytest.raises(UnknownName, match="no accelerator of the app on R5CT10 named 'gpu'"):
        LitertApp().run(phone, job)
    assert not any("accelerator" in words for words in phone.said())


@pytest.mark.parametrize(
    ("does", "row", "words"),
    [
        ("garbage", {}, "wrote no JSON"),
        ("well", {"artifact_sha256": "0" * 64}, "ran another file than model.int8.tflite"),
        ("well", {"delegate": "cpu"}, "on cpu instead of gpu"),
        ("well", {"schema": 1}, "writes schema 1, not 2"),
        ("well", {"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_a_row_that_is_not_the_one_asked_for_is_refused(phone, job, does, row, words):
    backend = LitertApp()
    backend.prepare(phone)
    phone.does(does, row=row)
    with pytest.raises(RunFailed, match=words) as failure:
        backend.run(phone, job)
    assert "am start" in failure.value.command
    assert failure.value.command in failure.value.log


def test_an_app_that_ends_without_a_word(phone, job):
    backend = LitertApp()
    backend.prepare(phone)
    phone.does("nothing")
    phone.program("pidof", "#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match="wrote no result within 350.5 s, or was ended by Android"):
        backend.run(phone, job)
    phone.log = (
        "11-24 12:50:02.123  4711  4722 E AndroidRuntime: FATAL EXCEPTION: benchmark\n"
        "11-24 12:50:02.123  4711  4722 E AndroidRuntime: Process: io.github.tfcompact.harness, PID: 4711\n"
        "11-24 12:50:02.123  4711  4722 E AndroidRuntime: java.lang.OutOfMemoryError: Failed to allocate 16 bytes\n"
    )
    with pytest.raises(UserError, match=r"crashed on R5CT10 \(java.lang.OutOfMemoryError: Failed to allocate"):
        backend.run(phone, job)


def test_the_wait_has_an_end(phone, job, monkeypatch):
    backend = LitertApp()
    backend.prepare(phone)
    phone.does("nothing")
    monkeypatch.setattr(litert_app, "SLACK_S", 0.0)
    with pytest.raises(UserError, match="wrote no result within 3 s"):
        backend.run(phone, replace(job, max_seconds=0.5, warmup=1, image=b""))


def test_an_app_that_is_not_there_or_does_not_start(phone):
    phone.does("not installed")
    with pytest.raises(UserError, match=r"did not start on R5CT10 \(.*does not exist.\); build it with Gradle"):
        LitertApp().prepare(phone)
    phone.program("pm", "#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match="is not on R5CT10; build it with Gradle"):
        LitertApp().prepare(phone)


def test_installing(phone, tmp_path):
    apk = tmp_path / "app.apk"
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("AndroidManifest.xml", b"")
    LitertApp(apk).prepare(phone)
    assert phone.said()[0] == ["install", "-r", "-t", str(apk)]
    phone.install = Result(1, "", "adb: failed to install app.apk: Failure [INSTALL_FAILED_UPDATE_INCOMPATIBLE: …]")
    with pytest.raises(UserError, match="UPDATE_INCOMPATIBLE.*adb -s R5CT10 uninstall io.github.tfcompact.harness"):
        LitertApp(apk).prepare(phone)
    phone.install = Result(0, "Failure [INSTALL_FAILED_USER_RESTRICTED]", "")  # older clients end well all the same
    with pytest.raises(UserError, match="INSTALL_FAILED_USER_RESTRICTED.*allow installing by USB"):
        LitertApp(apk).prepare(phone)
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(UserError, match="is not an APK"):
        LitertApp(tmp_path / "page.html")
    with pytest.raises(UserError, match="give --apk PATH"):
        LitertApp(tmp_path / "absent.apk")


def test_a_full_phone(phone, job):
    phone.does("well", denied=[DIRECTORY])
    phone.program("cp", "#!/bin/sh\necho 'cp: x: No space left on device' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"folder on R5CT10 \(cp: x: No space left on device\); free some space"):
        LitertApp().run(phone, job)


@pytest.mark.parametrize("denied", [[], [DIRECTORY]], ids=["pushed", "copied"])
def test_nothing_runs_on_or_stays_after_a_time_out(phone, job, denied):
    backend = LitertApp()
    backend.prepare(phone)
    if denied:
        phone.does("well", denied=denied)
        backend.run(phone, job)
    phone.fails = {"while": adb.TimedOut("no answer"), "^logcat": adb.TimedOut("no answer")}
    with pytest.raises(RunFailed, match="wrote no result within 350.5 s") as failure:
        backend.run(phone, job)
    assert "the log could not be fetched" in failure.value.log
    assert list(phone.files.iterdir()) == []
    assert phone.said()[-1] == ["force-stop", PACKAGE]


def test_a_phone_that_goes_away_is_not_an_error_of_the_file(phone, job):
    backend = LitertApp()
    backend.prepare(phone)
    phone.fails = {"while": adb.DeviceGone("device R5CT10 went away")}
    with pytest.raises(adb.DeviceGone, match="went away"):
        backend.run(phone, job)
    assert list(phone.files.iterdir()) == []


def test_an_answer_that_is_lost_takes_no_times_away(phone, job):
    backend = LitertApp()
    backend.prepare(phone)
    phone.fails = {r"^base64 \S+\.output$": adb.TimedOut("no answer")}
    out = backend.run(phone, job)
    assert list(phone.files.iterdir()) == []
    assert (len(out.wall_ms), out.output, out.flags["answer_lost"]) == (60, None, True)
    assert not backend.run(phone, replace(job, image=b"")).flags["answer_lost"]
