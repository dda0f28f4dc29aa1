"""The settings of runs side by side: which differ, and which runs differ in nothing but their seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from common.config import UserError

CONFIG = "config.yaml"
SEED = "seed"
NOTHING = "-"
HASH_LETTERS = 12
OWN_FLAG = "os_decision"
"""A flag that both training command lines have, and no other application."""
PLACES = frozenset(
    {
        "dataset_root", "train_dir", "val_dir", "train_annotations", "val_annotations", "cache_dir",
        "weights_dir", "save_dir", "output_dir", "resume", "overwrite", "allow_config_change", "num_workers",
        "worker_timeout", "prefetch_factor", "pin_memory", "memory_cleanup_interval",
        "enable_data_optimization", "disable_data_optimization", "enable_config_validation",
        "strict_config_validation", "activation_checkpointing", "backbone_checkpointing", "channels_last",
        "compile", "device", "save_val_logits", "verbose", "wandb",
    }
)  # fmt: skip
"""Flags that say where and how fast a run is computed, not what; the data are compared by their hashes."""

SIDES = ("train", "valid")

Data = Mapping[str, Mapping[str, Any]]
"""The data report of a run: what is known of either side."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run was asked for: the value of each flag by its name, and which flags were typed."""

    frontend: Literal["modular", "class_weights"]
    values: Mapping[str, Any]
    typed: frozenset[str]
    data: Mapping[str, str]
    """Hashes of what it was trained and validated on."""

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.values[SEED])

    def key(self) -> str:
        """Return what all runs have in common that differ in their seed alone.

        Whether a flag was typed counts, because several defaults adapt to the other flags.
        """
        left_out = PLACES | {SEED}
        values = {name: value for name, value in self.values.items() if name not in left_out}
        return json.dumps(
            [self.frontend, values, sorted(self.typed - left_out), dict(self.data)], sort_keys=True
        )


class Difference(NamedTuple):
    """A flag and its value in each run."""

    flag: str
    values: tuple[str, ...]


def read_settings(run: Path, data: Data) -> Settings:
    """Read `config.yaml` of a run folder; `data` is its data report.

    UserError for a folder without it, for text that is no YAML, and for the run of another application.
    """
    path = run / CONFIG
    if not path.is_file():
        raise UserError(f"{run}: no run folder, {CONFIG} is not there")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    held = tree if isinstance(tree, dict) else {}
    typed = frozenset(held.pop("_typed", None) or ())
    values = _flags(held)
    if OWN_FLAG not in values:
        raise UserError(f"{run}: the run of another application, not of mvfouls")
    return Settings(
        frontend="modular" if "save_dir" in values else "class_weights",
        values=values,
        typed=typed,
        data=_hashes(values, data),
    )


def _flags(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of all groups under their own names, which no two groups share."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _hashes(values: Mapping[str, Any], data: Data) -> dict[str, str]:
    """Return a hash of the training and of the validation clips.

    A part of the training split is drawn by the seed: then its annotations stand for it.
    """
    part = float(values.get("train_fraction") or 1.0) < 1.0
    kinds = dict(zip(SIDES, ("annotations_sha256" if part else "sha256", "sha256"), strict=True))
    return {side: str(data.get(side, {}).get(kind, "")) for side, kind in kinds.items()}


def same_but_seed(runs: Sequence[Settings | None]) -> list[list[int]]:
    """Return the places of runs that differ in their seed alone, as groups in the order of the first ones.

    A run of unknown settings is a group of its own.
    """
    groups: dict[str, list[int]] = {}
    for place, settings in enumerate(runs):
        key = f"unknown {place}" if settings is None else settings.key()
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def differences(runs: Sequence[Settings | None]) -> tuple[list[Difference], int]:
    """Return the flags whose values differ, and how many flags are left out.

    A flag that only one of two command lines has is listed if a run typed it, else it is left out. `PLACES`
    are not looked at. A run of unknown settings has `-` everywhere and differs from none.
    """
    known = [settings for settings in runs if settings is not None]
    names = dict.fromkeys(name for settings in known for name in settings.values if name not in PLACES)
    listed = [name for name in names if _everywhere(name, known) or _typed_in(name, known)]
    texts: list[tuple[str, Callable[[Settings], str]]] = [
        ("command line", lambda settings: settings.frontend),
        *((f"--{name}", _text_of(name, known)) for name in listed),
        ("training data", lambda settings: settings.data["train"][:HASH_LETTERS]),
        ("validation data", lambda settings: settings.data["valid"][:HASH_LETTERS]),
    ]
    found = [
        Difference(flag, tuple(NOTHING if settings is None else text(settings) for settings in runs))
        for flag, text in texts
        if len({text(settings) for settings in known}) > 1
    ]
    return found, len(names) - len(listed)


def value_text(value: Any) -> str:
    """Return the value of a flag as one reads it.

    >>> value_text([3.0, 3.0]), value_text({"severity": "ldam"}), value_text(True), value_text(None)
    ('3.0 3.0', 'severity ldam', 'true', 'none')
    """
    if isinstance(value, Mapping):
        value = [word for pair in value.items() for word in pair]
    if isinstance(value, list):
        return " ".join(map(value_text, value)) or "none"
    if value is None or value == "":
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _everywhere(name: str, known: Sequence[Settings]) -> bool:
    return all(name in settings.values for settings in known)


def _typed_in(name: str, known: Sequence[Settings]) -> bool:
    return any(name in settings.typed for settings in known)


def _text_of(name: str, known: Sequence[Settings]) -> Callable[[Settings], str]:
    """Return what writes the value of a flag; `(typed)` where that alone tells runs apart."""
    holders = [settings for settings in known if name in settings.values]
    values = {value_text(settings.values[name]) for settings in holders}
    noted = len(values) == 1 and len({name in settings.typed for settings in holders}) > 1

    def text(settings: Settings) -> str:
        if name not in settings.values:
            return NOTHING
        note = " (typed)" if noted and name in settings.typed else ""
        return value_text(settings.values[name]) + note

    return text
