"""One network that holds every member of a search space, so that none of them has to be built."""
