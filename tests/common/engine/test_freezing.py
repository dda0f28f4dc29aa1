"""Training with a freezer: exact resume in mid-strategy, patience, plateau schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_toy import Faults, ToyTask, same, toy_config, toy_loaders, toy_model, train
from freezing_toy import FrozenRun, block_model, run_freezing

from common.engine.checkpoint import find_checkpoint, load_checkpoint
from common.engine.logging import read_events
from common.engine.task import Headline
from common.freezing.rates import RateConfig
from common.freezing.strategies import FreezingConfig
from common.schedulers.learning_rate import ScheduleConfig

FALLING = [0.4, 0.4, 0.39, 0.39, 0.38, 0.38]
ADVANCED = FreezingConfig(strategy="advanced", base_importance_threshold=0.0)


def events_of(folder: Path) -> list[dict[str, Any]]:
    """Return the freezing events without clock readings."""
    lines = [line for line in read_events(folder / "events.jsonl") if line["kind"] == "freezing"]
    return [{k: v for k, v in line.items() if k not in ("seconds", "probe_seconds")} for line in lines]


def numbers_of(run: FrozenRun) -> dict[tuple[str, int], str]:
    return {(line["kind"], line["step"]): repr(line) for line in run.outcome.metrics()}


def assert_equal_runs(one: FrozenRun, other: FrozenRun) -> None:
    """Check that `one`, which was stopped, holds what `other` does; its stop left lines of its own."""
    assert same(one.outcome.weights, other.outcome.weights)
    assert numbers_of(one).items() >= numbers_of(other).items()
    assert events_of(one.outcome.folder) == events_of(other.outcome.folder)
    assert one.freezer.state == other.freezer.state
    first, second = (load_checkpoint(find_checkpoint(run.outcome.folder)) for run in (one, other))
    assert repr(first.state["freezing"]) == repr(second.state["freezing"])
    assert repr(first.state["optimization"]["optimizer"]) == repr(second.state["optimization"]["optimizer"])
    assert first.ema is not None
    assert second.ema is not None
    assert same(first.ema, second.ema)


STRATEGIES = {
    "none": (FreezingConfig(), [6]),
    "closed": (FreezingConfig(strategy="closed", open_blocks=1), [6]),
    "schedule": (FreezingConfig(strategy="schedule", schedule=((1, "high"), (2, "stem"))), [6]),
    "fixed": (FreezingConfig(strategy="fixed", phase1_epochs=1, phase2_epochs=3), [6]),
    "progressive": (FreezingConfig(strategy="progressive", phase1_epochs=1), [6]),
    "adaptive": (FreezingConfig(strategy="adaptive", adaptive_patience=1), [6]),
    "gradient_guided": (FreezingConfig(strategy="gradient_guided", importance_threshold=0.0), [4, 13]),
    "emergency": (FreezingConfig(strategy="advanced", emergency_unfreeze_epoch=1), [6]),
    # opened after 8 steps, so a snapshot is held at 10; rolled back after 16
    "advanced": (ADVANCED, [5, 8, 10, 16, 18]),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_stopped_and_resumed_equals_never_stopped(tmp_path: Path, name: str) -> None:
    config, stops = STRATEGIES[name]
    unbroken = run_freezing(tmp_path / "unbroken", config, FALLING, log_every=1)
    for stop in stops:
        folder = tmp_path / f"broken-{stop}"
        first = run_freezing(folder, config, FALLING, max_steps=stop, log_every=1)
        assert first.outcome.summary.steps == stop
        task = ToyTask(block_model(9), scripted=FALLING)
        resumed = run_freezing(folder, config, FALLING, task=task, resume="last", log_every=1)
        assert_equal_runs(resumed, unbroken)
    if name == "advanced":
        assert [event["event"] for event in events_of(tmp_path / "unbroken")] == [
            "analysing",
            "unfreeze",
            "analysing",
            "rollback",
            "analysing",
        ]


def test_the_snapshot_is_in_the_checkpoint_while_it_is_held(tmp_path: Path) -> None:
    run_freezing(tmp_path / "run", ADVANCED, FALLING)
    held = {}
    for path in sorted((tmp_path / "run" / "checkpoints").glob("step-*")):
        checkpoint = load_checkpoint(path)
        held[checkpoint.epoch] = checkpoint.state["freezing"]["snapshot"] is not None
    assert held == {1: False, 2: True, 3: True, 4: False, 5: False, 6: False}


def test_a_checkpoint_without_freezing_starts_it_anew(tmp_path: Path) -> None:
    loaders = toy_loaders(12, 3)
    task = ToyTask(block_model(), scripted=FALLING)
    train(tmp_path / "run", task, loaders, toy_config(epochs=6, ema_decay=0.5, max_steps=8))
    config = FreezingConfig(strategy="closed", open_blocks=1)
    resumed = run_freezing(tmp_path / "run", config, FALLING, resume="last")
    assert "saved without freezing: it starts anew" in resumed.outcome.console
    assert resumed.freezer.open_names == ("high",)


def test_a_run_without_a_freezer_says_nothing_of_it(tmp_path: Path) -> None:
    outcome = train(tmp_path / "run", ToyTask(toy_model()), config=toy_config(epochs=1))
    checkpoint = load_checkpoint(find_checkpoint(tmp_path / "run"))
    assert "freezing" not in checkpoint.state
    assert not any("freeze" in name for line in outcome.metrics() for name in line)


def test_all_epochs_are_run_whatever_the_phases(tmp_path: Path) -> None:
    config = FreezingConfig(strategy="fixed", phase1_epochs=1, phase2_epochs=2)
    assert run_freezing(tmp_path / "run", config, [0.3] * 7).outcome.summary.epochs == 7


@pytest.mark.parametrize(
    ("config", "epochs"),
    [
        (FreezingConfig(), 3),
        (FreezingConfig(strategy="schedule", schedule=((4, "high"),)), 6),
        (FreezingConfig(strategy="schedule", schedule=((4, "high"), (5, "low"))), 7),
    ],
)
def test_patience_counts_from_the_last_opening(tmp_path: Path, config: FreezingConfig, epochs: int) -> None:
    found = run_freezing(tmp_path / "run", config, [0.3] * 9, early_stopping_patience=2)
    assert found.outcome.summary.epochs == epochs


def test_the_heads_plateau_replaces_that_of_the_schedule(tmp_path: Path) -> None:
    """Validations before the opening count for the heads alone, those after it for the schedule alone."""
    schedule = ScheduleConfig(name="plateau", plateau_patience=1, plateau_factor=0.5)
    rates = RateConfig(head_lr=0.02, backbone_lr=0.001, warmup_epochs=0, phase1_plateau_patience=9)
    config = FreezingConfig(strategy="schedule", schedule=((5, "high"),))
    found = run_freezing(tmp_path / "run", config, [0.3] * 9, rates=rates, schedule=schedule, log_every=4)
    steps = [line for line in found.outcome.metrics() if line["kind"] == "step"]
    assert [line["lr/head"] for line in steps] == pytest.approx([0.02] * 5 + [0.005] * 3 + [0.0025])


def test_epochs_without_validation_open_what_is_due(tmp_path: Path) -> None:
    config = FreezingConfig(strategy="schedule", schedule=((1, "high"),))
    run_freezing(tmp_path / "run", config, [0.3] * 4, validate_every=3)
    (event,) = events_of(tmp_path / "run")
    assert (event["epoch"], event["metric"]) == (1, None)


def test_a_small_headline_is_a_good_one_when_it_says_so(tmp_path: Path) -> None:
    config = FreezingConfig(strategy="adaptive", adaptive_patience=1, min_unfreeze_layers=0)
    losses = [0.5, 0.4, 0.3, 0.2]
    task = ToyTask(block_model(), scripted=losses, headline=Headline("accuracy", "min"))
    run_freezing(tmp_path / "run", config, losses, task=task)
    assert [event["event"] for event in events_of(tmp_path / "run")] == ["hold"] * 3


def test_a_headline_in_percent_is_scaled_to_a_fraction(tmp_path: Path) -> None:
    config = FreezingConfig(strategy="adaptive", adaptive_patience=1, min_unfreeze_layers=0)
    run_freezing(tmp_path / "run", config, [30.0, 30.05, 30.3], scale=0.01)
    first, second = events_of(tmp_path / "run")
    assert first["metric"] == pytest.approx(0.3)
    assert (second["event"], second["blocks"]) == ("unfreeze", ["high"])


def test_a_rollback_after_bad_steps_leaves_the_open_blocks(tmp_path: Path) -> None:
    config = FreezingConfig(strategy="schedule", schedule=((1, "high"),))
    task = ToyTask(block_model(), scripted=[0.3] * 3, faults=Faults(nan={6: "value"}))
    found = run_freezing(tmp_path / "run", config, [0.3] * 3, task=task, nonfinite="rollback")
    assert found.freezer.open_names == ("high",)
    assert found.outcome.summary.steps == 12
