"""Projection of predictions to the official vocabulary."""

from dataclasses import replace

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mvfouls.labels import OFFICIAL_ACTIONS, TASKS, task_labels
from mvfouls.projection import missing_heads, project_probabilities
from mvfouls.settings import ProjectionSettings

TASKS_3 = {name: TASKS[name] for name in ("action_class", "severity", "offence")}
ACTION = np.array([[0.1, 0.3, 0.05, 0.05, 0.1, 0.1, 0.1, 0.2]])
OFFENCE = np.array([[0.55, 0.25, 0.20]])
SEVERITY = np.array([[0.30, 0.20, 0.30, 0.10, 0.10]])
SPLIT = ProjectionSettings()


def project(settings=SPLIT, *, tasks=TASKS_3, **given):
    values = {"action_class": ACTION, "severity": SEVERITY, "offence": OFFENCE} | given
    return project_probabilities({name: p for name, p in values.items() if p is not None}, tasks, settings)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (SPLIT, [0.3125, 0.2750, 0.3094, 0.1031]),
        (ProjectionSettings(borderline="drop"), [0.3125, 0.2946, 0.2946, 0.0982]),
        (ProjectionSettings(between="half"), [0.3500, 0.2600, 0.2925, 0.0975]),
    ],
)
def test_golden_rows(settings, wanted):
    np.testing.assert_allclose(project(settings).os[0], wanted, atol=1e-4)


def test_decisions():
    assert (project().os_id[0], project().action_id[0]) == (0, 1)
    cascade = replace(SPLIT, decision="cascade")
    assert project(cascade).os_id[0] == 2
    half = np.array([[0.5, 0.5, 0.0]])
    assert project(cascade, offence=half).os_id[0] == 0
    assert project(SPLIT, offence=np.array([[0.51, 0.49, 0.0]])).os_id[0] == 0
    assert project(cascade, offence=np.array([[0.51, 0.49, 0.0]])).os_id[0] == 2


def test_equal_probabilities_decide_for_the_lowest_id():
    even = project(action_class=np.full((1, 8), 0.125))
    assert even.action_id[0] == 0
    tie = project(offence=np.array([[1.0, 0.0, 0.0]]), severity=np.array([[0.5, 0.0, 0.5, 0.0, 0.0]]))
    assert tie.os_id[0] == 1


@pytest.mark.parametrize("front", ["modular", "class_weights"])
def test_junk_classes_are_dropped_and_the_rest_renormalised(front):
    tasks = {name: task_labels(name, front) for name in TASKS_3}
    given = {}
    for name, clean in (("action_class", ACTION), ("severity", SEVERITY), ("offence", OFFENCE)):
        values = np.full((1, len(tasks[name].classes)), 0.9)
        for place, label in enumerate(tasks[name].classes):
            if label in TASKS[name].classes:
                values[0, place] = 0.3 * clean[0, TASKS[name].classes.index(label)]
        given[name] = values
    found, clean = project(tasks=tasks, **given), project()
    np.testing.assert_allclose(found.actions, clean.actions)
    np.testing.assert_allclose(found.os, clean.os)
    assert OFFICIAL_ACTIONS[found.action_id[0]] == "Standing tackling"


def test_an_offence_severity_head_replaces_the_projection():
    tasks = {**TASKS_3, "offence_severity": TASKS["offence_severity"]}
    own = np.array([[0.4, 0.1, 0.2, 0.3]])
    found = project(tasks=tasks, offence_severity=own)
    np.testing.assert_allclose(found.os, own)
    cascade = project(replace(SPLIT, decision="cascade"), tasks=tasks, offence_severity=own)
    assert (found.os_id[0], cascade.os_id[0]) == (0, 3)


@pytest.mark.parametrize(
    ("tasks", "lacking"),
    [
        ({"action_class", "severity", "offence"}, None),
        ({"action_class", "offence_severity"}, None),
        ({"action_class", "severity"}, "offence (or offence_severity)"),
        ({"severity", "offence"}, "action_class"),
        ({"offence"}, "action_class, severity (or offence_severity)"),
    ],
)
def test_missing_heads_are_named(tasks, lacking):
    assert missing_heads(tasks) == lacking


def test_refusals():
    with pytest.raises(ValueError, match="without the task offence"):
        project(offence=None)
    with pytest.raises(ValueError, match=r"severity: \[B, 5\] is expected"):
        project(severity=np.ones((1, 6)))
    with pytest.raises(ValueError, match="offence: a probability is not finite"):
        project(offence=np.array([[np.nan, 0.5, 0.5]]))


def test_all_probability_on_what_is_dropped_becomes_uniform():
    found = project(
        ProjectionSettings(borderline="drop"),
        offence=np.array([[0.0, 0.0, 1.0]]),
        severity=np.array([[0.0, 1.0, 0.0, 0.0, 0.0]]),
    )
    np.testing.assert_allclose(found.os[0], [0.5, 1 / 6, 1 / 6, 1 / 6])


@hypothesis.settings(max_examples=50)
@hypothesis.given(
    arrays(np.float64, (3, 8), elements=st.floats(0, 1)),
    arrays(np.float64, (3, 5), elements=st.floats(0, 1)),
    arrays(np.float64, (3, 3), elements=st.floats(0, 1)),
    st.sampled_from(["drop", "half"]),
    st.sampled_from(["split", "drop"]),
)
def test_rows_are_distributions_and_do_not_depend_on_each_other(action, severity, offence, between, line):
    settings = ProjectionSettings(between=between, borderline=line)
    found = project(settings, action_class=action, severity=severity, offence=offence)
    for values in (found.actions, found.os):
        np.testing.assert_allclose(values.sum(axis=1), 1)
        assert (values >= 0).all()
    alone = project(settings, action_class=action[1:2], severity=severity[1:2], offence=offence[1:2])
    np.testing.assert_allclose(alone.os[0], found.os[1])
