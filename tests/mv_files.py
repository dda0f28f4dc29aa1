"""Annotation files and splits of tiny clips whose frames carry their number."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coded_video import write_coded

from common.video import probe
from mvfouls.labels import FIELDS
from mvfouls.settings import SplitSource
from mvfouls.survey import View

_numbers = itertools.count()

FRAMES = 126
SIZE = (80, 48)
PLAIN = {
    "action_class": "Standing tackling",
    "offence": "Offence",
    "severity": "1.0",
    "contact": "With contact",
    "bodypart": "Under body",
    "upper_body_part": "",
    "multiple_fouls": "No",
    "try_to_play": "Yes",
    "touch_ball": "No",
    "handball": "No handball",
    "handball_offence": "",
}


def write_clip(path: Path, frames: int = FRAMES, *, fps: float = 25, size: tuple[int, int] = SIZE) -> Path:
    """Write a clip of coded frames; no two have the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{next(_numbers):08d}".encode()
    box = struct.pack(">I4s", 8 + len(mark), b"free") + mark
    path.write_bytes(_coded(frames, fps, size) + box)
    return path


def view_of(path: Path, *, frames: int | None = None) -> View:
    """Return a clip as a view; `frames` is what its header is said to claim."""
    info = probe(path)
    claimed = info.frames if frames is None else frames
    return View(path=path, index=0, frames=claimed, fps=info.fps, size=(info.width, info.height))


@lru_cache
def _coded(frames: int, fps: float, size: tuple[int, int]) -> bytes:
    with TemporaryDirectory() as folder:
        return write_coded(Path(folder) / "a.mp4", frames, *size, fps=fps).read_bytes()


def entry(
    clips: Sequence[int] = (0, 1), *, action: str = "0", labelled: bool = True, **labels: str
) -> dict[str, Any]:
    """Return an action of an annotation file; `labels` replace those of `PLAIN`."""
    values = PLAIN | labels
    fields = {FIELDS[name].key: value for name, value in values.items()} if labelled else {}
    listed = [
        {
            "Url": f"Dataset/Train/action_{action}/clip_{k}",
            "Camera type": "Main camera center" if k == 0 else "Close-up player or field referee",
            "Timestamp": 1000 * k,
            "Replay speed": 1.0,
        }
        for k in clips
    ]
    return {"UrlLocal": f"league\\season\\match {action}", **fields, "Clips": listed}


def write_annotations(
    path: Path,
    actions: Mapping[str, Mapping[str, Any]],
    *,
    set_name: str = "train",
    number: int | None = None,
) -> Path:
    """Write an annotation file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = len(actions) if number is None else number
    path.write_text(json.dumps({"Set": set_name, "Number of actions": said, "Actions": actions}, indent=1))
    return path


def write_split(
    root: Path,
    actions: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]],
    *,
    name: str = "train",
    absent: Sequence[str] = (),
) -> SplitSource:
    """Write `root`/`name` with annotations and all listed clips but those `absent` (action_<id>/clip_<k>)."""
    folder = root / name
    named = actions if isinstance(actions, Mapping) else {str(k): action for k, action in enumerate(actions)}
    for action, fields in named.items():
        for clip in fields["Clips"]:
            listed = f"action_{action}/{clip['Url'].split('/')[-1]}"
            if listed not in absent:
                write_clip(folder / f"{listed}.mp4")
    annotations = write_annotations(folder / "annotations.json", named, set_name=name)
    return SplitSource(name=name, folder=folder, annotations=annotations)
