"""What the doctor looks at in the clips of a data set: each check tells a report what it found."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from common.config import UserError
from common.video import VideoError, content_sha256, decode_numbers
from mvfouls.annotations import Annotations, canonical_set, read_annotations
from mvfouls.frames import FrameRule
from mvfouls.layout import ANNOTATIONS, DATA_SET, SPLITS, find_split
from mvfouls.prepare import Progress
from mvfouls.settings import Policies, SplitSource
from mvfouls.survey import Survey, View

RULE = FrameRule()
"""The window that training reads unless told otherwise."""
NEEDED = ("train", "valid")
"""Splits without which, and without whose labels, nothing can be trained."""
LISTED = 10
"""Things named in one line."""


class Report:
    """Tells what is found as it is found, and counts errors and warnings."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self.tell = tell
        self.errors = 0
        self.warnings = 0

    def error(self, text: str) -> None:
        """Tell what stops training or prediction."""
        self.errors += 1
        self.tell("error", text)

    def warning(self, text: str) -> None:
        """Tell what is odd and does not stop anything."""
        self.warnings += 1
        self.tell("warning", text)

    @property
    def verdict(self) -> str:
        """The last line."""
        return f"doctor: {self.errors} errors, {self.warnings} warnings"


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A split with the clips whose headers can be read."""

    source: SplitSource
    annotations: Annotations
    views: tuple[View, ...]


def find_sources(root: Path, report: Report) -> list[SplitSource]:
    """Return the splits that are there; without any, folders that hold annotations under another name."""
    found, absent = [], {}
    for split in SPLITS:
        try:
            found.append(find_split(root, split))
        except UserError as error:
            absent[split] = str(error)
    if not found:
        return _misnamed(root, report, absent)
    for source in found:
        report.tell("layout", f"{source.name} {source.folder}")
    for split, reason in absent.items():
        if split in NEEDED:
            report.warning(f"nothing can be trained: {reason}")
        else:
            report.tell("layout", f"{split} is not there")
    return found


def _misnamed(root: Path, report: Report, absent: dict[str, str]) -> list[SplitSource]:
    """Return folders with annotations that are called like no split; what their file says is believed."""
    places = [root, *sorted(root.glob("*")), *sorted((root / DATA_SET).glob("*"))]
    folders = [place for place in places if (place / ANNOTATIONS).is_file()]
    if not folders:
        report.error(absent[NEEDED[0]])
    for folder in folders:
        report.warning(f"{folder} has annotations and is not named as a split: {', '.join(SPLITS)}")
    return [SplitSource(name="", folder=folder, annotations=folder / ANNOTATIONS) for folder in folders]


def examine_split(source: SplitSource, report: Report) -> Examined | None:
    """Read the annotations of a split and the headers of its clips; None when the file cannot be read.

    A source without a name has the one its file says.
    """
    annotations = _annotations(source, report)
    if annotations is None:
        return None
    source = source if source.name else replace(source, name=canonical_set(annotations.set_name))
    survey = Survey.of(source.folder, annotations, RULE)
    by_action = {action.id: survey.views_of(action, Policies()) for action in annotations.actions}
    views = tuple(view for each in by_action.values() for view in each)
    numbers = Counter(len(each) for each in by_action.values() if each)
    account = replace(
        survey.report(source, annotations, no_view=()),
        actions=numbers.total(),
        clips=len(views),
        views=dict(numbers),
    )
    first, *faults = account.lines()
    report.tell("data", first)
    if views:
        report.tell("clips", f"{source.name} {_properties(views)}")
    for fault in faults:
        report.warning(fault)
    try:
        survey.check(Policies())
    except UserError as error:
        report.error(f"{source.name}: {error}")
    without = [action for action in annotations.actions if not by_action[action.id]]
    if without:
        report.error(f"{source.name}: no view left of {survey.explain(without)}")
    return Examined(source=source, annotations=annotations, views=views)


def _annotations(source: SplitSource, report: Report) -> Annotations | None:
    """Read an annotation file as training does, and when that fails with values unknown or labels absent."""
    needs_labels = True if source.name in NEEDED else None
    try:
        return read_annotations(source.annotations, labelled=needs_labels)
    except UserError as error:
        report.error(str(error))
    try:
        return read_annotations(source.annotations, unknown="ignore")
    except UserError:
        return None


def _properties(views: Sequence[View]) -> str:
    """Return the sizes, rates and lengths of clips with the number of each, the commonest first."""
    columns = {
        "size": (f"{view.size[0]}x{view.size[1]}" for view in views),
        "fps": (f"{view.fps:g}" for view in views),
        "frames": (str(view.frames) for view in views),
    }
    parts = []
    for title, values in columns.items():
        common = Counter(values).most_common()
        shown = " ".join(f"{value}:{number}" for value, number in common[:LISTED])
        parts.append(f"{title} {shown}{' ...' if len(common) > LISTED else ''}")
    return " | ".join(parts)


def decode_clips(splits: Sequence[Examined], workers: int, report: Report) -> None:
    """Decode every clip up to the last frame of the window."""
    views = [(f"{split.source.name} {clip_name(view)}", view) for split in splits for view in split.views]
    if not views:
        return
    started = time.monotonic()
    progress = Progress("decode", len(views), lambda line: report.tell(*line.split(maxsplit=1)))
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda item: progress.count(_decoded(item[1])), views))
    faults = [(name, fault) for (name, _), fault in zip(views, found, strict=True) if fault is not None]
    seconds = time.monotonic() - started
    sound = len(views) - len(faults)
    report.tell("decode", f"{sound} of {len(views)} clips decode to the end of the window, {seconds:.1f} s")
    for name, (usable, reason) in faults:
        if usable:
            report.warning(f"{name}: {reason}: its last frame is repeated")
        else:
            report.error(f"{name}: {reason}; remove the file to leave the clip out")


def _decoded(view: View) -> tuple[bool, str] | None:
    """Return whether a clip can be used and what is wrong with it; None when nothing is."""
    wanted = RULE.indices_at(view.fps)
    try:
        decode_numbers(view.path, [min(number, view.frames - 1) for number in wanted])
    except VideoError as error:
        if error.frame is not None and error.frame > wanted[0]:
            return True, f"{error.frame} of {view.frames} frames decode"
        return False, str(error).removeprefix(f"{view.path}: ")
    return None


def check_shared(splits: Sequence[Examined], report: Report) -> None:
    """Look for clips of the same bytes, and for matches that several splits have actions of."""
    groups = [(group, list(dict.fromkeys(name for name, _ in group))) for group in _same_content(splits)]
    for tell, chosen in (
        (report.error, [group for group in groups if len(group[1]) > 1]),
        (report.warning, [group for group in groups if len(group[1]) == 1]),
    ):
        for group, names in chosen[:LISTED]:
            overlap = f"splits {' and '.join(names)} must not share any: " if len(names) > 1 else ""
            tell(f"{overlap}the same clip: {some([str(view.path) for _, view in group])}")
        if len(chosen) > LISTED:
            where = "in several splits" if tell == report.error else "more than once in a split"
            tell(f"{len(chosen) - LISTED} more clips are there {where}")
    if not groups and splits:
        report.tell("overlap", "no two clips are the same")
    games = {
        split.source.name: {action.game for action in split.annotations.actions} - {""} for split in splits
    }
    for (one, first), (other, second) in combinations(games.items(), 2):
        if shared := sorted(first & second):
            report.warning(f"splits {one} and {other} share {len(shared)} matches: {some(shared, 3)}")


def _same_content(splits: Iterable[Examined]) -> list[list[tuple[str, View]]]:
    """Return the groups of clips, with their splits, that hold the same bytes; few files are read whole."""
    by_size: dict[int, list[tuple[str, View]]] = {}
    for split in splits:
        for view in split.views:
            by_size.setdefault(view.path.stat().st_size, []).append((split.source.name, view))
    by_hash: dict[str, list[tuple[str, View]]] = {}
    for item in (item for group in by_size.values() if len(group) > 1 for item in group):
        by_hash.setdefault(content_sha256(item[1].path), []).append(item)
    return [group for group in by_hash.values() if len(group) > 1]


def clip_name(view: View) -> str:
    """Return action_<id>/clip_<k>."""
    return f"{view.path.parent.name}/{view.path.stem}"


def some(items: Sequence[str], most: int = LISTED) -> str:
    """Return the first few items as text, and how many more there are."""
    more = len(items) - most
    return ", ".join([*items[:most], f"and {more} more"] if more > 0 else items)
