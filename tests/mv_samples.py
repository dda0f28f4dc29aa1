"""Splits without files, and clips whose pixels say which frame of which view they are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.video import Pixels as Frames
from mvfouls.annotations import Action
from mvfouls.dataset import FoulDataset
from mvfouls.frames import FrameRule
from mvfouls.labels import TASKS
from mvfouls.settings import AugmentSettings, Pixels, SplitSource, ViewSettings
from mvfouls.split import FoulAction, Split, View
from mvfouls.survey import SplitReport

RULE = FrameRule(start=67, end=82, count=4)
SMALL = Pixels(frames=RULE, height=16, width=24)
STRONG = AugmentSettings(
    jitter=4, crop=0.6, colour=0.4, noise=0.08, frame_dropout=0.3, flip=0.5, rotation=8.0, cutout=2
)
CLASSES = {name: TASKS[name] for name in ("action_class", "severity", "offence")}


@dataclass(frozen=True)
class MadeClips:
    """Clips of `size` (height, width): smooth pictures that depend on action, view and frame."""

    size: tuple[int, int] = (16, 24)
    rule: FrameRule = RULE

    def read(self, view: View, shift: int = 0) -> Frames:
        row, column = np.mgrid[: self.size[0], : self.size[1]]
        number = np.array(self.rule.indices_at(view.fps)) + shift
        action = int(view.path.parent.name.removeprefix("action_"))
        wave = np.sin(row / 5 + action) * np.cos(column / 7 + view.index)
        grey = 128 + 60 * wave + (number[:, None, None] - 75)
        return np.stack([grey, 0.8 * grey, 255 - grey], axis=-1).round().astype(np.uint8)


def made_split(*actions: tuple[int, str]) -> Split:
    """Return a split of actions given as (number of views, severity)."""
    found = []
    for number, (views, severity) in enumerate(actions):
        labels = Action(
            id=str(number), game="", clips=(), labelled=severity != "unlabelled",
            action_class="Tackling", offence="Offence", severity=severity,
        )  # fmt: skip
        paths = [Path(f"action_{number}/clip_{k}.mp4") for k in range(views)]
        found.append(
            FoulAction(
                id=str(number),
                labels=labels,
                views=tuple(
                    View(path=path, index=k, frames=126, fps=25.0, size=(24, 16))
                    for k, path in enumerate(paths)
                ),
            )
        )
    source = SplitSource(name="train", folder=Path("train"), annotations=Path("train/annotations.json"))
    report = SplitReport(
        name="train", listed_actions=0, listed_clips=0, actions=len(found), clips=0, views={}, missing=(),
        undecodable=(), short=(), unlisted=(), other_size=(), other_fps=(), unknown_fps=(), no_view=(),
        unknown_labels={},
    )  # fmt: skip
    return Split(source=source, actions=tuple(found), report=report, sha256="")


def made_dataset(
    *actions: tuple[int, str],
    views: ViewSettings | None = None,
    augment: AugmentSettings | None = None,
    pixels: Pixels = SMALL,
    clips: MadeClips | None = None,
) -> FoulDataset:
    """Return a data set of made clips; by default two actions of 2 and 3 views."""
    split = made_split(*(actions or ((2, "1.0"), (3, "5.0"))))
    source = clips or MadeClips()
    return FoulDataset(split, source, pixels, views or ViewSettings(), augment, CLASSES, seed=5)
