"""Tensor decomposition: one layer as several that cost less together."""
