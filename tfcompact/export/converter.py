"""A Keras model as the bytes of a `.tflite` file."""

from __future__ import annotations

import numpy as np

from tfcompact.frameworks import Model, Tensor, keras, silenced, tf
from tfcompact.options import require_choice
from tfcompact.records.formats import FORMATS, INTEGER


def convert(model: Model, format: str, calibration: np.ndarray) -> bytes:
    """The `.tflite` bytes of `model` (logits `[n, classes]`) with a softmax at its end and the batch fixed to 1.

    For `uint8` and `int8` the model is what `for_xnnpack.shipped` gives; its ranges count, and `calibration`,
    normalized images `[n, px, px, 3]`, only covers operators that have none. For `int16x8` it is a lowered float
    network (HARD_SWISH has no 16-bit kernel); the largest values over `calibration` are its ranges, which are
    symmetric (TFLite's 16x8 scheme).
    """
    require_choice("format", format, FORMATS)
    probabilities = keras.layers.Softmax(name="probabilities")(model.output)
    # Tensors are called after it; unnamed, by how many networks the process has built.
    network: Model = keras.Model(model.input, probabilities, name="network")

    def run(image: Tensor) -> Tensor:
        return network(image, training=False)

    shape = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    function = tf.function(run).get_concrete_function(shape)
    # The converter saves whatever owns the variables; of a Keras model it would trace every layer anew, for half a
    # minute.
    owner = tf.Module()
    owner.variables_of_the_network = network.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
    if format != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if format == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if format in INTEGER:
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, format)
    if format == "int16x8":
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    with silenced():
        return bytes(converter.convert())
