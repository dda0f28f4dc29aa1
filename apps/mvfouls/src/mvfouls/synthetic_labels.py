"""Annotations of generated actions, drawn from the shares that the real training annotations have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mvfouls.synthetic_drawing import Foul, Likeness, Motion

Value = TypeVar("Value", int, str)
Fields = dict[str, str]
"""The fields of one action of the annotation file."""

ACTIONS = {
    "Standing tackling": 1264,
    "Tackling": 448,
    "Challenge": 383,
    "Holding": 361,
    "Elbowing": 178,
    "High leg": 103,
    "Pushing": 88,
    "Dive": 28,
}
SEVERITIES = {"1.0": 1402, "3.0": 687, "2.0": 403, "4.0": 44, "5.0": 27}
OFFENCES = {"Offence": 2495, "No offence": 324, "Between": 96}
CLEAN_SEVERITIES = ("1.0", "3.0", "5.0")
VIEWS = {2: 2241, 3: 561, 4: 114}
UPPER = ("Holding", "Pushing", "Elbowing")
"""Actions done with the upper body."""

CORE = (
    ("Standing tackling", "Offence", "1.0"),
    ("Tackling", "Offence", "3.0"),
    ("Challenge", "No offence", ""),
    ("High leg", "Offence", "5.0"),
    ("Holding", "Offence", "1.0"),
    ("Elbowing", "Offence", "3.0"),
    ("Pushing", "No offence", ""),
    ("Dive", "Offence", "1.0"),
)
"""The first actions of every labelled split: after four, every official class of offence and severity has
occurred, after eight every official action."""

ODDITIES: tuple[Fields, ...] = (
    {"Severity": "2.0", "Offence": "Offence"},
    {"Offence": "Between", "Severity": "1.0"},
    {"Severity": "4.0", "Offence": "Offence"},
    {"Offence": "No Offence", "Severity": "1.0"},
    {"Action class": ""},
    {"Action class": "Dont know"},
    {"Severity": "", "Offence": "Offence"},
    {"Offence": "", "Severity": ""},
    {"Multiple fouls": "yes"},
    {"Bodypart": "Upper body", "Upper body part": "Use of shoulders"},
    {"Touch ball": "Maybe", "Try to play": "", "Multiple fouls": "", "Bodypart": ""},
    {"Handball": "Handball", "Handball offence": "Offence"},
)
"""What the annotations hold besides the ordinary: the actions after the core have these in turn."""


@dataclass(frozen=True)
class ActionPlan:
    """One action to be written: id, fields, number of views, and what else it looks like."""

    id: int
    fields: Fields
    views: int
    likeness: Likeness | None = None

    @property
    def motion(self) -> Motion:
        """What is to be seen."""
        return Motion(foul_of(self.fields), self.likeness)


def plan_split(actions: int, rng: np.random.Generator, *, odd: bool) -> list[ActionPlan]:
    """Draw the actions of a split: the core, with `odd` the oddities, and the rest by the real shares.

    Without `odd` every action has an official label. With it ids have gaps and views number 1 to 4.
    """
    plans = [_fields(rng, *core) for core in CORE[:actions]]
    rest = actions - len(plans)
    oddities = ODDITIES[:rest] if odd else ()
    plans += [_drawn(rng, odd=True) | oddity for oddity in oddities]
    plans += [_drawn(rng, odd=odd) for _ in range(rest - len(oddities))]
    views = [_pick(rng, VIEWS) for _ in plans]
    if odd:
        for place, number in enumerate((4, 3, 1)[:actions]):
            views[-1 - place] = number
    order = rng.permutation(actions)
    ids = [place + place // 5 if odd else place for place in range(actions)]
    return [ActionPlan(ids[place], plans[chosen], views[chosen]) for place, chosen in enumerate(order)]


def labelled(action_class: str, offence: str, severity: str, rng: np.random.Generator) -> Fields:
    """Return all fields of an action of which three are given."""
    return _fields(rng, action_class, offence, severity)


def foul_of(fields: Fields) -> Foul:
    """Return what the fields of an action say about its motion."""
    return Foul(fields["Action class"], fields["Severity"], fields["Offence"])


def _drawn(rng: np.random.Generator, *, odd: bool) -> Fields:
    offence = _pick(rng, OFFENCES)
    severity = _pick(rng, SEVERITIES)
    if not odd:
        offence = "Offence" if offence == "Between" else offence
        severity = severity if severity in CLEAN_SEVERITIES else "1.0"
    if offence == "No offence":
        severity = ""
    return _fields(rng, _pick(rng, ACTIONS), offence, severity)


def _fields(rng: np.random.Generator, action_class: str, offence: str, severity: str) -> Fields:
    upper = action_class in UPPER
    return {
        "Offence": offence,
        "Contact": "Without contact" if action_class == "Dive" else "With contact",
        "Bodypart": "Upper body" if upper else "Under body",
        "Upper body part": _pick(rng, {"Use of arms": 670, "Use of shoulder": 332}) if upper else "",
        "Action class": action_class,
        "Severity": severity,
        "Multiple fouls": _pick(rng, {"No": 2234, "": 377, "Yes": 304}),
        "Try to play": "" if upper else _pick(rng, {"Yes": 1650, "No": 133}),
        "Touch ball": "" if upper else _pick(rng, {"No": 1543, "Yes": 192, "Maybe": 46}),
        "Handball": "No handball",
        "Handball offence": "",
    }


def _pick(rng: np.random.Generator, counts: Mapping[Value, int]) -> Value:
    """Draw a key with the shares of the counts."""
    shares = np.array(list(counts.values()), float)
    return list(counts)[int(rng.choice(len(shares), p=shares / shares.sum()))]
