"""What a run writes while it trains: two JSON-lines files and the console."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

_FIXED = ("kind", "step", "epoch", "seconds")
_STEP_LINES_PER_SECOND = 10


class JsonLines:
    """A file of one JSON object per line, complete after every `write`; without a path nothing is written.

    `seconds` counts running time on a monotonic clock and goes on where an existing file ends.
    Raises OSError when the disk is full; the file then still ends with a complete line.
    """

    def __init__(self, path: Path | None) -> None:
        self._descriptor: int | None = None
        self._started = time.monotonic()
        if path is None:
            return
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._started -= self._repair(path)

    def _repair(self, path: Path) -> float:
        """Cut off a line that a killed process left unfinished and return the running time so far."""
        end, last = 0, b""
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    end, last = end + len(line), line
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, end)
        return float(json.loads(last)["seconds"]) if last else 0.0

    def _append(self, kind: str, step: int, epoch: int | None, values: Mapping[str, Any]) -> None:
        if self._descriptor is None:
            return
        fixed = {"kind": kind, "step": step, "epoch": epoch}
        clash = [name for name in _FIXED if name in values and values[name] != fixed.get(name)]
        if clash:
            raise ValueError(f"{kind}: the names {', '.join(clash)} belong to the line itself")
        seconds = round(time.monotonic() - self._started, 3)
        content = json.dumps({**fixed, "seconds": seconds, **values}, allow_nan=False).encode() + b"\n"
        size = os.fstat(self._descriptor).st_size
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        finally:
            if written < len(content):
                os.ftruncate(self._descriptor, size)

    def resume(self, step: int, epoch: int | None = None) -> None:
        """Note that the run continues from `step`: whatever was written past it no longer counts."""
        self._append("resume", step, epoch, {})

    def close(self) -> None:
        """Close the file; later writes are ignored."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MetricsLog(JsonLines):
    """`metrics.jsonl`: flat names with numbers, NaN and infinity as null."""

    def write(self, kind: str, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Append one line of kind `step`, `epoch` or `validation`."""
        self._append(kind, step, epoch, {name: _finite(float(value)) for name, value in values.items()})


class EventLog(JsonLines):
    """`events.jsonl`: what happened, with nested values; arrays and tensors become lists."""

    def write(self, kind: str, step: int, epoch: int, values: Mapping[str, Any] | None = None) -> None:
        """Append one event. Raises TypeError for a value that JSON has no form for."""
        self._append(kind, step, epoch, _json_form(values or {}))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl` that count, as if the run had never been interrupted.

    Lines past the step of a later resume are dropped, and a line written again after a resume replaces
    the one from before. Raises ValueError naming the file and line that cannot be parsed.
    """
    kept: list[tuple[int, dict[str, Any]]] = []
    part, resumed_at = 0, -1
    for line in _parsed(path):
        if line["kind"] == "resume":
            part, resumed_at = part + 1, line["step"]
            kept = [(at, old) for at, old in kept if old["step"] <= resumed_at]
            continue
        if line["step"] <= resumed_at:
            key = (line["kind"], line["step"])
            kept = [(at, old) for at, old in kept if at == part or (old["kind"], old["step"]) != key]
        kept.append((part, line))
    return [line for _, line in kept]


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events that count, resumes included; those past the step of a later resume are dropped.

    Raises ValueError naming the file and line that cannot be parsed.
    """
    kept: list[dict[str, Any]] = []
    for line in _parsed(path):
        if line["kind"] == "resume":
            kept = [old for old in kept if old["step"] <= line["step"]]
        kept.append(line)
    return kept


def _parsed(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete lines; the last one is skipped while it has no end."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not valid JSON: {error}") from error


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _json_form(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {str(name): _json_form(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_form(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):
        return _json_form(value.tolist())
    raise TypeError(f"an event cannot hold a {type(value).__name__}")


class _Lines(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Go on without a reader when the one there was has gone, as `head` does; else say what is wrong."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())
        else:
            super().handleError(record)


class Console:
    """Lines for a person: a label of nine columns, then the text, in ASCII.

    `stream` is standard output when None; nothing is printed unless `enabled`.
    """

    def __init__(self, stream: TextIO | None = None, *, enabled: bool = True) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._logger = logging.Logger("common.console", logging.INFO)
        self._logger.disabled = not enabled
        self._logger.addHandler(_Lines(self._stream))
        self._next_step_line = -math.inf

    def line(self, label: str, text: str) -> None:
        """Print `text` behind `label`; further lines of the text are indented to the same column."""
        first, *others = text.splitlines() or [""]
        for head, part in [(label, first), *(("", other) for other in others)]:
            self._logger.info("%s", _ascii(f"{head:<8} {part}".rstrip()))

    def step(
        self,
        step: int,
        total: int,
        *,
        loss: float,
        lr: float,
        grad: float,
        rate: float,
        waiting: float,
        memory_gib: float,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        """Print a training step unless ten were printed within the last second.

        `rate` in samples per second, `waiting` the share of time spent waiting for data (0 to 1).
        """
        now = time.monotonic()
        if now < self._next_step_line:
            return
        self._next_step_line = now + 1 / _STEP_LINES_PER_SECOND
        losses = "  ".join(f"{name} {value:.4f}" for name, value in {"loss": loss, **(terms or {})}.items())
        speed = f"{rate:.1f} samples/s  data {100 * waiting:.0f} %  {memory_gib:.1f} GiB"
        self.line("step", f"{step}/{total}  {losses}  lr {lr:.1e}  grad {grad:.2f}  {speed}")

    def raw(self, line: str) -> None:
        """Print an application's own line as it is."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._logger.info("%s", line.encode(encoding, "backslashreplace").decode(encoding))


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
