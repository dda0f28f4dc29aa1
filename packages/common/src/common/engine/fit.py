"""The training loop: the only place where gradients are computed and weights change."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.engine.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_latest_good,
    load_weights,
    save_checkpoint,
)
from common.engine.distributed import World
from common.engine.loading import Loaders
from common.engine.randomness import random_state, set_random_state
from common.engine.run import Run
from common.engine.settings import FitConfig
from common.engine.signals import StopRequest, listen_for_stop
from common.engine.state import Progress, Provenance, changed_settings
from common.engine.step import Optimization, TrainingError
from common.engine.task import Batch, EpochReport, Task, batch_size, to_device
from common.engine.wandb import WandbSink
from common.engine.window import TermSums
from common.schedulers.learning_rate import Schedule

MAX_SAVE_FAILURES = 3
MAX_ROLLBACKS = 2
STOPPED_BY_ALARM = 3


class ResumeError(ValueError):
    """A checkpoint does not belong to the run that asks for it; the message lists what differs."""


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    folder: Path
    epochs: int
    steps: int
    headline: str
    best: float | None
    reason: str
    exit_code: int = 0


@dataclass
class _Clock:
    """Time and samples since the last console line."""

    started: float
    waited: float = 0.0
    samples: int = 0

    @classmethod
    def now(cls) -> _Clock:
        return cls(time.monotonic())

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.started, 1e-9)


class Trainer:
    """Everything a run in progress holds; `fit` drives it."""

    def __init__(
        self, run: Run, task: Task, loaders: Loaders, config: FitConfig, provenance: Provenance, world: World
    ) -> None:
        self.run, self.task, self.loaders, self.config = run, task, loaders, config
        self.provenance, self.world = provenance, world
        self.sink: WandbSink | None = None
        self.optimization = Optimization(task, config, world)
        self.model = self.optimization.model
        self.steps_per_epoch = math.ceil(len(loaders.batches) / config.accumulation_steps)
        if self.steps_per_epoch == 0:
            raise ValueError(f"{len(loaders.sampler)} samples hold no batch of {loaders.batches.batch_size}")
        self.schedules = [
            Schedule(
                config=config.schedule,
                base_lr=rate,
                total_steps=config.epochs * self.steps_per_epoch,
                steps_per_epoch=self.steps_per_epoch,
                mode=task.headline.mode,
            )
            for rate in self.optimization.base_lrs
        ]
        self.progress = Progress()
        self.epoch_sums = TermSums.empty()
        self.recent = TermSums.empty()
        self.clock = _Clock.now()
        self.epoch_seconds = 0.0
        self.saved_at = time.monotonic()
        self.save_failures = 0
        self.grad_norm = float("nan")

    def train(self, stop: StopRequest) -> Summary:
        """Run epochs until the planned number, a patience, a limit or a signal ends them."""
        while self.progress.epoch < self.config.epochs:
            self._train_epoch(stop)
            if code := self.world.largest(stop.exit_code):
                self._save(best=False)
                return self._summary(f"stopped by signal {code - 128}", code)
            at_limit = self._at_step_limit()
            if not at_limit or self._epoch_complete():
                self._close_epoch()
            reason = self._validate_and_save(last=at_limit)
            if reason:
                return self._summary(reason, STOPPED_BY_ALARM if reason.startswith("alarm") else 0)
            if at_limit:
                return self._summary(f"reached {self.config.max_steps} steps")
        return self._summary("completed all epochs")

    def _train_epoch(self, stop: StopRequest) -> None:
        self.model.train()
        if self.progress.batch == 0:
            self.task.begin_epoch(self.progress.epoch)
            self.epoch_sums = TermSums.empty()
            self.epoch_seconds = 0.0
        self.clock, self.recent = _Clock.now(), TermSums.empty()
        started = time.monotonic()
        for window in self._windows():
            self._step(window)
            self._after_step()
            if self._at_step_limit() or self.world.largest(stop.exit_code):
                break
        self.epoch_seconds += time.monotonic() - started

    def _windows(self) -> Iterator[list[Batch]]:
        """Yield the rest of the epoch in windows of micro-batches, moved to the device."""
        loaders, progress = self.loaders, self.progress
        loaders.sampler.set_epoch(progress.epoch)
        loaders.sampler.start(self._position())
        window: list[Batch] = []
        waiting = time.monotonic()
        left = len(loaders.batches) - progress.batch
        iterator = iter(loaders.train)
        for index in range(left):
            batch = next(iterator)
            window.append(to_device(batch, self.world.device))
            if len(window) == self.config.accumulation_steps or index == left - 1:
                self.clock.waited += time.monotonic() - waiting
                yield window
                window, waiting = [], time.monotonic()

    def _position(self) -> int:
        """Return how many draws of the epoch all processes have used."""
        return self.progress.batch * self.loaders.batches.batch_size * self.world.size

    def _close_epoch(self) -> None:
        self.progress.epoch += 1
        self.progress.batch = 0

    def _epoch_complete(self) -> bool:
        return self.progress.batch >= len(self.loaders.batches)

    def _at_step_limit(self) -> bool:
        return bool(self.config.max_steps) and self.progress.step >= self.config.max_steps

    def _step(self, window: list[Batch]) -> None:
        progress = self.progress
        place = (progress.step, progress.epoch, progress.history)
        factors = [schedule.factor(*place) * progress.lr_scale for schedule in self.schedules]
        result = self.optimization.take(window, factors, self._shrunk)
        if result.applied:
            progress.skipped = 0
            self.epoch_sums.merge(result.sums)
            self.recent.merge(result.sums)
        self.grad_norm = result.grad_norm
        progress.step += 1
        progress.batch += len(window)
        self.clock.samples += sum(batch_size(batch) for batch in window) * self.world.size
        if result.bad_terms:
            self._not_finite(result.bad_terms)

    def _shrunk(self, old: int, new: int) -> None:
        self.progress.recoveries += 1
        text = f"micro-batch {old} -> {new}, same samples and effective batch"
        self._event("out_of_memory", text, micro_batch=new)

    def _not_finite(self, bad: tuple[str, ...]) -> None:
        progress = self.progress
        progress.skipped += 1
        where = f"step {progress.step}, epoch {progress.epoch + 1}, before batch {progress.batch + 1}"
        text = f"not finite: {', '.join(bad)} at {where}; step skipped ({progress.skipped} in a row)"
        self._event("nonfinite", text, terms=list(bad))
        if self.config.nonfinite == "abort":
            raise TrainingError(text)
        if self.config.nonfinite == "rollback" or progress.skipped >= self.config.max_consecutive_nonfinite:
            self._roll_back(text)

    def _roll_back(self, text: str) -> None:
        """Return to the last checkpoint's weights and moments at half the rate; the data position stays."""
        if self.progress.rollbacks >= MAX_ROLLBACKS or not any(self.run.checkpoints.glob("step-*")):
            raise TrainingError(f"{text}; no rollback left")
        checkpoint, _ = load_latest_good(self.run.folder)
        self._load_weights(checkpoint)
        self.progress.rollbacks += 1
        self.progress.skipped = 0
        self.progress.lr_scale *= 0.5
        self._event(
            "rollback", f"rolled back to step {checkpoint.step}, learning rate halved", to=checkpoint.step
        )

    def _after_step(self) -> None:
        config, step = self.config, self.progress.step
        if step % config.log_every == 0 or self._epoch_complete():
            self._log_step()
        minutes = (time.monotonic() - self.saved_at) / 60
        due = bool(config.save_every_steps) and step % config.save_every_steps == 0
        late = bool(config.save_every_minutes) and minutes >= config.save_every_minutes
        if self.world.largest(int(due or late)) and not self._epoch_complete():
            self._save(best=False)

    def _log_step(self) -> None:
        if not self.recent.totals:
            return
        means = self.recent.reduced(self.world).means()
        clock, step = self.clock, self.progress.step
        values = {f"train/{name}": value for name, value in means.items()}
        values |= {"train/grad_norm": self.grad_norm, **self.optimization.rates()}
        values |= {"train/samples_per_second": clock.samples / clock.seconds}
        self._write("step", values)
        self.run.console.step(
            step,
            self.config.max_steps or self.config.epochs * self.steps_per_epoch,
            loss=means.pop("loss"),
            terms=means,
            lr=next(iter(self.optimization.rates().values())),
            grad=self.grad_norm,
            rate=clock.samples / clock.seconds,
            waiting=clock.waited / clock.seconds,
            memory_gib=self._memory(),
        )
        self.recent, self.clock = TermSums.empty(), _Clock.now()

    def _memory(self) -> float:
        return peak_memory(self.world.device) / 2**30

    def _validate_and_save(self, *, last: bool) -> str:
        """Validate when it is time, save, and return why the run should end, or nothing."""
        epoch = self.progress.epoch
        self._log_epoch()
        if epoch % self.config.validate_every and epoch < self.config.epochs and not last:
            self._save(best=False)
            return ""
        report = self._validate()
        reason = self._announce(report)
        self._save(best=report.improved)
        patience = self.config.early_stopping_patience
        if not reason and patience and self.progress.stale >= patience:
            reason = f"no better {self.task.headline.metric} in {patience} validations"
        return reason

    def _log_epoch(self) -> None:
        self.epoch_means = self.epoch_sums.reduced(self.world).means() | self.task.train_metrics()
        values = {f"train/{name}": value for name, value in self.epoch_means.items()}
        self._write("epoch", values | {"train/seconds": self.epoch_seconds} | self.optimization.rates())

    def _validate(self) -> EpochReport:
        started = time.monotonic()
        self.model.eval()
        ema = self.optimization.ema
        with nullcontext() if ema is None else ema.applied_to(self.model):
            metrics = self._measure()
        headline = self.task.headline
        if headline.metric not in metrics:
            raise KeyError(
                f"the headline {headline.metric!r} is not among the metrics: {', '.join(sorted(metrics))}"
            )
        value, progress = metrics[headline.metric], self.progress
        improved = headline.better(value, progress.best, self.config.early_stopping_min_delta)
        progress.history.append((progress.step, value))
        progress.stale = 0 if improved else progress.stale + 1
        if improved:
            progress.best, progress.best_step = value, progress.step
        seconds = time.monotonic() - started
        return EpochReport(
            progress.epoch,
            progress.step,
            self.epoch_means,
            metrics,
            improved,
            seconds,
            self.optimization.rates(),
        )

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        self.task.begin_validation()
        sums = TermSums.empty()
        for batch in self.loaders.valid:
            with self.optimization.precision.autocast():
                sums.add(self.task.validation_step(to_device(batch, self.world.device)))
        self.world.sum_(self.task.metric_states())
        return {**sums.reduced(self.world).means(), **self.task.metrics()}

    def _announce(self, report: EpochReport) -> str:
        values = {f"valid/{name}": value for name, value in report.valid.items()}
        events = self.task.epoch_events(report)
        self._write("validation", values | {"valid/seconds": report.seconds, "alarms": float(len(events))})
        self.run.console.line("valid", self._valid_line(report))
        for line in self.task.epoch_lines(report):
            self.run.console.raw(line)
        reason = ""
        for event in events:
            self.run.console.raw(event["text"])
            self.run.events.write(event["kind"], self.progress.step, self.progress.epoch, event)
            if self.sink is not None:
                self.sink.alert(event["text"])
            if event.get("stop"):
                reason = f"alarm {event['name']}"
        return reason

    def _valid_line(self, report: EpochReport) -> str:
        headline = self.task.headline.metric
        names = dict.fromkeys([*self.task.console_metrics, headline, "loss"])
        parts = [
            f"{name} {report.valid[name]:.3f}" + (" *" if name == headline and report.improved else "")
            for name in names
        ]
        return "  ".join([f"epoch {report.epoch} ", *parts, f"{report.seconds:.0f} s"])

    def _save(self, *, best: bool) -> None:
        """Write a checkpoint; a failure warns and leaves the old ones, the third in a row stops the run."""
        self.saved_at = time.monotonic()
        own = {"rng": random_state(), "task": self.task.state_dict(), "sums": self.epoch_sums.state_dict()}
        ranks = self.world.gather(own)
        if not self.world.main:
            return
        try:
            path = save_checkpoint(
                self.run.checkpoints, self._checkpoint(ranks), best=best, keep_last=self.config.keep_last
            )
        except CheckpointError as error:
            self.save_failures += 1
            self._event("save_failed", f"checkpoint not saved ({self.save_failures}): {error}")
            if self.save_failures >= MAX_SAVE_FAILURES:
                raise TrainingError(
                    f"{MAX_SAVE_FAILURES} checkpoints in a row could not be saved: {error}"
                ) from error
            return
        self.save_failures = 0
        fields = {"path": path.name, "best": best}
        self.run.events.write("checkpoint", self.progress.step, self.progress.epoch, fields)

    def _checkpoint(self, ranks: list[dict[str, Any]]) -> Checkpoint:
        headline, progress = self.task.headline, self.progress
        value = progress.history[-1][1] if progress.history else None
        return Checkpoint(
            step=progress.step,
            epoch=progress.epoch,
            headline={"metric": headline.metric, "mode": headline.mode, "value": value},
            model=self.model.state_dict(),
            ema=None if self.optimization.ema is None else self.optimization.ema.shadow,
            state={
                "progress": progress.state_dict(),
                "optimization": self.optimization.state_dict(),
                "sampler": self.loaders.sampler.state_dict(self._position()),
                "epoch_seconds": self.epoch_seconds,
                "ranks": ranks,
            },
            config=self.provenance.config,
            statistics=self.provenance.statistics,
            metadata=self.provenance.metadata,
            path=None,
        )

    def restore(self, where: str) -> None:
        """Continue from a checkpoint; raises ResumeError listing settings or metadata that differ."""
        checkpoint, messages = load_latest_good(where, self.run.folder)
        for message in messages:
            self.run.console.line("resume", message)
        self._refuse_other_run(checkpoint)
        self._load_weights(checkpoint)
        state = checkpoint.state
        self.progress = Progress.from_state(state["progress"])
        self.loaders.sampler.load_state_dict(state["sampler"])
        self.epoch_seconds = state["epoch_seconds"]
        if len(state["ranks"]) == self.world.size:
            own = state["ranks"][self.world.rank]
            self.task.load_state_dict(own["task"])
            self.epoch_sums = TermSums(**own["sums"])
            set_random_state(own["rng"])
        else:
            text = f"saved by {len(state['ranks'])} processes, continued by {self.world.size}: not bitwise"
            self.run.console.line("resume", text)
        self.run.metrics.resume(checkpoint.step)
        self.run.events.resume(checkpoint.step)
        self.run.console.line("resume", f"step {checkpoint.step}, epoch {checkpoint.epoch + 1}")

    def _refuse_other_run(self, checkpoint: Checkpoint) -> None:
        there, here = checkpoint.metadata, self.provenance.metadata
        lines = [
            f"{name}: {there.get(name)!r} in the checkpoint, {here.get(name)!r} here"
            for name in self.provenance.fixed_metadata
            if there.get(name) != here.get(name)
        ]
        lines += changed_settings(checkpoint.config, self.provenance.config, self.provenance.free_settings)
        if lines:
            raise ResumeError("cannot resume, these differ:\n  " + "\n  ".join(lines))

    def _load_weights(self, checkpoint: Checkpoint) -> None:
        load_weights(self.model, checkpoint.model, what=str(checkpoint.path))
        self.optimization.load_state_dict(checkpoint.state["optimization"], checkpoint.ema)

    def _write(self, kind: str, values: dict[str, float]) -> None:
        self.run.metrics.write(kind, self.progress.step, self.progress.epoch, values)
        if self.sink is not None:
            self.sink.log(values, self.progress.step)

    def _event(self, kind: str, text: str, **fields: Any) -> None:
        self.run.console.line(kind, text)
        self.run.events.write(kind, self.progress.step, self.progress.epoch, {"text": text, **fields})

    def _summary(self, reason: str, exit_code: int = 0) -> Summary:
        progress, metric = self.progress, self.task.headline.metric
        return Summary(
            self.run.folder, progress.epoch, progress.step, metric, progress.best, reason, exit_code
        )


def fit(
    run: Run,
    task: Task,
    loaders: Loaders,
    config: FitConfig,
    *,
    provenance: Provenance,
    world: World | None = None,
    resume: str | None = None,
    sink: WandbSink | None = None,
) -> Summary:
    """Train `task.model` and return how it ended; the best and last checkpoints are in `run.checkpoints`.

    `resume` is a run folder, a checkpoint folder, `last` or `best`. On one machine, with the same versions
    and number of processes, a run killed at any moment and resumed ends with the same weights, bit for bit.

    Raises ValueError for settings that do not fit together, TrainingError when training cannot go on.
    """
    trainer = Trainer(run, task, loaders, config, provenance, world or World())
    trainer.sink = sink
    if resume is not None:
        trainer.restore(resume)
    with listen_for_stop() as stop:
        summary = trainer.train(stop)
    if sink is not None:
        sink.finish()
    return summary


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes: of the device, or resident on the host."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
