"""The annotation file of a split, read strictly: what is wrong is named with its action and field."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.config import UserError
from mvfouls.labels import FIELDS

CLIP_NAME = re.compile(r"clip_(\d+)")
ACTION_ID = re.compile(r"[0-9A-Za-z_-]+")
SET_NAMES = {"val": "valid", "validation": "valid", "chall": "challenge"}
"""Other spellings of the splits."""


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """A clip as listed."""

    name: str
    """`clip_<k>`."""
    camera: str
    timestamp_ms: int
    replay_speed: float

    @property
    def index(self) -> int:
        """k of `clip_<k>`; 0 is the live main camera."""
        return int(self.name.removeprefix("clip_"))


@dataclass(frozen=True, kw_only=True)
class Action:
    """An action as listed: its labels as spelled in the file, "" where there is none."""

    id: str
    game: str
    """Path of the match, the same for all its actions."""
    clips: tuple[ClipEntry, ...]
    """In the order of the file."""
    labelled: bool
    """Whether the file says anything about it."""
    action_class: str = ""
    offence: str = ""
    severity: str = ""
    contact: str = ""
    bodypart: str = ""
    upper_body_part: str = ""
    multiple_fouls: str = ""
    try_to_play: str = ""
    touch_ball: str = ""
    handball: str = ""
    handball_offence: str = ""


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """An annotation file; `unknown` counts the values it must not hold, when these are ignored."""

    set_name: str
    actions: tuple[Action, ...]
    path: Path
    warnings: tuple[str, ...] = ()
    unknown: dict[str, int] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """Whether the file says anything about its actions."""
        return any(action.labelled for action in self.actions)


def read_annotations(
    path: str | Path,
    *,
    unknown: Literal["error", "ignore"] = "error",
    labelled: bool | None = None,
) -> Annotations:
    """Read an annotation file.

    `labelled` True: an error when it holds no labels; False: labels are not read; None: read when there are
    any. With `unknown` ignore, values outside the vocabulary are counted, and kept as spelled; they are no
    class. Raises UserError that names file, action, and field, or line and column of text that is no JSON.
    """
    reader = _Reader(Path(path), unknown)
    content = reader.content()
    entries = reader.get(content, "Actions", dict, "")
    if not entries:
        raise UserError(f"{path}: Actions is empty")
    read_labels = labelled is not False and _has_labels(entries)
    if labelled and not read_labels:
        raise UserError(f"{path}: no labels: a split without them can only be predicted")
    actions = tuple(reader.action(name, entry, read_labels) for name, entry in entries.items())
    warnings = reader.number_warnings(content, len(actions))
    warnings += [f"{path}: {value}: unknown, ignored {n} times" for value, n in reader.unknown.items()]
    return Annotations(
        set_name=reader.get(content, "Set", str, ""),
        actions=actions,
        path=reader.path,
        warnings=tuple(warnings),
        unknown=dict(reader.unknown),
    )


def canonical_set(name: str) -> str:
    """Return the name of a split that `Set`, in any of its spellings, means."""
    return SET_NAMES.get(name.casefold(), name.casefold())


def annotations_sha256(path: Path) -> str:
    """Return the SHA-256 of an annotation file, in hexadecimal; UserError when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such annotation file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


