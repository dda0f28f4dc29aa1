"""Which recorded numbers are drawn together, and in which order."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.reporting.plots import MUTED, PALETTE, Line, palette_color
from common.reporting.run_data import RunData

CLASS_KEY = re.compile(r"(?P<metric>.+)/(?P<id>\d+)|class_(?P<id2>\d+)_(?P<metric2>.+)")
HOUSEKEEPING = re.compile(r"grad_norm|.*seconds|.*_per_second|.*(memory|share|waiting|skipped|support)\b.*")
MOST_COLORED = 8
MAIN_SCALARS = 6
MAIN_CLASS_PANELS = 4


@dataclass(frozen=True)
class Panel:
    """One small figure: a title, its curves, and a remark under it."""

    title: str
    lines: Sequence[Line]
    remark: str = ""


@dataclass(frozen=True)
class Panels:
    """The figures of a run in reading order; `extra` is shown folded."""

    headline: Panel | None
    main: list[Panel]
    classes: list[Panel]
    extra: list[Panel]


@dataclass
class _Track:
    """The values of one key, by step; the last one of a step counts."""

    by_step: dict[int, float] = field(default_factory=dict)

    def line(self, label: str, color: str, *, dash: str = "-", faint: bool = False) -> Line:
        steps = sorted(self.by_step)
        return Line(label, steps, [self.by_step[step] for step in steps], color, dash, faint)


Tracks = dict[str, _Track]


def arrange(run: RunData) -> Panels:
    """Group every recorded number of a run into figures."""
    steps, epochs = _tracks(run, step_records=True), _tracks(run, step_records=False)
    best = run.best()
    train = _names(epochs, "train/") or _names(steps, "train/")
    valid = _names(epochs, "valid/")
    terms = [n for n in _names(steps, "train/") if n != "loss" and not HOUSEKEEPING.fullmatch(n)]
    per_class = _class_metrics(valid)
    in_class = {name for members in per_class.values() for name in members.values()}
    used = {"loss", best.metric if best else "", *terms, *in_class}
    names = list(dict.fromkeys([*valid, *train]))
    scalars = [n for n in names if n not in used and not HOUSEKEEPING.fullmatch(n) and not _class_of(n)]
    remaining = [n for n in names if n not in used and HOUSEKEEPING.fullmatch(n) and not _class_of(n)]

    panels = [_scalar(name, steps, epochs) for name in scalars]
    classes = [_class_panel(m, ids, epochs, run) for m, ids in per_class.items() if m != "support"]
    main = [_scalar("loss", steps, epochs), _terms(terms, steps, epochs), *panels[:MAIN_SCALARS]]
    rates = _rates(steps, epochs)
    extra = [
        *panels[MAIN_SCALARS:],
        *classes[MAIN_CLASS_PANELS:],
        *[_scalar(name, steps, epochs) for name in dict.fromkeys([*remaining, *_housekeeping(steps)])],
    ]
    return Panels(
        headline=_filled([_scalar(best.metric, {}, epochs)])[0] if best else None,
        main=_filled([*main, rates]),
        classes=_filled(classes[:MAIN_CLASS_PANELS]),
        extra=_filled(extra),
    )


def _tracks(run: RunData, *, step_records: bool) -> Tracks:
    tracks: Tracks = {}
    for record in run.metrics:
        if (record["kind"] == "step") is not step_records or record["kind"] == "resume":
            continue
        for key, value in record.items():
            if "/" in key and (value is None or isinstance(value, int | float)):
                number = math.nan if value is None else float(value)
                tracks.setdefault(key, _Track()).by_step[int(record["step"])] = number
    return tracks


def _names(tracks: Tracks, prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in tracks if key.startswith(prefix)]


def _housekeeping(steps: Tracks) -> list[str]:
    return [name for name in _names(steps, "train/") if HOUSEKEEPING.fullmatch(name)]


def _class_of(name: str) -> tuple[str, str] | None:
    """Return (metric, class id) of a per-class key: `iou/3` or `class_3_iou`."""
    match = CLASS_KEY.fullmatch(name)
    if match is None:
        return None
    return match["metric"] or match["metric2"], match["id"] or match["id2"]


def _class_metrics(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return metric -> class id -> key, for every key that belongs to a class."""
    metrics: dict[str, dict[str, str]] = {}
    for name in names:
        found = _class_of(name)
        if found:
            metrics.setdefault(found[0], {})[found[1]] = name
    return metrics


