"""Ways to make a network smaller, a package each."""
