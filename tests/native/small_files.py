"""Small converted networks for tests of what runs them: the same in 8 bits, lowered and not, and in float."""

from pathlib import Path

import numpy as np

from tfcompact.compress.quantization import calibration, for_xnnpack, lowering, pixel_grid, wrapping
from tfcompact.export.converter import convert
from tfcompact.frameworks import keras, tf
from tfcompact.measure.backends.backend import Job
from tfcompact.models.blocks import conv, depthwise, logits, squeeze_excite
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.tflite import runtime

PX = 16


def write(folder: Path) -> dict[str, Path]:
    """`int8`, `float32` and `unlowered`, an int8 file with HARD_SWISH, which XNNPACK takes in several pieces."""
    keras.utils.set_random_seed(5)
    inputs = keras.layers.Input((PX, PX, 3), name="image")
    x = conv(inputs, 16, 3, 2, act="h_swish", name="first")
    x = squeeze_excite(depthwise(x, 3, act="relu", name="filter"), 8, gate="h_sigmoid", name="se")
    x = conv(x, 32, act="h_swish", name="second")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, logits(x, 10, dropout=0.0))
    images = np.random.default_rng(1).uniform(-1, 1, (16, PX, PX, 3)).astype(np.float32)
    low = lowering.lower(model)
    qat = wrapping.quantized(low)
    calibration.calibrate(qat, low, [images], pixel_grid.on_grid(Normalization()), 99.99)
    contents = {
        "int8": convert(for_xnnpack.shipped(qat), "int8", images[:4]),
        "float32": convert(model, "float32", images[:4]),
        "unlowered": _stock(model, images),
    }
    paths = {name: folder / f"{name}.tflite" for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    return paths


def job(path: Path, **options) -> Job:
    """A short job for one of these files, with an image of noise."""
    model = runtime.LiteModel(path)
    artifact = Artifact(
        model="small",
        run="export-0",
        path=path.name,
        format=model.input_dtype.name,
        sha256="0" * 64,
        bytes=path.stat().st_size,
        image_px=PX,
        classes=model.classes,
        normalization=Normalization(),
    )
    short = {"delegate": "xnnpack", "threads": 1, "warmup": 1, "repeats": 5}
    short |= {"warmup_seconds": 0.0, "min_seconds": 0.0, "max_seconds": 20.0}
    return Job(path, artifact, image=image(model).tobytes(), remote=str(path), **(short | options))


def image(model: runtime.LiteModel) -> np.ndarray:
    """One image of noise, as the file takes it."""
    noise = np.random.default_rng(2).uniform(-1, 1, (1, PX, PX, 3))
    return noise.astype(np.float32) if model.input_dtype == np.float32 else (noise * 127).astype(model.input_dtype)


def answer(path: Path, delegate: str = "xnnpack") -> bytes:
    """What this computer's Python runtime says of `image`, as raw bytes."""
    model = runtime.LiteModel(path, delegate=delegate)
    return model.raw(image(model)).tobytes()


def _stock(model, images: np.ndarray) -> bytes:
    """As the stock converter writes it, without lowering."""
    shape = tf.TensorSpec((1, PX, PX, 3), tf.float32)
    function = tf.function(lambda x: tf.nn.softmax(model(x, training=False))).get_concrete_function(shape)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[np.newaxis]] for x in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())
