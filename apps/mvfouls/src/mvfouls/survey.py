"""Which of the clips that a split lists can be used, and the account of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.config import UserError
from common.video import VideoError, VideoInfo, probe
from mvfouls.annotations import Action, Annotations, canonical_set
from mvfouls.frames import CLIP_FPS, FrameRule, is_clip_fps
from mvfouls.settings import Policies, SplitSource

MISSING_SHARE = 0.05
"""More clips than this share, and more than one, that cannot be used are an error."""
KNOWN_RATES = (1.0, 1000.0)
"""A rate outside is what a container says when it does not know."""
PROBE_THREADS = 8
LISTED = 10
"""Clips named in a message."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A clip that can be decoded."""

    path: Path
    index: int
    """k of clip_<k>; 0 is the live main camera."""
    frames: int
    """Frames the container claims."""
    fps: float
    size: tuple[int, int]
    """Width and height in pixels."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A clip that cannot be used."""

    clip: str
    """action_<id>/clip_<k>."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What was found in a split; clips are named action_<id>/clip_<k>."""

    name: str
    listed_actions: int
    listed_clips: int
    actions: int
    """Actions in use."""
    clips: int
    """Views in use."""
    views: dict[int, int]
    """Number of actions in use by their number of views."""
    missing: tuple[str, ...]
    undecodable: tuple[Fault, ...]
    short: tuple[str, ...]
    """Clips that end inside the window."""
    unlisted: tuple[str, ...]
    other_size: tuple[str, ...]
    """Clips of another size than most."""
    other_fps: tuple[str, ...]
    unknown_fps: tuple[str, ...]
    """Clips that do not say their rate, taken as 25 fps."""
    no_view: tuple[str, ...]
    """Actions kept without a view."""
    unknown_labels: dict[str, int]
    warnings: tuple[str, ...] = ()

    def lines(self, ignored: Mapping[str, int] | None = None) -> list[str]:
        """Return the account for the console, most important first; `ignored` counts absent labels."""
        views = " ".join(f"{n}:{count}" for n, count in sorted(self.views.items()))
        first = f"{self.name} {self.actions} actions {self.clips} clips | views {views}"
        first += f" | missing clips {len(self.missing)} short {len(self.short)}"
        if ignored:
            first += " | ignored " + " ".join(f"{task} {n}" for task, n in ignored.items())
        details: dict[str, Sequence[object]] = {
            "clips missing": self.missing,
            "clips undecodable": self.undecodable,
            "clips that end inside the window": self.short,
            "clips not listed": self.unlisted,
            "clips of another size": self.other_size,
            "clips not at 25 fps": self.other_fps,
            "clips without a rate, taken as 25 fps": self.unknown_fps,
            "actions without a view": self.no_view,
        }
        named = [
            f"{self.name} {what} {len(items)}: {_some(items)}" for what, items in details.items() if items
        ]
        return [first, *named, *self.warnings]

    def to_dict(self) -> dict[str, Any]:
        """Return the whole account as plain values."""
        return asdict(self) | {"views": {str(n): count for n, count in self.views.items()}}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Every listed clip, and whether it can be used."""

    names: dict[tuple[str, int], str]
    """Name of each listed clip by action id and index."""
    usable: dict[str, View]
    missing: tuple[str, ...]
    undecodable: dict[str, str]
    short: tuple[str, ...]
    unknown_fps: tuple[str, ...]
    unlisted: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, annotations: Annotations, frames: FrameRule) -> Survey:
        """Look into every clip that the annotations list in `folder`."""
        listed = [(action, clip) for action in annotations.actions for clip in action.clips]
        names = {(action.id, clip.index): f"action_{action.id}/{clip.name}" for action, clip in listed}
        paths = {name: folder / f"{name}.mp4" for name in names.values()}
        return cls.of_clips(names, paths, frames, unlisted=_unlisted(folder, set(paths)))

    @classmethod
    def of_clips(
        cls,
        names: dict[tuple[str, int], str],
        paths: Mapping[str, Path],
        frames: FrameRule,
        *,
        unlisted: tuple[str, ...] = (),
    ) -> Survey:
        """Look into the clips whose `names` are given by action id and index, and `paths` by name."""
        present = {name: path for name, path in paths.items() if path.is_file()}
        with ThreadPoolExecutor(PROBE_THREADS) as pool:
            seen = dict(zip(present, pool.map(_probe, present.values()), strict=True))
        undecodable = {name: fault for name, fault in seen.items() if isinstance(fault, str)}
        usable, short, unknown_fps = {}, [], []
        for (_, index), name in names.items():
            info = seen.get(name)
            if not isinstance(info, VideoInfo):
                continue
            view = _view(present[name], index, info)
            wanted = frames.indices_at(view.fps)
            if wanted[0] >= view.frames:
                undecodable[name] = f"has {view.frames} frames, the window starts at frame {wanted[0]}"
                continue
            usable[name] = view
            if wanted[-1] >= view.frames:
                short.append(name)
            if not _knows_rate(info):
                unknown_fps.append(name)
        return cls(
            names=names,
            usable=usable,
            missing=tuple(name for name in paths if name not in present),
            undecodable=undecodable,
            short=tuple(short),
            unknown_fps=tuple(unknown_fps),
            unlisted=unlisted,
        )

    def check(self, policies: Policies) -> None:
        """Raise UserError for clips that must not be left out."""
        faults = [self.reason(name) for name in self.names.values() if name not in self.usable]
        share = len(faults) / max(len(self.names), 1)
        if faults and policies.missing_clip == "error":
            raise UserError(f"{len(faults)} clips cannot be used (--missing_clip error): {_some(faults)}")
        if len(faults) > 1 and share > MISSING_SHARE:
            raise UserError(
                f"{len(faults)} of {len(self.names)} clips cannot be used, {share:.1%}; at most "
                f"{MISSING_SHARE:.0%} may be left out: {_some(faults)}"
            )
        if self.short and policies.short_clip == "error":
            raise UserError(
                f"{len(self.short)} clips end inside the window (--short_clip error): {_some(self.short)}"
            )

    def views_of(self, action: Action, policies: Policies) -> tuple[View, ...]:
        """Return the usable views of an action in clip order."""
        indices = sorted(clip.index for clip in action.clips)
        names = [self.names[action.id, index] for index in indices]
        if policies.short_clip == "skip":
            names = [name for name in names if name not in self.short]
        return tuple(self.usable[name] for name in names if name in self.usable)

    def reason(self, name: str) -> str:
        """Return a clip with what is wrong with it."""
        if name in self.undecodable:
            return f"{name} ({self.undecodable[name]})"
        return f"{name} ({'missing' if name in self.missing else 'ends inside the window'})"

    def explain(self, actions: Iterable[Action]) -> str:
        """Return actions with what is wrong with each of their clips."""
        reasons = []
        for action in actions:
            names = [self.names[action.id, clip.index] for clip in action.clips]
            clips = [self.reason(name) for name in names] or ["no clip is listed"]
            reasons.append(f"action {action.id}: {', '.join(clips)}")
        return _some(reasons, "; ")

    def report(
        self, source: SplitSource, annotations: Annotations, *, no_view: tuple[str, ...]
    ) -> SplitReport:
        """Return the account of the split; `_split` adds what is in use."""
        sizes = Counter(view.size for view in self.usable.values())
        usual = sizes.most_common(1)[0][0] if sizes else None
        warnings = list(annotations.warnings)
        if canonical_set(annotations.set_name) != source.name:
            warnings.append(
                f"{annotations.path}: Set is {annotations.set_name!r}, read as split {source.name!r}"
            )
        return SplitReport(
            name=source.name,
            listed_actions=len(annotations.actions),
            listed_clips=len(self.names),
            actions=0,
            clips=0,
            views={},
            missing=self.missing,
            undecodable=tuple(Fault(clip=name, reason=why) for name, why in self.undecodable.items()),
            short=self.short,
            unlisted=self.unlisted,
            other_size=tuple(name for name, view in self.usable.items() if view.size != usual),
            other_fps=tuple(name for name, view in self.usable.items() if not is_clip_fps(view.fps)),
            unknown_fps=self.unknown_fps,
            no_view=no_view,
            unknown_labels=annotations.unknown,
            warnings=tuple(warnings),
        )


def _probe(path: Path) -> VideoInfo | str:
    """Return what a clip says about itself, or why it cannot be decoded."""
    try:
        info = probe(path, exact=False)
        return info if info.frames > 0 else probe(path)
    except VideoError as error:
        return str(error).removeprefix(f"{path}: ")


def _view(path: Path, index: int, info: VideoInfo) -> View:
    fps = info.fps if _knows_rate(info) else CLIP_FPS
    return View(path=path, index=index, frames=info.frames, fps=fps, size=(info.width, info.height))


def _knows_rate(info: VideoInfo) -> bool:
    return KNOWN_RATES[0] <= info.fps <= KNOWN_RATES[1]


def _unlisted(folder: Path, listed: set[str]) -> tuple[str, ...]:
    found = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("action_*/*.mp4"))
    return tuple(sorted(name for name in found if name not in listed))


def _some(items: Sequence[object], separator: str = ", ") -> str:
    """Return the first few items as text, and how many more there are."""
    words = [
        f"{item.clip} ({item.reason})" if isinstance(item, Fault) else str(item) for item in items[:LISTED]
    ]
    more = len(items) - LISTED
    return separator.join([*words, f"and {more} more"] if more > 0 else words)
