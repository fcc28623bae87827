"""From a target and a config to a finished run: parents, identity, memoization, recipes."""
