"""Gaze as sparse video: predict the next frames, and compare the losses that can learn them."""
