"""Whole runs on the toy problem: what is logged, what is validated, and what ends a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from engine_toy import (
    IGNORED,
    Faults,
    Outcome,
    ToyTask,
    same,
    toy_config,
    toy_loaders,
    toy_model,
    train,
)
from torch import Tensor

from common.engine.checkpoint import find_checkpoint, load_checkpoint
from common.engine.fit import fit
from common.engine.logging import Console, read_events
from common.engine.run import Run
from common.engine.settings import OptimizerConfig
from common.engine.state import Provenance
from common.engine.step import TrainingError
from common.engine.task import Headline
from common.schedulers.learning_rate import ScheduleConfig

PLAIN_SGD = OptimizerConfig(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0)


def of_kind(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    return [line for line in outcome.metrics() if line["kind"] == kind]


def events(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(outcome.folder / "events.jsonl") if event["kind"] == kind]


class Watching(ToyTask):
    """Keeps a copy of the weights before each training step, and at the end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.trail: list[dict[str, Tensor]] = []
        self.faults = Faults(before_step=lambda call: self.note())

    def note(self) -> None:
        self.trail.append({name: value.clone() for name, value in self.model.state_dict().items()})


@pytest.mark.parametrize(
    ("schedule", "oracle"),
    [
        (
            ScheduleConfig(name="cosine", min_lr=0.01),
            lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9, eta_min=0.01),
        ),
        (
            ScheduleConfig(name="step", step_size=2, gamma=0.1),
            lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: [1, 1, 0.1, 0][step // 3]
            ),
        ),
    ],
    ids=["per step", "per epoch"],
)
def test_rate_logged_is_the_rate_used_and_the_schedules(tmp_path: Path, schedule: Any, oracle: Any) -> None:
    task = Watching(toy_model(dtype=torch.float64))
    config = toy_config(optimizer=PLAIN_SGD, clip_norm=0, schedule=schedule, log_every=1)
    outcome = train(tmp_path / "run", task, toy_loaders(9, 3, dtype=torch.float64), config)
    task.note()
    scheduler = oracle(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    lines = of_kind(outcome, "step")
    assert [line["step"] for line in lines] == list(range(1, 10))
    for line, before, after in zip(lines, task.trail, task.trail[1:], strict=False):
        moved = math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))
        assert moved / line["train/grad_norm"] == pytest.approx(line["lr/decay"], rel=1e-9)
        assert line["lr/decay"] == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)
        scheduler.optimizer.step()
        scheduler.step()


def test_plateau_reads_the_validations(tmp_path: Path) -> None:
    schedule = ScheduleConfig(name="plateau", plateau_patience=1, plateau_factor=0.5)
    task = ToyTask(toy_model(), scripted=[0.5, 0.6, 0.6, 0.6, 0.6, 0.6])
    outcome = train(tmp_path / "run", task, toy_loaders(3, 3), toy_config(epochs=6, schedule=schedule))
    assert [line["lr/decay"] for line in of_kind(outcome, "epoch")] == [0.01, 0.01, 0.01, 0.01, 0.005, 0.005]


def test_train_losses_are_means_over_all_elements_of_the_epoch(tmp_path: Path) -> None:
    model = toy_model(dtype=torch.float64)
    still = toy_config(epochs=1, optimizer=OptimizerConfig(name="sgd", lr=1e-30), accumulation_steps=3)
    loaders = toy_loaders(20, 3, dtype=torch.float64)
    outcome = train(tmp_path / "run", ToyTask(model), loaders, still)
    loaders.sampler.set_epoch(0)
    batches = list(loaders.train)
    with torch.no_grad():
        outputs = [model(batch["views"]) for batch in batches]
    labels = torch.cat([batch["labels"] for batch in batches])
    logits = torch.cat([frames for frames, _ in outputs]).permute(0, 2, 1)
    frames = float(F.cross_entropy(logits, labels, ignore_index=IGNORED))
    value = float(
        F.mse_loss(torch.cat([v for _, v in outputs]), torch.cat([batch["value"] for batch in batches]))
    )
    (line,) = of_kind(outcome, "epoch")
    assert line["train/frames"] == pytest.approx(frames, rel=1e-12)
    assert line["train/value"] == pytest.approx(value, rel=1e-12)
    assert line["train/loss"] == pytest.approx(frames + 0.5 * value, rel=1e-12)
    assert (line["train/samples"], line["train/labelled"]) == (20, int((labels != IGNORED).sum()))


