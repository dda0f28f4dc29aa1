"""Files of official predictions: written, read and checked against the published form."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config import UserError, writing
from common.engine.manifest import replace_text
from mvfouls.labels import OFFICIAL_ACTIONS, OS_OF_SEVERITY
from mvfouls.official import ACTION, NO_OFFENCE, OFFENCE, SEVERITY
from mvfouls.projection import Projected

SETS = {"test": "test", "challenge": "chall"}
"""What a submission calls the split it is for."""
MAJORITY = {ACTION: "Standing tackling", OFFENCE: "Offence", SEVERITY: "1.0"}
"""Commonest official labels of training, for an action that has no readable view."""
_SEVERITY_OF_OS = {os_id: severity for severity, os_id in OS_OF_SEVERITY.items()}
_FIELDS = (ACTION, OFFENCE, SEVERITY)
_SHOWN = 5


def entry(action_id: int, os_id: int) -> dict[str, str]:
    """Return the official prediction of one action.

    >>> entry(7, 2)
    {'Action class': 'Dive', 'Offence': 'Offence', 'Severity': '3.0'}
    >>> entry(0, 0)
    {'Action class': 'Tackling', 'Offence': 'No offence', 'Severity': ''}
    """
    offence = "No offence" if os_id == NO_OFFENCE else "Offence"
    return {
        ACTION: OFFICIAL_ACTIONS[action_id],
        OFFENCE: offence,
        SEVERITY: "" if os_id == NO_OFFENCE else _SEVERITY_OF_OS[os_id],
    }


def entries_of(ids: Sequence[str], projected: Projected) -> dict[str, dict[str, str]]:
    """Return the official predictions by action id; ValueError when there are not as many as `ids`."""
    if len(ids) != len(projected.os_id):
        raise ValueError(f"ids: {len(ids)}, but {len(projected.os_id)} predictions")
    decisions = zip(projected.action_id.tolist(), projected.os_id.tolist())
    return {name: entry(*decision) for name, decision in zip(ids, decisions)}


def write_predictions(path: Path, entries: Mapping[str, Mapping[str, str]], set_name: str) -> None:
    """Write predictions in the official form, all at once; UserError when the disk refuses."""
    content = {"Set": set_name, "Actions": {name: dict(values) for name, values in entries.items()}}
    with writing(f"{path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(content, indent=1) + "\n")


def write_submission(
    path: Path,
    entries: Mapping[str, Mapping[str, str]],
    ids: Sequence[str],
    split: str,
    *,
    allow_missing_clips: bool = False,
) -> tuple[str, ...]:
    """Write the submission for all actions `ids` of a split, in that order, read it again and check it.

    Returns the ids that got `MAJORITY` because they have no prediction. UserError for a split that nobody
    submits for, for actions without a prediction unless `allow_missing_clips`, and for anything the form
    does not allow; then no file is left behind that was not there.
    """
    if split not in SETS:
        raise UserError(f"--split {split}: submissions are for {' or '.join(SETS)}")
    absent = tuple(name for name in ids if name not in entries)
    if not allow_missing_clips:
        refuse_absent(absent)
    complete = {name: entries.get(name, MAJORITY) for name in ids}
    content = {"Set": SETS[split], "Actions": complete | dict(entries)}
    _refuse(path, submission_problems(content, ids))
    write_predictions(path, complete, SETS[split])
    check_submission(path, ids)
    return absent


def refuse_absent(ids: Sequence[str]) -> None:
    """Raise UserError when there are actions that nothing can be predicted for."""
    if ids:
        raise UserError(
            f"no readable view of action {shown(ids)}: nothing can be predicted; --allow_missing_clips "
            "submits the commonest labels for them"
        )


def check_submission(path: Path, ids: Collection[str]) -> None:
    """Check that a file is a valid submission for the actions `ids`; UserError with what is wrong."""
    _refuse(path, submission_problems(_load(path), ids))


def submission_problems(content: Any, ids: Collection[str]) -> Iterator[str]:
    """Yield everything that the published form does not allow."""
    if not isinstance(content, Mapping) or not isinstance(content.get("Actions"), Mapping):
        yield '{"Set": ..., "Actions": {id: ...}} is expected'
        return
    if extra := sorted(set(content) - {"Set", "Actions"}):
        yield f"unknown key {', '.join(extra)}"
    if content.get("Set") not in SETS.values():
        yield f"Set: {' or '.join(SETS.values())} is expected, not {content.get('Set')!r}"
    actions, known = content["Actions"], set(ids)
    if absent := [name for name in ids if name not in actions]:
        yield f"no prediction for action {shown(absent)}"
    if strangers := [name for name in actions if name not in known]:
        yield f"the split has no action {shown(strangers)}"
    for name, values in actions.items():
        yield from (f"action {name}: {problem}" for problem in _entry_problems(values))


def _entry_problems(values: Any) -> Iterator[str]:
    if not isinstance(values, Mapping) or set(values) != set(_FIELDS):
        yield f"exactly {', '.join(_FIELDS)} are expected"
        return
    allowed = {
        ACTION: OFFICIAL_ACTIONS,
        OFFENCE: ("Offence", "No offence"),
        SEVERITY: ("", *OS_OF_SEVERITY),
    }
    for field, choices in allowed.items():
        if values[field] not in choices:
            yield f"{field}: {values[field]!r} is not one of {', '.join(map(repr, choices))}"
    if (values[OFFENCE] == "No offence") != (values[SEVERITY] == ""):
        yield f'{SEVERITY} is "" for No offence and only then'


def read_predictions(path: Path) -> dict[str, dict[str, str]]:
    """Return the predictions of a file by action id.

    A field may be absent or hold any text: the evaluator counts it as wrong. UserError naming the file, and
    the line or the action, for broken JSON, an id that comes twice, another structure, or a field that is
    not text.
    """
    content = _load(path)
    actions = content.get("Actions") if isinstance(content, dict) else None
    if not isinstance(actions, dict):
        raise UserError(f'{path}: {{"Set": ..., "Actions": {{id: ...}}}} is expected')
    found = {}
    for name, values in actions.items():
        if not isinstance(values, dict):
            raise UserError(f"{path}: action {name}: an object with {', '.join(_FIELDS)} is expected")
        found[name] = {field: values[field] for field in _FIELDS if field in values}
        for field, value in found[name].items():
            if not isinstance(value, str):
                raise UserError(f"{path}: action {name}: {field}: text is expected, not {value!r}")
    return found


def shown(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _refuse(path: Path, problems: Iterator[str]) -> None:
    found = list(problems)
    if found:
        raise UserError(f"{path}: no valid submission: " + "; ".join(found[:_SHOWN]))


def _load(path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
        if twice:
            raise UserError(f"{path}: the key {shown(sorted(twice))} comes twice")
        return dict(pairs)

    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid JSON: not UTF-8 text") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
