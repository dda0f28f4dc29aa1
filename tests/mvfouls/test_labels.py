"""Class ids are those of the documents, and the official rule is that of the evaluator."""

import itertools
import pickle
from dataclasses import dataclass

import pytest
from mv_files import PLAIN

from mvfouls.annotations import Action
from mvfouls.labels import FIELDS, IGNORE, OFFICIAL_ACTIONS, OFFICIAL_OS, TASKS, project_label, task_labels


def action(**labels: str) -> Action:
    return Action(id="0", game="", clips=(), labelled=True, **(PLAIN | labels))


def test_default_ids() -> None:
    assert TASKS["action_class"].classes == (
        "Tackling",
        "Standing tackling",
        "High leg",
        "Holding",
        "Pushing",
        "Elbowing",
        "Challenge",
        "Dive",
    )
    for task, text, expected in [
        ("action_class", "Dive", 7),
        ("action_class", "", IGNORE),
        ("action_class", "Dont know", IGNORE),
        ("severity", "1.0", 0),
        ("severity", "5.0", 4),
        ("severity", "", IGNORE),
        ("offence", "Offence", 0),
        ("offence", "No Offence", 1),
        ("offence", "Between", 2),
        ("offence", "", IGNORE),
        ("upper_body_part", "Use of shoulders", 1),
        ("multiple_fouls", "yes", 1),
        ("touch_ball", "Maybe", 2),
        ("contact", "unheard of", IGNORE),
    ]:
        assert TASKS[task].encode(action(**{task: text})) == expected


@pytest.mark.parametrize(
    ("front_end", "task", "words"),
    [
        (
            "class_weights",
            "action_class",
            "|Standing tackling|Tackling|Challenge|Holding|Elbowing|High leg|Pushing|Dont know|Dive",
        ),
        (
            "modular",
            "action_class",
            "|Challenge|Dive|Dont know|Elbowing|High leg|Holding|Pushing|Standing tackling|Tackling",
        ),
        ("class_weights", "severity", "|1.0|2.0|3.0|4.0|5.0"),
        ("modular", "severity", "|1.0|2.0|3.0|4.0|5.0"),
        ("class_weights", "offence", "|Offence|No offence|Between"),
    ],
)
def test_legacy_ids(front_end: str, task: str, words: str) -> None:
    labels = task_labels(task, front_end)
    assert [labels.encode(action(**{task: word})) for word in words.split("|")] == list(
        range(len(labels.classes))
    )
    assert labels.classes == ("Missing/Empty", *words.split("|")[1:])
    assert task_labels(task) is TASKS[task]


def test_tasks_without_legacy_ids_keep_theirs() -> None:
    for task in ("offence_severity", "contact", "bodypart"):
        assert task_labels(task, "modular") is TASKS[task]
    assert task_labels("offence", "modular") is TASKS["offence"]
    with pytest.raises(ValueError, match="task foul: one of action_class"):
        task_labels("foul")


@dataclass
class Case:
    """An annotation and its official classes."""

    action: str
    offence: str
    severity: str
    expected: tuple[str, str] | None


CASES = [
    Case("Tackling", "Offence", "3.0", ("Tackling", "Yellow")),
    Case("Standing tackling", "Offence", "1.0", ("Standing tackling", "No card")),
    Case("High leg", "Offence", "5.0", ("High leg", "Red")),
    Case("Holding", "No offence", "", ("Holding", "No offence")),
    Case("Pushing", "No Offence", "1.0", ("Pushing", "No offence")),
    Case("Pushing", "No Offence", "5.0", ("Pushing", "No offence")),
    Case("Elbowing", "Between", "1.0", None),
    Case("Elbowing", "", "1.0", None),
    Case("Challenge", "Offence", "2.0", None),
    Case("Challenge", "Offence", "4.0", None),
    Case("Challenge", "Offence", "", None),
    Case("Dive", "Between", "", ("Dive", "No card")),
    Case("Dive", "", "4.0", ("Dive", "No card")),
    Case("Dive", "Offence", "3.0", ("Dive", "Yellow")),
    Case("Dive", "Offence", "2.0", ("Dive", "No card")),
    Case("Dive", "No offence", "5.0", ("Dive", "No offence")),
    Case("Dont know", "Offence", "1.0", None),
    Case("", "Offence", "1.0", None),
    Case("Tackling", "No offence", "2.0", ("Tackling", "No offence")),
    Case("Tackling", "Offence", "6.0", None),
    Case("Sliding", "Offence", "1.0", None),
    Case("Pushing", "NO OFFENCE", "2.0", ("Pushing", "No offence")),
    Case("Tackling", "offence", "1.0", None),
    Case("Dive", "between", "1.0", None),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_official_rule(case: Case) -> None:
    projected = project_label(case.action, case.offence, case.severity)
    names = None if projected is None else (OFFICIAL_ACTIONS[projected[0]], OFFICIAL_OS[projected[1]])
    assert names == case.expected
    label = action(action_class=case.action, offence=case.offence, severity=case.severity)
    expected = IGNORE if case.expected is None else OFFICIAL_OS.index(case.expected[1])
    assert TASKS["offence_severity"].encode(label) == expected


def test_properties_of_the_official_rule() -> None:
    actions = ["", "Dont know", *OFFICIAL_ACTIONS]
    offences = ["", "Between", "Offence", "No offence", "No Offence"]
    severities = ["", "1.0", "2.0", "3.0", "4.0", "5.0"]
    counts = [0, 0, 0, 0]
    for name, offence, severity in itertools.product(actions, offences, severities):
        projected = project_label(name, offence, severity)
        if projected is None:
            continue
        assert OFFICIAL_ACTIONS[projected[0]] == name
        assert (projected[1] == 0) == (offence.casefold() == "no offence")
        counts[projected[1]] += 1
    # no offence: 8 actions, 2 spellings, 6 severities; Offence: 7 actions; Dive: 3 offences, 4 of 6 no card
    assert counts == [8 * 2 * 6, 7 + 3 * 4, 7 + 3, 7 + 3]


def test_labels_cross_processes() -> None:
    for labels in (*TASKS.values(), task_labels("severity", "modular")):
        again = pickle.loads(pickle.dumps(labels))
        assert again == labels
        assert again.encode(action()) == labels.encode(action())


def test_every_value_of_a_field_is_a_class_or_dont_know() -> None:
    for name, allowed in FIELDS.items():
        ids = [TASKS[name].encode(action(**{name: value})) for value in allowed.values]
        expected = [*range(8), IGNORE] if name == "action_class" else list(range(len(allowed.values)))
        assert sorted(ids, key=lambda id_: id_ % 100) == sorted(expected, key=lambda id_: id_ % 100)
