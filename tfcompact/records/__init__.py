"""The records that flow through tfcompact and are JSON on disk. No TensorFlow here."""
