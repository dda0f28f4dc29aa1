"""Complete generated data sets in the layout of the real one: clips, annotations, and their faults."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.engine.randomness import generator_for
from common.video import Pixels
from mvfouls.synthetic_drawing import FPS, Camera, Foul, Likeness, Look, pictures
from mvfouls.synthetic_labels import ActionPlan, Fields, labelled, plan_split

FRAMES = 126
WINDOW_END = 82
SHORT = 75
"""Frames of the clip that ends inside the window."""
SPLITS = {
    "train": ("train", 1.0, 1),
    "valid": ("valid", 0.5, 4),
    "test": ("test", 0.25, 1),
    "challenge": ("chall", 0.125, 1),
}
"""Name in the annotation file, share of `actions` and fewest actions of each split."""
CAMERAS = (
    "Close-up player or field referee",
    "Close-up side line",
    "Main behind the goal",
    "Inside the goal",
)
CLEARLY_DIFFERENT = ("Standing tackling", "Challenge", "Dive", "Holding")
"""Action classes of the learning set, the commonest first."""
OUTCOMES = (("Offence", "1.0"), ("No offence", ""), ("Offence", "3.0"), ("Offence", "5.0"))
"""Offence and severity of the official classes, the commonest first."""

Size = tuple[int, int]


def write_dataset(
    folder: Path,
    *,
    actions: int = 24,
    seed: int = 0,
    size: Size = (398, 224),
    frames: int = FRAMES,
    odd: bool = True,
    zero_byte: bool = False,
) -> None:
    """Write `folder/mvfouls/{train,valid,test,challenge}`; the same arguments give the same files.

    `actions` is the number of training actions; the other splits have a half (4 at least), a quarter and an
    eighth of it. A split of 4 actions has every official class of offence and severity, one of 8 every
    official action, one of 20 with `odd` every oddity of the annotations; so training and validation have all
    official classes from `actions` 16 on. With `odd`, in training one clip is listed but missing, one ends
    inside the window, one has a frame more. `zero_byte` leaves a clip in training empty; up to about 20
    actions that and the missing one are more than readers put up with.
    `size` (width, height) must be even, `frames` reach beyond the window; ValueError names the argument.
    """
    _check(actions, size, frames)
    for split, (name, share, fewest) in SPLITS.items():
        count = max(fewest, round(actions * share))
        plans = plan_split(count, generator_for(seed, "labels", split), odd=odd)
        writer = _SplitWriter(folder / "mvfouls" / split, name, seed=seed, size=size, frames=frames)
        writer.write(plans, labels=split != "challenge")
        if split == "train":
            if odd:
                writer.spoil(plans)
            if zero_byte:
                writer.empty(plans)


def write_learning_set(
    folder: Path,
    *,
    actions: int = 160,
    seed: int = 0,
    size: Size = (112, 64),
    frames: int = 91,
    views: int = 1,
    imbalance: float = 50.0,
    overlap: float = 0.0,
) -> None:
    """Write training and validation splits with 4 classes per task that only motion tells apart.

    Training has `actions` actions, whose counts of the 4 action classes, and of the 4 official classes of
    offence and severity, fall geometrically by `imbalance` from the commonest to the rarest; validation has
    every combination of the two as often.

    `overlap` above 0 lets each action move in part like one of another class, and with the speed and gesture
    in part of another outcome, both drawn evenly. The share of the other is |N(0, overlap)|, at most 1.
    Between two equally frequent classes the larger share decides best, so their mean recall is at most
    P(|N(0, 1)| < 1 / (2 overlap)), 0.85 at 0.35. ValueError when `overlap` is negative or infinite.
    """
    _check(actions, size, frames)
    if not 0 <= overlap < math.inf:
        raise ValueError(f"overlap is {overlap}: a finite number >= 0 is expected")
    rng = generator_for(seed, "learning labels")
    counts = class_counts(actions, len(OUTCOMES), imbalance)
    column = np.repeat(np.arange(len(OUTCOMES)), counts)
    train = np.column_stack([rng.permutation(column), rng.permutation(column)])
    grid = np.array([(first, second) for first in range(4) for second in range(4)])
    for split, pairs in (("train", train), ("valid", np.tile(grid, (2, 1)))):
        shares = generator_for(seed, "likeness", split)
        plans = [
            ActionPlan(
                place,
                labelled(CLEARLY_DIFFERENT[kind], *OUTCOMES[outcome], rng),
                views,
                _likeness(kind, outcome, overlap, shares) if overlap else None,
            )
            for place, (kind, outcome) in enumerate(pairs.tolist())
        ]
        writer = _SplitWriter(folder / "mvfouls" / split, split, seed=seed, size=size, frames=frames)
        writer.write(plans, labels=True)


def class_counts(total: int, classes: int, imbalance: float) -> list[int]:
    """Return how many of `total` each class gets: at least 1, falling geometrically by `imbalance`."""
    shares = imbalance ** -np.linspace(0, 1, classes)
    counts = np.maximum(1, np.floor(total * shares / shares.sum())).astype(int)
    counts[0] += total - counts.sum()
    return [int(count) for count in counts]


def _likeness(kind: int, outcome: int, overlap: float, rng: np.random.Generator) -> Likeness:
    """Draw what an action of the learning set also looks like."""
    others = rng.integers(1, len(OUTCOMES), 2)
    action, result = np.minimum(np.abs(rng.normal(0.0, overlap, 2)), 1.0).tolist()
    other = CLEARLY_DIFFERENT[(kind + others[0]) % len(CLEARLY_DIFFERENT)]
    offence, severity = OUTCOMES[(outcome + others[1]) % len(OUTCOMES)]
    return Likeness(Foul(other, severity, offence), action=action, outcome=result)


def write_clip(path: Path, frames: Iterable[Pixels], size: Size) -> None:
    """Write RGB frames of `size` (width, height) as a video of 25 fps; OSError when that cannot be."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, size)
    if not writer.isOpened():
        raise OSError(f"{path}: cannot be opened for writing")
    try:
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()


