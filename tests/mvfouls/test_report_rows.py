"""The numbers of the report, the most telling ones first."""

import numpy as np
import pytest
from mv_official import annotations

from mvfouls.judging import judge
from mvfouls.labels import TASKS
from mvfouls.report_rows import summary_rows
from mvfouls.settings import ProjectionSettings

THREE = {name: TASKS[name] for name in ("action_class", "severity", "offence")}
OS = [("No offence", ""), ("Offence", "1.0"), ("Offence", "3.0"), ("Offence", "5.0")]
ACTIONS = TASKS["action_class"].classes


def rows_of(number: int) -> dict[str, float]:
    """Summary of the first `number` of 8 actions, one of each class, all taken for the first class."""
    truth = {str(k): (ACTIONS[k], *OS[k % 4]) for k in range(number)}
    given = {name: np.eye(len(labels.classes))[np.zeros(number, int)] for name, labels in THREE.items()}
    found = judge(given, list(truth), annotations(truth), THREE, ProjectionSettings(), resamples=5)
    return {row["name"]: row["value"] for row in summary_rows(found)}


def test_the_leaderboard_is_followed_by_what_it_is_made_of():
    rows = rows_of(8)
    names = ["leaderboard", "os_ba", "action_ba", "leaderboard_compat", "os_acc", "action_acc"]
    assert list(rows)[:6] == names
    assert rows["os_ba"] == pytest.approx(1 / 4)
    assert rows["action_ba"] == pytest.approx(1 / 8)
    assert rows["leaderboard"] == pytest.approx(3 / 16)
    assert rows["leaderboard_compat"] == pytest.approx(1 / 4), "the tool takes the red dive for a hit"


def test_a_value_the_published_tool_cannot_compute_has_no_row():
    rows = rows_of(5)
    assert "leaderboard_compat" not in rows
    assert rows["action_ba"] == pytest.approx(1 / 5)
