"""Phones by `adb`: turns, guards, rows."""
