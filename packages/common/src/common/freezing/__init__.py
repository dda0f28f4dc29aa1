"""Freezing: which blocks of a network train when, at which rates, and how that is decided and undone."""
