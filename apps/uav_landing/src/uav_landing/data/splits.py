"""Which photos train, validate and test, and which of them show the same place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.config import UserError
from uav_landing.config import SplitConfig
from uav_landing.data.photos import PhotoSet, shorten
from uav_landing.yaml_file import read_yaml

SHIPPED = Path(__file__).parents[1] / "splits"
NAMES = ("train", "val", "test")
LEAKS = "random split of overlapping photos leaks scenes; use grouped"
FEWEST_GROUPS = 3


@dataclass(frozen=True)
class Split:
    """Photo ids of each part, how they were divided, and a warning to print."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    how: str
    warning: str | None = None

    def ids(self, name: str) -> tuple[str, ...]:
        """Return the ids of `train`, `val`, `test`, or `all` of them in this order."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        parts["all"] = self.train + self.val + self.test
        return parts[name]


def make_split(photos: PhotoSet, config: SplitConfig) -> Split:
    """Divide the photos as `config.split_mode` says.

    UserError when the fractions are out of range, the mode does not suit the data set, a split file names
    unknown ids or one id twice, or train or val would be empty.
    """
    _check(config)
    makers = {
        "auto": _auto,
        "random": _random,
        "grouped": _grouped,
        "official": _official,
        "file": _from_file,
    }
    split = makers[config.split_mode](photos, config)
    if not split.train or not split.val:
        raise UserError(
            f"--split-mode {config.split_mode} ({split.how}) gives {len(split.train)} train, "
            f"{len(split.val)} val and {len(split.test)} test photos of {len(photos.ids)}: "
            "train and val must not be empty"
        )
    return split


def groups_of(ids: Sequence[str], photos: PhotoSet) -> tuple[str, ...]:
    """Return the group of each id: photos of one group show the same place or flight.

    Without known groups every photo is its own.
    """
    known = known_groups(photos) or {}
    return tuple(known.get(name, name) for name in ids)


def known_groups(photos: PhotoSet) -> dict[str, str] | None:
    """Return group by photo id, or None when the data set has no groups.

    In this order: `groups.yaml` in the root, groups shipped for exactly these photos, sequence folders, the
    part of the stem before `_`.
    """
    written = photos.root / "groups.yaml"
    if written.is_file():
        return read_groups(written, photos.ids)
    for path in _shipped():
        shipped = read_yaml(path)
        if _names_exactly(shipped, photos.ids) and "groups" in shipped:
            return _by_id(path, shipped["groups"], photos.ids)
    if any(pair.group is not None for pair in photos.pairs):
        return {pair.id: pair.group or pair.id for pair in photos.pairs}
    if any("_" in name for name in photos.ids):
        return {name: name.split("_")[0] for name in photos.ids}
    return None


def read_groups(path: Path, ids: Sequence[str]) -> dict[str, str]:
    """Return group by id from YAML {group: [ids]}; an id in none is its own group, one in two a UserError."""
    return _by_id(path, read_yaml(path), ids)


def _check(config: SplitConfig) -> None:
    fractions = f"--train-fraction {config.train_fraction} and --val-fraction {config.val_fraction}"
    if not (0 < config.train_fraction < 1 and 0 < config.val_fraction < 1):
        raise UserError(f"{fractions} must lie in 0..1")
    if config.train_fraction + config.val_fraction > 1 + 1e-9:
        raise UserError(f"{fractions} add up to over 1")
    if (config.split_file is not None) != (config.split_mode == "file"):
        raise UserError("--split-file and --split-mode file belong together: one was given without the other")


def _auto(photos: PhotoSet, config: SplitConfig) -> Split:
    for path in _shipped():
        if _names_exactly(read_yaml(path), photos.ids):
            return _read_split(path, photos)
    if photos.official is not None:
        return _official(photos, config)
    groups = known_groups(photos)
    if groups is not None and len(set(groups.values())) >= FEWEST_GROUPS:
        return _grouped(photos, config)
    return _random(photos, config)


def _random(photos: PhotoSet, config: SplitConfig) -> Split:
    names = np.array(sorted(photos.ids))
    order = np.random.RandomState(config.split_seed).permutation(len(names))
    shuffled = tuple(names[order].tolist())
    first = int(len(names) * config.train_fraction + 1e-9)
    second = int(len(names) * (config.train_fraction + config.val_fraction) + 1e-9)
    how = f"random, seed {config.split_seed}"
    return Split(shuffled[:first], shuffled[first:second], shuffled[second:], how, LEAKS)


def _grouped(photos: PhotoSet, config: SplitConfig) -> Split:
    groups = known_groups(photos)
    if groups is None:
        raise UserError(
            f"--split-mode grouped: {photos.root} has no groups.yaml, no sequence folders and no `_` in its "
            "names; write groups.yaml {group: [ids]} or use --split-mode random"
        )
    members: dict[str, list[str]] = {}
    for name in sorted(photos.ids):
        members.setdefault(groups.get(name, name), []).append(name)
    shares = (config.train_fraction, config.val_fraction, 1 - config.train_fraction - config.val_fraction)
    missing = [round(share * len(photos.ids), 6) for share in shares]
    parts: tuple[list[str], ...] = ([], [], [])
    for group in sorted(members, key=lambda key: (-len(members[key]), key)):
        place = max(range(3), key=lambda part: missing[part])
        parts[place].extend(members[group])
        missing[place] = round(missing[place] - len(members[group]), 6)
    train, val, test = (tuple(sorted(part)) for part in parts)
    return Split(train, val, test, f"grouped, {len(members)} groups")


def _official(photos: PhotoSet, config: SplitConfig) -> Split:
    if photos.official is None:
        raise UserError(f"--split-mode official: the layout {photos.format} has no published split here")
    train, val, test = (photos.official[name] for name in NAMES)
    return Split(train, val, test, "official")


def _from_file(photos: PhotoSet, config: SplitConfig) -> Split:
    assert config.split_file is not None
    shipped = {path.stem: path for path in _shipped()}
    path = shipped.get(config.split_file, Path(config.split_file))
    if not path.is_file():
        raise UserError(f"--split-file {config.split_file}: neither a file nor one of {', '.join(shipped)}")
    return _read_split(path, photos)


def _read_split(path: Path, photos: PhotoSet) -> Split:
    content = read_yaml(path)
    if not isinstance(content, dict) or not {"train", "val"} <= set(content):
        raise UserError(f"{path}: {{train: [...], val: [...], test: [...]}} is expected")
    unused = sorted(map(str, set(content) - {*NAMES, "groups"}))
    if unused:
        raise UserError(f"{path}: unknown keys: {', '.join(unused)}")
    lists = {name: _names(path, name, content.get(name) or []) for name in NAMES}
    listed = Counter(name for names in lists.values() for name in names)
    twice = sorted(name for name, count in listed.items() if count > 1)
    unknown = sorted(set(listed) - set(photos.ids))
    if twice or unknown:
        raise UserError(
            f"{path}: {len(twice)} ids are listed twice: {shorten(twice)}; {len(unknown)} are no photo of "
            f"the data set: {shorten(unknown)}"
        )
    left = sorted(set(photos.ids) - set(listed))
    warning = f"{len(left)} photos are in no list of {path.name}: {shorten(left)}" if left else None
    how = f"{path.stem} (shipped)" if path.parent == SHIPPED else f"file {path}"
    return Split(lists["train"], lists["val"], lists["test"], how, warning)


def _names(path: Path, key: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{path}: {key}: a list of stems is expected; quote stems that look like numbers")
    return tuple(values)


def _shipped() -> list[Path]:
    return sorted(SHIPPED.glob("*.yaml"))


def _names_exactly(content: Mapping[str, Any], ids: Sequence[str]) -> bool:
    return {stem for name in NAMES for stem in content[name]} == set(ids)


def _by_id(path: Path, content: Any, ids: Sequence[str]) -> dict[str, str]:
    if not isinstance(content, dict):
        raise UserError(f"{path}: {{group: [ids]}} is expected")
    known: dict[str, str] = {}
    for group, values in content.items():
        for name in _names(path, str(group), values):
            if name in known:
                raise UserError(f"{path}: {name} is in the groups {known[name]} and {group}")
            known[name] = str(group)
    return {name: known.get(name, name) for name in ids}
