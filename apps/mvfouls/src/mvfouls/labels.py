"""What the annotators may say, the classes of each task, and the official labels made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

IGNORE = -100
"""Target of a sample that has no label for a task."""

OFFICIAL_ACTIONS = (
    "Tackling",
    "Standing tackling",
    "High leg",
    "Holding",
    "Pushing",
    "Elbowing",
    "Challenge",
    "Dive",
)
OFFICIAL_OS = ("No offence", "No card", "Yellow", "Red")
"""Official classes of offence and severity together; the last three are offences."""
SEVERITIES = ("1.0", "2.0", "3.0", "4.0", "5.0")
OFFENCES = ("Offence", "No offence", "Between")
DECIDED = OFFENCES[:2]
UNDECIDED = ("", "Between")
"""Offences that the official labels do not have."""
BORDERLINE = ("", "2.0", "4.0")
"""Severities that the official labels do not have."""
OS_OF_SEVERITY = {"1.0": 1, "3.0": 2, "5.0": 3}
EMPTY = "Missing/Empty"
HALVES = {
    "severity": {"2.0": ("1.0", "3.0"), "4.0": ("3.0", "5.0")},
    "offence": {"Between": DECIDED},
}
"""Classes of a task that lie between two others."""
ORDERED = ("severity",)
"""Tasks whose classes, without junk, are ordered."""

JunkIds = Literal["modular", "class_weights"]


class ActionLabels(Protocol):
    """What was annotated about an action, as spelled in the file; "" where nothing was."""

    @property
    def action_class(self) -> str: ...
    @property
    def offence(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def contact(self) -> str: ...
    @property
    def bodypart(self) -> str: ...
    @property
    def upper_body_part(self) -> str: ...
    @property
    def multiple_fouls(self) -> str: ...
    @property
    def try_to_play(self) -> str: ...
    @property
    def touch_ball(self) -> str: ...
    @property
    def handball(self) -> str: ...
    @property
    def handball_offence(self) -> str: ...


@dataclass(frozen=True)
class Field:
    """A field of the annotation file."""

    key: str
    """Its name in the file."""
    values: tuple[str, ...]
    """What it may hold besides ""."""
    any_case: bool = True
    synonyms: tuple[tuple[str, str], ...] = ()

    def canonical(self, text: str) -> str | None:
        """Return the value that a text of the file stands for; None for one that is not allowed."""
        text = dict(self.synonyms).get(text, text)
        if text == "" or text in self.values:
            return text
        folded = {value.casefold(): value for value in self.values} if self.any_case else {}
        return folded.get(text.casefold())


FIELDS = {
    "action_class": Field("Action class", (*OFFICIAL_ACTIONS, "Dont know"), any_case=False),
    "offence": Field("Offence", OFFENCES),
    "severity": Field("Severity", SEVERITIES, any_case=False),
    "contact": Field("Contact", ("With contact", "Without contact")),
    "bodypart": Field("Bodypart", ("Under body", "Upper body")),
    "upper_body_part": Field(
        "Upper body part",
        ("Use of arms", "Use of shoulder"),
        synonyms=(("Use of shoulders", "Use of shoulder"),),
    ),
    "multiple_fouls": Field("Multiple fouls", ("No", "Yes")),
    "try_to_play": Field("Try to play", ("No", "Yes")),
    "touch_ball": Field("Touch ball", ("No", "Yes", "Maybe")),
    "handball": Field("Handball", ("No handball", "Handball")),
    "handball_offence": Field("Handball offence", ("Offence", "No offence")),
}
"""Field of each attribute of `ActionLabels`."""


@dataclass(frozen=True)
class TaskLabels:
    """Classes of one task, their names in the order of their ids."""

    name: str
    classes: tuple[str, ...]
    values: tuple[str, ...] = field(repr=False)
    """What `read` returns for each class."""
    read: Callable[[ActionLabels], str | None] = field(repr=False, compare=False)
    soft: bool = False
    """Classes between two others (`HALVES`) are learned as halves of both, and not judged."""

    def encode(self, action: ActionLabels) -> int:
        """Return the class id of an action, `IGNORE` when it has none."""
        value = self.read(action)
        return self.values.index(value) if value is not None and value in self.values else IGNORE

    def judged(self, action: ActionLabels) -> int:
        """Return the class id that an answer is compared with, `IGNORE` when there is none."""
        number = self.encode(action)
        return IGNORE if number in self.shared else number

    @property
    def shared(self) -> tuple[int, ...]:
        """Ids of the classes that are learned as halves of two others."""
        names = HALVES[self.name] if self.soft else {}
        return tuple(self.values.index(name) for name in names if name in self.values)

    def shares(self) -> list[list[float]]:
        """Return for a label of each class [K] the share of every class [K]; rows sum to 1."""
        rows = [
            [float(row == column) for column in range(len(self.values))] for row in range(len(self.values))
        ]
        for place in self.shared:
            halves = HALVES[self.name][self.values[place]]
            rows[place] = [0.5 * (value in halves) for value in self.values]
        return rows


def project_label(action: str, offence: str, severity: str) -> tuple[int, int] | None:
    """Return the official ids (action, offence and severity) of an annotation; None when it has none.

    Only no offence may be spelled in any case.
    """
    if offence.casefold() == "no offence":
        offence = "No offence"
    if action not in OFFICIAL_ACTIONS:
        return None
    if action != "Dive":
        if offence in UNDECIDED:
            return None
        if severity in BORDERLINE and offence != "No offence":
            return None
    if offence in UNDECIDED:
        offence = "Offence"
    if severity in BORDERLINE:
        severity = "1.0"
    if offence == "No offence":
        return OFFICIAL_ACTIONS.index(action), 0
    if offence != "Offence" or severity not in OS_OF_SEVERITY:
        return None
    return OFFICIAL_ACTIONS.index(action), OS_OF_SEVERITY[severity]


def task_labels(
    name: str, junk_ids: JunkIds | None = None, *, undecided: bool = True, soft: bool = False
) -> TaskLabels:
    """Return the classes of a task; with `junk_ids` those of a legacy front end.

    "" and Dont know are classes there. Without `undecided`, Between is no class of offence. With `soft`,
    classes between two others are halves of both. ValueError for an unknown name, and for a `soft` task
    without such classes.
    """
    if name not in TASKS:
        raise ValueError(f"task {name}: one of {', '.join(TASKS)} is expected")
    if soft and name not in HALVES:
        raise ValueError(f"soft labels of {name}: one of {', '.join(HALVES)} is expected")
    found = _classes_of(name, junk_ids, undecided)
    return replace(found, soft=True) if soft else found


def _classes_of(name: str, junk_ids: JunkIds | None, undecided: bool) -> TaskLabels:
    if name == "offence" and not undecided:
        return _of_field(name, DECIDED)
    if junk_ids is None or (junk_ids, name) not in _JUNK:
        return TASKS[name]
    return _of_field(name, _JUNK[junk_ids, name])


def _of_field(name: str, values: tuple[str, ...]) -> TaskLabels:
    classes = tuple(value or EMPTY for value in values)
    return TaskLabels(name, classes, values, partial(_field_value, name))


def _field_value(name: str, action: ActionLabels) -> str | None:
    return FIELDS[name].canonical(getattr(action, name))


def _official_os(action: ActionLabels) -> str | None:
    projected = project_label(action.action_class, action.offence, action.severity)
    return None if projected is None else OFFICIAL_OS[projected[1]]


_JUNK: dict[tuple[JunkIds, str], tuple[str, ...]] = {
    ("class_weights", "action_class"): (
        "",
        "Standing tackling",
        "Tackling",
        "Challenge",
        "Holding",
        "Elbowing",
        "High leg",
        "Pushing",
        "Dont know",
        "Dive",
    ),
    ("modular", "action_class"): ("", *sorted((*OFFICIAL_ACTIONS, "Dont know"))),
    ("class_weights", "severity"): ("", *SEVERITIES),
    ("modular", "severity"): ("", *SEVERITIES),
    ("class_weights", "offence"): ("", *OFFENCES),
}

TASKS = {
    "action_class": _of_field("action_class", OFFICIAL_ACTIONS),
    "severity": _of_field("severity", SEVERITIES),
    "offence": _of_field("offence", OFFENCES),
    "offence_severity": TaskLabels("offence_severity", OFFICIAL_OS, OFFICIAL_OS, _official_os),
} | {name: _of_field(name, FIELDS[name].values) for name in list(FIELDS)[3:]}
"""Classes of every task; an empty field and Dont know are no class."""
ALIASES = {"action_type": "action_class"}
"""Other names of tasks on a command line."""
