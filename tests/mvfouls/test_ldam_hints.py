"""What is advised when training with margins diverges, and who is advised."""

import itertools
from dataclasses import replace

import pytest

from mvfouls.ldam_hints import ldam_hints
from mvfouls.settings import LossSettings
from mvfouls.task import FoulTask

LOSSES = {"severity": LossSettings(kind="focal", weighted=True), "offence": LossSettings(kind="ldam")}


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (["offence"], True),
        (["gradient"], True),
        (["loss"], True),
        (["gradient", "severity", "offence"], True),
        (["gradient", "severity"], False),
    ],
)
def test_only_a_task_with_margins_is_advised(terms, told):
    found = ldam_hints(LOSSES, terms)
    assert bool(found) is told
    assert not told or found[0].startswith("training with ldam of offence is not stable")
    assert ldam_hints({"severity": LOSSES["severity"]}, terms) == []


@pytest.mark.parametrize(
    ("loss", "lines"),
    [
        (
            LossSettings(kind="ldam"),
            ["--ldam-max-m 0.3 or 0.2 instead of 0.5", "--ldam-s 20 or 15 instead of 30", "a lower --lr"],
        ),
        (
            LossSettings(kind="ldam", max_margin=0.3, scale=15, weighted=True),
            [
                "--ldam-max-m 0.2 instead of 0.3",
                "--ldam-s under 15",
                "a lower --lr",
                "no class weights beside the margins of offence",
            ],
        ),
    ],
)
def test_the_advice_goes_below_what_is_set(loss, lines):
    assert [line.strip() for line in ldam_hints({"offence": loss}, ["offence"])[1:]] == lines


def test_advice_is_printed_once_and_stands_beside_the_error_that_ends_a_run(train, monkeypatch):
    usual, steps = FoulTask.training_step, itertools.count(1)

    def training_step(task, batch):
        terms, spoiled = usual(task, batch), float("inf") if next(steps) > 2 else 1.0
        return terms | {"offence": replace(terms["offence"], total=terms["offence"].total * spoiled)}

    monkeypatch.setattr(FoulTask, "training_step", training_step)
    ran = train("--epochs 2 --freezing_strategy none --loss_types offence ldam --ldam_max_m 0.3")
    assert ran.code == 1
    (event,) = ran.events("hint")
    assert event["step"] == 3
    assert "offence" in event["terms"]
    assert ran.out.count("hint     training with ldam of offence is not stable; what may help:\n") == 1
    assert "--ldam-max-m 0.2 instead of 0.3" in ran.out
    assert "(5 in a row)\n       training with ldam of offence is not stable" in ran.err
    assert "--ldam-s 20 or 15 instead of 30" in ran.err