class _Reader:
    """Reads values out of one file; messages name it."""

    def __init__(self, path: Path, policy: Literal["error", "ignore"]) -> None:
        self.path = path
        self.policy = policy
        self.unknown: Counter[str] = Counter()

    def fail(self, message: str) -> UserError:
        return UserError(f"{self.path}: {message}")

    def content(self) -> dict[str, Any]:
        """Return the object the file holds."""
        try:
            content = json.loads(self.path.read_bytes(), object_pairs_hook=self.without_duplicates)
        except FileNotFoundError as error:
            raise UserError(f"{self.path}: no such annotation file") from error
        except OSError as error:
            raise self.fail(f"cannot be read: {error.strerror}") from error
        except json.JSONDecodeError as error:
            raise self.fail(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
        except UnicodeDecodeError as error:
            raise self.fail(f"byte {error.start}: is no UTF-8 text") from error
        if not isinstance(content, dict):
            raise self.fail("an object with Set, Number of actions, and Actions is expected")
        return content

    def without_duplicates(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            what = "action" if all(isinstance(value, dict) for _, value in pairs) else "field"
            raise self.fail(f"{what} {', '.join(twice)} occurs more than once in the same object")
        return dict(pairs)

    def get(self, entry: dict[str, Any], key: str, kind: type, where: str) -> Any:
        """Return the value of a key; `where` starts the message when it is missing or of another type."""
        if key not in entry:
            raise self.fail(f"{where}field {key} is missing")
        value = entry[key]
        wanted = (int, float) if kind is float else kind
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise self.fail(f"{where}{key} is {json.dumps(value)[:60]}: {_KINDS[kind]} is expected")
        return value

    def action(self, name: str, entry: Any, read_labels: bool) -> Action:
        where = f"action {name}: "
        if not ACTION_ID.fullmatch(name):
            raise self.fail(f"action id {name!r}: letters, digits, - and _ are expected")
        if not isinstance(entry, dict):
            raise self.fail(f"{where}an object is expected")
        labels = {field: self.label(field, entry, where) for field in FIELDS} if read_labels else {}
        return Action(
            id=name,
            game=self.get(entry, "UrlLocal", str, where),
            clips=self.clips(self.get(entry, "Clips", list, where), where),
            labelled=any(labels.values()),
            **labels,
        )

    def label(self, name: str, entry: dict[str, Any], where: str) -> str:
        allowed = FIELDS[name]
        text: str = self.get(entry, allowed.key, str, where)
        if allowed.canonical(text) is None:
            if self.policy == "error":
                raise self.fail(f"{where}{allowed.key} is {text!r}: {_nearest(text, allowed.values)}")
            self.unknown[f"{allowed.key} {text!r}"] += 1
        return text

    def clips(self, entries: list[Any], where: str) -> tuple[ClipEntry, ...]:
        clips = tuple(self.clip(entry, f"{where}clip {place}: ") for place, entry in enumerate(entries))
        twice = [index for index, n in Counter(clip.index for clip in clips).items() if n > 1]
        if twice:
            raise self.fail(f"{where}clip_{twice[0]} is listed more than once")
        return clips

    def clip(self, entry: Any, where: str) -> ClipEntry:
        if not isinstance(entry, dict):
            raise self.fail(f"{where}an object is expected")
        url: str = self.get(entry, "Url", str, where)
        name = re.split(r"[/\\]", url)[-1].removesuffix(".mp4")
        if not CLIP_NAME.fullmatch(name):
            raise self.fail(f"{where}Url is {url!r}: a path that ends in clip_<number> is expected")
        return ClipEntry(
            name=name,
            camera=self.get(entry, "Camera type", str, where),
            timestamp_ms=self.get(entry, "Timestamp", int, where),
            replay_speed=float(self.get(entry, "Replay speed", float, where)),
        )

    def number_warnings(self, content: dict[str, Any], found: int) -> list[str]:
        said = self.get(content, "Number of actions", int, "")
        return [] if said == found else [f"{self.path}: Number of actions is {said}, {found} are listed"]


_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number"}


def _has_labels(entries: dict[str, Any]) -> bool:
    keys = [allowed.key for allowed in FIELDS.values()]
    return any(entry.get(key) for entry in entries.values() if isinstance(entry, dict) for key in keys)


def _nearest(text: str, values: tuple[str, ...]) -> str:
    """Return what to write instead: the value spelled most alike, or all of them."""
    folded = {value.casefold(): value for value in values}
    near = difflib.get_close_matches(text.casefold(), folded, n=1, cutoff=0.5)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    return f"one of {', '.join(repr(value) for value in values)} is expected"
