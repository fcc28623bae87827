"""Weights that share values: few distinct integers a layer, which zip well."""
