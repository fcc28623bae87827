"""The network that fits a budget: candidates priced, trained against each other, the best one made into a file."""
