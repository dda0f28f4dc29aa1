"""The command that turns gaze, recorded or simulated, into the three files that training reads."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.config import Parsed, UserError, check, flags
from common.config.vocabulary import tokens_of
from common.engine.logging import Console
from eye_fixation.data.contract import SPLITS, GazeData, GazeSplits, Metadata
from eye_fixation.data.pt import check_splits, refuse_existing, write_folder
from eye_fixation.framing import hop_warning, stimulus_period
from eye_fixation.prepare_checks import SCANPATHS, check_settings, hop_of, rate_of, split_of
from eye_fixation.prepare_config import PrepareConfig
from eye_fixation.prepare_input import Loaded, load
from eye_fixation.sequences import Windows, build, cut
from eye_fixation.splitting import BETWEEN, by_chance, by_time, by_unit, ids_of
from eye_fixation.synthetic import Simulator

Ints = NDArray[np.int64]

_NAMED_TOO_SHORT = 5


@dataclass(frozen=True)
class Prepared:
    """What is written, and what is said about it. `names` are those of group, subject and recording ids."""

    splits: GazeSplits
    lines: list[tuple[str, str]]
    names: dict[str, list[str]] = field(default_factory=dict)
    oracle: dict[str, Any] | None = None
    too_short: tuple[str, ...] = ()


def main(parsed: Parsed[PrepareConfig]) -> int:
    """Read or simulate, frame, split, print the counts and write the folder; return 0."""
    check(check_settings(parsed), True, logging.getLogger(__name__))
    config, console = parsed.config, Console()
    if not config.dry_run:
        refuse_existing(config.out, overwrite=config.overwrite)
    prepared = simulate(parsed) if config.source == "sim" else record(parsed)
    check_splits(prepared.splits)
    for label, text in prepared.lines:
        console.line(label, text)
    if config.dry_run:
        console.line("written", "nothing (--dry-run)")
        return 0
    write_folder(
        config.out, prepared.splits, _manifest(prepared), overwrite=config.overwrite, oracle=prepared.oracle
    )
    console.line("written", str(config.out))
    return 0


def command_line(parsed: Parsed[PrepareConfig]) -> str:
    """Return the command with the flags that were typed."""
    words = ["eye-fixation", "prepare"]
    for flag in flags(PrepareConfig):
        if flag.name in parsed.typed:
            value = reduce(getattr, (*flag.groups, flag.name), parsed.config)
            if flag.two_state:
                words.append(flag.option if value else f"--no-{flag.option[2:]}")
            else:
                words += [flag.option, *tokens_of(value)]
    return shlex.join(words)


def simulate(parsed: Parsed[PrepareConfig]) -> Prepared:
    """Return simulated splits and the tables of the best possible prediction."""
    config, sim = parsed.config, parsed.config.simulation
    sizes = dict(zip(SPLITS, (sim.n_train, sim.n_val, sim.n_test)))
    fields = [
        Simulator(sim.sim_kind, sim.sim_seed, config.img_size, split if sim.field_per_split else None)
        for split in range(len(SPLITS))
    ]
    parts, offset = [], 0
    for number, (split, size) in enumerate(sizes.items()):
        coordinates = torch.from_numpy(fields[number].sample(size, config.seq_len, number)).float()
        metadata = Metadata(
            source="simulated", source_name=f"sim {sim.sim_kind}", img_size=config.img_size, split=split,
            split_by="sequence", command=command_line(parsed), counts=sizes,
        )  # fmt: skip
        mask = torch.ones(coordinates.shape[:2], dtype=torch.bool)
        parts.append(GazeData(coordinates, mask, metadata, group=torch.arange(offset, offset + size)))
        offset += size
    per_split = {split: simulator.tables() for split, simulator in zip(SPLITS, fields)}
    oracle: dict[str, Any] = dict(per_split) if sim.field_per_split else dict(per_split["train"])
    field_of = "a field per split" if sim.field_per_split else f"seed {sim.sim_seed}"
    lines = [
        ("data", f"sim {sim.sim_kind}  simulated  {field_of}"),
        _split_line("sequence", parts, config.seq_len),
    ]
    return Prepared(GazeSplits(*parts), lines, oracle=oracle)


def record(parsed: Parsed[PrepareConfig]) -> Prepared:
    """Return the splits of recorded gaze. Raises UserError with counts where one of them is empty."""
    config = parsed.config
    loaded = load(parsed)
    hop = hop_of(config)
    windows = cut(loaded.tracks, length=config.seq_len, hop=hop, min_valid=config.min_valid)
    split_by, assigned = _assign(parsed, loaded, windows)
    period = None
    if config.source not in SCANPATHS:
        period = stimulus_period([(track.positions, track.mask) for track in loaded.tracks])
    counts = _counts(loaded, windows, assigned)
    _refuse_empty(counts)
    ids, names = _ids(loaded, split_by)
    parts = []
    for number, split in enumerate(SPLITS):
        metadata = Metadata(
            source="real", source_name=config.source, img_size=config.img_size, rate_hz=rate_of(config),
            geometry=loaded.geometry, split=split, split_by=split_by, command=command_line(parsed),
            sha256=loaded.sha256, counts=counts, stimulus_period=period,
        )  # fmt: skip
        chosen = np.flatnonzero(assigned == number)
        parts.append(build(loaded.tracks, windows, chosen, ids, metadata, config.seq_len))
    warning = None if hop is None else hop_warning(hop, period)
    lines = [*_lines(config, loaded, windows, counts), _split_line(split_by, parts, config.seq_len)]
    lines += [("warning", warning)] if warning else []
    return Prepared(GazeSplits(*parts), lines, names, too_short=windows.too_short)


def _assign(parsed: Parsed[PrepareConfig], loaded: Loaded, windows: Windows) -> tuple[str, Ints]:
    """Return what separates the splits, and the split of every window."""
    config = parsed.config
    unit, tracks = split_of(config), loaded.tracks
    if not len(windows):
        return unit, np.zeros(0, np.int64)
    if unit == "random":
        return unit, by_chance(len(windows), config.split_sizes)
    fixed = loaded.fixed
    if "split_sizes" in parsed.typed or unit == "subject":
        fixed = None
    few = len({tracks[index].recording for index in windows.track}) < 3
    if unit == "recording" and fixed is None and few and config.source == "csv":
        return "time", by_time(tracks, windows, config.split_sizes, config.seq_len)
    return unit, by_unit(tracks, windows, unit, config.split_sizes, fixed)


def _ids(loaded: Loaded, split_by: str) -> tuple[dict[str, Ints], dict[str, list[str]]]:
    """Return ids by track and their names: recordings, subjects where known, and the split's unit."""
    tracks = loaded.tracks
    columns = {"recording": [track.recording for track in tracks]}
    subjects = [track.subject for track in tracks]
    if all(subjects):
        columns["subject"] = subjects
    images = [track.stimulus for track in tracks]
    if split_by == "image" or (split_by == "random" and all(images)):
        columns["group"] = images
    elif split_by == "subject" or (split_by == "time" and all(subjects)):
        columns["group"] = subjects
    else:
        columns["group"] = columns["recording"]
    found = {name: ids_of(values) for name, values in columns.items()}
    return {name: ids for name, (ids, _) in found.items()}, {
        name: names for name, (_, names) in found.items()
    }


