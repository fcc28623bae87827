"""How a training is spread over devices and machines."""

from __future__ import annotations

import os
from typing import Any

from tfcompact.frameworks import tf


def strategy() -> Any:
    """The `tf.distribute` strategy: over machines where TF_CONFIG names them, over this one's GPUs, or none."""
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()
