"""One training loop, resumable to the bit, with hooks for what stages add to it."""
