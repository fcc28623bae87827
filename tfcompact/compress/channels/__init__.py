"""Structured pruning: networks with fewer channels."""
