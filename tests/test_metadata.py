"""Metadata written into a file changes nothing but the file's end, comes back equal, and is never trusted."""

import io
import json
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import metadata

LABELS = ("daisy", "oxeye daisy", "Löwenzahn", "薔薇")
ARGUMENTS = {"name": "tiny", "description": "A test.", "labels": LABELS, "normalization": Normalization()}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A small classifier of four classes, 16 px, as the converter writes it: float32 and uint8."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))
    function = tf.function(network).get_concrete_function(tf.TensorSpec((1, 16, 16, 3)))
    plain = tf.lite.TFLiteConverter.from_concrete_functions([function], network).convert()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], network)
    rng = np.random.default_rng(0)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)] for _ in range(8)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    return {"float32": plain, "uint8": converter.convert()}


@pytest.fixture(scope="module")
def attached(files: dict[str, bytes]) -> bytes:
    return metadata.attach(files["uint8"], **ARGUMENTS)


def output(model: bytes) -> np.ndarray:
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (feed,) = interpreter.get_input_details()
    values = np.random.default_rng(1).integers(0, 256, feed["shape"]).astype(feed["dtype"])
    interpreter.set_tensor(feed["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("form", ["float32", "uint8"])
@pytest.mark.parametrize(
    "normalization",
    [
        Normalization(),
        Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        Normalization((103.939, 116.779, 123.68), (1.0,), "bgr"),
    ],
)
def test_what_is_written_is_read_back(files: dict[str, bytes], form: str, normalization: Normalization) -> None:
    arguments = ARGUMENTS | {"normalization": normalization, "version": "2", "model": "tiny_net", "run": "export-1"}
    expected = metadata.Metadata(**arguments)
    assert metadata.read(metadata.attach(files[form], **arguments)) == expected


@pytest.mark.parametrize("form", ["float32", "uint8"])
def test_outputs_stay_the_same_to_the_bit(files: dict[str, bytes], form: str) -> None:
    np.testing.assert_array_equal(output(metadata.attach(files[form], **ARGUMENTS)), output(files[form]))


def test_the_same_input_gives_the_same_bytes(files: dict[str, bytes], attached: bytes) -> None:
    assert metadata.attach(files["uint8"], **ARGUMENTS) == attached


def test_weights_lie_at_multiples_of_16_bytes(attached: bytes) -> None:
    model = schema.Model.GetRootAs(attached, 0)
    starts = []
    for i in range(model.BuffersLength()):
        table = model.Buffers(i)._tab
        if model.Buffers(i).DataLength():
            starts.append(table.Vector(table.Offset(4)))
    assert len(starts) > 4
    assert [start % 16 for start in starts] == [0] * len(starts)


def test_labels_are_an_uncompressed_file_with_a_fixed_date(attached: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(attached)) as archive:
        assert archive.namelist() == ["labels.txt", "tfcompact.json"]
        assert archive.read("labels.txt").decode() == "".join(f"{label}\n" for label in LABELS)
        assert {(i.compress_type, i.date_time) for i in archive.infolist()} == {
            (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
        }


def test_a_path_is_read_as_its_bytes_are(attached: bytes, tmp_path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(attached)
    assert metadata.read(path) == metadata.read(str(path)) == metadata.read(attached)


def test_a_file_of_another_tool_is_read_by_the_official_part_alone(attached: bytes) -> None:
    assert metadata.read(rezipped(attached, {"tfcompact.json": None})) == metadata.Metadata(**ARGUMENTS)


@pytest.mark.parametrize("label", ["two\nlines", "a\rb", "a\u2028b", "", "  ", "nul\0", "lone \udcff surrogate"])
def test_a_label_that_is_no_line_is_refused(files: dict[str, bytes], label: str) -> None:
    with pytest.raises(UserError, match=r"rename") as error:
        metadata.attach(files["uint8"], **ARGUMENTS | {"labels": (*LABELS[:3], label)})
    assert "\n" not in str(error.value)


def test_refusals_name_the_remedy(files: dict[str, bytes], attached: bytes, tmp_path) -> None:
    with pytest.raises(UserError, match="4 outputs but 3 labels were given; give one label per output"):
        metadata.attach(files["uint8"], **ARGUMENTS | {"labels": LABELS[:3]})
    with pytest.raises(UserError, match="already has metadata; attach it to the converter's output"):
        metadata.attach(attached, **ARGUMENTS)
    with pytest.raises(UserError, match=r"has no metadata .*; export it again with: make export"):
        metadata.read(files["uint8"])
    with pytest.raises(UserError, match="is not a TFLite model; give the path of"):
        metadata.read(b"GIF89a" * 10)
    with pytest.raises(UserError, match=r"nowhere\.tflite cannot be read .* check the path"):
        metadata.read(tmp_path / "nowhere.tflite")


def test_parts_that_disagree_are_damage(attached: bytes) -> None:
    swapped = "\n".join(reversed(LABELS)) + "\n"
    with pytest.raises(UserError, match="disagree"):
        metadata.read(rezipped(attached, {"labels.txt": swapped}))
    with pytest.raises(UserError, match="damaged metadata"):
        metadata.read(rezipped(attached, {"labels.txt": None}))
    with pytest.raises(UserError, match=r"another schema than 1"):
        metadata.read(rezipped(attached, {"tfcompact.json": json.dumps({"schema": 99})}))
    with pytest.raises(UserError, match="damaged metadata"):
        metadata.read(rezipped(attached, {"tfcompact.json": "[1"}))


def test_damage_anywhere_is_one_line_and_never_a_crash(attached: bytes) -> None:
    """Four bytes in a row overwritten at 3000 places, and every tenth length cut off."""
    whole = metadata.read(attached)
    rng = np.random.default_rng(0)
    damaged = []
    for position in rng.integers(8, len(attached) - 4, 3000):
        broken = bytearray(attached)
        broken[position : position + 4] = rng.bytes(4)
        damaged.append(bytes(broken))
    damaged += [attached[:length] for length in range(0, len(attached), len(attached) // 300)]
    lines = []
    for content in damaged:
        try:
            assert metadata.read(content) == whole  # the damage lies in a weight, or in nothing that is read
        except UserError as error:
            lines.append(str(error))
    assert len(lines) > 300
    assert not any("\n" in line for line in lines)


def rezipped(model: bytes, changes: dict[str, str | None]) -> bytes:
    """The model with files of its zip replaced, or left out where the new text is None."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()} | changes
        stream = io.BytesIO(model[: archive.infolist()[0].header_offset])
    with zipfile.ZipFile(stream, "a") as archive:
        for name, text in texts.items():
            if text is not None:
                archive.writestr(name, text)
    return stream.getvalue()
