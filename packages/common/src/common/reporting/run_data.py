"""The files of one run folder, read once, with what every section asks for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from common.engine.logging import read_events, read_metrics

Event = Mapping[str, Any]
HEX_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class BestPoint:
    """The headline metric at the best checkpoint; `outdone` when another value is better still."""

    metric: str
    mode: str
    meaning: str
    step: int
    epoch: int
    value: float
    last: float
    count: int
    outdone: bool


@dataclass(frozen=True)
class RunData:
    """Everything known about a run. `config` and `environment` are None when their file is absent."""

    folder: Path
    metrics: list[dict[str, Any]]
    events: list[dict[str, Any]]
    config: Any
    environment: Any
    date: datetime

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def best_step(self) -> int | None:
        """Step of the best checkpoint, or of the best headline value."""
        marked = self._marked_step()
        if marked is not None:
            return marked
        best = self.best()
        return best.step if best else None

    def _marked_step(self) -> int | None:
        marked = [int(event["step"]) for event in self.of_kind("checkpoint") if event.get("best")]
        return marked[-1] if marked else None

    @property
    def seconds(self) -> float:
        """Running time: the latest clock reading of either file."""
        return max((float(line["seconds"]) for line in [*self.metrics, *self.events]), default=0.0)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind in the order they were written."""
        return [event for event in self.events if event["kind"] == kind]

    def latest(self, kind: str) -> dict[str, Any] | None:
        """Return the last event of one kind."""
        return next(reversed(self.of_kind(kind)), None)

    def chosen(self, kind: str, *group_by: str) -> list[dict[str, Any]]:
        """Return one event per group: the last one of the best step, else the last one of all."""
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for event in self.of_kind(kind):
            groups.setdefault(tuple(event.get(key) for key in group_by), []).append(event)
        best = self.best_step
        return [
            next((event for event in reversed(events) if event["step"] == best), events[-1])
            for events in groups.values()
        ]

    def validations(self, metric: str) -> list[tuple[int, int, float]]:
        """Return (step, epoch, value) of each finite value of `valid/<metric>`."""
        key = f"valid/{metric}"
        return [
            (int(record["step"]), int(record["epoch"]), float(record[key]))
            for record in self.metrics
            if isinstance(record.get(key), int | float) and math.isfinite(record[key])
        ]

    def best(self) -> BestPoint | None:
        """Return the headline value of the best checkpoint, or the best value when no checkpoint is marked.

        None unless an event names the metric: `headline {metric, mode, meaning}`.
        """
        headline = next((event["headline"] for event in self.events if event.get("headline")), None)
        if headline is None:
            return None
        metric, mode = str(headline["metric"]), str(headline.get("mode", "max"))
        values = self.validations(metric)
        if not values:
            return None
        better = max if mode == "max" else min
        extreme = better(values, key=lambda entry: entry[2])
        marked = self._marked_step()
        step, epoch, value = next((entry for entry in values if entry[0] == marked), extreme)
        meaning = str(headline.get("meaning", "")) or self._note_of(metric)
        outdone = value != extreme[2]
        return BestPoint(metric, mode, meaning, step, epoch, value, values[-1][2], len(values), outdone)

    def _note_of(self, metric: str) -> str:
        rows = [row for event in self.of_kind("summary") for row in event["rows"]]
        return next((str(row.get("note") or "") for row in rows if row["name"] == metric), "")

    def class_names(self, metric: str = "") -> dict[str, str]:
        """Return class id -> display name, from whichever event tells it.

        Outputs of a model that leaves out some classes carry their class ids in the event's `ids`. Where
        events name a `task`, those with the longest one that begins the name of `metric` speak for it alone.
        """
        names: dict[str, str] = {}
        tasks = {str(event["task"]) for event in self.events if metric.startswith(f"{event.get('task')}_")}
        longest = max(tasks, key=len, default=None)
        for event in self.events:
            if longest is not None and event.get("task") != longest:
                continue
            if event["kind"] == "statistics":
                names |= _numbered(event["statistics"].get("names"), event.get("ids"))
            elif event["kind"] == "confusion":
                names |= _numbered(event.get("names"), event.get("ids"))
            elif event["kind"] == "per_class":
                names |= {str(row["id"]): str(row["name"]) for row in event["rows"]}
        return names

    def class_colors(self) -> dict[str, str]:
        """Return class id -> `#rrggbb` where an event gives colours; raises ValueError on another format."""
        colors: dict[str, str] = {}
        for event in self.events:
            given = event.get("colors")
            if given and event["kind"] == "statistics":
                colors |= _numbered(given, event.get("ids"))
            elif given and event["kind"] == "per_class":
                colors |= {str(row["id"]): color for row, color in zip(event["rows"], given, strict=True)}
        for color in colors.values():
            if not HEX_COLOR.fullmatch(color):
                raise ValueError(f"colors: expected #rrggbb, found {color!r}")
        return colors


def read_run(folder: Path) -> RunData:
    """Read the files of a run folder.

    Raises FileNotFoundError when the folder, or both of its JSONL files, are missing, and ValueError naming
    the file when one cannot be parsed.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder")
    metrics, events = folder / "metrics.jsonl", folder / "events.jsonl"
    present = [path for path in (metrics, events) if path.is_file()]
    if not present:
        raise FileNotFoundError(
            f"{folder}: not a run folder, it holds neither metrics.jsonl nor events.jsonl"
        )
    environment = _read_json(folder / "environment.json")
    return RunData(
        folder=folder,
        metrics=read_metrics(metrics) if metrics in present else [],
        events=read_events(events) if events in present else [],
        config=_read_yaml(folder / "config.yaml"),
        environment=environment,
        date=_started(environment, present[0]),
    )


def _numbered(values: Any, ids: Any) -> dict[str, str]:
    """Return class id -> value; classes are numbered from 0 unless the event names their `ids`."""
    held = list(values or ())
    return {str(i): str(value) for i, value in zip(ids or range(len(held)), held, strict=True)}


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error


def _read_json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def _started(environment: Any, written: Path) -> datetime:
    """Return the date the environment file tells, else the time the run was last written to."""
    told = environment.get("date") if isinstance(environment, dict) else None
    if isinstance(told, str):
        try:
            return datetime.fromisoformat(told)
        except ValueError as error:
            raise ValueError(f"environment.json: date: {error}") from error
    return datetime.fromtimestamp(written.stat().st_mtime, tz=UTC)
