"""Strategies simulated with given metrics and importance."""

from __future__ import annotations

import math
from typing import Any

import pytest
from freezing_toy import BLOCKS, NAMES, Simulation, simulate

from common.freezing.decisions import initial_state
from common.freezing.strategies import FreezingConfig

RISING = [0.01 * epoch for epoch in range(1, 60)]
FLAT = [0.3]
STRONG = dict.fromkeys(NAMES, 1.0)
WHOLE = [(name,) for name in NAMES]


def advanced(metrics: list[Any], **settings: Any) -> Simulation:
    options = {name: settings.pop(name) for name in ("importance", "epochs") if name in settings}
    config = FreezingConfig(strategy="advanced", **settings)
    return simulate(config, metrics, **{"importance": STRONG, "epochs": 30, **options})


@pytest.mark.parametrize(("strategy", "count"), [("none", 5), ("closed", 2)])
def test_without_openings_the_first_set_stays(strategy: Any, count: int) -> None:
    config = FreezingConfig(strategy=strategy, open_blocks=2)
    found = simulate(config, RISING, importance=STRONG)
    assert not found.decisions
    pieces = {piece.name for block in BLOCKS[:count] for piece in block.smallest}
    assert set(found.states[-1].opened) == set(initial_state(config, BLOCKS).opened) == pieces


def test_fixed() -> None:
    found = simulate(FreezingConfig(strategy="fixed"), FLAT)
    assert found.opened == [(8, ("layer4",)), (10, ("layer3",)), (12, ("layer2",))]
    assert len(found.decisions) == 3


def test_progressive() -> None:
    assert simulate(FreezingConfig(strategy="progressive"), FLAT).opened == list(
        zip([8, 13, 18, 23, 28], WHOLE)
    )


def test_schedule() -> None:
    listed = tuple(zip((3, 6, 9, 12, 15), NAMES))
    found = simulate(FreezingConfig(strategy="schedule", schedule=listed), FLAT, epochs=20)
    assert found.opened == list(zip((3, 6, 9, 12, 15), WHOLE))


def test_timed_openings_need_no_validation_and_none_follows_the_last_epoch() -> None:
    listed = ((1, "stem"), (2, "layer4"), (3, "layer1"))
    found = simulate(FreezingConfig(strategy="schedule", schedule=listed), [None], epochs=3)
    assert found.opened == [(1, ("stem",)), (2, ("layer4",))]


def test_adaptive() -> None:
    metrics = [0.300, 0.310, 0.3105, 0.3108, 0.3109]
    found = simulate(FreezingConfig(strategy="adaptive", min_unfreeze_layers=0), metrics)
    assert found.opened == list(zip((5, 8, 11, 14, 17), WHOLE))
    assert [each.event for each in found.decisions[:5]] == ["hold"] * 4 + ["unfreeze"]
    assert found.states[4].reference == 0.3109


def test_adaptive_takes_the_reference_at_the_last_reset() -> None:
    """Slow gains add up against the reference, which is not the last value."""
    slow = [0.3 + 0.0006 * epoch for epoch in range(30)]
    assert not simulate(FreezingConfig(strategy="adaptive", min_unfreeze_layers=0), slow, epochs=30).opened


def test_adaptive_counts_a_missing_value_as_no_gain_and_a_missing_validation_not_at_all() -> None:
    config = FreezingConfig(strategy="adaptive", min_unfreeze_layers=0, adaptive_patience=2)
    assert simulate(config, [0.3, math.nan], epochs=4).opened == [(3, ("layer4",))]
    assert simulate(config, [0.3, None], epochs=20).opened == []


def test_gradient_guided_opens_the_most_important_block() -> None:
    importance = dict(zip(NAMES, (0.05, 0.5, 0.3, 0.1, 0.05)))
    found = simulate(FreezingConfig(strategy="gradient_guided"), RISING, importance=importance, epochs=12)
    assert found.opened == list(
        zip((2, 4, 6, 8, 10), [("layer3",), ("layer2",), ("layer1",), ("layer4",), ("stem",)])
    )
    assert found.decisions[0].event == "analysing"
    assert found.decisions[1].importance == pytest.approx(importance)