def _scalar(name: str, steps: Tracks, epochs: Tracks) -> Panel:
    """Return the panel of one name: training behind validation where both exist."""
    lines = []
    train, valid, noisy = epochs.get(f"train/{name}"), epochs.get(f"valid/{name}"), steps.get(f"train/{name}")
    if noisy:
        lines.append(noisy.line("training, per step", PALETTE[7], faint=bool(train or valid)))
    if train:
        lines.append(train.line("training", PALETTE[7]))
    if valid:
        lines.append(valid.line("validation", PALETTE[0]))
    return Panel(name, lines)


def _terms(terms: Sequence[str], steps: Tracks, epochs: Tracks) -> Panel:
    """Return the loss terms in one panel: training solid, validation dashed."""
    lines, dashed = [], False
    for position, name in enumerate(terms):
        color = palette_color(position)
        train, valid = epochs.get(f"train/{name}") or steps.get(f"train/{name}"), epochs.get(f"valid/{name}")
        if train:
            lines.append(train.line(name, color))
        if valid:
            dashed = True
            lines.append(valid.line(f"{name}, validation", color, dash="--"))
    return Panel("loss terms", lines, "Solid: training. Dashed: validation." if dashed else "")


def _rates(steps: Tracks, epochs: Tracks) -> Panel:
    """Return the learning rates; groups with the same rate all along share a curve."""
    groups: list[tuple[list[str], _Track]] = []
    for key, track in (epochs | steps).items():
        if not key.startswith("lr/"):
            continue
        same = next((labels for labels, other in groups if other == track), None)
        if same is None:
            groups.append(([key.removeprefix("lr/")], track))
        else:
            same.append(key.removeprefix("lr/"))
    lines = [t.line(", ".join(labels), palette_color(i)) for i, (labels, t) in enumerate(groups)]
    return Panel("learning rate", lines)


def _class_panel(metric: str, ids: Mapping[str, str], epochs: Tracks, run: RunData) -> Panel:
    """Return one metric of every class; with many classes the lowest ones are in colour, the rest behind."""
    names, colors = run.class_names(metric), run.class_colors()
    tracks = {identity: epochs[f"valid/{key}"] for identity, key in ids.items()}
    shown = sorted(tracks, key=lambda identity: _final(tracks[identity], run.best_step))[:MOST_COLORED]
    if len(tracks) <= MOST_COLORED:
        shown = list(tracks)
    behind = [tracks[i].line(names.get(i, f"class {i}"), MUTED, faint=True) for i in tracks if i not in shown]
    lines = [
        tracks[i].line(names.get(i, f"class {i}"), colors.get(i, palette_color(position)))
        for position, i in enumerate(shown)
    ]
    remark = f"In colour: the {len(shown)} lowest of {len(tracks)} classes." if behind else ""
    return Panel(f"{metric} per class", [*behind, *lines], remark)


def _final(track: _Track, best_step: int | None) -> float:
    """Return the value at the best step, else the last one; unknown values sort last."""
    step = best_step if best_step in track.by_step else max(track.by_step)
    value = track.by_step[step] if step is not None else math.nan
    return value if math.isfinite(value) else math.inf


def _filled(panels: Sequence[Panel]) -> list[Panel]:
    """Leave out panels without a single finite value."""
    return [p for p in panels if any(math.isfinite(v) for line in p.lines for v in line.values)]
