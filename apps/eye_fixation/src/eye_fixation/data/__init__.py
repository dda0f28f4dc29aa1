"""Readers of gaze files, and the three data files that training reads."""