def test_remainder_of_an_epoch_is_a_step_and_every_sample_is_used(tmp_path: Path) -> None:
    task = ToyTask(toy_model())
    outcome = train(tmp_path / "run", task, toy_loaders(20, 3), toy_config(epochs=2, accumulation_steps=3))
    assert outcome.summary.steps == 6
    assert [len(keys) for keys in task.seen] == [3, 3, 3, 3, 3, 3, 2] * 2
    for epoch in (0, 1):
        keys = [key for batch in task.seen[7 * epoch : 7 * epoch + 7] for key in batch]
        assert sorted(index for index, _, _ in keys) == list(range(20))
        assert [key[1:] for key in keys] == [[epoch, draw] for draw in range(20)]


def test_validation_and_best_use_the_average(tmp_path: Path) -> None:
    task = Watching(toy_model(), scripted=[0.1, 0.9, 0.5])
    config = toy_config(ema_decay=0.6, log_every=1)
    outcome = train(tmp_path / "run", task, toy_loaders(6, 3), config)
    task.note()
    average = task.trail[0]
    expected = []
    for update, weights in enumerate(task.trail[1:]):
        decay = min(0.6, (1 + update) / (10 + update))
        average = {name: decay * average[name] + (1 - decay) * weights[name] for name in average}
        expected.append(average)
    for validation, step in enumerate((2, 4, 6)):
        assert torch.allclose(task.first_weights[validation], expected[step - 1]["encoder.weight"], atol=1e-6)
    best = load_checkpoint(find_checkpoint("best", outcome.folder))
    assert best.step == 4
    assert torch.equal(best.ema["encoder.weight"], task.first_weights[1])
    assert torch.equal(best.model["encoder.weight"], task.trail[4]["encoder.weight"])
    assert same(outcome.weights, task.trail[-1]), "training goes on from its own weights"


@pytest.mark.parametrize(
    ("mode", "values", "changes", "epochs", "best"),
    [
        ("max", [-3.0, -4.0, -5.0, 0.0], {}, 3, -3.0),
        ("min", [0.9, 0.8, 0.85, 0.9, 0.1], {}, 4, 0.8),
        ("max", [math.nan, math.nan, 0.9], {}, 2, None),
        ("max", [0.1, math.nan, 0.2, math.nan, 0.2, 0.9], {}, 5, 0.2),
        ("max", [0.10, 0.14, 0.18, 0.19], {"early_stopping_min_delta": 0.05}, 4, 0.18),
        ("max", [0.3, 0.2, 0.1, 0.0], {"early_stopping_patience": None}, 4, 0.3),
        ("max", [0.3, 0.2, 0.1, 0.0], {"early_stopping_patience": 0}, 4, 0.3),
    ],
)
def test_early_stopping(
    tmp_path: Path, mode: Any, values: list[float], changes: dict[str, Any], epochs: int, best: float | None
) -> None:
    task = ToyTask(toy_model(), headline=Headline("accuracy", mode), scripted=values)
    config = toy_config(**{"epochs": len(values), "early_stopping_patience": 2, **changes})
    outcome = train(tmp_path / "run", task, toy_loaders(3, 3), config)
    assert outcome.summary.epochs == epochs
    assert outcome.summary.best == best
    assert outcome.summary.exit_code == 0
    stopped = bool(config.early_stopping_patience) and best != 0.18
    assert outcome.summary.reason == (
        "no better accuracy in 2 validations" if stopped else "completed all epochs"
    )
    logged = [line["valid/accuracy"] for line in of_kind(outcome, "validation")]
    assert logged == [None if math.isnan(value) else value for value in values[:epochs]]
    improved = [event["best"] for event in events(outcome, "checkpoint")]
    assert any(improved) is (best is not None)
    if best is not None:
        assert load_checkpoint(find_checkpoint("best", outcome.folder)).headline["value"] == best


