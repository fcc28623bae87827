"""Keras graphs as values: rewritten, taken apart into operators, priced."""