def test_gradient_guided_leaves_unimportant_blocks_closed() -> None:
    importance = dict(zip(NAMES, (0.001, 0.5, 0.007, 0.001, 0.001)))
    config = FreezingConfig(strategy="gradient_guided")
    assert simulate(config, RISING, importance=importance).opened == [(2, ("layer3",))]
    plateau = [*RISING[:4], 0.04]
    assert simulate(config, plateau, importance=importance).opened == [(2, ("layer3",)), (6, ("layer2",))]


def test_on_a_plateau_gradient_guided_is_not_patient() -> None:
    config = FreezingConfig(strategy="gradient_guided", unfreeze_patience=9)
    assert simulate(config, FLAT, importance=STRONG, epochs=8).opened == list(zip((2, 3, 4, 5, 6), WHOLE))
    assert simulate(config, RISING, importance=STRONG, epochs=9).opened == [(2, ("layer4",))]


def test_several_blocks_an_opening() -> None:
    config = FreezingConfig(strategy="gradient_guided", max_layers_per_step=2)
    found = simulate(config, RISING, importance=STRONG, epochs=6)
    assert found.opened == [(2, ("layer4", "layer3")), (4, ("layer2", "layer1"))]
    assert advanced(FLAT, max_layers_per_step=2).opened[0] == (2, ("layer4", "layer3"))


def test_importance_is_a_bias_corrected_mean() -> None:
    config = FreezingConfig(strategy="gradient_guided", gradient_momentum=0.5, importance_threshold=9)
    found = simulate(config, RISING, importance={"stem": 2.0}, epochs=4)
    assert [each.importance["stem"] for each in found.decisions] == pytest.approx([2.0] * 3)


def test_advanced_holds_while_the_metric_rises() -> None:
    found = advanced([0.300, 0.320, 0.3205])
    assert [each.event for each in found.decisions[:3]] == ["analysing", "hold", "unfreeze"]
    assert found.opened[0] == (3, ("layer4",))
    assert found.decisions[1].gain == pytest.approx(0.02)
    assert not advanced([0.300, 0.320, 0.3205], importance=dict.fromkeys(NAMES, 1e-5), epochs=4).opened


def test_advanced_opens_in_order_unless_told_otherwise() -> None:
    importance = dict(zip(NAMES, (0.0001, 1.0, 0.5, 0.2, 0.1)))
    assert not advanced(FLAT, importance=importance, min_unfreeze_layers=0, epochs=3).opened
    free = advanced(FLAT, importance=importance, enable_dependency_analysis=False, epochs=5)
    assert free.opened == [(2, ("layer3",)), (4, ("layer2",))]


def test_the_threshold_of_advanced_falls_to_half_and_half_again_on_a_plateau() -> None:
    found = advanced(RISING[:1] * 2, importance=dict.fromkeys(NAMES, 0.0), min_unfreeze_layers=0, epochs=20)
    thresholds = {each.epoch: each.threshold for each in found.decisions}
    assert thresholds[2] == pytest.approx(0.002 * 0.9)
    assert thresholds[3] == pytest.approx(0.002 * 0.85 / 2)
    assert thresholds[15] == pytest.approx(0.002 * 0.5 / 2)


def test_events_are_followed_by_quiet() -> None:
    assert [epoch for epoch, _ in advanced(FLAT, unfreeze_patience=4, epochs=12).opened] == [2, 6, 10]


@pytest.mark.parametrize(("after", "rolls"), [((0.392, 0.395), True), ((0.392, 0.3995), False)])
def test_rollback(after: tuple[float, float], rolls: bool) -> None:
    found = advanced([0.4, 0.4, *after, 0.38], epochs=10)
    assert found.opened[0] == (2, ("layer4",))
    if not rolls:
        assert found.states[3].rollbacks == 0
        assert found.opened[1] == (4, ("layer3",))
        return
    assert found.at("rollback") == [(4, ("layer4",))]
    assert found.states[3].opened == {}
    assert found.opened[1] == (8, ("layer4",))  # barred for twice the patience


def test_a_rolled_back_block_bars_those_behind_it_only_in_order() -> None:
    free = {"enable_dependency_analysis": False, "min_unfreeze_layers": 0}
    found = advanced([0.4, 0.4, 0.39, 0.39, 0.38], **free, epochs=7)
    assert found.opened == [(2, ("layer4",)), (6, ("layer3",))]


def test_at_most_three_rollbacks() -> None:
    falling = [0.9 - 0.01 * epoch for epoch in range(60)]
    found = advanced(falling, epochs=50, min_unfreeze_layers=0)
    assert len(found.at("rollback")) == 3
    assert found.opened[3][1] == ("layer4",)
    assert found.states[-1].opened.keys() == initial_state(FreezingConfig(), BLOCKS).opened.keys()
    assert not advanced(falling, enable_rollback=False).at("rollback")


