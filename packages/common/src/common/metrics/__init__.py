"""Metrics on integer confusion matrices: gathered on the device, computed exactly, with intervals."""
