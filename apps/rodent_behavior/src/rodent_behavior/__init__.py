"""Frame-level behaviour segmentation of mice from video and keypoints."""
