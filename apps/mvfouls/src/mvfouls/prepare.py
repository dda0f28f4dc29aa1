"""The verb `prepare`: decode the window of every clip once, ahead of training, or generate a data set."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common.config import Finding, Parsed, UserError, check, has_no_effect, writing
from common.engine.logging import Console
from mvfouls.clips import ClipSource
from mvfouls.config_verbs import PrepareConfig
from mvfouls.frames import FrameRule
from mvfouls.layout import DATA_SET, splits_of
from mvfouls.parts_shared import CACHE_FOLDER
from mvfouls.settings import CacheSettings, Policies, ViewSettings
from mvfouls.split import Fault, Split, open_split
from mvfouls.survey import View

PROGRESS_SECONDS = 5.0
GENERATING = ("contents", "actions", "size", "damaged_clips", "seed")
"""Flags of generated data; all others are of decoding."""
DECODING = ("dataset_root", "cache_dir", "window", "cache_format", "max_cache_gb", "workers")

_log = logging.getLogger("mvfouls")

Outcome = TypeVar("Outcome")


def main(parsed: Parsed[PrepareConfig]) -> int:
    """Fill the store, or generate a data set; return 1 when clips are left that should be stored, else 0."""
    config, console = parsed.config, Console()
    check(findings(parsed), False, _log)
    if config.synthetic is not None:
        generate(config, config.synthetic, console)
        return 0
    assert config.dataset_root is not None
    counts = fill_store(config, config.dataset_root, console)
    return int(counts.not_stored > 0 and config.max_cache_gb is None)


def findings(parsed: Parsed[PrepareConfig]) -> Iterator[Finding]:
    """Yield every error and warning about the settings themselves; files are not looked at."""
    config, typed = parsed.config, parsed.typed
    start, end = config.window
    rules = {
        "give --dataset-root, whose clips are decoded, or --synthetic, where a data set is generated": (
            config.dataset_root is None and config.synthetic is None
        ),
        f"--workers {config.workers}: at least 1 is expected": config.workers < 1,
        f"--window {start} {end}: 0 <= first <= last is expected": not 0 <= start <= end,
        f"--max-cache-gb {config.max_cache_gb}: 0 or more is expected": (
            config.max_cache_gb is not None and not config.max_cache_gb >= 0
        ),
        f"--actions {config.actions}: at least 1 is expected": config.actions < 1,
        f"--seed {config.seed}: 0 or more is expected": config.seed < 0,
        "--damaged-clips has none to damage with --contents motion": (
            config.damaged_clips and config.contents == "motion"
        ),
    }
    yield from (Finding("error", text) for text, applies in rules.items() if applies)
    idle, reason = (
        (GENERATING, "--synthetic is not given")
        if config.synthetic is None
        else (DECODING, "--synthetic generates a data set and decodes nothing")
    )
    yield from (Finding("warning", has_no_effect(name, reason)) for name in idle if name in typed)


def fill_store(config: PrepareConfig, root: Path, console: Console) -> PrepareCounts:
    """Store the windows of all splits that are there, saying what is done.

    UserError as `splits_of` and `open_split`.
    """
    policies, frames = Policies(unknown_labels="ignore"), FrameRule()
    splits = [
        open_split(source, policies, ViewSettings(), frames, labelled=False, allow_no_view=True)
        for source in splits_of(root)
    ]
    for split in splits:
        console.line("data", split.report.lines()[0])
    folder = config.cache_dir or root / CACHE_FOLDER
    settings = CacheSettings(folder=folder, format=config.cache_format, max_gb=config.max_cache_gb)
    clips = ClipSource(
        frames, settings, policies, window=config.window, say=lambda text: console.line("cache", text)
    )
    assert clips.cache is not None
    first, last = clips.cache.window
    wider = "" if (first, last) == config.window else ", which training may ask for"
    console.line("cache", f"{folder}   frames {first}..{last}{wider}   {config.cache_format}")
    return prepare_windows(splits, clips, workers=config.workers, say=console.raw)


def generate(config: PrepareConfig, folder: Path, console: Console) -> None:
    """Write a generated data set whole or not at all; UserError when one is there or the disk refuses."""
    target = folder / DATA_SET
    if target.exists():
        raise UserError(f"--synthetic {folder}: {target} is there; nothing is replaced, give another folder")
    with writing(f"--synthetic {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".generated-") as place:
            _draw(config, Path(place))
            (Path(place) / DATA_SET).rename(target)
    for source in splits_of(folder):
        actions = sum(1 for path in source.folder.glob("action_*") if path.is_dir())
        clips = sum(1 for _ in source.folder.glob("action_*/clip_*.mp4"))
        console.line("data", f"{source.name} {actions} actions {clips} clips")
    console.line("written", str(target))


def _draw(config: PrepareConfig, folder: Path) -> None:
    from mvfouls.synthetic import write_dataset, write_learning_set  # decoding needs no drawing

    try:
        if config.contents == "motion":
            write_learning_set(folder, actions=config.actions, seed=config.seed, size=config.size, views=2)
        else:
            write_dataset(
                folder,
                actions=config.actions,
                seed=config.seed,
                size=config.size,
                zero_byte=config.damaged_clips,
            )
    except ValueError as error:
        raise UserError(f"--{error}") from error


@dataclass(frozen=True, kw_only=True)
class PrepareCounts:
    """What became of the clips."""

    stored: int
    """Decoded and stored."""
    found: int
    """Stored before."""
    not_stored: int
    """Not taken by the store."""
    skipped: tuple[Fault, ...]
    """Not there or not decodable."""
    seconds: float

    @property
    def rate(self) -> float:
        """Clips stored per second."""
        return self.stored / self.seconds if self.seconds else 0.0


def prepare_windows(
    splits: Iterable[Split], clips: ClipSource, *, workers: int, say: Callable[[str], None]
) -> PrepareCounts:
    """Store the window of every clip of some splits that is not stored yet, `workers` at a time.

    `say` gets a line every few seconds, one for each clip that was skipped with its reason, and a last one.
    Can be interrupted and called again. ValueError for fewer than 1 worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: 1 or more is expected")
    splits = list(splits)
    skipped = [fault for split in splits for fault in _left_out(split)]
    views = [view for split in splits for view in split.views]
    progress = Progress("prepare", len(views), say)
    with ThreadPoolExecutor(workers) as pool:
        outcomes = list(pool.map(lambda view: progress.count(_prepare(clips, view)), views))
    skipped += [outcome for outcome in outcomes if isinstance(outcome, Fault)]
    for fault in skipped:
        say(f"prepare  skipped {fault.clip}: {fault.reason}")
    counts = PrepareCounts(
        stored=outcomes.count("stored"),
        found=outcomes.count("found"),
        not_stored=outcomes.count("not stored"),
        skipped=tuple(skipped),
        seconds=progress.seconds,
    )
    say(
        f"prepare  {counts.stored} clips stored in {counts.seconds:.1f} s, {counts.rate:.1f} clips/s, "
        f"{counts.found} found, {counts.not_stored} not stored, {len(counts.skipped)} skipped"
    )
    return counts


