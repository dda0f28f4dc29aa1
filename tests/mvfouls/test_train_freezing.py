"""Blocks of the network train in the epochs in which a strategy says they are open, and in no other."""

from dataclasses import dataclass, field

import pytest
import torch
from mv_runs import script

from common.freezing.driver import Freezer

QUICK = "--batch_size 16 --probe_batches 1"
FLAT = [0.4]
WORSE = [0.4, 0.4, 0.392, 0.395, 0.41, 0.42]
"""Nothing gained, then a loss after the opening that follows epoch 2."""


@dataclass
class Course:
    """What the end of each epoch finds, before anything is decided there, and what is open afterwards."""

    states: list[dict[str, torch.Tensor]] = field(default_factory=list)
    moments: list[dict[str, torch.Tensor]] = field(default_factory=list)
    open: list[tuple[str, ...]] = field(default_factory=list)
    after: list[dict[str, torch.Tensor]] = field(default_factory=list)
    rates: list[dict[str, float]] = field(default_factory=list)

    def trained(self, epoch: int, names: tuple[str, ...]) -> set[bool]:
        """Return whether the tensors under `names` differ after an epoch from those it began with."""
        before, later = self.after[epoch - 1], self.states[epoch]
        held = [name for name in before if name.startswith(names)]
        return {not torch.equal(before[name], later[name]) for name in held}


@pytest.fixture
def course(monkeypatch) -> Course:
    """The course of the training that follows."""
    found, usual = Course(), Freezer.close_epoch

    def copied(freezer: Freezer) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in freezer.model.state_dict().items()}

    def close_epoch(freezer, optimization, progress, headline, metric):
        found.states.append(copied(freezer))
        found.rates.append(freezer.named_rates(optimization.optimizer.param_groups))
        decided = usual(freezer, optimization, progress, headline, metric)
        found.open.append(freezer.open_names)
        found.after.append(copied(freezer))
        return decided

    monkeypatch.setattr(Freezer, "close_epoch", close_epoch)
    return found


LAYERS = ("layer4", "layer3", "layer2", "layer1", "stem")


def modules(open_names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"backbone.network.{name}." for name in open_names)


def check(course: Course) -> None:
    """Assert that in every epoch what was open was trained and nothing else moved, statistics included."""
    parts = [f"{layer}.{k}" for layer in LAYERS[:-1] for k in (0, 1)] + ["stem"]
    for epoch in range(1, len(course.states)):
        opened = course.open[epoch - 1]
        assert course.trained(epoch, ("heads.",)) == {True}
        for part in parts:
            expected = any(part == name or part.startswith(f"{name}.") for name in opened)
            assert (True in course.trained(epoch, modules((part,)))) == expected, (epoch, part, opened)


@pytest.mark.parametrize(
    ("words", "values", "opened"),
    [
        ("--freezing_strategy none --epochs 2", FLAT, [LAYERS] * 2),
        ("--freezing_strategy fixed --epochs 4", FLAT, [LAYERS[:1], LAYERS[:2], LAYERS[:3], LAYERS[:3]]),
        ("--freezing_strategy fixed --no-gradual_finetuning --unfreeze_blocks 1 --epochs 2", FLAT,
         [LAYERS[:1]] * 2),
        ("--freezing_strategy progressive --max_layers_per_step 2 --epochs 3", FLAT,
         [LAYERS[:2], LAYERS[:4], LAYERS[:4]]),
        ("--freezing_strategy adaptive --adaptive_patience 1 --epochs 4", [0.3, 0.4, 0.4, 0.4],
         [(), (), LAYERS[:1], LAYERS[:1]]),
        ("--freezing_strategy adaptive --epochs 3 --emergency_unfreeze_epoch 1 --min_unfreeze_layers 2", FLAT,
         [LAYERS[:1]] * 3),
    ],
)  # fmt: skip
def test_a_strategy_opens_blocks_when_it_says(words, values, opened, train, course, monkeypatch):
    script(monkeypatch, values)
    ran = train(QUICK, words)
    assert ran.code == 0, ran.err
    assert course.open == opened
    check(course)


def test_gradient_guided_opens_what_the_probe_finds_important(train, course, monkeypatch):
    script(monkeypatch, [0.1, 0.2, 0.3, 0.4, 0.5])
    ran = train(QUICK, "--freezing_strategy gradient_guided --importance_threshold 0 --epochs 5")
    assert [len(names) for names in course.open] == [0, 1, 1, 2, 2]
    events = [event for event in ran.events("freezing") if event["event"] == "unfreeze"]
    assert [event["epoch"] for event in events] == [2, 4]
    closed = set(LAYERS)
    for event in events:
        assert set(event["importance"]) == set(LAYERS)
        assert all(value > 0 for value in event["importance"].values())
        assert event["blocks"] == [max(closed, key=event["importance"].__getitem__)]
        closed -= set(event["blocks"])
    check(course)


def test_the_test_command_opens_the_last_part_and_trains_it_alone(train, course, monkeypatch):
    script(monkeypatch, FLAT)
    words = "--emergency_unfreeze_epoch 1 --freezing_strategy advanced --warmup_epochs 0 --scheduler none"
    ran = train(QUICK, words)
    assert "freeze   epoch 1 emergency open layer4.1" in ran.out
    assert course.open == [("layer4.1",)] * 2
    check(course)
    assert course.rates[0] == {"head": pytest.approx(1e-3)}
    assert course.rates[1] == {"head": pytest.approx(5e-5), "layer4.1": pytest.approx(1e-5)}
    assert [line["freeze/open_blocks"] for line in ran.metrics("epoch")] == [0.0, 1.0]


def test_a_rollback_restores_every_bit_and_closes_the_block(train, course, monkeypatch):
    script(monkeypatch, WORSE)
    words = "--freezing_strategy advanced --base_importance_threshold 0 --emergency_unfreeze_epoch 9"
    ran = train(QUICK, words, "--epochs 6 --scheduler none --ema_decay 0.5")
    told = [(event["epoch"], event["event"]) for event in ran.events("freezing")]
    assert told == [(1, "analysing"), (2, "unfreeze"), (3, "analysing"), (4, "rollback"), (5, "analysing")]
    assert course.open == [(), LAYERS[:1], LAYERS[:1], (), (), ()]
    check(course)
    assert all(torch.equal(course.after[3][name], course.states[1][name]) for name in course.states[1])
    assert not all(torch.equal(course.after[3][name], course.states[3][name]) for name in course.states[3])
