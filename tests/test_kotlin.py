"""The Android app's Kotlin: all of it compiled, its Android-free parts run on the JVM and compared with Python.

Skipped where Kotlin's compiler is not in build/android-app; tests/android_app/environment.py fetches it.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scripts
from colour_model import COLOURS, colour_model
from PIL import Image, ImageOps

from tfcompact.data.images import fit_square
from tfcompact.records import backends
from tfcompact.records.artifact import Normalization
from tfcompact.records.measurement import Measurement
from tfcompact.tflite import metadata, metadata_tables
from tfcompact.tflite.runtime import LiteModel

ROOT = Path(__file__).parents[1]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("measurement_*.json"))


environment = scripts.load(ROOT / "tests/android_app/environment.py")
build = scripts.load(ROOT / "android_harness/apk/build.py")
TOOLS = build.Tools(kotlin_version="2.4")
needs_kotlin = pytest.mark.skipif(environment.hindrance() is not None, reason=str(environment.hindrance()))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Classes of the app, of the snippets and of the tests' command line: warnings are errors."""
    work = tmp_path_factory.mktemp("kotlin")
    android = build.javac(sorted((build.STUBS / "android").rglob("*.java")), [TOOLS.android], work / "android")
    path = [
        build.javac(sorted(build.resources(work).rglob("*.java")), [], work / "R-classes"),
        android,
        TOOLS.android,
    ]
    path.append(build.javac(sorted((build.STUBS / "snippets").rglob("*.java")), path, work / "libraries"))
    litert = build.kotlinc(TOOLS, sorted((build.STUBS / "litert").rglob("*.kt")), path, work / "litert")
    sources = [*sorted((build.APP / "src").rglob("*.kt")), *sorted(build.SNIPPETS.glob("*.kt"))]
    return build.kotlinc(TOOLS, sources, [litert, *path], work / "classes")


