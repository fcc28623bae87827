"""Which layers of a quantized network rounding hurts, and what keeping them float buys."""
