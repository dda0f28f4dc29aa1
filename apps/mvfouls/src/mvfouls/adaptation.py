"""Settings that follow from others when nobody typed them: window, phases, warm-up, patience.

Each function returns its answer and the lines that tell the user about it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil

from mvfouls.config_modular import PhaseConfig
from mvfouls.frames import FOUL_FRAME, FrameRule

WINDOW_FRAMES = 16
"""Frames that the documented window was made for."""
WARMUP_SHARE = 4
"""The warm-up that nobody typed takes at most one of so many epochs."""

Lines = tuple[str, ...]


def frame_rule(
    *, typed: Collection[str], start: int, end: int, count: int, fps: int, native: int
) -> tuple[FrameRule, Lines]:
    """Return which frames a clip gives; `native` is the number the network was made for.

    `typed` names the flags among frames_per_clip, target_fps, start_frame, end_frame. ValueError for a window
    that no clip has.
    """
    window_typed = not {"start_frame", "end_frame"}.isdisjoint(typed)
    lines: list[str] = []
    if "frames_per_clip" not in typed:
        count, given = native, count
        if window_typed and not 1 <= native <= end - start + 1:
            count = given
            lines.append(f"frames {count}: the typed window has no {native} frames")
        elif native != given:
            lines.append(f"frames {native}: what the network was made for")
    if "target_fps" in typed:
        rule = FrameRule(start=start, end=end, count=count, fps=float(fps))
    else:
        if count > WINDOW_FRAMES and not window_typed:
            start = FOUL_FRAME - count // 2
            end = start + count - 1
            lines.append(f"window {start}..{end}: {count} frames around the foul at {FOUL_FRAME}")
        rule = FrameRule(start=start, end=end, count=count)
    lines.append(f"frames {count} over {rule.seconds:.2f} s, {rule.rate:.1f} fps")
    return rule, tuple(lines)


@dataclass(frozen=True, kw_only=True)
class Phases:
    """Epochs of the heads alone, and of opening."""

    first: int = PhaseConfig.phase1_epochs
    second: int = PhaseConfig.phase2_epochs


def settle_phases(wanted: Phases, epochs: int, typed: Collection[str]) -> tuple[Phases, Lines]:
    """Return phases that fit in `epochs`, which always win; `typed` names the flags the user gave.

    Phases nobody typed keep the shares of the documented ones, a typed one keeps its length where it can.
    """
    total = wanted.first + wanted.second
    if total <= epochs:
        return wanted, ()
    if "phase1_epochs" in typed:
        first = min(wanted.first, max(1, epochs - 1))
    elif "phase2_epochs" in typed:
        first = max(1, epochs - wanted.second)
    else:
        usual = Phases()
        first = max(1, epochs * usual.first // (usual.first + usual.second))
    fitted = Phases(first=first, second=max(0, epochs - first))
    line = (
        f"phases {fitted.first} + {fitted.second} epochs: {wanted.first} + {wanted.second} "
        f"do not fit into {epochs}"
    )
    return fitted, (line,)


def settle_warmup(wanted: int, epochs: int, *, typed: bool) -> tuple[int, Lines]:
    """Return the epochs of warm-up; one that nobody typed takes at most a quarter of the run."""
    if typed and wanted < epochs:
        return wanted, ()
    length = min(wanted, epochs // WARMUP_SHARE)
    return length, () if length == wanted else (f"warm-up {length} epochs of {epochs}",)


def auto_patience(strategy: str, phases: Phases, *, simple: bool) -> int:
    """Return the patience of early stopping that belongs to a freezing strategy."""
    if simple or strategy == "none":
        return 10
    if strategy == "fixed":
        return phases.first + ceil(phases.second / 2)
    return 15
