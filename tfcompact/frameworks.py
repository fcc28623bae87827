"""TensorFlow and its company, imported at first use, and quietly.

Importing TensorFlow takes 5 to 15 seconds. `tfcompact --help`, `runs` and `report` do not need it, yet the modules
that hold the stages' configs do mention it; through these names the price is paid by the first attribute looked up.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import tfcompact as _first  # noqa: F401  (sets TF_USE_LEGACY_KERAS before any of the imports below)


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
