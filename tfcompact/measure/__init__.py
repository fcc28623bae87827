"""Devices that run an exported file and return a `Measurement`: one module for each kind of device."""
