"""The app as an APK, built without Gradle: signed, with a model inside that Android can map into memory.

Skipped where the compilers are not in build/android-app; tests/android_app/environment.py fetches them.
"""

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import scripts
from colour_model import COLOURS, colour_model

from tfcompact.records.artifact import Normalization
from tfcompact.tflite import metadata

ROOT = Path(__file__).parents[1]


environment = scripts.load(ROOT / "tests/android_app/environment.py")
build = scripts.load(ROOT / "android_harness/apk/build.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "colours.int8.tflite"
    normalization = Normalization()
    content = metadata.attach(
        colour_model("int8"), name="colours", description="", labels=tuple(COLOURS), normalization=normalization
    )
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def apk(model, tmp_path_factory):
    if hindrance := environment.hindrance():
        pytest.skip(hindrance)
    out = tmp_path_factory.mktemp("apk") / "app.apk"
    script = [sys.executable, ROOT / "android_harness/apk/build.py", "--model", model, "--out", out]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(out.parent.iterdir()) == [out]
    return out


def said(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


def offset(apk, info):
    """Where an entry's data begins in the file: its local header has a length of its own."""
    with apk.open("rb") as stream:
        stream.seek(info.header_offset + 26)
        head = stream.read(4)
    return info.header_offset + 30 + int.from_bytes(head[:2], "little") + int.from_bytes(head[2:], "little")


@pytest.mark.slow
def test_it_is_signed_and_says_what_it_is(apk):
    signed = said("apksigner", "verify", "-v", apk)
    assert "APK Signature Scheme v2): true" in signed
    assert "Number of signers: 1" in signed
    badging = said("aapt", "dump", "badging", apk)
    assert badging.startswith("package: name='io.github.tfcompact.harness' versionCode='1'")
    assert "launchable-activity: name='io.github.tfcompact.harness.ClassifyActivity'" in badging
    assert "sdkVersion:'26'" in badging
    assert "uses-permission" not in badging
    tree = said("aapt", "dump", "xmltree", apk, "AndroidManifest.xml")
    assert '"io.github.tfcompact.harness.capture"' in tree
    assert tree.count("E: activity") == 2


@pytest.mark.slow
def test_the_model_is_stored_aligned_and_the_same(apk, model):
    with zipfile.ZipFile(apk) as archive:
        for name in (f"assets/{model.name}", "resources.arsc"):
            info = archive.getinfo(name)
            assert info.compress_type == zipfile.ZIP_STORED
            assert offset(apk, info) % 4 == 0
        assert archive.read(f"assets/{model.name}") == model.read_bytes()


@pytest.mark.slow
def test_its_code_is_the_app_without_litert_and_without_what_android_cannot_run(apk, tmp_path):
    with zipfile.ZipFile(apk) as archive:
        archive.extract("classes.dex", tmp_path)
    dump = said("dexdump", "-d", tmp_path / "classes.dex").splitlines()
    classes = {line.split("'")[1] for line in dump if line.strip().startswith("Class descriptor")}
    assert {f"Lio/github/tfcompact/harness/{name};" for name in ("ClassifyActivity", "ModelFile", "R$id")} <= classes
    assert not [name for name in classes if name.startswith(("Lcom/google/ai/edge", "Landroid/"))]
    method, with_lambda, compared = "", set(), set()
    for line in dump:
        if match := re.search(r"\|\[[0-9a-f]+\] (\S+):", line):
            method = match[1]
        elif "invoke-custom" in line:
            with_lambda.add(method.rpartition(".")[0])
        elif method.startswith("io.github.tfcompact") and "Lkotlin/comparisons/ComparisonsKt" in line:
            compared.add(line.split(";.")[-1].split(":")[0])
    assert with_lambda <= {"kotlin.comparisons.ComparisonsKt__ComparisonsKt", "kotlin.streams.jdk8.StreamsKt"}
    assert compared == {"compareValues"}  # which is not one of those that make a lambda


def test_what_is_missing_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["build.py", "--tools", str(tmp_path), "--out", str(tmp_path / "app.apk")])
    assert build.main() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "kotlin-stdlib.jar" in error
    assert "python3 tests/android_app/environment.py" in error


def test_the_manifest_is_gradles_with_what_it_fills_in():
    text = build.manifest((build.APP / "src/main/AndroidManifest.xml").read_text())
    assert f'<manifest package="{build.PACKAGE}"' in text
    assert "${" not in text


def test_the_manifest_wakes_the_phone_for_benchmarks_and_asks_for_no_library_that_must_be_there():
    android = "{http://schemas.android.com/apk/res/android}"
    app = ElementTree.parse(build.APP / "src/main/AndroidManifest.xml").find("application")
    activities = {activity.get(f"{android}name"): activity for activity in app.iter("activity")}
    for name in ("showWhenLocked", "turnScreenOn"):
        assert activities[".BenchmarkActivity"].get(android + name) == "true"
        assert activities[".ClassifyActivity"].get(android + name) is None
    libraries = {library.get(f"{android}name"): library for library in app.iter("uses-native-library")}
    assert {"libOpenCL.so", "libcdsprpc.so", "libneuron_sys_util.mtk.so", "libedgetpu_util.so"} <= set(libraries)
    assert {library.get(f"{android}required") for library in libraries.values()} == {"false"}


def test_gradle_and_the_script_build_the_same_app():
    gradle = (build.APP / "build.gradle.kts").read_text()
    assert f'applicationId = "{build.PACKAGE}"' in gradle
    assert f"targetSdk = {build.TARGET_SDK}" in gradle
    assert 'noCompress += "tflite"' in gradle
    assert "useLegacyPackaging = true" in gradle, "LiteRT finds an NPU's libraries in a directory only"
    engine = (build.APP / "src/main/kotlin/io/github/tfcompact/harness/LiteRtEngine.kt").read_text()
    version = engine.split('LITERT = "LiteRT ')[1].split('"')[0]
    assert f'"com.google.ai.edge.litert:litert:{version}"' in gradle
    assert f'"com.google.ai.edge.litert:litert-gpu:{version}"' in gradle


def test_the_app_lives_on_when_a_phone_is_folded_or_turned():
    android = "{http://schemas.android.com/apk/res/android}"
    app = ElementTree.parse(build.APP / "src/main/AndroidManifest.xml").find("application")
    folding = {"orientation", "screenSize", "smallestScreenSize", "screenLayout", "density"}
    for activity in app.iter("activity"):
        assert folding <= set(activity.get(f"{android}configChanges").split("|"))
