"""Which groups train, validate and test: never the same group twice, whatever the file system's order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from rodent_behavior.config import RunConfig, SplitConfig
from rodent_behavior.labels import Actions, count_classes
from rodent_behavior.trials import TrialIndex

SIDES = ("train", "val", "test")
PERMUTATIONS = 200

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Groups of each side, sorted, how they were divided, and a warning to print."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    how: str = ""
    warning: str | None = None

    def groups(self, side: str) -> tuple[str, ...]:
        """Return the groups of `train`, `val`, `test`, or `all` of them."""
        sides = self.to_dict()
        return tuple(group for name in SIDES if side in (name, "all") for group in sides[name])

    def side(self, group: str) -> str | None:
        """Return the side of a group, or None when it is on none."""
        return next((name for name in SIDES if group in self.groups(name)), None)

    def select(self, trials: Iterable[TrialIndex], side: str) -> tuple[TrialIndex, ...]:
        """Return the trials of a side, or of all sides, in their order."""
        wanted = set(self.groups(side))
        return tuple(trial for trial in trials if trial.group in wanted)

    def to_dict(self) -> dict[str, list[str]]:
        """Return the content of a split file."""
        return {"train": list(self.train), "val": list(self.val), "test": list(self.test)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Sequence[str]], how: str = "stored") -> Split:
        """Rebuild what `to_dict` returned."""
        train, val, test = (tuple(content[name]) for name in SIDES)
        return cls(train, val, test, how)

    def write(self, path: Path) -> None:
        """Write a split file."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def make_split(
    trials: Sequence[TrialIndex],
    actions: Mapping[tuple[str, int], Actions],
    num_classes: int,
    *,
    val_share: float = SplitConfig.val_share,
    test_share: float = SplitConfig.test_share,
    seed: int = RunConfig.seed,
    split_file: Path | None = None,
) -> Split:
    """Divide the groups of the trials by shares of labelled frames, or as `split_file` says.

    UserError when shares are out of range, when there are too few groups, and as `read_split`.
    """
    counts = group_counts(trials, actions, num_classes)
    if split_file is not None:
        return read_split(split_file, counts)
    _require_groups(trials, counts, 1 + (val_share > 0) + (test_share > 0))
    sides = split_groups(counts, val_share=val_share, test_share=test_share, seed=seed)
    how = f"{len(counts)} groups, seed {seed}"
    return Split(sides["train"], sides["val"], sides["test"], how)


def split_groups(
    counts: Mapping[str, Counts],
    *,
    val_share: float = SplitConfig.val_share,
    test_share: float = SplitConfig.test_share,
    seed: int = RunConfig.seed,
) -> dict[str, tuple[str, ...]]:
    """Return the groups of each side for class counts [C] of labelled frames by group.

    A side is the first prefix of one of 200 seeded permutations of the sorted names that reaches its share
    of all labelled frames: the one with most classes on both sides, then with the closest share, then of the
    lowest number. Test is taken first, then validation from what is left; a side of share 0 is empty.
    UserError when a share is not in 0..1 or groups are too few for a side each.
    """
    _check_shares(val_share, test_share)
    names = sorted(counts)
    if len(names) < 1 + (val_share > 0) + (test_share > 0):
        raise UserError(f"{len(names)} groups are too few to split")
    total = int(sum(counts[name].sum() for name in names))
    test: tuple[str, ...] = ()
    if test_share > 0:
        test = _best_part(
            {name: counts[name] for name in names}, test_share * total, (seed, 0), keep=1 + (val_share > 0)
        )
    left = {name: counts[name] for name in names if name not in test}
    val: tuple[str, ...] = ()
    if val_share > 0:
        val = _best_part(left, val_share * total, (seed, 1), keep=1)
    return {"train": tuple(name for name in left if name not in val), "val": val, "test": test}


