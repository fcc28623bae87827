"""TensorFlow and its company: imported at first use, and quietly; and names for the types of what they make.

Importing TensorFlow takes 5 to 15 seconds. `tfcompact --help`, `runs` and `report` do not need it, yet the modules
that hold the stages' configs do mention it; through `tf`, `keras` and the like the price is paid by the first
attribute looked up.

TensorFlow and Keras come without types. `Tensor`, `Layer`, `Model` and the others describe what tfcompact uses of
them, so that a type checker sees a model put where a layer belongs, or an attribute that there is not. They are for
annotations alone: whether a layer is a convolution is asked by `isinstance(layer, keras.layers.Conv2D)`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, Self

import tfcompact as _first  # noqa: F401  (sets TF_USE_LEGACY_KERAS before any of the imports below)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


class _Lazy(ModuleType):
    def __getattr__(self, attribute: str) -> Any:
        if self.__name__ not in sys.modules:
            with silenced():
                importlib.import_module("tensorflow").config.list_physical_devices()
                importlib.import_module(self.__name__)
            logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of models saved without an optimizer
        return getattr(importlib.import_module(self.__name__), attribute)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keeps what C++ writes to the terminal from it; where the block fails it is written after all.

    TensorFlow logs a dozen lines at its start, and the converter some at each call, that no setting turns off.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 1)
        os.dup2(heard.fileno(), 2)
        try:
            yield
        except BaseException:
            heard.seek(0)
            os.write(kept[1], heard.read())
            raise
        finally:
            for copy, stream in zip(kept, (1, 2), strict=True):
                os.dup2(copy, stream)
                os.close(copy)


tf: Any = _Lazy("tensorflow")
keras: Any = _Lazy("tf_keras")
tfmot: Any = _Lazy("tensorflow_model_optimization")
keras_cv: Any = _Lazy("keras_cv")
tensorflow_datasets: Any = _Lazy("tensorflow_datasets")


class Tensor(Protocol):
    """A value in a graph, or one that is computed already."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of its axes; that of the images in a batch is None in a graph, and is never used here."""

    @property
    def dtype(self) -> Any:
        """The type of its elements, as TensorFlow has it."""

    def numpy(self) -> np.ndarray:
        """Its values, outside of a graph."""

    def __add__(self, other: object, /) -> Tensor: ...
    def __radd__(self, other: object, /) -> Tensor: ...
    def __sub__(self, other: object, /) -> Tensor: ...
    def __rsub__(self, other: object, /) -> Tensor: ...
    def __mul__(self, other: object, /) -> Tensor: ...
    def __rmul__(self, other: object, /) -> Tensor: ...
    def __truediv__(self, other: object, /) -> Tensor: ...
    def __rtruediv__(self, other: object, /) -> Tensor: ...
    def __floordiv__(self, other: object, /) -> Tensor: ...
    def __mod__(self, other: object, /) -> Tensor: ...
    def __pow__(self, other: object, /) -> Tensor: ...
    def __and__(self, other: object, /) -> Tensor: ...
    def __rand__(self, other: object, /) -> Tensor: ...
    def __gt__(self, other: object, /) -> Tensor: ...
    def __lt__(self, other: object, /) -> Tensor: ...
    def __ge__(self, other: object, /) -> Tensor: ...
    def __le__(self, other: object, /) -> Tensor: ...
    def __getitem__(self, place: object, /) -> Tensor: ...
    def __iter__(self) -> Iterator[Tensor]: ...
    def __float__(self) -> float: ...


Inputs = Any
"""What a layer is called with: a tensor, or for a layer of several inputs a list of them. Which of the two is known
from the layer's class, and to no type checker. What a model with one output or more gives is as undecided."""


class Variable(Tensor, Protocol):
    """A tensor that keeps its value, which training or we change."""

    @property
    def name(self) -> str:
        """Its name in the network, `stem/kernel:0`."""

    @property
    def trainable(self) -> bool:
        """Whether training may change it."""

    def assign(self, value: object) -> object:
        """Sets the value."""

    def assign_add(self, delta: object) -> object:
        """Adds to the value."""

    def assign_sub(self, delta: object) -> object:
        """Takes from the value."""


Initializer = Any
"""What draws a variable's first value."""
LayerConfig = dict[str, Any]
"""A layer's options by name, as Keras writes them into a file."""


class Layer(Protocol):
    """A layer of a network. What only some classes have (kernels, strides) is asked for after `isinstance`."""

    name: str
    trainable: bool

    @property
    def input(self) -> Inputs:
        """What it reads, where it is used once."""

    @property
    def output(self) -> Tensor:
        """What it gives, where it is used once."""

    @property
    def input_shape(self) -> Any:
        """The shape of its input, or a list of those of its inputs, the first axis None."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of its output, the first axis None."""

    @property
    def inbound_nodes(self) -> Sequence[object]:
        """One for each use."""

    @property
    def weights(self) -> list[Variable]:
        """Its variables, those that training changes first."""

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables that training changes."""

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The variables that it does not."""

    @property
    def trainable_variables(self) -> list[Variable]:
        """The same as `trainable_weights`."""

    @property
    def variables(self) -> list[Variable]:
        """The same as `weights`."""

    @property
    def compute_dtype(self) -> str:
        """The type that it computes in."""

    def __call__(self, inputs: Inputs, /, **options: object) -> Tensor:
        """Its output, `training` being an option."""

    def build(self, input_shape: object) -> None:
        """Makes its variables."""

    def count_params(self) -> int:
        """How many numbers its variables hold."""

    def get_weights(self) -> list[np.ndarray]:
        """The values of `weights`."""

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Sets the values of `weights`."""

    def get_config(self) -> LayerConfig:
        """Its options, as `from_config` takes them."""

    @classmethod
    def from_config(cls, config: LayerConfig) -> Self:
        """A new layer with these options."""


class Convolution(Layer, Protocol):
    """A convolution of any kind."""

    kernel_size: tuple[int, int]
    strides: tuple[int, int]
    padding: str
    groups: int
    use_bias: bool


class Pooling(Layer, Protocol):
    """A layer of averages or maxima."""

    pool_size: tuple[int, int]
    strides: tuple[int, int]
    padding: str


class BatchNormalization(Layer, Protocol):
    """A layer of batch normalization."""

    gamma: Variable
    beta: Variable
    moving_mean: Variable
    moving_variance: Variable
    scale: bool
    center: bool
    epsilon: float
    momentum: float


class Model(Layer, Protocol):
    """A network of layers: images `[n, px, px, 3]` in, logits `[n, classes]` out, and perhaps auxiliary ones."""

    @property
    def layers(self) -> list[Layer]:
        """Its layers, each once."""

    @property
    def inputs(self) -> list[Tensor]:
        """What it reads."""

    @property
    def outputs(self) -> list[Tensor]:
        """What it gives."""

    def get_layer(self, name: str) -> Layer:
        """The layer of that name."""

    def save(self, path: Path, **options: object) -> None:
        """Writes it to a file."""

    def load_weights(self, path: Path) -> object:
        """Sets the values of its variables from a file."""


class Dataset(Protocol):
    """Batches in a fixed order, made as they are read."""

    def __iter__(self) -> Iterator[Any]: ...

    def map(self, function: Callable[..., Any], **options: object) -> Dataset:
        """What the function makes of every element."""

    def batch(self, size: int) -> Dataset:
        """Elements in groups."""

    def prefetch(self, count: int) -> Dataset:
        """The same, made ahead."""

    def take(self, count: int) -> Dataset:
        """The first so many."""