@pytest.fixture(scope="module")
def kotlin(compiled):
    """Runs commands of Command.kt, each a list of words; gives what each printed."""

    def run(*commands):
        words = [str(word) for i, command in enumerate(commands) for word in (["then"] if i else []) + list(command)]
        path = os.pathsep.join(map(str, (compiled, TOOLS.stdlib)))
        java = ["java", *build.QUICK, "-cp", path, "io.github.tfcompact.harness.CommandKt", *words]
        done = subprocess.run(java, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def model(tmp_path, format="int8", normalization=None, labels=tuple(COLOURS)):
    path = tmp_path / f"model.{format}.tflite"
    content = metadata.attach(
        colour_model(format),
        name="colours, „bunt“",
        description="d",
        labels=labels,
        normalization=normalization or Normalization(),
        model="mobilenet_v2_0.5",
        run="export-1",
    )
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_golden_rows_round_trip_in_python(path):
    given = json.loads(path.read_text())
    assert Measurement.from_json(given).to_json() == given


def test_one_golden_row_has_every_field_filled():
    given = json.loads((ROOT / "tests/golden/measurement_native.json").read_text())
    empty = [name for name, value in given.items() if value is None or value == [] or value == {} or value == ""]
    assert empty == []
    assert [
        name for part in ("device", "before", "after") for name, v in given[part].items() if v in (None, [], "")
    ] == []


def test_python_and_kotlin_know_the_same_fields():
    """Without a compiler too: a field that types.py gains must come into Measurement.kt and the golden rows."""
    source = (build.APP / "src/main/kotlin/io/github/tfcompact/harness/Measurement.kt").read_text()
    for path in GOLDEN:
        row = json.loads(path.read_text())
        assert set(row) == set(Measurement.__dataclass_fields__)
        missing = [name for name in row if f'"{name}" to' not in source]
        assert missing == []


def test_python_and_kotlin_know_the_same_back_ends():
    source = (build.APP / "src/main/kotlin/io/github/tfcompact/harness/Measurement.kt").read_text()
    table = source.partition("val BACKENDS = mapOf(")[2].partition(")")[0]
    assert re.findall(r'"(\w+)" to "(\w+)"', table) == [(row.name, row.device) for row in backends.TABLE]


@needs_kotlin
def test_the_golden_rows_round_trip_in_kotlin(kotlin):
    assert len(GOLDEN) == 2
    rows = kotlin(*[["measurement", path] for path in GOLDEN])
    assert rows == [json.loads(path.read_text()) for path in GOLDEN]


@needs_kotlin
def test_a_wrong_row_is_refused_in_one_line(kotlin, tmp_path):
    good = json.loads((ROOT / "tests/golden/measurement_native.json").read_text())
    proxy = json.loads((ROOT / "tests/golden/measurement_proxy.json").read_text())
    without = {name: value for name, value in good.items() if name != "threads"}
    cases = [
        (good | {"colour": 1}, "Measurement: unknown key 'colour'"),
        (without, "Measurement: key 'threads' is missing"),
        (good | {"device": good["device"] | {"gpu": "x"}}, "Device: unknown key 'gpu'"),
        (good | {"before": {"governors": []}}, "DeviceState: key 'frequencies_khz' is missing"),
        (good | {"threads": "4"}, "Measurement: threads must be a whole number, not '4'"),
        (good | {"threads": 1.5}, "threads must be a whole number, not 1.5"),
        (good | {"schema": 3}, "has schema 3; this app reads 2"),
        (good | {"backend": "natif"}, "no back end named 'natif'"),
        (good | {"wall_ms": [-1.0]}, "must be finite and not negative"),
        (proxy | {"wall_ms": [1.0]}, "an emulated device has no latency"),
        (proxy | {"backend": "native"}, "back end native runs on a device of kind android, not emulated"),
        ([], "Measurement must be an object, not a list"),
    ]
    commands = []
    for i, (row, _) in enumerate(cases):
        (tmp_path / f"{i}.json").write_text(json.dumps(row))
        commands.append(["measurement", tmp_path / f"{i}.json"])
    for answer, (_, words) in zip(kotlin(*commands), cases, strict=True):
        assert set(answer) == {"schema", "error"}
        assert words in answer["error"]


@needs_kotlin
def test_json_is_read_as_strictly_as_it_should_be(kotlin, tmp_path):
    good = {"a": [1, -2.5, 1e-3, True, None, 'ä"\\\n\t\u2028😀'], "b": {}, "c": []}
    texts = [json.dumps(good), json.dumps(good, ensure_ascii=False), "0", "-0.0", "9223372036854775807"]
    bad = ["", "{", '{"a":1,"a":2}', "[1,]", "01", "1.", "NaN", "nul", '"\n"', '"\\x"', '"\\ud800"', "1 2", "9" * 30]
    bad += ["1e999", "[" * 100 + "]" * 100, '{"a" 1}', "{a:1}", "'a'"]
    commands = []
    for i, text in enumerate(texts + bad):
        (tmp_path / f"{i}.json").write_text(text)
        commands.append(["json", tmp_path / f"{i}.json"])
    answers = kotlin(*commands)
    assert answers[: len(texts)] == [json.loads(text) for text in texts]
    for text, answer in zip(bad, answers[len(texts) :], strict=True):
        assert isinstance(answer, dict), text
        assert answer.get("error", "").startswith("JSON: "), text


@needs_kotlin
@pytest.mark.parametrize("format", ["int8", "uint8", "float32"])
def test_a_file_says_in_kotlin_what_it_says_in_python(kotlin, tmp_path, format):
    normalization = Normalization(
        (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "bgr" if format == "float32" else "rgb"
    )
    path = model(tmp_path, format, normalization)
    (said,) = kotlin(["model", path])
    told, lite = metadata.read(path), LiteModel(path)
    assert (said["name"], said["model"], said["run"]) == (told.name, told.model, told.run)
    assert said["labels"] == list(told.labels)
    assert (said["mean"], said["std"]) == (list(normalization.mean), list(normalization.std))
    assert said["bgr"] == (normalization.channel_order == "bgr")
    assert (said["format"], said["image_px"], said["bytes"]) == (format, lite.image_px, path.stat().st_size)
    for side, expected in (("input", lite.input_quantization), ("output", lite.output_quantization)):
        assert said[side]["type"] == format
        assert (said[side]["scale"], said[side]["zero_point"]) == (
            (None, None) if expected is None else (expected.scale, expected.zero_point)
        )


@needs_kotlin
def test_a_file_without_tfcompacts_own_part_is_read_by_the_official_metadata(kotlin, tmp_path):
    path = model(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(metadata_tables.OWN.encode(), b"elsewhere.json"))  # the name, as long as before
    assert len(metadata_tables.OWN) == len("elsewhere.json")
    (said,) = kotlin(["model", path])
    assert (said["labels"], said["mean"], said["model"]) == (list(COLOURS), [127.5], "")
    assert metadata.read(path).labels == tuple(COLOURS)


@needs_kotlin
def test_damaged_and_foreign_files_are_errors(kotlin, tmp_path):
    good = model(tmp_path).read_bytes()
    bare = colour_model("int8")
    rng = np.random.default_rng(0)
    cases = {"empty": b"", "zip": b"PK\3\4" * 9, "half": good[: len(good) // 2], "bare": bare, "no zip": good[:-60]}
    for i in range(60):
        broken = bytearray(good)
        for at in rng.integers(0, len(good), 40):
            broken[at] = int(rng.integers(256))
        cases[f"noise {i}"] = bytes(broken)
    commands = []
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        commands.append(["model", tmp_path / name])
    answers = dict(zip(cases, kotlin(*commands), strict=True))  # a crash would have ended the program
    assert "is not a TFLite model" in answers["empty"]["error"]
    assert "is not a TFLite model" in answers["zip"]["error"]
    assert "no metadata" in answers["bare"]["error"]
    assert "no zip with labels" in answers["no zip"]["error"]
    assert "error" in answers["half"]


@needs_kotlin
@pytest.mark.parametrize(
    ("width", "height", "px"),
    [
        (64, 64, 64),
        (64, 64, 32),
        (97, 41, 32),
        (41, 97, 32),
        (333, 500, 224),
        (20, 30, 64),
        (1000, 999, 37),
        (3, 1, 8),
    ],
)
def test_preprocessing_is_pillows(kotlin, tmp_path, width, height, px):
    """To the bit, rows before columns; and within one level of `fit_square`, which Pillow may do the other way."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    (tmp_path / "rgb").write_bytes(image.tobytes())
    kotlin(["fit", tmp_path / "rgb", width, height, px, tmp_path / "square"])
    square = np.frombuffer((tmp_path / "square").read_bytes(), np.uint8).reshape(px, px, 3)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    bilinear = Image.Resampling.BILINEAR
    rows = Image.fromarray(image).resize((px, height), bilinear, box=(left, 0, left + side, height))
    both = rows.resize((px, px), bilinear, box=(0, top, px, top + side))
    np.testing.assert_array_equal(square, np.asarray(both))
    assert np.abs(square.astype(int) - fit_square(image, px)).max() <= 1


@needs_kotlin
def test_photographs_are_turned_as_pillow_turns_them(kotlin, tmp_path):
    """All of EXIF's orientations, numbers that are none, and transparency, of an image like none of its turns."""
    width, height = 5, 3
    rgba = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    rgba[0, :2, 3] = (0, 255)
    (tmp_path / "rgba").write_bytes(rgba.tobytes())
    orientations = range(10)
    said = kotlin(*[["upright", tmp_path / "rgba", width, height, n, tmp_path / f"{n}"] for n in orientations])
    for n, (across, down, argb) in zip(orientations, said, strict=True):
        image = Image.fromarray(rgba)
        image.getexif()[0x0112] = n
        turned = np.asarray(ImageOps.exif_transpose(image)).astype(int)
        expected = (turned[..., :3] * turned[..., 3:] + 255 * (255 - turned[..., 3:]) + 127) // 255
        assert (down, across) == expected.shape[:2], n
        found = np.frombuffer((tmp_path / f"{n}").read_bytes(), np.uint8).reshape(expected.shape)
        np.testing.assert_array_equal(found, expected, str(n))
        shown = np.array(argb, np.int32).view(np.uint8).reshape(down, across, 4)  # B, G, R, A in memory
        np.testing.assert_array_equal(shown[..., 2::-1], expected, str(n))
        assert (shown[..., 3] == 255).all()


@needs_kotlin
@pytest.mark.parametrize("format", ["int8", "uint8", "float32"])
def test_the_input_and_the_answer_are_pythons(kotlin, tmp_path, format):
    normalization = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "bgr")
    path = model(tmp_path, format, normalization if format == "float32" else None)
    lite = LiteModel(path)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    (tmp_path / "rgb").write_bytes(image.tobytes())
    raw = lite.raw(lite.prepared(image))
    (tmp_path / "raw").write_bytes(raw.tobytes())
    _, answer = kotlin(["prepare", path, tmp_path / "rgb", tmp_path / "input"], ["answer", path, tmp_path / "raw"])
    assert (tmp_path / "input").read_bytes() == lite.prepared(image).tobytes()
    probabilities = lite.dequantized(raw)[0]
    order = np.argsort(-probabilities, kind="stable")[:5]
    assert [label for label, _ in answer] == [list(COLOURS)[i] for i in order]
    np.testing.assert_allclose([share for _, share in answer], probabilities[order], rtol=1e-6)


@needs_kotlin
def test_statistics_are_pythons(kotlin, tmp_path):
    row = json.loads((ROOT / "tests/golden/measurement_native.json").read_text())
    samples = np.random.default_rng(0).gamma(2, 3, 57).tolist()
    python = Measurement.from_json(row | {"wall_ms": samples})
    (tmp_path / "samples.json").write_text(json.dumps({"wall_ms": samples}))
    (said,) = kotlin(["statistics", tmp_path / "samples.json"])
    assert said["count"] == 57
    for percent in (5, 50, 95):
        assert said[f"p{percent}_ms"] == pytest.approx(python.percentile_ms(percent), rel=1e-12)
    assert (said["first_ms"], said["min_ms"], said["max_ms"]) == (samples[0], min(samples), max(samples))
    assert said["mean_ms"] == pytest.approx(np.mean(samples))
    assert said["std_ms"] == pytest.approx(np.std(samples))
    assert said["mad_ms"] == pytest.approx(np.median(np.abs(np.array(samples) - np.median(samples))))


@needs_kotlin
def test_a_benchmark_gives_a_row_that_python_reads(kotlin, tmp_path):
    path, out = model(tmp_path), tmp_path / "files" / "row.json"
    image = np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8)
    (tmp_path / "image").write_bytes(image.tobytes())
    extras = [f"model={path}", f"out={out}", "accelerator=gpu", "threads=2", f"image={tmp_path / 'image'}"]
    (said,) = kotlin(["benchmark", *extras, "warmup=3", "warmup_seconds=0.02", "runs=20", "min_seconds=0.1"])
    row = Measurement.from_json(json.loads(out.read_text()))
    assert (len(row.wall_ms), set(row.wall_ms)) == (50, {2.0})  # 0.1 s at 2 ms a run
    assert said == {"runs": 1 + 10 + 50, "output": str(int(image.astype(np.uint8).sum()))}
    assert (row.cold.load_ms, row.cold.compile_ms, row.cold.first_ms) == (1.5, 30.0, 9.0)
    assert (row.backend, row.delegate, row.threads, row.warmup_runs) == ("litert_app", "gpu", 2, 11)
    assert row.artifact_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    flags = {"cut_short": False, "throttled": True, "screen_off": False, "in_background": False}
    assert row.validity == flags  # and not fell_back, which the app cannot know
    assert (row.before.thermal_status, row.after.thermal_status) == (0, 1)
    assert list(out.parent.iterdir()) == [out]  # no partial file is left


@needs_kotlin
def test_a_row_says_that_the_app_was_not_in_front(kotlin, tmp_path):
    out = tmp_path / "row.json"
    kotlin(["hidden", f"model={model(tmp_path)}", f"out={out}", "runs=20", "min_seconds=0"])
    flags = Measurement.from_json(json.loads(out.read_text())).validity
    assert (flags["in_background"], flags["screen_off"]) == (True, True)


@needs_kotlin
def test_a_file_that_the_app_may_not_read_is_named(kotlin, tmp_path):
    path, hidden = model(tmp_path), tmp_path / "absent"
    answers = kotlin(
        ["benchmark", f"model={hidden}", f"out={tmp_path / 'row.json'}"],
        ["benchmark", f"model={path}", f"image={hidden}", f"out={tmp_path / 'row.json'}"],
    )
    for answer in answers:
        assert answer["unreadable"] == str(hidden)
        assert answer["error"].startswith(f"{hidden} cannot be read by the app (")


@needs_kotlin
def test_a_wrong_request_is_an_error(kotlin, tmp_path):
    path = model(tmp_path)
    given = [f"model={path}", f"out={tmp_path / 'row.json'}"]
    cases = {
        "colour=red": "unknown extra 'colour'",
        "accelerator=tpu": "no accelerator named 'tpu'; known: cpu, gpu, npu",
        "threads=0": "threads must be at least 1",
        "runs=many": "runs must be a whole number, not 'many'",
        "max_seconds=0": "must be positive",
        f"image={path}": "bytes, and the file takes 3072",
    }
    answers = kotlin(*[["benchmark", *given, extra] for extra in cases], ["benchmark", given[1]])
    for answer, words in zip(answers, [*cases.values(), "no model; give --es model PATH"], strict=True):
        assert words in answer["error"]
        assert "unreadable" not in answer
    assert not (tmp_path / "row.json").exists()


@needs_kotlin
def test_the_stubs_of_android_are_androids_but_for_what_is_newer(compiled):
    """Against the packaged android.jar of API 23; what API 29 to 31 added is listed here."""
    newer = {"SOC_MANUFACTURER", "SOC_MODEL", "getCurrentThermalStatus", "getThermalHeadroom"}
    work = compiled.parent

    def members(name, path):
        said = subprocess.run(
            ["javap", "-public", "-cp", path, name], capture_output=True, text=True, check=True
        ).stdout
        return {line.strip() for line in said.splitlines() if line.startswith("  ")}

    for name in ("android.os.Build", "android.os.Build$VERSION", "android.os.PowerManager"):
        own = {line for line in members(name, work / "android") if f"{name}()" not in line}
        real = members(name, TOOLS.android)
        strange = {line for line in own - real if not any(re.search(rf"\b{word}\b", line) for word in newer)}
        assert strange == set()


@needs_kotlin
def test_the_compiler_would_object(tmp_path, compiled):
    """A snippet with a misspelt method does not pass: the stubs are really looked at."""
    source = (build.SNIPPETS / "MlKit.kt").read_text().replace("setMaxResultCount", "setMaxResults")
    (tmp_path / "MlKit.kt").write_text(source)
    shutil.copy(build.SNIPPETS / "Square.kt", tmp_path)
    path = [compiled.parent / "libraries", TOOLS.android]
    with pytest.raises(build.BuildError, match="setMaxResults"):
        build.kotlinc(TOOLS, sorted(tmp_path.glob("*.kt")), path, tmp_path / "out")