def _prepare(clips: ClipSource, view: View) -> str | Fault:
    """Return what became of one clip."""
    try:
        if clips.has(view):
            return "found"
        return "stored" if clips.prepare(view) else "not stored"
    except (UserError, OSError) as error:
        return Fault(clip=f"{view.path.parent.name}/{view.path.stem}", reason=str(error))


def _left_out(split: Split) -> list[Fault]:
    """Return the clips that the split lists and cannot give."""
    missing = [Fault(clip=clip, reason="no such file") for clip in split.report.missing]
    faults = [*missing, *split.report.undecodable]
    return [Fault(clip=f"{split.source.name}/{fault.clip}", reason=fault.reason) for fault in faults]


class Progress:
    """Says now and then how far some threads of a command are."""

    def __init__(self, command: str, total: int, say: Callable[[str], None]) -> None:
        self.command = command
        self.total = total
        self.say = say
        self.done = 0
        self.started = self.said = time.monotonic()
        self.lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def count(self, outcome: Outcome) -> Outcome:
        """Count one more clip and return what became of it."""
        with self.lock:
            self.done += 1
            if time.monotonic() - self.said >= PROGRESS_SECONDS:
                self.said = time.monotonic()
                rate = self.done / self.seconds
                self.say(f"{self.command:<8} {self.done}/{self.total} clips, {rate:.1f} clips/s")
        return outcome
