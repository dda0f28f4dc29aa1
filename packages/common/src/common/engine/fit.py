"""The training loop: epochs of steps, validation after each, and everything that may end a run."""

from __future__ import annotations

import math
import resource
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from common.engine.checkpoint import CheckpointError
from common.engine.course import Clock, Course
from common.engine.distributed import World
from common.engine.journal import Journal
from common.engine.loading import BatchTimeout, Loaders, WorkerError
from common.engine.rates import Rates
from common.engine.run import Run
from common.engine.saving import ResumeError, Saver
from common.engine.settings import FitConfig
from common.engine.signals import StopRequest, listen_for_stop
from common.engine.stability import Stability
from common.engine.state import Provenance
from common.engine.step import Optimization, StepMemoryError, StepResult, TrainingError
from common.engine.task import Batch, EpochReport, Task
from common.engine.validation import logged, measure, train_metrics
from common.engine.wandb import WandbSink
from common.engine.window import LossSums

if TYPE_CHECKING:
    from common.freezing.driver import Freezer

__all__ = ["ResumeError", "Summary", "Trainer", "TrainingError", "fit", "peak_memory"]

MAX_RESTARTS = 2
STOPPED_BY_ALARM = 3


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


class Trainer:
    """A run in progress; `fit` drives it."""

    def __init__(
        self,
        run: Run,
        task: Task,
        loaders: Loaders,
        config: FitConfig,
        provenance: Provenance,
        world: World,
        sink: WandbSink | None = None,
        freezer: Freezer | None = None,
    ) -> None:
        self.task, self.config, self.world = task, config, world
        if len(loaders.batches) == 0:
            raise ValueError(f"{len(loaders.sampler)} samples hold no batch of {loaders.batches.batch_size}")
        self.freezer = freezer
        self.optimization = Optimization(task, config, world, freezer)
        self.course = Course(task, loaders, self.optimization, world, config.accumulation_steps)
        self.progress = self.course.progress
        self.journal = Journal(run, sink, self.progress)
        self.stability = Stability(task, self.progress, self.journal)
        self.saver = Saver(run, self.course, provenance, self.journal, config.keep_last)
        self.folder = run.folder
        self.rates = Rates(self.course, config)
        self.clock = Clock.now()
        self.grad_norm = float("nan")
        self.exit_code = 0
        """128 + the signal that is ending the run."""
        self.alarm = ""
        """The alarm that is ending the run."""

    def train(self, stop: StopRequest) -> Summary:
        """Run epochs until the planned number, a patience, a limit, an alarm or a signal ends them."""
        self.rates.refresh()
        while (reason := self._ending()) is None:
            try:
                self._train_epoch(stop)
            except (StepMemoryError, WorkerError, BatchTimeout) as error:
                self.saver.save()
                raise TrainingError(str(error)) from error
            self._close_epoch(stop)
        progress, metric = self.progress, self.task.headline.metric
        code = self.exit_code or (STOPPED_BY_ALARM if self.alarm else 0)
        return Summary(self.folder, progress.epoch, progress.step, metric, progress.best, reason, code)

    def _ending(self) -> str | None:
        """Return why the run is over, or None."""
        config, progress = self.config, self.progress
        if self.exit_code:
            return f"stopped by signal {self.exit_code - 128}"
        if self.alarm:
            return f"alarm {self.alarm}"
        if config.early_stopping_patience and progress.stale >= config.early_stopping_patience:
            return f"no better {self.task.headline.metric} in {config.early_stopping_patience} validations"
        if progress.epoch >= config.epochs:
            return "completed all epochs"
        if self._at_step_limit():
            return f"reached {config.max_steps} steps"
        return None

    def _at_step_limit(self) -> bool:
        return bool(self.config.max_steps) and self.progress.step >= self.config.max_steps

    def _train_epoch(self, stop: StopRequest) -> None:
        """Train to the end of the epoch, or until the step limit or a signal."""
        (self.freezer or self.optimization.model).train()
        self.course.begin_epoch()
        self.clock = Clock.now()
        started = waiting = time.monotonic()
        for window in self.course.windows(self._worker_died):
            waited = time.monotonic() - waiting
            self.clock.waited += waited
            self.course.tally.waited += waited
            self._step(window)
            if self._after_step(stop):
                break
            waiting = time.monotonic()
        self.course.tally.seconds += time.monotonic() - started

    def _step(self, window: list[Batch]) -> None:
        progress = self.progress
        result = self.optimization.take(window, self.rates.factors(), self._shrunk)
        first = self.course.position
        progress.step += 1
        progress.batch += len(window)
        progress.discarded += not result.applied
        self.grad_norm = result.grad_norm
        samples = sum(map(self.task.size, window)) * self.world.size
        self.clock.samples += samples
        self.course.tally.samples += samples
        if result.bad_terms:
            self._not_finite(result, window, first)
            return
        progress.skipped = 0
        self.course.tally.add(result.sums)

    def _worker_died(self, error: WorkerError, draw: int) -> None:
        if self.progress.restarts >= MAX_RESTARTS:
            raise error
        self.progress.restarts += 1
        text = f"{error}; loader started anew at draw {draw} of epoch {self.progress.epoch + 1}"
        self.journal.event("worker_died", {}, text=text)

    def _shrunk(self, old: int, new: int) -> None:
        self.progress.recoveries += 1
        text = f"micro-batch {old} -> {new}, same samples and effective batch"
        self.journal.event("out_of_memory", {"micro_batch": new}, text=text)

    def _not_finite(self, result: StepResult, window: list[Batch], first: int) -> None:
        self.progress.skipped += 1
        names = [name for batch in window for name in self.task.sample_names(batch)]
        drawn = f"draws {first} to {self.course.position - 1}" + (f" ({' '.join(names)})" if names else "")
        self.stability.not_finite(result.bad_terms, drawn)
        skipped, limit = self.progress.skipped, self.config.max_consecutive_nonfinite
        if self.config.nonfinite == "abort":
            raise self.stability.error()
        if self.config.nonfinite == "rollback" or skipped >= limit:
            self._roll_back()

    def _roll_back(self) -> None:
        """Go back to the last checkpoint's weights at half the rate, or end the run when that was tried."""
        progress = self.progress
        if progress.rollbacks >= self.config.max_rollbacks:
            times = progress.rollbacks
            raise self.stability.error(f"; rolled back {times} times already" if times else "")
        try:
            to = self.saver.roll_back()
        except CheckpointError as error:
            raise self.stability.error(f"; no checkpoint to return to: {error}") from error
        progress.rollbacks += 1
        progress.skipped = 0
        progress.lr_scale *= 0.5
        self.journal.event("rollback", {"to": to}, text=f"rolled back to step {to}, learning rate halved")

    def _after_step(self, stop: StopRequest) -> bool:
        """Log and save when it is time; return whether to leave the epoch before its end."""
        config, step, complete = self.config, self.progress.step, self.course.epoch_complete
        if step % config.log_every == 0 or complete:
            self._log_step()
        late = bool(config.save_every_minutes) and self.saver.minutes >= config.save_every_minutes
        asked = self.world.largest(stop.exit_code or int(late))
        if asked > 1:
            self.exit_code = asked
        due = bool(config.save_every_steps) and step % config.save_every_steps == 0
        leaving = bool(self.exit_code) or self._at_step_limit()
        if (due or asked == 1) and not (complete or leaving):
            self.saver.save()
        return leaving

    def _log_step(self) -> None:
        tally, clock = self.course.tally, self.clock
        if not tally.recent.totals:
            return
        means = tally.recent.means()
        rates, speed = self.optimization.rates(), clock.samples / clock.seconds
        values = {f"train/{name}": value for name, value in means.items()}
        values |= {"train/grad_norm": self.grad_norm, **rates, "train/samples_per_second": speed}
        self.journal.metrics("step", values)
        self.journal.console.step(
            self.progress.step,
            self.config.max_steps or self.config.epochs * self.course.steps_per_epoch,
            loss=means.pop("loss"),
            terms=means,
            lr=next(iter(rates.values())),
            grad=self.grad_norm,
            rate=speed,
            waiting=clock.waited / clock.seconds,
            memory_gib=peak_memory(self.world.device) / 2**30,
        )
        tally.recent, self.clock = LossSums(), Clock.now()

    def _close_epoch(self, stop: StopRequest) -> None:
        """Validate and save when it is time.

        What happens only because the run ends here, by a signal or a step limit, leaves no trace in the state
        that is saved, so that the resumed run goes on as if it had not ended.
        """
        course, config = self.course, self.config
        before, complete = course.state_dict(), course.epoch_complete
        if self.exit_code:
            self.saver.save(state=before)
            return
        self._log_step()
        if complete:
            course.close_epoch()
        epoch = self.progress.epoch
        regular = complete and (epoch % config.validate_every == 0 or epoch == config.epochs)
        train = self._log_epoch()
        if not regular and not self._at_step_limit():
            self._change_open_blocks(None)
            self.saver.save()
            return
        report = self._validate(train, stop)
        if report is None:
            self.saver.save(state=before)
            return
        self._announce(report)
        if regular:
            self._change_open_blocks(report.valid[self.task.headline.metric])
        self.saver.save(best=report.improved, state=None if regular else before)

    def _change_open_blocks(self, metric: float | None) -> None:
        """Let the freezer decide what trains from here on; a change gives patience a new start."""
        freezer = self.freezer
        if freezer is None:
            return
        decisions, seconds = freezer.close_epoch(self.optimization, self.progress, self.task.headline, metric)
        self.journal.freezing(decisions, seconds)
        if freezer.waits or any(decision.pieces for decision in decisions):
            self.progress.stale = 0
        self.rates.refresh()

    def _log_epoch(self) -> dict[str, float]:
        tally = self.course.tally
        losses = tally.epoch.means()
        self.stability.close_epoch(losses)
        means = losses | train_metrics(self.task, self.world)
        values = logged(means)
        pace = {
            "train/seconds": tally.seconds,
            "time/wait_fraction": self._waited(),
            "train/samples_per_second": tally.samples / max(tally.seconds, 1e-9),
        }
        if self.freezer is not None:
            values["freeze/open_blocks"] = float(self.freezer.open_blocks)
        self.journal.metrics("epoch", values | pace | self.optimization.rates())
        return means

    def _validate(self, train: dict[str, float], stop: StopRequest) -> EpochReport | None:
        """Return what the validation found, or None when a signal cut it short."""
        started = time.monotonic()
        optimization, headline, progress = self.optimization, self.task.headline, self.progress
        model, ema = optimization.model.eval(), optimization.ema
        with nullcontext() if ema is None else ema.applied_to(model):
            metrics = measure(
                self.task,
                self.course.loaders.valid,
                optimization.precision,
                self.world,
                stop,
                oom_recovery=self.config.oom_recovery,
                copy_ahead=self.course.loaders.copy_ahead,
            )
        if metrics is None:
            self.exit_code = self.world.largest(stop.exit_code)
            return None
        if headline.metric not in metrics:
            names = ", ".join(sorted(metrics))
            raise ValueError(f"the headline {headline.metric!r} is not among the metrics: {names}")
        value = metrics[headline.metric]
        improved = headline.better(value, progress.best, self.config.early_stopping_min_delta)
        progress.history.append((progress.step, value))
        progress.stale = 0 if improved else progress.stale + 1
        if improved:
            progress.best, progress.best_step = value, progress.step
        return EpochReport(
            progress.epoch,
            progress.step,
            train,
            metrics,
            improved,
            time.monotonic() - started,
            optimization.rates(),
            progress.recoveries,
            train_seconds=self.course.tally.seconds,
            waited=self._waited(),
            grad_norm=self.grad_norm,
            best=progress.best,
            best_epoch=math.ceil(progress.best_step / self.course.steps_per_epoch),
        )

    def _waited(self) -> float:
        """Return the share of the epoch's training time spent waiting for the loader."""
        return self.course.tally.waited / max(self.course.tally.seconds, 1e-9)

    def _announce(self, report: EpochReport) -> None:
        """Write and print what a validation found, and note an alarm that ends the run."""
        events = self.task.epoch_events(report)
        values = {f"valid/{name}": value for name, value in report.valid.items()}
        judged = len(self.course.loaders.valid.dataset)  # type: ignore[arg-type]
        pace = {"valid/seconds": report.seconds, "valid/samples_per_second": judged / report.seconds}
        self.journal.metrics("validation", values | pace | {"alarms": float(len(events))})
        if judged:
            self.journal.console.line("valid", self._valid_line(report))
        for line in self.task.epoch_lines(report):
            self.journal.console.raw(line)
        for event in events:
            self.journal.alarm(event)
        names = [str(event["name"]) for event in events if event.get("stop")]
        self.alarm = self.world.from_main(names[-1] if names else "")

    def _valid_line(self, report: EpochReport) -> str:
        headline = self.task.headline.metric
        names = dict.fromkeys([*self.task.console_metrics, headline, "loss"])
        parts = [
            f"{name} {report.valid[name]:.3f}" + (" *" if name == headline and report.improved else "")
            for name in names
        ]
        return "  ".join([f"epoch {report.epoch} ", *parts, f"{report.seconds:.0f} s"])


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
    freezer: Freezer | None = None,
) -> Summary:
    """Train `task.model` and return how it ended; the best and last checkpoints are in `run.checkpoints`.

    `resume` is a run folder, a checkpoint folder, `last` or `best`. On one machine, with the same versions
    and number of processes, a run killed at any moment and resumed ends with the same weights, bit for bit.
    `freezer` opens blocks of the model by and by and sets the base rates; patience then counts from the first
    opening and starts again at each further one.

    Raises ValueError for settings that do not fit together, ResumeError and CheckpointError when the run to
    be resumed is another one or cannot be read, TrainingError when training cannot go on.
    """
    trainer = Trainer(run, task, loaders, config, provenance, world or World(), sink, freezer)
    exit_code = 1
    try:
        if resume is not None:
            trainer.saver.restore(resume, best=config.resume_best)
        with listen_for_stop() as stop:
            summary = trainer.train(stop)
        exit_code = summary.exit_code
    finally:
        if sink is not None:
            sink.finish(exit_code)
    return summary


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes: of the device, or resident on the host."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
