"""Files run as functions, and their insides counted, on networks small enough to know by heart."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfcompact.data.images import fit_square, normalize
from tfcompact.errors import UnknownName, UserError
from tfcompact.frameworks import keras, tf
from tfcompact.records.artifact import Normalization, Quantization
from tfcompact.tflite import divergence, flatbuffer, metadata, runtime
from tfcompact.tflite.classifier import Classifier

PX, LABELS = 32, ("daisy", "dandelion", "roses", "sunflowers", "tulips")
NORMALIZATION = Normalization()
COLORS = np.random.default_rng(5).integers(0, 256, (6, 1, 1, 3)).repeat(PX, axis=1).repeat(PX, axis=2)
IMAGES = np.clip(COLORS + np.random.default_rng(6).integers(-40, 40, COLORS.shape), 0, 255).astype(np.uint8)
FORMS = ("float32", "float16", "dynamic", "int8", "uint8")


def network(activation) -> keras.Model:
    """Three strided convolutions, each followed by `activation` and a depthwise one: 9 operators or, unfused, 12."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((PX, PX, 3))
    for i, channels in enumerate((8, 16, 24)):
        x = keras.layers.Conv2D(channels, 3, strides=2, padding="same", name=f"block{i}_conv")(x)
        x = keras.layers.Activation(activation, name=f"block{i}_act")(x)
        x = keras.layers.DepthwiseConv2D(3, padding="same", name=f"block{i}_depthwise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(5, name="logits", kernel_initializer=keras.initializers.RandomNormal(stddev=60))(x)
    return keras.Model(inputs, keras.layers.Softmax(name="probabilities")(x))


def converted(model: keras.Model, form: str) -> bytes:
    function = tf.function(model).get_concrete_function(tf.TensorSpec((1, PX, PX, 3)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form.endswith("int8"):
        # Black and white among the samples fix the input's scale at 1/127.5.
        samples = normalize(np.concatenate([IMAGES * 0, IMAGES * 0 + 255, IMAGES]).astype(np.float32), NORMALIZATION)
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, form)
    return metadata.attach(
        converter.convert(), name="tiny", description="A test.", labels=LABELS, normalization=NORMALIZATION
    )


@pytest.fixture(scope="module")
def relu() -> keras.Model:
    return network("relu6")


@pytest.fixture(scope="module")
def files(relu, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lite")
    hard_swish = network(lambda x: x * tf.nn.relu6(x + 3) / 6)
    found = {}
    for name, model, form in [*((form, relu, form) for form in FORMS), ("hard_swish", hard_swish, "int8")]:
        found[name] = folder / f"{name}.tflite"
        found[name].write_bytes(converted(model, form))
    return found


# Largest differences seen: 6e-8, 2e-4, 0.005 and twice 0.012. The logits' weights are large to spread the outputs.
@pytest.mark.parametrize(
    ("form", "tolerance"), [("float32", 1e-5), ("float16", 1e-3), ("dynamic", 0.02), ("int8", 0.04), ("uint8", 0.04)]
)
def test_probabilities_are_those_of_the_network(relu, files, form: str, tolerance: float) -> None:
    expected = relu(normalize(IMAGES.astype(np.float32), NORMALIZATION)).numpy()
    model = runtime.LiteModel(files[form])
    found = model(IMAGES)
    assert (model.image_px, model.classes, found.dtype, found.shape) == (PX, 5, np.float32, (6, 5))
    np.testing.assert_allclose(found, expected, atol=tolerance)
    assert np.ptp(expected, axis=0).max() > 0.1  # or the comparison would show nothing


def test_uint8_and_int8_files_see_the_same_pixels(files) -> None:
    unsigned, signed = runtime.LiteModel(files["uint8"]), runtime.LiteModel(files["int8"])
    np.testing.assert_array_equal(unsigned(IMAGES), signed(IMAGES))
    np.testing.assert_array_equal(signed.prepared(IMAGES), IMAGES.astype(np.int16) - 128)
    assert unsigned.output_quantization == Quantization(1 / 256, 0)
    assert signed.output_quantization == Quantization(1 / 256, -128)
    assert unsigned.input_quantization.scale == pytest.approx(1 / 127.5, rel=1e-3)


def test_nothing_here_imports_tensorflow() -> None:
    code = "import sys, tfcompact.tflite.runtime, tfcompact.measure.host; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("form", ["float32", "uint8"])
def test_every_delegate_computes_the_same(files, form: str) -> None:
    outputs = [runtime.LiteModel(files[form], delegate=name, threads=2)(IMAGES) for name in runtime.DELEGATES]
    for other in outputs[1:]:
        np.testing.assert_allclose(other, outputs[0], atol=1e-5 if form == "float32" else 4 / 256)


def test_xnnpack_gets_the_threads_it_is_given(files) -> None:
    """Seen as threads of the process, since on a busy machine no time would tell."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("no /proc on this system")
    before = len(list(tasks.iterdir()))
    models = [runtime.LiteModel(files["uint8"], threads=threads) for threads in (1, 3)]
    assert len(models) == 2
    assert len(list(tasks.iterdir())) - before == 2


def test_a_file_is_run_from_its_bytes_too(files) -> None:
    content = files["float32"].read_bytes()
    np.testing.assert_array_equal(runtime.LiteModel(content)(IMAGES), runtime.LiteModel(files["float32"])(IMAGES))
    assert flatbuffer.operators(content) == flatbuffer.operators(files["float32"])


def test_operators_are_listed_in_order(files) -> None:
    assert flatbuffer.operators(files["int8"]) == ["CONV_2D", "DEPTHWISE_CONV_2D"] * 3 + [
        "MEAN", "FULLY_CONNECTED", "SOFTMAX"
    ]  # fmt: skip
    assert flatbuffer.operators(files["hard_swish"]).count("HARD_SWISH") == 3


def test_partitions_count_what_xnnpack_takes(files) -> None:
    """XNNPACK takes every float operator, but no int8 SOFTMAX, HARD_SWISH, or QUANTIZE between uint8 and int8."""
    assert runtime.partitions(files["float32"]) == runtime.Partitions(1, 9, 9)
    assert runtime.partitions(files["float16"]) == runtime.Partitions(1, 19, 19)  # ten DEQUANTIZE of weights
    assert runtime.partitions(files["int8"]) == runtime.Partitions(1, 8, 9)
    assert runtime.partitions(files["uint8"]) == runtime.Partitions(1, 8, 11)
    assert runtime.partitions(files["hard_swish"]) == runtime.Partitions(4, 8, 12)


def test_tensors_say_what_they_are(files) -> None:
    found = flatbuffer.tensors(files["uint8"])
    (given,) = [t for t in found if t.is_input]
    (result,) = [t for t in found if t.is_output]
    assert (given.dtype, given.shape, given.zero_points) == ("uint8", (1, PX, PX, 3), (127,))
    assert (result.dtype, result.shape, result.scales) == ("uint8", (1, 5), (1 / 256,))
    kernels = [t for t in found if t.is_constant and len(t.shape) == 4]
    assert sorted(len(t.scales) for t in kernels) == [8, 8, 16, 16, 24, 24]  # one a channel, depthwise included


def test_stray_floats_are_found_only_in_float_files(files) -> None:
    assert flatbuffer.stray_floats(files["uint8"]) == flatbuffer.stray_floats(files["int8"]) == []
    assert any("block0_conv" in name for name in flatbuffer.stray_floats(files["float32"]))


def test_values_of_every_layer_are_those_of_the_network(relu, files) -> None:
    values = runtime.tensor_values(files["float32"], IMAGES[:2])
    layers = [f"block{i}_{part}" for i in range(3) for part in ("act", "depthwise")] + ["pool", "logits"]
    found = divergence.by_layer(values, layers)
    assert list(found) == layers
    probe = keras.Model(relu.inputs, [relu.get_layer(name).output for name in layers])
    for name, expected in zip(layers, probe(normalize(IMAGES[:2].astype(np.float32), NORMALIZATION)), strict=True):
        np.testing.assert_allclose(found[name], expected, atol=1e-4, err_msg=name)


def test_the_first_layer_that_parts_is_named(relu, files) -> None:
    images = IMAGES[:2]
    layers = [layer.name for layer in relu.layers]
    whole = divergence.by_layer(runtime.tensor_values(files["float32"], images), layers)
    quantized = divergence.by_layer(runtime.tensor_values(files["int8"], images, delegate="builtin"), layers)
    assert divergence.first_divergence(whole, quantized) is None
    broken = keras.models.clone_model(relu)
    broken.set_weights(relu.get_weights())
    broken.get_layer("block1_depthwise").depthwise_kernel.assign_add(tf.ones((3, 3, 16, 1)))
    other = divergence.by_layer(runtime.tensor_values(converted(broken, "float32"), images), layers)
    assert divergence.first_divergence(whole, other).name == "block1_depthwise"
    assert {row.name: row.sqnr_db for row in divergence.compare(whole, other)}["block1_act"] == np.inf
    with pytest.raises(UserError, match="share no tensor"):
        divergence.first_divergence(whole, {})


def test_a_photograph_gets_its_labels_in_falling_order(files) -> None:
    photograph = np.random.default_rng(6).integers(0, 256, (50, 70, 3), np.uint8)
    classifier = Classifier(files["uint8"])
    prediction = classifier.classify(photograph, top=3)
    expected = runtime.LiteModel(files["uint8"])(fit_square(photograph, PX)[np.newaxis])[0]
    assert prediction.probabilities == tuple(np.sort(expected)[::-1][:3].tolist())
    assert prediction.labels[0] == LABELS[int(expected.argmax())]
    assert prediction.latency_ms > 0
    assert (classifier.labels, classifier.normalization) == (LABELS, NORMALIZATION)


def test_a_float_file_follows_its_own_normalization(relu, files, tmp_path) -> None:
    other = Normalization((103.939, 116.779, 123.68), (60.0,), "bgr")
    function = tf.function(relu).get_concrete_function(tf.TensorSpec((1, PX, PX, 3)))
    bare = tf.lite.TFLiteConverter.from_concrete_functions([function], relu).convert()
    described = metadata.attach(bare, name="t", description="", labels=LABELS, normalization=other)
    expected = relu((IMAGES[..., ::-1] - np.array([103.939, 116.779, 123.68])) / 60.0).numpy()
    np.testing.assert_allclose(runtime.LiteModel(described)(IMAGES), expected, atol=1e-5)
    with pytest.raises(UserError, match="has no metadata"):
        runtime.LiteModel(bare)(IMAGES)


def test_errors_are_one_line_and_name_the_way_out(files, tmp_path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model" * 100)
    model = runtime.LiteModel(files["uint8"])
    with pytest.raises(UserError, match=r"broken\.tflite cannot be run with delegate xnnpack .*; export it again"):
        runtime.LiteModel(broken)
    with pytest.raises(UserError, match="is not a TFLite model; give the path"):
        flatbuffer.operators(broken)
    with pytest.raises(UserError, match="check the path"):
        flatbuffer.tensors(tmp_path / "nowhere.tflite")
    with pytest.raises(UnknownName, match="did you mean xnnpack"):
        runtime.LiteModel(files["uint8"], delegate="xnnpak")
    with pytest.raises(UserError, match="threads must be at least 1, not 0"):
        runtime.LiteModel(files["uint8"], threads=0)
    with pytest.raises(
        UserError, match=r"takes uint8 images of shape \(n, 32, 32, 3\), not float32 \(6, 32, 32, 3\)"
    ):
        model(IMAGES.astype(np.float32))
    with pytest.raises(UserError, match="takes uint8 input, not int8"):
        model.raw(IMAGES.view(np.int8))
    with pytest.raises(UserError, match="use delegate reference or builtin"):
        runtime.tensor_values(files["uint8"], IMAGES, delegate="xnnpack")
