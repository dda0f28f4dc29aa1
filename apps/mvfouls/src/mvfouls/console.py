"""The documented console lines of an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from common.metrics import report
from mvfouls.judging import RED, JudgedTask, Judgement
from mvfouls.official import PartScores

FEW_RED = 10
NOTHING = "-"


def train_line(train: Mapping[str, float], tasks: Iterable[str]) -> str:
    """Return `  train loss 1.2345 | severity 1.1021 ... | grad 0.93` from the epoch's training metrics.

    `train` holds `loss`, each task's own loss where it has one, and `grad_norm`.
    """
    losses = " ".join(f"{task} {train[task]:.4f}" for task in tasks if task in train)
    parts = [f"train loss {train['loss']:.4f}", losses]
    if "grad_norm" in train:
        parts.append(f"grad {train['grad_norm']:.2f}")
    return "  " + " | ".join(part for part in parts if part)


def valid_lines(judgement: Judgement) -> list[str]:
    """Return the `valid` line, and the `recall` line of each official part and task."""
    lines = [f"  valid {' | '.join(_valid_parts(judgement))}"]
    if judgement.strict is not None:
        lines += [recall_line("OS", judgement.strict.os), recall_line("action", judgement.strict.action)]
    for name, task in judgement.tasks.items():
        recall, count = report.recall(task.matrix), report.support(task.matrix)
        lines.append(_recalls(name, task.labels.classes, recall, count))
    return lines + red_lines(judgement)


def red_lines(judgement: Judgement) -> list[str]:
    """Return the line about too few red cards, if they are too few and the official part was judged."""
    text = None if judgement.strict is None else red_text(int(judgement.strict.os.count[RED]))
    return [] if text is None else [f"  {text}"]


def red_text(number: int) -> str | None:
    """Return what to say about `number` red cards behind a recall; None when they are enough.

    >>> red_text(3)
    'red-card recall rests on 3 samples'
    """
    return f"red-card recall rests on {number} samples" if number < FEW_RED else None


def recall_line(title: str, part: PartScores) -> str:
    """Return `  recall OS: No offence .41/32 ... Red -/0`: recall and number of each class."""
    return _recalls(title, part.names, part.recall, part.count)


def best_line(value: float, epoch: int, metric: str = "leaderboard", *, saved: bool) -> str:
    """Return `  best LB 33.1 (epoch 5) | saved best`; `epoch` counts from 1, `value` is a share."""
    name, shown = ("LB", percent(value)) if metric == "leaderboard" else (metric, f"{value:.4f}")
    return f"  best {name} {shown} (epoch {epoch}){' | saved best' if saved else ''}"


def percent(share: float) -> str:
    """Return a share in percent with one decimal, `-` for NaN."""
    return f"{100 * share:.1f}" if share == share else NOTHING


def share(value: float) -> str:
    """Return a share with two decimals and no leading zero, `-` for NaN.

    >>> share(0.414), share(1.0), share(0.0)
    ('.41', '1.00', '.00')
    """
    return f"{value:.2f}".removeprefix("0") if value == value else NOTHING


def _valid_parts(judgement: Judgement) -> Iterator[str]:
    if judgement.partial:
        yield f"partial {len(judgement.ids)} actions, no leaderboard value"
    elif judgement.strict is not None and judgement.interval is not None:
        low, high = (percent(float(end)) for end in judgement.interval[1:])
        yield f"LB {percent(judgement.strict.leaderboard)} [{low}-{high}]"
    else:
        yield f"no LB without the task {judgement.lacking}"
    if judgement.strict is not None:
        yield _part("OS", judgement.strict.os_ba, judgement.strict.os)
        yield _part("action", judgement.strict.action_ba, judgement.strict.action)
    for name, task in judgement.tasks.items():
        yield _task(name, task)


def _part(title: str, ba: float, part: PartScores) -> str:
    total = len(part.names)
    classes = "" if part.present == total else f" ({part.present} of {total} classes)"
    return f"{title} BA {percent(ba)} acc {percent(part.accuracy)}{classes}"


def _task(name: str, task: JudgedTask) -> str:
    classes = int(task.averaged.sum())
    return (
        f"{name} BA {percent(task.ba)} F1 {percent(task.macro_f1)} acc {percent(task.accuracy)} "
        f"({classes} class{'' if classes == 1 else 'es'})"
    )


def _recalls(title: str, names: Iterable[str], recall: NDArray[np.float64], count: NDArray[np.int64]) -> str:
    shown = (f"{name} {share(float(r))}/{int(n)}" for name, r, n in zip(names, recall, count))
    return f"  recall {title}: {' '.join(shown)}"
