"""The few layers that Keras does not have. Each is one tensor operation, so that it can be quantized as one."""

from __future__ import annotations

from typing import TypeVar

from tfcompact.frameworks import LayerConfig, Tensor, keras, tf

Class = TypeVar("Class", bound=type)

CUSTOM: dict[str, type] = {}
"""Our layers and quantizers by class name: what loading a saved model needs to know."""


def register(cls: Class) -> Class:
    """Makes `cls` known to Keras' serialization, by its bare name too, which is what HDF5 files hold."""
    CUSTOM[cls.__name__] = cls
    return keras.saving.register_keras_serializable(package="tfcompact")(cls)


@register
class HSigmoid(keras.layers.Layer):
    """`relu6(x + 3) / 6`, shape kept: the gate of MobileNetV3 (arXiv:1905.02244, section 5.2)."""

    def call(self, x: Tensor) -> Tensor:
        return tf.nn.relu6(x + 3.0) * (1 / 6)


@register
class HSwish(keras.layers.Layer):
    """`x * relu6(x + 3) / 6`, shape kept (arXiv:1905.02244, section 5.2)."""

    def call(self, x: Tensor) -> Tensor:
        return x * tf.nn.relu6(x + 3.0) * (1 / 6)


@register
class ShiftedReLU6(keras.layers.Layer):
    """`relu6(x + 3)`, in [0, 6], shape kept: six times the h-sigmoid. One ADD with a fused activation in TFLite."""

    def call(self, x: Tensor) -> Tensor:
        return tf.nn.relu6(x + 3.0)


@register
class LocalResponseNorm(keras.layers.Layer):
    """Each value divided by `(1 + 2e-5 * s) ** 0.75`, s the sum of squares of its own and two channels either side.

    Shape kept. Krizhevsky et al. 2012, section 3.3, with Caffe's window of 5 and alpha of 1e-4, which it divides by
    the window (BVLC/caffe models/bvlc_googlenet).
    """

    def call(self, x: Tensor) -> Tensor:
        return tf.nn.lrn(x, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75)


@register
class Scale(keras.layers.Layer):
    """`factor * x`, shape kept: what lowering leaves where no convolution can absorb a factor."""

    def __init__(self, factor: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x: Tensor) -> Tensor:
        return x * self.factor

    def get_config(self) -> LayerConfig:
        return super().get_config() | {"factor": self.factor}


@register
class ChannelShift(keras.layers.Layer):
    """`x` plus a number for each channel that is trained, shape kept: `[n, h, w, c]`.

    `bounds` are the ends of a range in which the numbers are representable in 8 bits, as training has left them: from
    it the converter reads their scale.
    """

    def __init__(self, bounds: tuple[float, float] | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.bounds = bounds

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.shift = self.add_weight("shift", (input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, x: Tensor) -> Tensor:
        if self.bounds is None:
            return x + self.shift
        return x + tf.quantization.fake_quant_with_min_max_vars(self.shift, *self.bounds)

    def get_config(self) -> LayerConfig:
        return super().get_config() | {"bounds": self.bounds}


@register
class ChannelShuffle(keras.layers.Layer):
    """Channels dealt out anew, shape kept: `groups` rows of channels, read by columns (arXiv:1707.01083, Figure 1).

    Three dimensions are enough for it: positions, groups, channels of a group.
    """

    def __init__(self, groups: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, x: Tensor) -> Tensor:
        _, height, width, channels = x.shape
        rows = tf.reshape(x, [-1, self.groups, channels // self.groups])
        return tf.reshape(tf.transpose(rows, [0, 2, 1]), [-1, height, width, channels])

    def get_config(self) -> LayerConfig:
        return super().get_config() | {"groups": self.groups}


@register
class ChannelSlice(keras.layers.Layer):
    """Channels `start` to `start + size`: `[n, h, w, c] -> [n, h, w, size]`.

    A STRIDED_SLICE in TFLite, since XNNPACK leaves out a SLICE that takes all of a dimension unsaid.
    """

    def __init__(self, start: int, size: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.start, self.size = start, size

    def call(self, x: Tensor) -> Tensor:
        return x[..., self.start : self.start + self.size]

    def get_config(self) -> LayerConfig:
        return super().get_config() | {"start": self.start, "size": self.size}


@register
class SamePadding(keras.layers.ZeroPadding2D):
    """Zeros around `[n, h, w, c]` as SAME puts them before windows of `kernel` with a stride of 2.

    It is for poolings whose published weights saw those zeros. They depend on the parity of h and w, so they are
    found for each size anew.
    """

    def __init__(self, kernel: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.kernel = kernel

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.padding = tuple((self.kernel // 2 - 1 + n % 2, self.kernel // 2) for n in input_shape[1:3])
        super().build(input_shape)

    def get_config(self) -> LayerConfig:
        config = super().get_config() | {"kernel": self.kernel}
        del config["padding"]
        return config
