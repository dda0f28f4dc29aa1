"""Settings of strategies: phases, timetables and values that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from freezing_toy import BLOCKS, NAMES

from common.freezing.strategies import FreezingConfig, check_config, settle_phases, timetable


@pytest.mark.parametrize(("epochs", "phases"), [(5, (1, 4)), (10, (3, 7)), (20, (6, 14)), (50, (8, 15))])
def test_phases_nobody_set_shrink_in_proportion(epochs: int, phases: tuple[int, int]) -> None:
    first, second, lines = settle_phases(epochs)
    assert (first, second) == phases
    assert bool(lines) == (epochs < 23)


def test_given_phases_are_cut_or_extended_with_a_line() -> None:
    assert settle_phases(23, 8, 15) == (8, 15, [])
    assert settle_phases(30, 10, None) == (
        10,
        20,
        ["phase 2 is extended from 15 to 20 epochs: 30 epochs are run"],
    )
    assert settle_phases(12, 4, 15)[2] == ["phase 2 is cut from 15 to 8 epochs: 12 epochs are run"]
    assert settle_phases(6, None, 3)[:2] == (5, 1)
    with pytest.raises(ValueError, match="phase1_epochs 8 must be less than epochs 5"):
        settle_phases(5, 8)


@pytest.mark.parametrize(
    ("settings", "epochs", "opens"),
    [
        ({"strategy": "fixed"}, 50, [8, 10, 12]),
        ({"strategy": "fixed", "phase2_epochs": 42}, 50, [8, 15, 22]),
        ({"strategy": "fixed", "unfreeze_blocks": 5, "phase1_epochs": 2}, 50, [2, 3, 4, 5, 6]),
        ({"strategy": "progressive"}, 50, [8, 13, 18, 23, 28]),
        ({"strategy": "progressive", "phase1_epochs": 6}, 20, [6, 8, 10, 12, 14]),
        ({"strategy": "progressive", "phase1_epochs": 6, "unfreeze_patience": 4}, 20, [6, 10, 14, 18, 22]),
        ({"strategy": "progressive", "max_layers_per_step": 2}, 50, [8, 8, 13, 13, 18]),
    ],
)
def test_timetables(settings: dict[str, Any], epochs: int, opens: list[int]) -> None:
    plan = timetable(FreezingConfig(**settings), BLOCKS, epochs)
    assert plan == list(zip(opens, NAMES))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "gradual"}, "strategy must be one of none, fixed"),
        ({"analysis_window": 1}, "analysis_window must be at least 2"),
        ({"gradient_momentum": 1.0}, "gradient_momentum"),
        ({"performance_threshold": float("nan")}, "performance_threshold"),
        ({"phase1_epochs": 0}, "phase1_epochs"),
        ({"schedule": ((0, "stem"),)}, "stem opens after 0 epochs"),
    ],
)
def test_values_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FreezingConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "fixed", "unfreeze_blocks": 6}, "unfreeze_blocks 6 is more than the 5 blocks"),
        ({"strategy": "adaptive", "min_unfreeze_layers": 6}, "min_unfreeze_layers"),
        ({"strategy": "closed", "open_blocks": 6}, "open_blocks"),
        ({"strategy": "schedule", "schedule": ((1, "layer5"),)}, "unknown block 'layer5'; known are layer4"),
    ],
)
def test_settings_that_do_not_fit_the_blocks(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(FreezingConfig(**settings), BLOCKS)


def test_settings_no_strategy_reads_are_not_judged() -> None:
    check_config(FreezingConfig(strategy="fixed", min_unfreeze_layers=9), BLOCKS)
