"""Networks in 8 bits: rules, ranges, exact rewrites, and the way out to the converter."""
