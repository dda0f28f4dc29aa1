"""What `analyze` says on the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mvfouls.balance_text import short
from mvfouls.config_modular import PRESETS
from mvfouls.labels import OFFICIAL_ACTIONS, OFFICIAL_OS

if TYPE_CHECKING:
    from mvfouls.analyze import TaskBalance
    from mvfouls.analyze_counts import OfficialCounts, SetCounts, TaskCounts
    from mvfouls.calibration import Calibration
    from mvfouls.config_modular import PresetName
    from mvfouls.config_verbs import AnalyzeConfig

NOTHING = "-"
RHO = (
    "rho 0: the natural shares act, 1: the commonest and the rarest class equally; inversion above 1: a rare "
    "class acts more than a common one"
)


def set_lines(counts: SetCounts) -> list[str]:
    """Return the file, its size and its views."""
    annotations = counts.annotations
    views = " ".join(f"{number}:{count}" for number, count in counts.views.items())
    return [
        f"{annotations.path}   set {annotations.set_name}",
        f"{len(annotations.actions)} actions {counts.clips} clips {counts.matches} matches | views {views}",
    ]


def count_lines(task: TaskCounts) -> list[str]:
    """Return the classes of a task with their actions, share and clips, and what is no class."""
    total = sum(task.actions)
    present = [count for count in task.actions if count]
    ratio = f"   ratio {max(present) / min(present):.1f}" if len(present) > 1 else ""
    rows = [
        [str(number), name, str(count), _percent(count, total), str(clips)]
        for number, (name, count, clips) in enumerate(zip(task.labels.classes, task.actions, task.clips))
    ]
    listed = total + sum(task.ignored.values())
    lines = [f"{task.labels.name}   {total} of {listed} actions have a class{ratio}"]
    lines += _table(["id", "class", "actions", "share", "clips"], rows)
    for title, values in (("ignored", task.ignored), ("spelled otherwise", task.spelled)):
        if values:
            lines.append(f"  {title} {sum(values.values())}: {_counted(values)}")
    return lines


def official_lines(official: OfficialCounts, counts: SetCounts) -> list[str]:
    """Return the table of official actions by offence and severity, with sums in actions and clips."""
    by_action, by_os = official.clips.sum(axis=1), official.clips.sum(axis=0)
    rows = [
        [name, *map(str, row), str(row.sum()), str(clips)]
        for name, row, clips in zip(OFFICIAL_ACTIONS, official.actions, by_action)
    ]
    rows.append(
        ["actions", *map(str, official.actions.sum(axis=0)), str(official.actions.sum()), ""],
    )
    rows.append(["clips", *map(str, by_os), "", str(official.clips.sum())])
    return [
        f"{official.actions.sum()} of {len(counts.annotations.actions)} actions and "
        f"{official.clips.sum()} of {counts.clips} clips count officially",
        *_table(["", *OFFICIAL_OS, "actions", "clips"], rows, names=1),
    ]


def balance_lines(name: str, balance: TaskBalance, config: AnalyzeConfig) -> list[str]:
    """Return what sampler, weights and margins do to the classes of a task."""
    columns: Mapping[str, Sequence[float] | None] = {
        "share": balance.natural,
        "factor": balance.factors,
        "drawn": balance.presented,
        "weight": balance.weights,
        "effective": balance.effective,
        "ldam margin": balance.margins,
    }
    rows = [
        [label, str(count), *(_cells(columns, place) if count else [NOTHING] * len(columns))]
        for place, (label, count) in enumerate(zip(balance.names, balance.counts))
    ]
    sampler = "no sampler"
    if config.use_class_balanced_sampler:
        sampled = " and ".join(config.balance.balance_tasks)
        sampler = f"sampler of {sampled}, factor up to {config.oversample_factor:g}"
    weights = "no weights"
    if balance.weights is not None:
        weights = f"weights {config.class_weighting_strategy} of {config.balance.weight_basis} counts"
        weights += f", ratio up to {config.max_weight_ratio:g}"
    return [
        f"{name}   {sampler}   {weights}",
        *_table(["class", "actions", *columns], rows, names=1),
        f"  rho {_known(balance.strength)} inversion {_known(balance.inversion)}",
    ]


def preset_lines(
    name: PresetName, sizes: Sequence[tuple[PresetName, int, int | None]], actions: int
) -> list[str]:
    """Return the preset for a number of actions with the flags that it stands for."""
    least, most = next((least, most) for preset, least, most in sizes if preset == name)
    span = f"{least} actions and more" if most is None else f"{least} to {most} actions"
    return [f"--preset {name}   for {span}, here {actions}", " ".join(_flags(PRESETS[name]))]


def threshold_lines(calibration: Calibration) -> list[str]:
    """Return the thresholds of every part."""
    lines = ["thresholds, from which a class by itself is called present, with the offsets applied"]
    for name, part in calibration.parts.items():
        found = (
            f"{label} {NOTHING if value is None else short(value, 3)}"
            for label, value in zip(part.classes, part.thresholds)
        )
        lines.append(f"  {name}: {' '.join(found)}")
    return lines


def _flags(values: Mapping[str, object]) -> list[str]:
    """Return values as they are typed; switches that are on carry none."""
    return [f"--{name}" if value is True else f"--{name} {value}" for name, value in values.items()]


def _cells(columns: Mapping[str, Sequence[float] | None], place: int) -> list[str]:
    return [NOTHING if values is None else f"{values[place]:.4f}" for values in columns.values()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, names: int = 2) -> list[str]:
    """Return lines of aligned columns, of which the first `names` hold words."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if place < names else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"  {'  '.join(cells).rstrip()}")
    return lines


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else NOTHING


def _counted(values: Mapping[str, int]) -> str:
    return ", ".join(f"{value or '(empty)'} {count}" for value, count in values.items())


def _known(value: float | None) -> str:
    return NOTHING if value is None or not np.isfinite(value) else short(value)
