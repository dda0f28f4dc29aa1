"""Landing-safety segmentation of aerial photos."""
