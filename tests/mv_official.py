"""Annotations and predictions of a few actions, and the official evaluator written out slowly."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mvfouls.annotations import Action, Annotations

Labels = tuple[str, str, str]
"""Action class, offence, severity."""
ACTIONS = "Tackling,Standing tackling,High leg,Holding,Pushing,Elbowing,Challenge,Dive".split(",")
VOCABULARY = (
    [*ACTIONS, "", "Dont know"],
    ["Offence"] * 5 + ["No offence", "No Offence", "Between", ""],
    ["1.0", "3.0", "5.0"] * 2 + ["2.0", "4.0", ""],
)
GUESSED = tuple([*words, "6.0", "dive", "offence"] for words in VOCABULARY)

FIXTURE: dict[str, tuple[Labels, Labels | None]] = {
    "0": (("Tackling", "Offence", "3.0"), ("Tackling", "Offence", "3.0")),
    "1": (("Standing tackling", "Offence", "1.0"), ("Standing tackling", "Offence", "3.0")),
    "2": (("High leg", "Offence", "5.0"), ("High leg", "Offence", "5.0")),
    "3": (("Holding", "No offence", ""), ("Holding", "No offence", "")),
    "4": (("Pushing", "No Offence", "1.0"), ("Pushing", "No offence", "")),
    "5": (("Elbowing", "Between", "1.0"), ("Elbowing", "Offence", "1.0")),
    "6": (("Challenge", "Offence", "2.0"), ("Challenge", "Offence", "1.0")),
    "7": (("Dive", "Between", ""), ("Dive", "Offence", "1.0")),
    "8": (("Dive", "Offence", "3.0"), ("Dive", "Offence", "3.0")),
    "9": (("Dont know", "Offence", "1.0"), ("Tackling", "Offence", "1.0")),
    "10": (("", "Offence", "1.0"), ("Tackling", "Offence", "1.0")),
    "11": (("Challenge", "Offence", "1.0"), None),
    "12": (("Elbowing", "Offence", "3.0"), ("Standing tackling", "No offence", "")),
    "13": (("Tackling", "No offence", "2.0"), ("Tackling", "No offence", "")),
}
"""The evaluator fixture of the specification: (truth, prediction)."""


def fixture_truth() -> dict[str, Labels]:
    """Return the labels of the fixture."""
    return {name: truth for name, (truth, _) in FIXTURE.items()}


def fixture_predictions() -> dict[str, dict[str, str]]:
    """Return the predictions of the fixture."""
    return {name: as_entry(*guess) for name, (_, guess) in FIXTURE.items() if guess is not None}


def as_entry(action: str, offence: str, severity: str) -> dict[str, str]:
    """Return a prediction as a file holds it."""
    return {"Action class": action, "Offence": offence, "Severity": severity}


def annotations(rows: Mapping[str, Labels], set_name: str = "valid") -> Annotations:
    """Return annotations with the official fields of `rows`."""
    actions = tuple(
        Action(
            id=name, game="", clips=(), labelled=True, action_class=action, offence=offence, severity=severity
        )
        for name, (action, offence, severity) in rows.items()
    )
    return Annotations(set_name=set_name, actions=actions, path=Path("annotations.json"))


def write_annotations(path: Path, rows: Mapping[str, Labels], set_name: str = "valid") -> Path:
    """Write an annotation file with every field."""
    rest = (
        "Contact,Bodypart,Upper body part,Multiple fouls,Try to play,Touch ball,Handball,Handball offence"
    ).split(",")
    actions = {
        name: {"UrlLocal": "a\\b", **as_entry(*labels), **dict.fromkeys(rest, ""), "Clips": []}
        for name, labels in rows.items()
    }
    path.write_text(json.dumps({"Set": set_name, "Number of actions": len(rows), "Actions": actions}))
    return path


def slow_rule(action: str, offence: str, severity: str) -> tuple[int, int] | None:
    """The label rule in six steps, as numbered in the specification."""
    if action not in ACTIONS:
        return None
    if offence in {"", "Between"} and action != "Dive":
        return None
    if severity in {"", "2.0", "4.0"} and action != "Dive" and offence.lower() != "no offence":
        return None
    if offence in {"", "Between"}:
        offence = "Offence"
    if severity in {"", "2.0", "4.0"}:
        severity = "1.0"
    if offence.lower() == "no offence":
        return ACTIONS.index(action), 0
    if offence == "Offence" and severity in {"1.0", "3.0", "5.0"}:
        return ACTIONS.index(action), 1 + (int(severity[0]) - 1) // 2
    return None


def slow_scores(
    truth: Mapping[str, Labels], predictions: Mapping[str, Mapping[str, str]], mode: str
) -> dict[str, float]:
    """The official numbers, one action after the other."""
    count = {"os": [0] * 4, "action": [0] * 8}
    hits = {"os": [0] * 4, "action": [0] * 8}
    for name, (action, offence, severity) in truth.items():
        official = slow_rule(action, offence, severity)
        if official is None:
            continue
        count["action"][official[0]] += 1
        count["os"][official[1]] += 1
        guess = dict(predictions.get(name, {}))
        if mode == "compat":
            wanted = "" if offence.lower() == "no offence" else "1.0" if action == "Dive" else severity
            hit_action = guess.get("Action class") == action
            hit_os = guess.get("Offence") == offence and guess.get("Severity") == wanted
        else:
            named = guess.get("Action class", "nothing")
            hit_action = named in ACTIONS and ACTIONS.index(named) == official[0]
            stand_in = named if named in ACTIONS else "Pushing"
            complete = "Offence" in guess and "Severity" in guess
            found = slow_rule(stand_in, guess["Offence"], guess["Severity"]) if complete else None
            hit_os = found is not None and found[1] == official[1]
        hits["action"][official[0]] += hit_action
        hits["os"][official[1]] += hit_os
    return _numbers(hits, count, mode)


def _numbers(hits: dict[str, list[int]], count: dict[str, list[int]], mode: str) -> dict[str, float]:
    accuracy, balanced = {}, {}
    mean = np.mean if mode == "compat" else np.nanmean
    for part in ("os", "action"):
        with np.errstate(invalid="ignore"):
            recall = np.array([hits[part]], dtype=float) / np.array([count[part]], dtype=float)
        accuracy[part] = sum(hits[part]) / sum(count[part])
        balanced[part] = mean(recall)
    return {
        "accuracy_offence_severity": accuracy["os"] * 100,
        "accuracy_action": accuracy["action"] * 100,
        "balanced_accuracy_offence_severity": balanced["os"] * 100,
        "balanced_accuracy_action": balanced["action"] * 100,
        "leaderboard_value": (balanced["os"] * 0.5 + balanced["action"] * 0.5) * 100,
    }


def random_case(rng: np.random.Generator, size: int) -> tuple[dict[str, Labels], dict[str, dict[str, str]]]:
    """Return truth and predictions of `size` actions, with every oddity the files have."""
    names = [str(number) for number in rng.permutation(3 * size)[:size]]
    rows, guesses = _drawn(rng, size, VOCABULARY), _drawn(rng, size, GUESSED)
    truth = dict(zip(names, rows))
    predictions = {}
    for name, guess, luck in zip(names, guesses, rng.random((size, 3))):
        entry = as_entry(*(truth[name] if luck[0] < 0.4 else guess))
        if luck[1] < 0.05:
            del entry[list(entry)[int(60 * luck[1])]]
        if luck[2] < 0.9:
            predictions[name] = entry
    return truth, predictions


def _drawn(rng: np.random.Generator, size: int, words: tuple[list[str], ...]) -> list[Labels]:
    places = rng.integers([len(choices) for choices in words], size=(size, 3))
    return [(words[0][a], words[1][b], words[2][c]) for a, b, c in places]
