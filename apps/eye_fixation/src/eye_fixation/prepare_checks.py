"""Settings of `prepare` that are out of range, contradict each other, or cannot act."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from common.config import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Finding,
    Parsed,
    Range,
    has_no_effect,
    out_of_range,
)
from eye_fixation.prepare_config import GazeConfig, PrepareConfig, SimulationConfig

SCANPATHS = ("osie", "fixations")
"""Sources of fixations; the others hold samples."""
DEFAULT_RATE = {"osie": 10.0, "fixations": 10.0, "irf": 20.0}
DEFAULT_HOP = 7
LARGEST_SIMULATED = 64
"""Largest simulated grid: its transition table has S to the power of 4 entries."""
RANGES = {
    Range(1): ("hop", "n_train", "n_val", "n_test"),
    Range(2): ("img_size", "seq_len"),
    POSITIVE: ("rate_hz", "screen_px", "screen_mm", "distance_mm"),
    NOT_NEGATIVE: ("sim_seed",),
    SHARE: ("min_valid",),
}

_GAZE = tuple(item.name for item in fields(GazeConfig))
_SIMULATION = tuple(item.name for item in fields(SimulationConfig))
_RECORDED = (
    "rate_hz", "frames", "hop", "min_valid", "split", "split_sizes", "events", "exclude", "input", *_GAZE
)  # fmt: skip


def rate_of(config: PrepareConfig) -> float | None:
    """Return the frames per second, None where a frame is a fixation or simulated."""
    if config.source == "sim" or config.frames == "fixation":
        return None
    return DEFAULT_RATE.get(config.source) if config.rate_hz is None else config.rate_hz


def hop_of(config: PrepareConfig) -> int | None:
    """Return the frames between sequences, None for one sequence per scanpath."""
    return DEFAULT_HOP if config.hop is None and config.source not in SCANPATHS else config.hop


def split_of(config: PrepareConfig) -> str:
    """Return the unit that is never in two splits."""
    return config.split or ("image" if config.source == "osie" else "recording")


def check_settings(parsed: Parsed[PrepareConfig]) -> list[Finding]:
    """Return every error in the settings themselves; no file is looked at."""
    return [*_ranges(parsed.config), *_contradictions(parsed), *_without_effect(parsed)]


def _ranges(config: PrepareConfig) -> Iterator[Finding]:
    yield from out_of_range(config, RANGES)
    sizes = config.split_sizes
    rules = {
        f"--img-size with --source sim: at most {LARGEST_SIMULATED}": (
            config.source != "sim" or config.img_size <= LARGEST_SIMULATED
        ),
        "--split-sizes: three shares above 0 that sum to 1": min(sizes) > 0 and abs(sum(sizes) - 1) < 1e-6,
    }
    yield from (Finding("error", text) for text, holds in rules.items() if not holds)


def _contradictions(parsed: Parsed[PrepareConfig]) -> Iterator[Finding]:
    config = parsed.config
    source, hop = config.source, hop_of(config)
    per_fixation = config.frames == "fixation"
    rules = {
        f"--source {source} needs --input": source != "sim" and not config.input,
        f"--source {source} takes one --input, not {len(config.input)}": (
            source in ("osie", "irf") and len(config.input) > 1
        ),
        "--source csv needs --rate-hz": source == "csv" and config.rate_hz is None,
        f"--frames fixation with --source {source}: only {' and '.join(SCANPATHS)} have fixations": (
            per_fixation and source in ("irf", "csv")
        ),
        "--rate-hz with --frames fixation: a fixation has no rate": (
            per_fixation and source in SCANPATHS and "rate_hz" in parsed.typed
        ),
        "--split image with --source irf: its recordings have no images": (
            source == "irf" and config.split == "image"
        ),
        f"--split random with --hop {hop} and --seq-len {config.seq_len}: sequences share frames; take --hop "
        f"{config.seq_len} or another --split": (
            source != "sim" and config.split == "random" and hop is not None and hop < config.seq_len
        ),
        **_event_contradictions(config),
        **_screen_contradictions(config),
    }
    yield from (Finding("error", text) for text, holds in rules.items() if holds)


def _event_contradictions(config: PrepareConfig) -> dict[str, bool]:
    detected = config.events in ("ivt", "idt")
    return {
        f"--events {config.events} with --source {config.source}: it needs samples, not fixations": (
            detected and config.source in SCANPATHS
        ),
        "--events column with --source osie: it has no events": (
            config.events == "column" and config.source == "osie"
        ),
        f"--events {config.events} needs --screen-mm and --distance-mm": (
            detected
            and config.source == "csv"
            and (config.gaze.screen_mm is None or config.gaze.distance_mm is None)
        ),
    }


def _screen_contradictions(config: PrepareConfig) -> dict[str, bool]:
    gaze, own = config.gaze, config.source in ("csv", "fixations")
    both = gaze.screen_mm is not None and gaze.distance_mm is not None
    neither = gaze.screen_mm is None and gaze.distance_mm is None
    return {
        "--units px needs --screen-px": own and gaze.units == "px" and gaze.screen_px is None,
        "--units deg needs --screen-mm and --distance-mm": own and gaze.units == "deg" and not both,
        "--screen-mm and --distance-mm need each other": (
            config.source not in ("sim", "irf") and not both and not neither
        ),
    }


def _without_effect(parsed: Parsed[PrepareConfig]) -> Iterator[Finding]:
    config = parsed.config
    source, gaze = config.source, config.gaze
    groups: list[tuple[tuple[str, ...], str, bool]] = [
        (_RECORDED, "--source is sim", source == "sim"),
        (_SIMULATION, f"--source is {source}", source != "sim"),
        (("units", "origin", "time_unit", "missing_value"), f"--source {source} has its own",
         source in ("osie", "irf")),
        (("offscreen", "min_valid"), "every OSIE fixation is valid and on its image", source == "osie"),
        (("time_unit",), "durations are in ms", source == "fixations"),
        (("origin",), "--units deg starts at the centre",
         source in ("csv", "fixations") and gaze.units == "deg" and gaze.origin == "top-left"),
        (("field_per_split",), "--sim-kind smooth draws no field",
         source == "sim" and config.simulation.sim_kind == "smooth"),
    ]  # fmt: skip
    found: dict[str, str] = {}
    for names, reason, idle in groups:
        found |= {name: reason for name in names if idle and name in parsed.typed and name not in found}
    yield from (Finding("error", has_no_effect(name, reason)) for name, reason in found.items())
