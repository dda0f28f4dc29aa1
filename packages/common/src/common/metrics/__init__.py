"""Metrics gathered as sums, so that any split of the data adds up alike, and computed exactly."""
