"""The verb `analyze`: count the classes of a data set, judge its void, recommend weights."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from common.config import (
    NOT_NEGATIVE,
    Finding,
    Parsed,
    UserError,
    check,
    has_no_effect,
    out_of_range,
    writing,
)
from uav_landing.analysis import Analysis, analyse
from uav_landing.analysis_files import write_csv, write_json
from uav_landing.analysis_plot import write_plot
from uav_landing.analysis_text import analysis_lines, header_lines
from uav_landing.config import AnalyzeConfig, SplitConfig
from uav_landing.data.masks import describe_unknown
from uav_landing.data.photos import PhotoSet
from uav_landing.data.readers import find_photos
from uav_landing.data.splits import Split, make_split
from uav_landing.mask_counts import MaskCount, count_masks

PLOT_SUFFIXES = (".png", ".pdf", ".svg")

_log = logging.getLogger("uav_landing")


def main(parsed: Parsed[AnalyzeConfig]) -> int:
    """Count, report on stdout, write the three files; return the exit code 0.

    UserError for contradictory settings, an absent or damaged data set, unknown labels with
    `--unknown-labels error`, a missing plotting package, or a file that cannot be written.
    """
    check(_findings(parsed), False, _log)
    config = parsed.config
    _require_plotting(config)
    photos = find_photos(config.data)
    ids = _announced(photos, config)
    counted = count_masks(photos, ids, config.workers, _show_progress)
    if config.unknown_labels == "error":
        _refuse_unknown(counted, photos)
    analysis = analyse(photos, config.split, counted, bootstrap=config.bootstrap, seed=config.seed)
    for line in analysis_lines(analysis, config.void):
        _say(line)
    _write_files(analysis, config)
    return 0


def _findings(parsed: Parsed[AnalyzeConfig]) -> Iterator[Finding]:
    config, typed = parsed.config, parsed.typed
    yield from out_of_range(config, {NOT_NEGATIVE: ("samples", "bootstrap", "workers", "seed")})
    if config.plot is not None and config.plot.suffix.lower() not in PLOT_SUFFIXES:
        yield Finding("error", f"--plot {config.plot}: one of {', '.join(PLOT_SUFFIXES)} is expected")
    seeded = config.bootstrap or (config.samples and config.sample_order == "random")
    idle = {
        "split_mode": (config.split == "all", "--split is all"),
        "split_file": (config.split == "all", "--split is all"),
        "split_seed": (
            config.split == "all" or config.split_mode not in ("random", "auto"),
            "--split is all" if config.split == "all" else "the split is not random",
        ),
        "sample_order": (config.samples == 0, "--samples 0 counts every file"),
        "output_dir": (not any((config.json, config.csv, config.plot)), "no file is written"),
        "seed": (not seeded, "--bootstrap 0 and --samples draw nothing at random"),
    }
    for name, (acts_not, reason) in idle.items():
        if name in typed and acts_not:
            yield Finding("warning", has_no_effect(name, reason))


def _require_plotting(config: AnalyzeConfig) -> None:
    if config.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise UserError('--plot needs matplotlib: pip install "imbalance-common[report]", or add --no-plot')


def _announced(photos: PhotoSet, config: AnalyzeConfig) -> tuple[str, ...]:
    """Return the photos to count, sorted by id, and say which they are."""
    split = None if config.split == "all" else _split(photos, config)
    ids = photos.ids if split is None else tuple(sorted(split.ids(config.split)))
    if split is not None and not ids:
        raise UserError(f"--split {config.split}: holds no photo ({_sizes(split)})")
    sample = _sample(ids, config)
    how = "" if split is None else f"   {_sizes(split)}"
    for line in header_lines(photos, config.split, how, sample):
        _say(line)
    for note in photos.notes:
        _say(f"note     {note}")
    if config.samples > len(ids):
        _say(f"note     --samples {config.samples}: there are {len(ids)} files, all are counted")
    if split is not None and split.warning:
        _say(f"warning  {split.warning}")
    return sample


def _split(photos: PhotoSet, config: AnalyzeConfig) -> Split:
    settings = SplitConfig(
        split_mode=config.split_mode, split_file=config.split_file, split_seed=config.split_seed
    )
    return make_split(photos, settings)


def _sizes(split: Split) -> str:
    return f"{split.how}: train {len(split.train)}, val {len(split.val)}, test {len(split.test)}"


def _sample(ids: tuple[str, ...], config: AnalyzeConfig) -> tuple[str, ...]:
    if not config.samples or config.samples >= len(ids):
        return ids
    if config.sample_order == "first":
        return ids[: config.samples]
    rng = np.random.Generator(np.random.Philox(key=config.seed))
    return tuple(ids[index] for index in sorted(rng.choice(len(ids), config.samples, replace=False)))


def _refuse_unknown(counted: Sequence[MaskCount], photos: PhotoSet) -> None:
    unknown = [item.unknown for item in counted if item.unknown is not None]
    if unknown:
        text = describe_unknown(unknown, photos.table)
        raise UserError(f"{text}\n--unknown-labels report counts them and goes on")


def _write_files(analysis: Analysis, config: AnalyzeConfig) -> None:
    wanted: tuple[tuple[str, Path | None, Callable[[Path, Analysis], None]], ...] = (
        ("json", config.json, write_json),
        ("csv", config.csv, write_csv),
        ("plot", config.plot, write_plot),
    )
    for flag, name, write in wanted:
        if name is None:
            continue
        path = config.output_dir.expanduser() / name
        with writing(f"--{flag} {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, analysis)
        _say(f"written  {path}")


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done}/{total} masks{chr(10) if done == total else ''}")
        sys.stderr.flush()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
