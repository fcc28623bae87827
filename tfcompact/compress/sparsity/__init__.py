"""Unstructured pruning: networks of the same size with zeros in them."""
