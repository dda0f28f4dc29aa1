"""Photos and their labels: readers, splits, the pixel store and the datasets."""
