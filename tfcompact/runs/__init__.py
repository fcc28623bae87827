"""The runs directory: what is in it, and what made it. No TensorFlow here."""
