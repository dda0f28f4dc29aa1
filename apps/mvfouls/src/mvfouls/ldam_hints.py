"""What helps when training with margins diverges, as the guide to LDAM advises."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mvfouls.settings import LossSettings

LESS_MARGIN, LESS_SCALE = (0.3, 0.2), (20.0, 15.0)
"""What the guide tries instead."""


def ldam_hints(losses: Mapping[str, LossSettings], terms: Collection[str]) -> list[str]:
    """Return lines of advice when the losses called `terms` diverge; none unless a task with ldam does.

    `gradient` and `loss` belong to every task, and speak where no task is named.
    """
    named = [task for task in losses if task in terms]
    tasks = [task for task in named or losses if losses[task].kind == "ldam"]
    if not tasks:
        return []
    used = [losses[task] for task in tasks]
    weighted = [task for task in tasks if losses[task].weighted or losses[task].class_weights is not None]
    lines = [
        f"training with ldam of {', '.join(tasks)} is not stable; what may help:",
        f"  {_less('--ldam-max-m', max(loss.max_margin for loss in used), LESS_MARGIN)}",
        f"  {_less('--ldam-s', max(loss.scale for loss in used), LESS_SCALE)}",
        "  a lower --lr",
    ]
    if weighted:
        lines.append(f"  no class weights beside the margins of {', '.join(weighted)}")
    return lines


def _less(flag: str, value: float, tried: tuple[float, ...]) -> str:
    lower = [f"{each:g}" for each in tried if each < value]
    return f"{flag} {' or '.join(lower)} instead of {value:g}" if lower else f"{flag} under {value:g}"
