"""Corrections for class imbalance: weights, samplers, rare crops, and the budget that judges them all."""
