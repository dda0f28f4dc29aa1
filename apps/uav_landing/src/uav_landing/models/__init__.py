"""Segmentation networks: built from settings, rebuilt from checkpoints, filled from local weight files."""
