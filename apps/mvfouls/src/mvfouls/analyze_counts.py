"""What an annotation file holds: classes, views and official labels, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvfouls.annotations import Action, Annotations
from mvfouls.labels import FIELDS, IGNORE, OFFICIAL_ACTIONS, OFFICIAL_OS, TaskLabels, project_label

NO_OFFICIAL = "no official label"


@dataclass(frozen=True, kw_only=True)
class TaskCounts:
    """How often each class of a task occurs.

    `actions` and `clips` [K]; `ignored` counts the actions without a class by what the file says, `spelled`
    those whose class is spelled otherwise.
    """

    labels: TaskLabels
    actions: tuple[int, ...]
    clips: tuple[int, ...]
    ignored: dict[str, int]
    spelled: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class OfficialCounts:
    """Actions and clips [8, 4] of each official action and class of offence and severity."""

    actions: NDArray[np.int64]
    clips: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SetCounts:
    """What an annotation file holds; `views` is the number of actions by their number of clips."""

    annotations: Annotations
    clips: int
    matches: int
    views: dict[int, int]
    tasks: dict[str, TaskCounts]
    official: OfficialCounts

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        tables = {"actions": self.official.actions, "clips": self.official.clips}
        return {
            "annotations": str(self.annotations.path),
            "set": self.annotations.set_name,
            "actions": len(self.annotations.actions),
            "clips": self.clips,
            "matches": self.matches,
            "views": {str(number): count for number, count in self.views.items()},
            "unknown": self.annotations.unknown,
            "tasks": {
                name: {
                    "classes": task.labels.classes,
                    "actions": task.actions,
                    "clips": task.clips,
                    "ignored": task.ignored,
                    "spelled": task.spelled,
                }
                for name, task in self.tasks.items()
            },
            "official": {
                "action_classes": OFFICIAL_ACTIONS,
                "os_classes": OFFICIAL_OS,
                **{name: {"total": int(t.sum()), "table": t.tolist()} for name, t in tables.items()},
            },
        }


def count_set(annotations: Annotations, tasks: dict[str, TaskLabels]) -> SetCounts:
    """Count classes, views and official labels."""
    views = Counter(len(action.clips) for action in annotations.actions)
    shape = (len(OFFICIAL_ACTIONS), len(OFFICIAL_OS))
    official = OfficialCounts(actions=np.zeros(shape, np.int64), clips=np.zeros(shape, np.int64))
    for action in annotations.actions:
        cell = project_label(action.action_class, action.offence, action.severity)
        if cell is not None:
            official.actions[cell] += 1
            official.clips[cell] += len(action.clips)
    return SetCounts(
        annotations=annotations,
        clips=sum(number * count for number, count in views.items()),
        matches=len({action.game for action in annotations.actions}),
        views=dict(sorted(views.items())),
        tasks={name: _count_task(annotations.actions, labels) for name, labels in tasks.items()},
        official=official,
    )


def _count_task(actions: Sequence[Action], labels: TaskLabels) -> TaskCounts:
    counts, clips = [0] * len(labels.classes), [0] * len(labels.classes)
    ignored: Counter[str] = Counter()
    spelled: Counter[str] = Counter()
    for action in actions:
        number = labels.encode(action)
        written = getattr(action, labels.name, NO_OFFICIAL)
        if number == IGNORE:
            ignored[written] += 1
            continue
        counts[number] += 1
        clips[number] += len(action.clips)
        if labels.name in FIELDS and written != labels.values[number]:
            spelled[written] += 1
    return TaskCounts(
        labels=labels,
        actions=tuple(counts),
        clips=tuple(clips),
        ignored=dict(ignored.most_common()),
        spelled=dict(spelled.most_common()),
    )
