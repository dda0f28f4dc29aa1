"""What the readers are told: where files lie, what they are called, and what to do about bad ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.config import UserError
from rodent_behavior.config import PoseConfig, TrialConfig
from rodent_behavior.dlc import DEFAULT_KP_NAMES, normalise_name
from rodent_behavior.labels import LabelMap
from rodent_behavior.layout import Pick


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """How the trials of a pair of folders are found. UserError names the flags that cannot go together.

    `annotations` None: no labels, every video is unlabelled. `need_video` and `need_pose` say what the model
    reads; what it does not need may be absent.
    """

    videos: Path
    annotations: Path | None = None
    pose_dir: Path | None = None
    label_map: LabelMap = field(default_factory=LabelMap.default)
    need_video: bool = True
    need_pose: bool = True
    kp_names: tuple[str, ...] = DEFAULT_KP_NAMES
    kp_aliases: Mapping[str, str] = field(default_factory=dict)
    kp_likelihood_thr: float = PoseConfig.kp_likelihood_thr
    individual: str | None = None
    dlc_pick: Pick = "raw"
    dlc_scorer: str | None = None
    trial_frames: int = TrialConfig.trial_frames
    min_frames: int = TrialConfig.min_frames
    manifest: Path | None = None
    frame_size: tuple[int, int] | None = None
    fps: float | None = None
    group_by: Literal["video", "trial"] = "video"
    group_regex: str | None = None
    on_bad_trial: Literal["error", "skip"] = "error"
    on_missing_pose: Literal["error", "skip", "zeros"] = "error"

    def __post_init__(self) -> None:
        if not 1 <= self.min_frames <= self.trial_frames:
            raise UserError(f"--min_frames {self.min_frames} must be 1..--trial_frames {self.trial_frames}")
        if not 0 <= self.kp_likelihood_thr <= 1:
            raise UserError(f"--kp_likelihood_thr {self.kp_likelihood_thr} must be 0..1")
        self._check_names()
        if self.frame_size is not None and min(self.frame_size) < 1:
            raise UserError(f"--frame_size {self.frame_size[0]},{self.frame_size[1]}: both must be >= 1")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise UserError(f"--fps {self.fps} must be > 0")
        self._check_groups()

    def group_of(self, stem: str, trial: int) -> str:
        """Return the unit of the split a trial belongs to; UserError when --group_regex does not match."""
        if self.group_by == "trial":
            return f"{stem}_{trial}"
        if self.group_regex is None:
            return stem
        match = re.search(self.group_regex, stem)
        if match is None or not match["group"]:
            raise UserError(f"--group_regex {self.group_regex}: no group in {stem}")
        return match["group"]

    def _check_names(self) -> None:
        names = [normalise_name(name) for name in self.kp_names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or len(names) < 2 or "" in names:
            raise UserError(f"--kp_names {','.join(self.kp_names)}: two or more different names are expected")
        for part, name in self.kp_aliases.items():
            if normalise_name(name) not in names:
                raise UserError(f"--kp_alias {part}={name}: {name} is none of --kp_names {', '.join(names)}")

    def _check_groups(self) -> None:
        if self.group_regex is None:
            return
        if self.group_by == "trial":
            raise UserError(f"--group_by trial and --group_regex {self.group_regex} exclude each other")
        try:
            pattern = re.compile(self.group_regex)
        except re.error as error:
            raise UserError(f"--group_regex {self.group_regex}: {error}") from error
        if "group" not in pattern.groupindex:
            raise UserError(f"--group_regex {self.group_regex}: (?P<group>...) is missing")


def read_aliases(texts: Sequence[str]) -> dict[str, str]:
    """Return {body part: keypoint} of `--kp_alias`."""
    return {part: name.strip().lower() for part, name in named_values("kp_alias", texts, "FILE_NAME=kp_name")}


def named_values(flag: str, texts: Sequence[str], form: str) -> list[tuple[str, str]]:
    """Return (name, value) of each `NAME=VALUE`, split at the first `=`; UserError for another form or a name
    given twice."""
    pairs = [(text.partition("=")[0].strip(), text.partition("=")[2].strip()) for text in texts]
    for text, (name, value) in zip(texts, pairs):
        if not (name and value):
            raise UserError(f"--{flag} {text}: {form} is expected")
        if [other for other, _ in pairs].count(name) > 1:
            raise UserError(f"--{flag} {text}: {name} is given twice")
    return pairs
