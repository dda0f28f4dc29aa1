"""The actions of a split with the clips that can be used."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.config import UserError
from common.video import content_sha256
from mvfouls.annotations import Action, Annotations, ClipEntry, read_annotations
from mvfouls.frames import FrameRule
from mvfouls.labels import FIELDS, IGNORE, TaskLabels
from mvfouls.settings import Policies, SplitSource, ViewSettings
from mvfouls.survey import Fault, SplitReport, Survey, View

__all__ = [
    "Fault",
    "FoulAction",
    "Split",
    "SplitReport",
    "View",
    "check_overlap",
    "ignored_labels",
    "open_clips",
    "open_split",
    "shared_labels",
    "subset",
]


@dataclass(frozen=True, kw_only=True)
class FoulAction:
    """An action with its usable views in clip order."""

    id: str
    labels: Action
    views: tuple[View, ...]


@dataclass(frozen=True, kw_only=True)
class Split:
    """The actions of a split that are in use."""

    source: SplitSource
    actions: tuple[FoulAction, ...]
    report: SplitReport
    sha256: str
    """Of the annotation file and the name and size of every clip in use."""

    @property
    def views(self) -> list[View]:
        """All views in use."""
        return [view for action in self.actions for view in action.views]


def open_split(
    source: SplitSource,
    policies: Policies,
    views: ViewSettings,
    frames: FrameRule,
    *,
    labelled: bool,
    allow_no_view: bool = False,
) -> Split:
    """Read the annotations of a split and look into every clip they list.

    `views.max_views` cuts the number of views; nothing else of `views` is used. `labelled`: labels are
    needed, else they are not read. `allow_no_view` keeps actions none of whose clips can be used. Raises
    UserError as `read_annotations`, for a folder that is not there, and for clips that the policies do not
    allow to be left out.
    """
    if not source.folder.is_dir():
        raise UserError(f"{source.folder}: no such folder (split {source.name})")
    annotations = read_annotations(source.annotations, unknown=policies.unknown_labels, labelled=labelled)
    survey = Survey.of(source.folder, annotations, frames)
    return _surveyed(source, annotations, survey, policies, views, allow_no_view=allow_no_view)


def open_clips(
    clips: Mapping[str, Sequence[Path]],
    folder: Path,
    policies: Policies,
    views: ViewSettings,
    frames: FrameRule,
) -> Split:
    """Return actions without labels made of clips in `folder`; in order, and the first is clip_0.

    `clips` holds those of each action by its id. Raises UserError as `open_split`.
    """
    listed = tuple(_unlabelled(name, len(paths)) for name, paths in clips.items())
    names = {(name, place): str(path) for name, paths in clips.items() for place, path in enumerate(paths)}
    survey = Survey.of_clips(names, {name: Path(name) for name in names.values()}, frames)
    source = SplitSource(name="clips", folder=folder, annotations=folder)
    return _surveyed(
        source, Annotations(set_name=source.name, actions=listed, path=folder), survey, policies, views
    )


def ignored_labels(split: Split, tasks: Iterable[TaskLabels]) -> dict[str, int]:
    """Return how many actions have no label of each task."""
    return {
        task.name: sum(task.encode(action.labels) == IGNORE for action in split.actions) for task in tasks
    }


def shared_labels(split: Split, tasks: Iterable[TaskLabels]) -> dict[str, int]:
    """Return how many actions have a label that two classes share, of each task that has such classes."""
    return {
        task.name: sum(task.encode(action.labels) in task.shared for action in split.actions)
        for task in tasks
        if task.shared
    }


def subset(split: Split, fraction: float, seed: int) -> Split:
    """Return a share of the actions, the same share of each action class and at least one, in their order.

    A smaller fraction with the same seed is part of a larger one. UserError unless 0 < fraction <= 1.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"--train-fraction {fraction}: more than 0 and at most 1 is expected")
    strata: dict[str | None, list[int]] = {}
    for place, action in enumerate(split.actions):
        stratum = FIELDS["action_class"].canonical(action.labels.action_class)
        strata.setdefault(stratum, []).append(place)
    kept: set[int] = set()
    for number, stratum in enumerate(sorted(strata, key=str)):
        order = np.random.default_rng([seed, number]).permutation(strata[stratum])
        kept.update(order[: max(1, int(fraction * len(order) + 0.5))].tolist())
    actions = tuple(action for place, action in enumerate(split.actions) if place in kept)
    return _split(split.source, actions, split.report)


def check_overlap(train: Split, valid: Split) -> None:
    """Raise UserError when a clip of one split holds the same bytes as one of the other."""
    by_size: dict[int, list[View]] = {}
    for view in train.views:
        by_size.setdefault(view.path.stat().st_size, []).append(view)
    for view in valid.views:
        for other in by_size.get(view.path.stat().st_size, []):
            if content_sha256(view.path) == content_sha256(other.path):
                raise UserError(
                    f"{other.path} and {view.path} are the same clip: splits {train.source.name} and "
                    f"{valid.source.name} must not share any"
                )


def _surveyed(
    source: SplitSource,
    annotations: Annotations,
    survey: Survey,
    policies: Policies,
    views: ViewSettings,
    *,
    allow_no_view: bool = False,
) -> Split:
    survey.check(policies)
    found = {action.id: survey.views_of(action, policies) for action in annotations.actions}
    no_view = [action for action in annotations.actions if not found[action.id]]
    if no_view and not allow_no_view:
        raise UserError(f"{source.annotations}: no view left of {survey.explain(no_view)}")
    actions = tuple(
        FoulAction(id=action.id, labels=action, views=found[action.id][: views.max_views])
        for action in annotations.actions
    )
    report = survey.report(source, annotations, no_view=tuple(action.id for action in no_view))
    return _split(source, actions, report)


def _unlabelled(name: str, clips: int) -> Action:
    listed = (ClipEntry(name=f"clip_{k}", camera="", timestamp_ms=0, replay_speed=1.0) for k in range(clips))
    return Action(id=name, game="", clips=tuple(listed), labelled=False)


def _split(source: SplitSource, actions: tuple[FoulAction, ...], report: SplitReport) -> Split:
    """Return a split whose report and hash are those of the actions in use; UserError when there is none."""
    if not actions:
        raise UserError(f"{source.annotations}: no action is left of split {source.name}")
    views = Counter(len(action.views) for action in actions)
    used = replace(
        report, actions=len(actions), clips=sum(n * count for n, count in views.items()), views=dict(views)
    )
    digest = hashlib.sha256(source.annotations.read_bytes() if source.annotations.is_file() else b"")
    for action in actions:
        for view in action.views:
            digest.update(f"{action.id}/{view.path.name} {view.path.stat().st_size}\n".encode())
    return Split(source=source, actions=actions, report=used, sha256=digest.hexdigest())