def test_an_opening_is_judged_before_the_next() -> None:
    found = advanced([0.4, 0.4, 0.39], rollback_patience=4, epochs=7)
    assert found.opened == [(2, ("layer4",))]
    assert found.at("rollback") == [(6, ("layer4",))]


def test_without_a_validation_nothing_is_judged() -> None:
    found = advanced([0.4, 0.4, None, None, 0.41, 0.41], epochs=6)
    assert not found.at("rollback")
    assert found.states[4].trial is None


@pytest.mark.parametrize(
    ("settings", "opens"),
    [
        ({}, ("layer4.1",)),
        ({"emergency_unfreeze_gradual": False}, ("layer4",)),
        ({"min_unfreeze_layers": 2, "emergency_unfreeze_gradual": False}, ("layer4", "layer3")),
        ({"min_unfreeze_layers": 3}, ("layer4", "layer3.1")),
    ],
)
@pytest.mark.parametrize("strategy", ["adaptive", "gradient_guided", "advanced"])
def test_emergency(strategy: Any, settings: dict[str, Any], opens: tuple[str, ...]) -> None:
    config = FreezingConfig(strategy=strategy, **settings)
    found = simulate(config, RISING, importance=dict.fromkeys(NAMES, 1e-9))
    assert found.opened == [(4, opens)]


def test_emergency_opens_what_is_missing_only() -> None:
    config = FreezingConfig(strategy="gradient_guided", min_unfreeze_layers=2, emergency_unfreeze_epoch=3)
    importance = {**dict.fromkeys(NAMES, 0.0), "layer2": 1.0}
    assert simulate(config, RISING, importance=importance).opened == [(2, ("layer2",)), (3, ("layer4.1",))]
    assert not simulate(FreezingConfig(strategy="adaptive", min_unfreeze_layers=0), RISING).opened


def test_emergency_does_not_open_what_was_just_closed() -> None:
    found = advanced([0.4, 0.4, 0.39, 0.39, 0.38], epochs=7)
    assert found.at("emergency") == []


def test_the_rest_of_a_half_open_block_is_next_in_line() -> None:
    metrics = [*RISING[:5], 0.05]
    found = advanced(metrics, epochs=10)
    assert found.opened[:2] == [(4, ("layer4.1",)), (6, ("layer4.0",))]
    config = FreezingConfig(strategy="gradient_guided", importance_threshold=0.5, sampling_epochs=5)
    importance = dict(zip(NAMES, (0.6, 0.9, 0, 0, 0)))
    assert simulate(config, RISING, importance=importance).opened == [
        (4, ("layer4.1",)),
        (6, ("layer4.0",)),
        (8, ("layer3",)),
    ]


def test_emergency_openings_are_not_rolled_back() -> None:
    found = advanced([*RISING[:4], 0.01], importance=dict.fromkeys(NAMES, 1e-9), epochs=12)
    assert [each.event for each in found.decisions if each.pieces] == ["emergency"]


def test_the_recommended_run() -> None:
    """50 epochs: first decision after epoch 2, emergency after 4, then the rest in order."""
    weak = simulate(FreezingConfig(strategy="advanced"), RISING, importance=dict.fromkeys(NAMES, 1e-9))
    assert weak.opened == [(4, ("layer4.1",))]
    metrics = [*RISING[:4], *[0.04] * 50]
    strong = simulate(FreezingConfig(strategy="advanced"), metrics, importance=STRONG)
    assert strong.opened == [
        (4, ("layer4.1",)),
        (6, ("layer4.0",)),
        *zip((8, 10, 12, 14), WHOLE[1:]),
    ]
    assert strong.decisions[3].line() == "epoch 4 emergency open layer4.1"
    assert strong.decisions[3].open == ("layer4.1",)
    assert strong.decisions[5].open == ("layer4",)
    assert max(each.epoch for each in weak.decisions) == 49


def test_test_runs_have_one_emergency() -> None:
    config = FreezingConfig(strategy="advanced", emergency_unfreeze_epoch=1)
    found = simulate(config, FLAT, importance=STRONG, epochs=2)
    assert found.opened == [(1, ("layer4.1",))]
    assert len(found.decisions) == 1