class _SplitWriter:
    """Writes one split into `folder`."""

    def __init__(self, folder: Path, name: str, *, seed: int, size: Size, frames: int) -> None:
        self.folder, self.name = folder, name
        self.seed, self.size, self.frames = seed, size, frames

    def write(self, plans: list[ActionPlan], *, labels: bool) -> None:
        """Write annotations and clips of all actions."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entries = {str(plan.id): self._entry(plan, labels=labels) for plan in plans}
        top = {"Set": self.name, "Number of actions": len(plans), "Actions": entries}
        text = json.dumps(top, indent=1) + "\n"
        (self.folder / "annotations.json").write_text(text, encoding="utf-8", newline="\n")
        for plan in plans:
            self.clip(plan, 0).parent.mkdir(exist_ok=True)
            for view in range(plan.views):
                self._draw(plan, view, self.frames)

    def spoil(self, plans: list[ActionPlan]) -> None:
        """Take a clip away, shorten another and lengthen a third, each of an action that keeps a view."""
        rich = [plan for plan in plans if plan.views > 1]
        if len(rich) > 2:
            self.clip(rich[0], 1).unlink()
            self._draw(rich[1], 1, SHORT)
            self._draw(rich[2], 1, self.frames + 1)

    def empty(self, plans: list[ActionPlan]) -> None:
        """Leave nothing of a clip but its file."""
        last = [plan for plan in plans if plan.views > 1][-1]
        self.clip(last, last.views - 1).write_bytes(b"")

    def clip(self, plan: ActionPlan, view: int) -> Path:
        """Return the path of a clip."""
        return self.folder / f"action_{plan.id}" / f"clip_{view}.mp4"

    def _draw(self, plan: ActionPlan, view: int, frames: int) -> None:
        rng = generator_for(self.seed, "scene", self.name, plan.id)
        shades = rng.integers(0, 200, 4).tolist()
        look = Look((230, *shades[:2]), (*shades[2:], 230), int(rng.integers(2**31)))
        x, mirrored = float(rng.uniform(-0.06, 0.16)), bool(rng.random() < 0.5)
        camera = _camera(
            view, mirrored, self.size, generator_for(self.seed, "camera", self.name, plan.id, view)
        )
        shown = pictures(plan.motion, look=look, camera=camera, frames=frames, x=x)
        write_clip(self.clip(plan, view), shown, self.size)

    def _entry(self, plan: ActionPlan, *, labels: bool) -> dict[str, Any]:
        rng = generator_for(self.seed, "entry", self.name, plan.id)
        fields: Fields = plan.fields if labels else {}
        game = f"generated_league\\2016-2017\\{self.name} {plan.id // 3} Reds - Blues"
        start = int(rng.integers(45 * 60 * 1000))
        clips = [_clip_entry(self.name, plan.id, view, start, rng) for view in range(plan.views)]
        return {"UrlLocal": game, **fields, "Clips": clips}


def _camera(view: int, mirrored: bool, size: Size, rng: np.random.Generator) -> Camera:
    """Return the live camera, or a closer one of a replay from either side."""
    zoom = rng.uniform(0.95, 1.05) if view == 0 else rng.uniform(1.05, 1.2)
    other_side = view > 0 and rng.random() < 0.5
    pan = rng.uniform(-0.05, 0.05)
    return Camera(size[1], size[0], float(zoom), float(pan), mirrored != other_side)


def _clip_entry(split: str, action: int, view: int, start: int, rng: np.random.Generator) -> dict[str, Any]:
    live = view == 0
    return {
        "Url": f"Dataset/{split.capitalize()}/action_{action}/clip_{view}",
        "Camera type": "Main camera center" if live else str(rng.choice(CAMERAS)),
        "Timestamp": start + 9000 * view,
        "Replay speed": 1.0 if live else round(float(rng.uniform(1, 4.2)), 1),
    }


def _check(actions: int, size: Size, frames: int) -> None:
    if actions < 1:
        raise ValueError(f"actions is {actions}: 1 or more is expected")
    if min(size) < 32 or any(length % 2 for length in size):
        raise ValueError(f"size is {size}: even lengths of 32 or more are expected")
    if not WINDOW_END < frames < 255:
        raise ValueError(f"frames is {frames}: {WINDOW_END + 1} to 254 is expected")
