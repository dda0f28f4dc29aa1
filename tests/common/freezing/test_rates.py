"""Base rates by what is open, and the rates of the recommended run."""

from __future__ import annotations

from typing import Any

import pytest

from common.freezing.rates import HeadPlateau, RateConfig, block_rate, block_warmup, head_rate
from common.schedulers.learning_rate import Schedule, ScheduleConfig

COSINE = ScheduleConfig(name="cosine", warmup_epochs=5, min_lr=1e-6)
STEPS = 182


def rate(base: float, epochs: float) -> float:
    schedule = Schedule(config=COSINE, base_lr=base, total_steps=50 * STEPS, steps_per_epoch=STEPS)
    return schedule.lr(round(epochs * STEPS), int(epochs))


@pytest.mark.parametrize(
    ("epochs", "head", "backbone"),
    [
        (2.5, 5.050e-4, 5.05e-6),
        (5, 1.000e-3, 1.0e-5),
        (20, 7.503e-4, 7.75e-6),
        (27.5, 5.005e-4, 5.5e-6),
        (50, 1e-6, 1e-6),
    ],
)
def test_golden_rates(epochs: float, head: float, backbone: float) -> None:
    config = RateConfig()
    assert rate(head_rate(config, any_open=False), epochs) == pytest.approx(head, rel=1e-3)
    assert rate(block_rate(config, 0, "layer4"), epochs) == pytest.approx(backbone, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "closed", "opened", "blocks"),
    [
        ({}, 1e-3, 5e-5, (1e-5, 1e-5, 1e-5)),
        ({"phase2_backbone_lr_scale_factor": 2.0, "phase2_head_lr_ratio": 3.0}, 1e-3, 6e-5, (2e-5,) * 3),
        ({"discriminative": True}, 1e-3, 5e-5, (1e-5, 0.9e-5, 0.81e-5)),
        ({"gradual": False}, 2e-4, 2e-4, (2e-4,) * 3),
        ({"gradual": False, "discriminative": True}, 1e-3, 1e-3, (1e-5, 0.9e-5, 0.81e-5)),
        (
            {"gradual": False, "discriminative": True, "layer_decay": 1.0, "multipliers": (("b", 1.5),)},
            1e-3,
            1e-3,
            (1e-5, 1.5e-5, 1e-5),
        ),
    ],
)
def test_base_rates(settings: dict[str, Any], closed: float, opened: float, blocks: tuple[float]) -> None:
    config = RateConfig(**settings)
    assert head_rate(config, any_open=False) == pytest.approx(closed)
    assert head_rate(config, any_open=True) == pytest.approx(opened)
    assert [block_rate(config, depth, name) for depth, name in enumerate("abc")] == pytest.approx(blocks)


def test_a_block_warms_up_to_exactly_one() -> None:
    assert [block_warmup(epochs, 3) for epochs in (0, 1, 1.5)] == pytest.approx([0.1, 0.4, 0.55])
    assert [block_warmup(epochs, 3) for epochs in (3, 30)] == [1.0, 1.0]
    assert block_warmup(0, 0) == 1.0


def test_the_heads_rate_falls_on_a_plateau_before_the_first_opening() -> None:
    plateau, reductions = HeadPlateau(), []
    for metric in (0.3, 0.3, 0.3, 0.29, 0.31, 0.3, 0.3, 0.31, 0.3, 0.3, 0.3):
        plateau = plateau.after(metric, 3)
        reductions.append(plateau.reductions)
    assert reductions == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3]
    config = RateConfig()
    assert head_rate(config, any_open=False, reductions=2) == pytest.approx(1e-3 * 0.04)
    assert head_rate(config, any_open=False, reductions=9, min_lr=1e-6) == 1e-6
    assert head_rate(config, any_open=True, reductions=9, min_lr=1e-6) == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"layer_decay": 1.5}, "layer_decay"),
        ({"phase1_plateau_factor": 1.0}, "phase1_plateau_factor"),
        ({"phase1_plateau_patience": 0}, "phase1_plateau_patience"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
        ({"multipliers": (("stem", 0.0),)}, "multipliers of stem"),
    ],
)
def test_values_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateConfig(**settings)
