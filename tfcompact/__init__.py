"""Compact image classifiers: from a folder of photographs to a verified int8 TFLite file."""

import os

# The models are tf_keras models, since tfmot quantizes nothing else. TensorFlow and keras_cv read this once,
# at their first import, so it is set before anything of ours can import them.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# TensorFlow's start-up chatter would hide the one line that matters; errors still pass. Where there are several
# workers they do not: each tells the loss of another in a dozen lines, and `strategy.together` in one.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if os.environ.get("TF_CONFIG") else "2")

__version__ = "0.1.0"
