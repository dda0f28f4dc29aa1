"""What a model says about each action, and which views it says that from, as plain types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvfouls.calibration import Calibration
from mvfouls.card import ModelCard
from mvfouls.inference import project
from mvfouls.labels import OFFICIAL_ACTIONS, OFFICIAL_OS
from mvfouls.predictor import Floats, Predictions
from mvfouls.projection import Projected
from mvfouls.split import FoulAction, Split
from mvfouls.submission import entry

DIGITS = 6


@dataclass(frozen=True, eq=False)
class Reading:
    """Probabilities [N, K] per task and the official predictions, of N actions or of N views."""

    tasks: dict[str, NDArray[Any]]
    projected: Projected | None

    @classmethod
    def of(
        cls, card: ModelCard, probabilities: Mapping[str, Floats], calibration: Calibration | None
    ) -> Reading:
        """Read probabilities, with the offsets of `calibration` where it has some."""
        tasks = dict(probabilities) if calibration is None else calibration.adjust_tasks(probabilities)
        return cls(tasks, project(card, probabilities, calibration))

    def decisions(self) -> dict[str, NDArray[np.int64]]:
        """Return the likeliest class [N] of each task, and the official `action` and `os`."""
        found = {task: values.argmax(axis=1) for task, values in self.tasks.items()}
        if self.projected is None:
            return found
        return found | {"action": self.projected.action_id, "os": self.projected.os_id}


def explain(
    card: ModelCard,
    split: Split,
    found: Predictions,
    *,
    calibration: Calibration | None = None,
    top_k: int = 2,
) -> dict[str, dict[str, Any]]:
    """Return by action id: `tasks`, `official` (None without the heads for it) and `views`.

    Each task has its `top_k` likeliest classes, all probabilities, with thresholds in `calibration` the
    classes that are `present`, and `agreement`: the share of the views that say the same by themselves.
    Each view has its share of the attention and what it says by itself; a view that was not looked at has
    only `used` false. `found` must hold `alone`.
    """
    used = [~np.isnan(rows[:, 0]) for rows in next(iter(found.alone.values()))]
    single = {
        task: np.concatenate([rows[kept] for rows, kept in zip(actions, used, strict=True)])
        for task, actions in found.alone.items()
    }
    whole, alone = Reading.of(card, found.probabilities, calibration), Reading.of(card, single, calibration)
    explainer = _Explainer(card, whole, alone, calibration, top_k)
    held = {action.id: action for action in split.actions}
    ends = np.cumsum([kept.sum() for kept in used])
    return {
        name: explainer.action(row, held[name], found.attention[row], used[row], int(ends[row]))
        for row, name in enumerate(found.actions)
    }


class _Explainer:
    """Rows of `whole` are actions, rows of `alone` the views that were looked at, action after action."""

    def __init__(
        self, card: ModelCard, whole: Reading, alone: Reading, calibration: Calibration | None, top_k: int
    ) -> None:
        self.card, self.whole, self.alone, self.top_k = card, whole, alone, top_k
        self.says, self.said_alone = whole.decisions(), alone.decisions()
        parts = {} if calibration is None else calibration.parts
        self.parts = {task: parts[task] for task in card.tasks if task in parts}

    def action(
        self, row: int, action: FoulAction, attention: Sequence[float], used: NDArray[np.bool_], end: int
    ) -> dict[str, Any]:
        """Return one action, whose views in use are the rows before `end`."""
        rows = np.arange(end - int(used.sum()), end)
        agreement = {
            name: float(np.mean(values[rows] == self.says[name][row]))
            for name, values in self.said_alone.items()
        }
        return {
            "tasks": {task: self._task(task, row, agreement[task]) for task in self.card.tasks},
            "official": self._official(row, agreement),
            "views": list(self._views(action, attention, used, rows)),
        }

    def _task(self, task: str, row: int, agreement: float) -> dict[str, Any]:
        classes, values = self.card.tasks[task], self.whole.tasks[task][row]
        part = self.parts.get(task)
        present = {}
        if part is not None:
            present["present"] = [
                name
                for name, least in zip(classes, part.thresholds)
                if least is not None and values[classes.index(name)] >= least
            ]
        return {
            "top": top(values, classes, self.top_k),
            "probabilities": _named(values, classes),
            **present,
            "agreement": round(agreement, DIGITS),
        }

    def _official(self, row: int, agreement: Mapping[str, float]) -> dict[str, Any] | None:
        projected = self.whole.projected
        if projected is None:
            return None
        return {
            **entry(int(projected.action_id[row]), int(projected.os_id[row])),
            "action": _named(projected.actions[row], OFFICIAL_ACTIONS),
            "os": _named(projected.os[row], OFFICIAL_OS),
            "agreement": {name: round(agreement[name], DIGITS) for name in ("action", "os")},
        }

    def _views(
        self,
        action: FoulAction,
        attention: Sequence[float],
        used: NDArray[np.bool_],
        rows: NDArray[np.int64],
    ) -> Iterator[dict[str, Any]]:
        remaining = iter(rows.tolist())
        for view, share, looked_at in zip(action.views, attention, used, strict=True):
            told = {"clip": view.path.stem, "path": str(view.path), "used": bool(looked_at)}
            if looked_at:
                row = next(remaining)
                told |= {"attention": round(share, DIGITS), **self._view(row)}
            yield told

    def _view(self, row: int) -> dict[str, Any]:
        projected = self.alone.projected
        tasks = {
            task: top(self.alone.tasks[task][row], classes, self.top_k)
            for task, classes in self.card.tasks.items()
        }
        if projected is None:
            return {"tasks": tasks, "official": None}
        return {"tasks": tasks, "official": entry(int(projected.action_id[row]), int(projected.os_id[row]))}


def top(values: NDArray[Any], classes: Sequence[str], k: int) -> list[dict[str, Any]]:
    """Return the `k` likeliest classes, the lower id first where two are equal."""
    order = np.argsort(-values, kind="stable")[:k]
    return [
        {"class": classes[place], "probability": round(float(values[place]), DIGITS)}
        for place in order.tolist()
    ]


def _named(values: NDArray[Any], classes: Sequence[str]) -> dict[str, float]:
    return {name: round(float(value), DIGITS) for name, value in zip(classes, values, strict=True)}
