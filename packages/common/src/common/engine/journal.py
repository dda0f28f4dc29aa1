"""What a run tells while it trains: metrics, events and console lines, from one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from common.engine.run import Run
from common.engine.state import Progress
from common.engine.wandb import WandbSink
from common.freezing.state import Decision


class Journal:
    """Writes to the run's files, its console and the optional sink, at the run's present step.

    A line that cannot be written, for want of space say, is lost with a line on the console: what must not be
    lost is in the checkpoints.
    """

    def __init__(self, run: Run, sink: WandbSink | None, progress: Progress) -> None:
        self.console = run.console
        self._run, self._sink, self._progress = run, sink, progress

    def metrics(self, kind: str, values: Mapping[str, float]) -> None:
        """Append a line to `metrics.jsonl` and hand it to the sink."""
        try:
            self._run.metrics.write(kind, self._progress.step, self._progress.epoch, values)
        except OSError as error:
            self.console.line("log", f"{kind} line of step {self._progress.step} not written: {error}")
        if self._sink is not None:
            self._sink.log(values, self._progress.step)

    def event(self, kind: str, fields: Mapping[str, Any], *, text: str = "") -> None:
        """Append a line to `events.jsonl`; `text`, when there is one, is shown on the console too."""
        if text:
            self.console.line(kind, text)
            fields = {"text": text, **fields}
        try:
            self._run.events.write(kind, self._progress.step, self._progress.epoch, fields)
        except OSError as error:
            self.console.line("log", f"{kind} event of step {self._progress.step} not written: {error}")

    def alarm(self, event: Mapping[str, Any]) -> None:
        """Show an application's event, write it down and send it out."""
        self.console.raw(event["text"])
        self.event(event["kind"], event)
        if self._sink is not None:
            self._sink.alert(event["text"])

    def freezing(self, decisions: Iterable[Decision], probe_seconds: float) -> None:
        """Tell what was decided about frozen blocks."""
        for decision in decisions:
            self.console.line("freeze", decision.line())
            self.event("freezing", {**decision.to_dict(), "probe_seconds": round(probe_seconds, 3)})

    def resume(self, step: int) -> None:
        """Mark that what was written past `step` no longer counts."""
        self._run.metrics.resume(step)
        self._run.events.resume(step)
