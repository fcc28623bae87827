"""The few layers that Keras does not have. Each is one tensor operation, so that it can be quantized as one."""

from tfcompact.backend import keras, tf

CUSTOM: dict[str, type] = {}
"""Our layers and quantizers by class name: what loading a saved model needs to know."""


def register(cls: type) -> type:
    """Makes `cls` known to Keras' serialization, by its bare name too, which is what HDF5 files hold."""
    CUSTOM[cls.__name__] = cls
    return keras.saving.register_keras_serializable(package="tfcompact")(cls)


@register
class HSigmoid(keras.layers.Layer):
    """`relu6(x + 3) / 6`, shape kept: the gate of MobileNetV3 (arXiv:1905.02244, section 5.2)."""

    def call(self, x):
        return tf.nn.relu6(x + 3.0) * (1 / 6)


@register
class HSwish(keras.layers.Layer):
    """`x * relu6(x + 3) / 6`, shape kept (arXiv:1905.02244, section 5.2)."""

    def call(self, x):
        return x * tf.nn.relu6(x + 3.0) * (1 / 6)


@register
class ShiftedReLU6(keras.layers.Layer):
    """`relu6(x + 3)`, in [0, 6], shape kept: six times the h-sigmoid. One ADD with a fused activation in TFLite."""

    def call(self, x):
        return tf.nn.relu6(x + 3.0)


@register
class Scale(keras.layers.Layer):
    """`factor * x`, shape kept: what lowering leaves where no convolution can absorb a factor."""

    def __init__(self, factor: float, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return super().get_config() | {"factor": self.factor}
