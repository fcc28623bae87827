"""Networks from disk: finished runs, published weights, other people's files."""
