"""NetAdapt: a network made cheaper step by step, one layer at a time (arXiv:1804.03230)."""
