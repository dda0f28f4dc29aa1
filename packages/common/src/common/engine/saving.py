"""Saving a run and going back to what was saved: resume and rollback."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from common.engine.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_latest_good,
    load_weights,
    save_checkpoint,
)
from common.engine.course import Course
from common.engine.journal import Journal
from common.engine.run import Run
from common.engine.state import Provenance, changed_settings
from common.engine.step import TrainingError

MAX_SAVE_FAILURES = 3


class ResumeError(ValueError):
    """A checkpoint does not belong to the run that asks for it; the message lists what differs."""


class Saver:
    """Writes and reads the checkpoints of one run. Every process calls every method, at the same step."""

    def __init__(
        self, run: Run, course: Course, provenance: Provenance, journal: Journal, keep_last: int
    ) -> None:
        self.run, self.course, self.provenance = run, course, provenance
        self.journal, self.keep_last = journal, keep_last
        self.failures = 0
        self._saved_at = time.monotonic()

    @property
    def minutes(self) -> float:
        """Minutes since the last attempt to save."""
        return (time.monotonic() - self._saved_at) / 60

    def save(self, *, best: bool = False, state: dict[str, Any] | None = None) -> None:
        """Write a checkpoint of the present weights with `state`, by default the present one.

        A failure warns and leaves the old checkpoints. Raises TrainingError at the third in a row.
        """
        if state is None:
            state = self.course.state_dict()
        error = self.course.world.from_main(self._write(state, best) if self.run.writes else "")
        self._saved_at = time.monotonic()
        if not error:
            self.failures = 0
            return
        self.failures += 1
        text = f"checkpoint not saved ({self.failures} of {MAX_SAVE_FAILURES}): {error}"
        self.journal.event("save_failed", {}, text=text)
        if self.failures >= MAX_SAVE_FAILURES:
            raise TrainingError(f"{MAX_SAVE_FAILURES} checkpoints in a row could not be saved: {error}")

    def _write(self, state: dict[str, Any], best: bool) -> str:
        """Write a checkpoint; return why it could not be written, or nothing."""
        try:
            path = save_checkpoint(
                self.run.checkpoints, self._checkpoint(state), best=best, keep_last=self.keep_last
            )
        except CheckpointError as error:
            return str(error)
        self.journal.event("checkpoint", {"path": path.name, "best": best})
        return ""

    def _checkpoint(self, state: dict[str, Any]) -> Checkpoint:
        course, provenance = self.course, self.provenance
        headline, history = course.task.headline, course.progress.history
        value = history[-1][1] if history else None
        ema = course.optimization.ema
        return Checkpoint(
            step=state["progress"]["step"],
            epoch=state["progress"]["epoch"],
            headline={"metric": headline.metric, "mode": headline.mode, "value": value},
            model=course.optimization.model.state_dict(),
            ema=None if ema is None else ema.shadow,
            state=state,
            config=provenance.config,
            statistics=provenance.statistics,
            metadata=provenance.metadata,
        )

    def restore(self, where: str, *, best: float | None = None) -> None:
        """Continue from a checkpoint; `best` takes the place of the best headline it knows.

        Raises ResumeError listing settings, metadata or tensors that differ, CheckpointError when there is
        none.
        """
        checkpoint, lines = self._read(where)
        self._refuse_other_run(checkpoint)
        try:
            self._load_weights(checkpoint)
        except ValueError as error:
            raise ResumeError(f"cannot resume: {error}") from error
        lines += self.course.load_state_dict(checkpoint.state)
        if best is not None:
            lines.append(f"best {best:g} instead of {self.course.progress.best}")
            self.course.progress.best = best
        self.journal.resume(checkpoint.step)
        if checkpoint.config != self.provenance.config:
            self.run.replace_config(self.provenance.config)
        for line in [*lines, f"step {checkpoint.step}, epoch {checkpoint.epoch + 1}"]:
            self.journal.console.line("resume", line)

    def roll_back(self) -> int:
        """Return to the last good checkpoint's weights, moments and averages; return its step.

        The place in the data stays, and so does the micro-batch size.
        """
        checkpoint, _ = self._read("last")
        micro_batch = self.course.optimization.micro_batch
        self._load_weights(checkpoint)
        self.course.optimization.micro_batch = micro_batch
        return checkpoint.step

    def _read(self, where: str) -> tuple[Checkpoint, list[str]]:
        """Return the checkpoint that the main process finds good, and lines about damaged ones."""
        world = self.course.world
        checkpoint: Checkpoint | None = None
        found: tuple[Path | None, list[str]] | CheckpointError = (None, [])
        if world.main:
            try:
                checkpoint, lines = load_latest_good(where, self.run.folder)
                found = (checkpoint.path, lines)
            except CheckpointError as error:
                found = error
        found = world.from_main(found)
        if isinstance(found, CheckpointError):
            raise found
        path, lines = found
        if checkpoint is None:
            assert path is not None
            checkpoint = load_checkpoint(path)
        return checkpoint, lines

    def _refuse_other_run(self, checkpoint: Checkpoint) -> None:
        there, here = checkpoint.metadata, self.provenance.metadata
        lines = [
            f"{name}: {there.get(name)!r} in the checkpoint, {here.get(name)!r} here"
            for name in self.provenance.fixed_metadata
            if there.get(name) != here.get(name)
        ]
        provenance = self.provenance
        changed = changed_settings(checkpoint.config, provenance.config, provenance.free_settings)
        if provenance.allow_changes:
            for line in changed:
                self.journal.console.line("resume", line)
        else:
            lines += changed
        if lines:
            raise ResumeError("cannot resume, these differ:\n  " + "\n  ".join(lines))

    def _load_weights(self, checkpoint: Checkpoint) -> None:
        optimization = self.course.optimization
        load_weights(optimization.model, checkpoint.model, what=str(checkpoint.path))
        optimization.load_state_dict(checkpoint.state["optimization"], checkpoint.ema)
