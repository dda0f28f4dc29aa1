"""Signs that training diverges: hints of the task, told once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_toy import Faults, ToyTask, toy_config, toy_loaders, toy_model, train

from common.engine.logging import read_events
from common.engine.step import TrainingError
from common.engine.task import LossTerm

ENDING = r"\(2 in a row\)\n *hints about gradient frames\n *a lower rate$"


class Advised(ToyTask):
    """Has hints for `frames`; from epoch 2 on its training losses are `factor` times as high."""

    factor = 1.0

    def training_step(self, batch: dict[str, Any]) -> dict[str, LossTerm]:
        terms = super().training_step(batch)
        times = self.factor if self.validations else 1.0
        return {name: LossTerm(term.total * times, term.count, term.weight) for name, term in terms.items()}

    def divergence_hints(self, terms: Sequence[str]) -> list[str]:
        return [f"hints about {' '.join(terms)}", "  a lower rate"] if "frames" in terms else []


def hints(folder: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl") if event["kind"] == "hint"]


def test_hints_are_told_once_and_again_with_the_error_that_ends_a_run(tmp_path: Path) -> None:
    faults = Faults(nan={1: "value", **dict.fromkeys(range(4, 9), "frames")})
    config = toy_config(max_consecutive_nonfinite=2, max_rollbacks=0)
    with pytest.raises(
        TrainingError, match=r"\(2 in a row\)\n *hints about gradient frames\n *a lower rate$"
    ):
        train(tmp_path / "run", Advised(toy_model(), faults=faults), toy_loaders(9, 3), config)
    (event,) = hints(tmp_path / "run")
    assert (event["step"], event["terms"]) == (5, ["gradient", "frames"])


@pytest.mark.parametrize(("factor", "told"), [(1.0, 0), (9.0, 1)])
def test_a_loss_far_above_that_of_the_first_epoch_is_told_with_the_hints(
    tmp_path: Path, factor: float, told: int
) -> None:
    task = Advised(toy_model())
    task.factor = factor
    outcome = train(tmp_path / "run", task, toy_loaders(9, 3), toy_config(epochs=3))
    found = hints(tmp_path / "run")
    assert [event["epoch"] for event in found] == [2][:told]
    epochs = [line for line in outcome.metrics() if line["kind"] == "epoch"]
    if told:
        first, second = (line["train/frames"] for line in epochs[:2])
        assert second > 2 * first
        text = f"frames: training loss {second:.4g}, {second / first:.1f} times that of the first epoch"
        assert text in found[0]["text"]
        assert outcome.console.count("hints about") == 1


def test_hints_told_before_a_resume_are_not_told_again(tmp_path: Path) -> None:
    for resume, epochs in ((None, 2), ("last", 4)):
        task = Advised(toy_model())
        task.factor = 9.0
        if resume:
            task.validations = 1
        train(tmp_path / "run", task, toy_loaders(9, 3), toy_config(epochs=epochs), resume=resume)
    assert [event["epoch"] for event in hints(tmp_path / "run")] == [2]
