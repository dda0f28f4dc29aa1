"""When the groups of `train_with_class_weights.py` open, and by how much their learning rate is raised."""

from __future__ import annotations

from collections.abc import Sequence

from common.config import UserError
from mvfouls.architectures import STAGES, Architecture
from mvfouls.json_flags import read_object

FLAG = "--unfreeze-schedule"
MASSIVE = {
    "resnet3d_18": 1,
    "r2plus1d_18": 1,
    "resnet3d_50": 2,
    "mvit_v1_b": 2,
    "mvit_v2_s": 2,
    "mvitv2_b": 2,
    "swin3d_t": 2,
    "swin3d_s": 2,
    "swin3d_b": 2,
}
"""How many blocks, from the heads on, have more than ten million parameters; 0 where none is said."""
TIMES = ((20, (3, 6, 9, 12, 15)), (15, (2, 5, 8, 11, 14)), (10, (1, 3, 5, 7, 9)), (0, (1, 2, 3, 4, 5)))
"""Fewest epochs of a run, and the completed epochs after which its groups open."""

Schedule = tuple[tuple[int, str], ...]


def usual_schedule(network: Architecture, epochs: int) -> Schedule:
    """Return when each block opens if nobody says; what would open after the last epoch is left out."""
    times = next(times for least, times in TIMES if epochs >= least)
    return tuple((time, block) for time, block in zip(times, network.blocks) if time < epochs)


def given_schedule(text: str, network: Architecture, epochs: int | None) -> Schedule:
    """Return the blocks of a JSON schedule by completed epochs, in their order.

    Groups have the names of a transformer's stages, or those of the network's own blocks. UserError for
    another group or one named twice, and for an epoch that is none or not before the last of `epochs`.
    """
    found: list[tuple[int, str]] = []
    for when, group in read_object(FLAG, text).items():
        if not (when.isascii() and when.isdigit() and int(when) >= 1):
            raise UserError(f"{FLAG}: {when!r} is no number of completed epochs")
        if epochs is not None and int(when) >= epochs:
            raise UserError(
                f"{FLAG}: after {when} epochs, with --epochs {epochs}; an earlier one is expected"
            )
        found.append((int(when), _block(group, network)))
    names = [name for _, name in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{FLAG}: {twice[0]} opens twice")
    return tuple(sorted(found, key=lambda entry: (entry[0], network.blocks.index(entry[1]))))


def out_of_order(schedule: Schedule, network: Architecture) -> tuple[str, str] | None:
    """Return a block that opens before another one nearer the heads, and that one."""
    times = {name: time for time, name in schedule}
    never = max(times.values(), default=0) + 1
    for place, near in enumerate(network.blocks):
        for far in network.blocks[place + 1 :]:
            if times.get(far, never) < times.get(near, never):
                return far, near
    return None


def rate_multipliers(
    network: Architecture, *, minor: float, major: float, massive: float
) -> tuple[tuple[str, float], ...]:
    """Return the factor of each block's learning rate."""
    large = MASSIVE.get(network.name, 0)
    factors = [massive if depth < large else major for depth in range(2)] + [major, minor, minor]
    return tuple(zip(network.blocks, factors, strict=True))


def open_blocks(mode: str, network: Architecture) -> int:
    """Return how many blocks train from the start under a freeze mode that keeps the rest closed."""
    kept = 0 if mode == "freeze_all" else len(network.blocks) - 1 - int(mode.removeprefix("freeze_stages"))
    return kept


def _block(group: object, network: Architecture) -> str:
    if group in STAGES:
        return network.blocks[STAGES.index(str(group))]
    if group in network.blocks:
        return str(group)
    raise UserError(f"{FLAG}: no group {group!r}; groups are {_listed(STAGES, network.blocks)}")


def _listed(stages: Sequence[str], blocks: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys([*stages, *blocks]))