def test_validate_every_still_validates_the_last_epoch(tmp_path: Path) -> None:
    outcome = train(
        tmp_path / "run", ToyTask(toy_model()), toy_loaders(3, 3), toy_config(epochs=5, validate_every=2)
    )
    assert [line["epoch"] for line in of_kind(outcome, "validation")] == [2, 4, 5]
    assert [line["epoch"] for line in of_kind(outcome, "epoch")] == [1, 2, 3, 4, 5]
    assert [event["step"] for event in events(outcome, "checkpoint")] == [1, 2, 3, 4, 5]


def test_skipped_steps_are_counted_and_training_goes_on(tmp_path: Path) -> None:
    faults = Faults(nan={1: "frames", 3: "value"})
    outcome = train(tmp_path / "run", ToyTask(toy_model(), faults=faults), toy_loaders(9, 3), toy_config())
    first, second = events(outcome, "nonfinite")
    assert first["terms"] == ["gradient", "frames"]
    assert first["text"].startswith("not finite: gradient, frames at step 2, epoch 1, draws 3 to 5;")
    assert second["text"].startswith("not finite: gradient, value at step 4, epoch 2, draws 0 to 2;")
    assert "nonfinite" in outcome.console
    assert outcome.summary.steps == 9
    state = load_checkpoint(find_checkpoint("last", outcome.folder)).state["progress"]
    assert (state["skipped"], state["discarded"], state["rollbacks"]) == (0, 2, 0)
    assert of_kind(outcome, "epoch")[0]["train/samples"] == 6
    assert all(math.isfinite(line["train/loss"]) for line in of_kind(outcome, "epoch"))


def test_abort_on_the_first_step_that_is_not_finite(tmp_path: Path) -> None:
    task = ToyTask(toy_model(), faults=Faults(nan={1: "frames"}))
    with pytest.raises(TrainingError, match="not finite: gradient, frames at step 2"):
        train(tmp_path / "run", task, toy_loaders(9, 3), toy_config(nonfinite="abort"))


def test_rollback_returns_to_the_checkpoint_at_half_the_rate(tmp_path: Path) -> None:
    task = Watching(toy_model())
    task.faults = Faults(before_step=lambda call: task.note(), nan={4: "frames"})
    outcome = train(tmp_path / "run", task, toy_loaders(9, 3), toy_config(nonfinite="rollback", log_every=1))
    (event,) = events(outcome, "rollback")
    assert event["to"] == 3
    assert same(task.trail[5], task.trail[3]), "the weights are those of the end of epoch 1"
    assert not same(task.trail[4], task.trail[3])
    rates = {line["step"]: line["lr/decay"] for line in of_kind(outcome, "step")}
    assert rates == {step: 0.01 if step < 6 else 0.005 for step in (1, 2, 3, 4, 6, 7, 8, 9)}
    assert [key[2] for keys in task.seen[3:6] for key in keys] == list(range(9)), "the data go on"


def test_skipping_turns_into_rollbacks_and_then_into_an_error(tmp_path: Path) -> None:
    faults = Faults(nan=dict.fromkeys(range(3, 100), "frames"))
    task = ToyTask(toy_model(), faults=faults)
    with pytest.raises(TrainingError, match="rolled back 2 times already"):
        train(
            tmp_path / "run",
            task,
            toy_loaders(9, 3),
            toy_config(epochs=9, max_consecutive_nonfinite=2, log_every=1),
        )
    assert task.calls == 3 + 3 * 2
    assert [e["step"] for e in read_events(tmp_path / "run/events.jsonl") if e["kind"] == "rollback"] == [
        5,
        7,
    ]


