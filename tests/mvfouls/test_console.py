"""The documented lines of an epoch."""

import re

import numpy as np
import pytest
from mv_official import FIXTURE, annotations, fixture_truth

from mvfouls.console import best_line, percent, red_text, share, train_line, valid_lines
from mvfouls.judging import judge
from mvfouls.labels import TASKS, project_label
from mvfouls.settings import ProjectionSettings

TASKS_2 = {name: TASKS[name] for name in ("action_class", "offence_severity")}


def judgement(rows=None, tasks=TASKS_2, **named):
    """A validation that answers as the fixture's predictions, action 11 as a Dive without offence."""
    rows = fixture_truth() if rows is None else rows
    given = {name: np.zeros((len(rows), len(task.classes))) for name, task in tasks.items()}
    for place, name in enumerate(rows):
        guess = FIXTURE[name][1] or ("Dive", "No offence", "")
        for task, label in zip(TASKS_2, project_label(*guess)):
            if task in given:
                given[task][place, label] = 1
    return judge(given, list(rows), annotations(rows), tasks, ProjectionSettings(), **named)


def test_lines_of_a_validation():
    lines = valid_lines(judgement())
    assert re.fullmatch(
        r"  valid LB 75\.0 \[\d+\.\d-\d+\.\d\] \| OS BA 75\.0 acc 70\.0 \| action BA 75\.0 acc 80\.0 \| "
        r"action_class BA \d+\.\d F1 \d+\.\d acc \d+\.\d \(8 classes\) \| "
        r"offence_severity BA 75\.0 F1 \d+\.\d acc 70\.0 \(4 classes\)",
        lines[0],
    )
    assert lines[1] == "  recall OS: No offence 1.00/3 No card .33/3 Yellow .67/3 Red 1.00/1"
    assert lines[2].startswith("  recall action: Tackling 1.00/2 Standing tackling 1.00/1 High leg 1.00/1 ")
    assert lines[3].startswith("  recall action_class: Tackling 1.00/2 ")
    assert lines[4] == lines[1].replace("OS", "offence_severity")
    assert lines[5] == "  red-card recall rests on 1 samples"
    assert len(lines) == 6


def test_absent_classes_are_shown_and_counted():
    rows = {name: labels for name, labels in fixture_truth().items() if name in ("0", "1", "8")}
    lines = valid_lines(judgement(rows))
    assert "OS BA 50.0 acc 66.7 (2 of 4 classes)" in lines[0]
    assert lines[1] == "  recall OS: No offence -/0 No card .00/1 Yellow 1.00/2 Red -/0"
    assert "red-card recall rests on 0 samples" in lines[-1]


def test_a_partial_validation_claims_no_leaderboard_value():
    rows = fixture_truth()
    assert valid_lines(judgement(rows, partial=True))[0].startswith("  valid partial 14 actions, ")
    assert "LB" not in valid_lines(judgement(rows, partial=True))[0]


def test_without_the_heads_the_line_says_what_is_missing():
    tasks = {"action_class": TASKS["action_class"]}
    lines = valid_lines(judgement(tasks=tasks))
    assert lines[0].startswith("  valid no LB without the task offence (or offence_severity), severity")
    assert [line.split(":")[0] for line in lines[1:]] == ["  recall action_class"]


def test_train_line():
    train = {"loss": 1.23451, "severity": 1.1021, "offence": 0.8123, "grad_norm": 0.931, "severity_acc": 1}
    line = train_line(train, ("severity", "action_class", "offence"))
    assert line == "  train loss 1.2345 | severity 1.1021 offence 0.8123 | grad 0.93"
    assert train_line({"loss": 0.5}, ()) == "  train loss 0.5000"


def test_best_line():
    assert best_line(0.331, 5, saved=True) == "  best LB 33.1 (epoch 5) | saved best"
    assert best_line(0.331, 5, "severity_ba", saved=False) == "  best severity_ba 0.3310 (epoch 5)"


@pytest.mark.parametrize(
    ("value", "text", "points"), [(0.414, ".41", "41.4"), (1.0, "1.00", "100.0"), (np.nan, "-", "-")]
)
def test_numbers(value, text, points):
    assert (share(value), percent(value)) == (text, points)


def test_red_warning_stops_at_ten():
    assert red_text(9) == "red-card recall rests on 9 samples"
    assert red_text(10) is None
