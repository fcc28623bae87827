"""Records of what the benchmarks beside this package measured, which docs/results.md is rendered from."""