def test_without_rollbacks_the_last_skipped_step_ends_the_run_and_names_its_samples(tmp_path: Path) -> None:
    class Named(ToyTask):
        def sample_names(self, batch: Any) -> list[str]:
            return [f"sample {index}" for index in batch["key"][:, 0].tolist()]

    task = Named(toy_model(), faults=Faults(nan=dict.fromkeys(range(4, 9), "frames")))
    config = toy_config(max_consecutive_nonfinite=2, max_rollbacks=0)
    with pytest.raises(TrainingError, match=r"draws 6 to 8 \(sample .* sample .*\).* \(2 in a row\)$"):
        train(tmp_path / "run", task, toy_loaders(9, 3), config)
    assert "rollback" not in {event["kind"] for event in read_events(tmp_path / "run/events.jsonl")}


def test_rollback_without_a_checkpoint_is_an_error(tmp_path: Path) -> None:
    task = ToyTask(toy_model(), faults=Faults(nan={0: "frames"}))
    with pytest.raises(TrainingError, match="no checkpoint to return to"):
        train(tmp_path / "run", task, toy_loaders(9, 3), toy_config(nonfinite="rollback"))


@pytest.mark.parametrize(
    ("faults", "micro_batches"),
    [(Faults(no_memory=[4]), [6]), (Faults(no_memory_above=4), [6])],
    ids=["once", "always"],
)
def test_out_of_memory_in_a_run_equals_smaller_batches_from_the_start(
    tmp_path: Path, faults: Faults, micro_batches: list[int]
) -> None:
    failing = ToyTask(toy_model(dropout=0.3), faults=faults)
    config = toy_config(ema_decay=0.9)
    failed = train(tmp_path / "failed", failing, toy_loaders(24, 8), config)
    planned = ToyTask(toy_model(dropout=0.3))
    config = toy_config(ema_decay=0.9, accumulation_steps=2)
    expected = train(tmp_path / "planned", planned, toy_loaders(24, 4), config)
    assert failed.summary.steps == expected.summary.steps == 9
    assert [event["micro_batch"] for event in events(failed, "out_of_memory")] == micro_batches
    assert failing.reports[-1].recoveries == len(micro_batches)
    counts = [line["train/samples"] for line in of_kind(failed, "epoch")]
    assert counts == [24, 24, 24]
    if faults.no_memory_above:
        assert same(failed.weights, expected.weights)
        assert failed.metrics() == expected.metrics()


def test_out_of_memory_at_the_smallest_size_saves_and_stops(tmp_path: Path) -> None:
    def start(name: str, faults: Faults | None = None, resume: str | None = None) -> Outcome:
        task = ToyTask(toy_model(dtype=torch.float64), faults=faults)
        return train(tmp_path / name, task, toy_loaders(9, 3, dtype=torch.float64), resume=resume)

    with pytest.raises(TrainingError, match="smallest micro-batch: 1 of 3 samples"):
        start("run", Faults(no_memory=range(4, 100)))
    assert load_checkpoint(find_checkpoint("last", tmp_path / "run")).step == 4
    resumed, unbroken = start("run", resume="last"), start("unbroken")
    assert {len(keys) for keys in resumed.task.seen} == {1}, "the smaller size stays in force"
    for name, value in resumed.weights.items():
        assert torch.allclose(value, unbroken.weights[name], rtol=0, atol=1e-12)


def test_validation_that_does_not_fit_is_judged_in_pieces(tmp_path: Path) -> None:
    tasks = [
        ToyTask(toy_model(dtype=torch.float64), faults=faults)
        for faults in (Faults(), Faults(no_memory_in_validation_above=1))
    ]
    loaders = toy_loaders(9, 3, dtype=torch.float64)
    whole, cut = (
        train(tmp_path / str(number), task, loaders, toy_config(epochs=1))
        for number, task in enumerate(tasks)
    )
    (expected,), (found,) = of_kind(whole, "validation"), of_kind(cut, "validation")
    assert tasks[0].hits.tolist() == tasks[1].hits.tolist()
    assert found.pop("kind") == expected.pop("kind")
    assert found == pytest.approx(expected, rel=1e-12)


