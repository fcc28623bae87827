"""TensorFlow and its company, imported at first use.

Importing TensorFlow takes 5 to 15 seconds. `tfcompact --help`, `runs` and `report` do not need it, yet the modules
that hold the stages' configs do mention it; through these names the price is paid by the first attribute looked up.
"""

import importlib
from types import ModuleType
from typing import Any

import tfcompact as _first  # noqa: F401  (sets TF_USE_LEGACY_KERAS before any of the imports below)


class _Lazy(ModuleType):
    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self.__name__), attribute)


tf: Any = _Lazy("tensorflow")
keras: Any = _Lazy("tf_keras")
tfmot: Any = _Lazy("tensorflow_model_optimization")
keras_cv: Any = _Lazy("keras_cv")
