"""Rows of measurements as tables, plots and pages. No TensorFlow here."""