def read_split(path: Path, known: Iterable[str]) -> Split:
    """Read JSON {"train": [groups], "val": [...], "test": [...]}; `test` may be left out.

    UserError when a group is unknown or listed twice, or train or val is empty. Groups in no list are not
    used, with a warning.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--split_file {path}: {error}") from error
    lists = _lists(path, content)
    names = sorted(known)
    listed = [group for name in SIDES for group in lists[name]]
    unknown = sorted({group for group in listed if group not in names})
    if unknown:
        raise UserError(
            f"--split_file {path}: unknown groups {', '.join(unknown)}; there are {', '.join(names)}"
        )
    twice = sorted({group for group in listed if listed.count(group) > 1})
    if twice:
        raise UserError(f"--split_file {path}: groups listed twice: {', '.join(twice)}")
    if not lists["train"] or not lists["val"]:
        raise UserError(f"--split_file {path}: train and val must not be empty")
    unused = [name for name in names if name not in listed]
    warning = f"{path.name} leaves out {', '.join(unused)}" if unused else None
    train, val, test = (tuple(sorted(lists[name])) for name in SIDES)
    return Split(train, val, test, f"file {path}", warning)


def group_counts(
    trials: Iterable[TrialIndex], actions: Mapping[tuple[str, int], Actions], num_classes: int
) -> dict[str, Counts]:
    """Return the labelled frames of each class [C] by group, in order of name."""
    parts: dict[str, list[Actions]] = {}
    for trial in trials:
        parts.setdefault(trial.group, []).append(actions[trial.key])
    return {group: count_classes(parts[group], num_classes) for group in sorted(parts)}


def class_problem(train: Counts, names: Sequence[str]) -> str | None:
    """Return why training counts [C] cannot be learned from, or None when two classes are there."""
    present = np.flatnonzero(train)
    if len(present) > 1:
        return None
    if not len(present):
        return "no labelled frame in training"
    return f"only one class in training: {names[int(present[0])]}"


def class_warnings(train: Counts, val: Counts, names: Sequence[str]) -> list[str]:
    """Return a line per class that training or validation lacks, for counts [C] of both.

    Without any frame for validation, nothing is expected of it.
    """
    absent = [f"{name} is absent from training: its weight is 0" for name, n in zip(names, train) if not n]
    unseen = [f"{name} is absent from validation: its F1 is n/a" for name, n in zip(names, val) if not n]
    return absent + unseen if val.any() else absent


def _check_shares(val_share: float, test_share: float) -> None:
    if not 0 <= val_share < 1:
        raise UserError(f"--val_share {val_share} must be >= 0 and below 1")
    if not 0 <= test_share < 1 or val_share + test_share >= 1:
        raise UserError(
            f"--test_share {test_share} must be >= 0 and leave training frames beside --val_share {val_share}"
        )


def _require_groups(trials: Sequence[TrialIndex], counts: Mapping[str, Counts], needed: int) -> None:
    if len(trials) < needed:
        raise UserError(f"{_count(len(trials), 'trial')}: cannot split into {needed} sides")
    if len(counts) >= needed:
        return
    videos = len({trial.video_id for trial in trials})
    what = _count(len(counts), "video" if len(counts) == videos else "group")
    raise UserError(
        f"{what}: cannot split by video; --group_by trial splits its trials (optimistic) or give --split_file"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _best_part(
    counts: Mapping[str, Counts], wanted: float, seed: tuple[int, int], keep: int
) -> tuple[str, ...]:
    """Return the sorted names of the best prefix; at least `keep` groups stay outside it."""
    names = list(counts)
    table = np.stack([counts[name] for name in names])
    best: tuple[tuple[int, float], tuple[str, ...]] | None = None
    for number in range(PERMUTATIONS):
        order = np.random.default_rng((*seed, number)).permutation(len(names))
        reached = np.flatnonzero(np.cumsum(table[order].sum(axis=1)) >= wanted)
        size = min(int(reached[0]) + 1 if len(reached) else len(names), len(names) - keep)
        inside, outside = table[order[:size]].sum(axis=0), table[order[size:]].sum(axis=0)
        rank = (-int(((inside > 0) & (outside > 0)).sum()), abs(float(inside.sum()) - wanted))
        if best is None or rank < best[0]:
            best = rank, tuple(sorted(names[place] for place in order[:size]))
    assert best is not None
    return best[1]


def _lists(path: Path, content: Any) -> dict[str, list[str]]:
    if not isinstance(content, dict) or not {"train", "val"} <= set(content) <= set(SIDES):
        raise UserError(f'--split_file {path}: {{"train": [...], "val": [...], "test": [...]}} is expected')
    lists = {name: content.get(name, []) for name in SIDES}
    for name, values in lists.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise UserError(f"--split_file {path}: {name}: a list of group names is expected")
    return lists