def _counts(loaded: Loaded, windows: Windows, assigned: Ints) -> dict[str, int]:
    return loaded.counts | {
        "excluded": len(loaded.excluded),
        "frames": sum(len(track.mask) for track in loaded.tracks),
        "invalid_frames": sum(int((~track.mask).sum()) for track in loaded.tracks),
        "too_short": len(windows.too_short),
        "dropped": windows.dropped,
        "between_blocks": int((assigned == BETWEEN).sum()),
        **{split: int((assigned == number).sum()) for number, split in enumerate(SPLITS)},
    }


def _refuse_empty(counts: dict[str, int]) -> None:
    empty = [split for split in SPLITS if not counts[split]]
    if empty:
        stages = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UserError(f"no sequence is left for {' and '.join(empty)}: {stages}")


def _lines(
    config: PrepareConfig, loaded: Loaded, windows: Windows, counts: dict[str, int]
) -> Iterator[tuple[str, str]]:
    unit = "fixations" if config.source in SCANPATHS else "samples"
    read = "scanpaths" if config.source in SCANPATHS else "recordings"
    yield (
        "data",
        f"{config.source}  real  {counts[read]:,} {read}  {counts[unit]:,} {unit}  "
        f"{counts['invalid']:,} invalid  {counts['off_screen']:,} off screen",
    )
    if loaded.excluded:
        yield "excluded", " ".join(loaded.excluded)
    rate = rate_of(config)
    per_track = ""
    if config.source not in SCANPATHS:
        shown = (f"{track.recording} {int((~track.mask).sum())}" for track in loaded.tracks)
        per_track = f" ({', '.join(shown)})" if len(loaded.tracks) <= 12 else ""
    every = "one per fixation" if rate is None else f"{rate:g} Hz"
    yield "frames", f"{counts['frames']:,}  {every}  {counts['invalid_frames']:,} invalid{per_track}"
    hop = hop_of(config)
    apart = "one per scanpath" if hop is None else f"hop {hop}"
    between = f"  {counts['between_blocks']:,} between time blocks" if counts["between_blocks"] else ""
    yield (
        "windows",
        f"{len(windows):,} of {config.seq_len} frames  {apart}  {counts['dropped']:,} dropped for invalid "
        f"frames{between}  {counts['too_short']:,} {read} too short{_named(windows.too_short)}",
    )


def _named(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _NAMED_TOO_SHORT else ""
    return f" ({', '.join(names[:_NAMED_TOO_SHORT])}{more})"


def _split_line(split_by: str, parts: Sequence[GazeData], length: int) -> tuple[str, str]:
    sizes = "  ".join(f"{split} {len(part)}" for split, part in zip(SPLITS, parts))
    return "split", f"by {split_by}  {sizes} sequences of {length} frames"


def _manifest(prepared: Prepared) -> dict[str, Any]:
    metadata = prepared.splits.train.metadata
    return {
        "command": metadata.command,
        "source": metadata.source,
        "source_name": metadata.source_name,
        "inputs": dict(metadata.sha256),
        "counts": dict(metadata.counts),
        "split_by": metadata.split_by,
        "names": prepared.names,
        "too_short": list(prepared.too_short),
    }
