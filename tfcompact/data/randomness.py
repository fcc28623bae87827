"""keras_cv layers whose random numbers are a function of a seed given with each batch.

keras_cv 0.9 draws its numbers in two ways: from `tf.random.*`, and from a `tf.random.Generator` that every layer
keeps as `_random_generator`. Both remember what was drawn before. In a `tf.data` pipeline that works on several
batches at once, the numbers of a batch would depend on which thread came first, and a run that resumes at epoch 9
would get those of epoch 0. `stateless` puts TensorFlow's stateless functions in their place while a layer is traced.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

from tfcompact.frameworks import Layer, Tensor, keras_cv, tf

# The modules of keras_cv.src that call tf.random.* in layers used here. A test looks through the traced graphs for
# stateful random operations, so that a new layer cannot bring in another module unnoticed.
DIRECT = (
    "core.factor_sampler.uniform_factor_sampler",
    "core.factor_sampler.normal_factor_sampler",
    "layers.preprocessing.mix_up",
    "layers.preprocessing.cut_mix",
)
_TRACING = threading.RLock()  # modules are patched while tracing: one layer at a time


class Draws:
    """Stands for `tf.random` and for a `tf.random.Generator`: the k-th call draws from `seed` folded with k.

    `seed` is an integer tensor `[2]`. Calls are counted while tracing, so each place in the graph has its own number.
    """

    def __init__(self, seed: Tensor) -> None:
        self._seed, self._count = seed, 0

    def _next(self) -> Tensor:
        """The seed of the next call."""
        self._count += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._count)

    def uniform(
        self, shape: object, minval: object = 0, maxval: object = None, dtype: object = None, **_: object
    ) -> Tensor:
        """Like `tf.random.uniform`; the layer's own `seed` is of no account."""
        dtype = dtype or tf.float32
        maxval = 1 if maxval is None and tf.as_dtype(dtype).is_floating else maxval
        return tf.random.stateless_uniform(shape, self._next(), minval, maxval, dtype)

    def normal(
        self, shape: object, mean: object = 0.0, stddev: object = 1.0, dtype: object = None, **_: object
    ) -> Tensor:
        """Like `tf.random.normal`."""
        return tf.random.stateless_normal(shape, self._next(), mean, stddev, dtype or tf.float32)

    def gamma(self, shape: object, alpha: object, beta: object = None, dtype: object = None, **_: object) -> Tensor:
        """Like `tf.random.gamma`."""
        return tf.random.stateless_gamma(shape, self._next(), alpha, beta, dtype or tf.float32)

    def shuffle(self, value: object, **_: object) -> Tensor:
        """Like `tf.random.shuffle`."""
        return tf.random.experimental.stateless_shuffle(value, self._next())


@contextlib.contextmanager
def stateless(seed: Tensor, *layers: Layer) -> Iterator[Draws]:
    """While it lasts, `layers` (and the layers within them) draw everything from `seed`, an integer tensor `[2]`."""
    draws = Draws(seed)
    with _TRACING, contextlib.ExitStack() as stack:
        for name in DIRECT:
            module = importlib.import_module(f"{keras_cv.__name__}.src.{name}")
            stack.enter_context(mock.patch.object(module, "tf", _TensorFlow(module.tf, draws)))
        for layer in _with_inner(layers):
            stack.enter_context(mock.patch.object(layer, "_random_generator", draws))
        yield draws


class _TensorFlow(ModuleType):
    """TensorFlow, but for `random`."""

    def __init__(self, original: ModuleType, draws: Draws) -> None:
        super().__init__("tensorflow")
        self._original, self.random = original, draws

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _with_inner(layers: Iterable[object]) -> Iterator[object]:
    """Those of `layers`, and of the layers among their attributes, that keep a generator; each once."""
    seen: set[int] = set()
    todo = list(layers)
    while todo:
        item = todo.pop()
        if isinstance(item, list | tuple):
            todo += item
        elif hasattr(item, "_random_generator") and id(item) not in seen:
            seen.add(id(item))
            todo += vars(item).values()
            yield item
