"""What the eye does during a sample or frame: the event ids of every file and table."""

from __future__ import annotations

UNDEFINED, FIXATION, SACCADE, OSCILLATION, PURSUIT, BLINK = range(6)

EVENT_NAMES = ("undefined", "fixation", "saccade", "post-saccadic oscillation", "pursuit", "blink")
"""Names by event id."""