def test_validation_of_a_single_sample_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    task = ToyTask(toy_model(), faults=Faults(no_memory_in_validation_above=0))
    with pytest.raises(torch.OutOfMemoryError):
        train(tmp_path / "run", task, toy_loaders(9, 3))


def test_alarm_ends_the_run_with_its_own_code(tmp_path: Path) -> None:
    outcome = train(tmp_path / "run", ToyTask(toy_model(), alarm_at=2), toy_loaders(3, 3), toy_config())
    assert (outcome.summary.epochs, outcome.summary.exit_code) == (2, 3)
    assert outcome.summary.reason == "alarm toy"
    assert "ALARM: toy" in outcome.console
    assert [event["name"] for event in events(outcome, "alarm")] == ["toy"]
    assert [line["alarms"] for line in of_kind(outcome, "validation")] == [0, 1]


def test_step_limit_validates_and_keeps_the_best(tmp_path: Path) -> None:
    outcome = train(tmp_path / "run", ToyTask(toy_model()), toy_loaders(20, 3), toy_config(max_steps=3))
    assert (outcome.summary.steps, outcome.summary.reason) == (3, "reached 3 steps")
    assert outcome.summary.best is not None
    assert load_checkpoint(find_checkpoint("best", outcome.folder)).step == 3
    assert [line["step"] for line in of_kind(outcome, "step")] == [2, 3]


def test_a_headline_that_is_not_measured_is_named(tmp_path: Path) -> None:
    task = ToyTask(toy_model(), headline=Headline("f1"))
    with pytest.raises(
        ValueError, match="headline 'f1' is not among the metrics: accuracy, frames, loss, value"
    ):
        train(tmp_path / "run", task, toy_loaders(3, 3))


def test_an_epoch_without_a_batch_is_refused(tmp_path: Path) -> None:
    loaders = toy_loaders(2, 3)
    loaders.batches.smallest = 3
    with pytest.raises(ValueError, match="2 samples hold no batch of 3"):
        train(tmp_path / "run", ToyTask(toy_model()), loaders)


def test_best_is_a_plain_number_whatever_the_task_returns(tmp_path: Path) -> None:
    class Numpy(ToyTask):
        def metrics(self) -> dict[str, float]:
            return {"accuracy": torch.tensor(0.5, dtype=torch.float64).numpy()[()]}

    outcome = train(tmp_path / "run", Numpy(toy_model()), toy_loaders(3, 3), toy_config(epochs=1))
    assert type(outcome.summary.best) is float


class Sink:
    """Stands for the copy of the metrics elsewhere."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.codes: list[int] = []

    def log(self, values: dict[str, float], step: int) -> None:
        self.steps.append(step)

    def alert(self, text: str) -> None:
        self.steps.append(-1)

    def finish(self, exit_code: int = 0) -> None:
        self.codes.append(exit_code)


@pytest.mark.parametrize(("faults", "code"), [(Faults(), 0), (Faults(nan={1: "frames"}), 1)])
def test_dry_run_writes_nothing_and_the_sink_is_always_closed(
    tmp_path: Path, faults: Faults, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sink = Sink()
    arguments: Any = (
        Run.dry(console=Console(enabled=False)),
        ToyTask(toy_model(), faults=faults, alarm_at=3),
        toy_loaders(6, 3),
        toy_config(nonfinite="abort", save_every_steps=1),
    )
    options: Any = {"provenance": Provenance(config="", metadata={}), "sink": sink}
    if code:
        with pytest.raises(TrainingError):
            fit(*arguments, **options)
    else:
        assert fit(*arguments, **options).exit_code == 3
        assert sink.steps[-1] == -1
    assert sink.codes == [1 if code else 3]
    assert list(tmp_path.iterdir()) == []
