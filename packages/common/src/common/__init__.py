"""Shared library for training and judging vision models on imbalanced data."""
