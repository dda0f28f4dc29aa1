"""The runs to be compared: what each predicted for which actions, and by which settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from common.config import UserError
from mvfouls.annotations import Annotations, annotations_sha256, read_annotations
from mvfouls.compare_settings import Settings, read_settings
from mvfouls.official import Entry, OfficialScores, PartScores, judge_official
from mvfouls.outputs import DATA_REPORT, PREDICTIONS, REPORT
from mvfouls.submission import read_predictions, shown

Unknown = Literal["error", "ignore"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run, or a file of predictions."""

    path: Path
    predictions: Mapping[str, Entry]
    annotations: Path
    """What it was validated on."""
    annotations_sha256: str
    settings: Settings | None = None
    """None for a file of predictions."""
    reported: Mapping[str, Any] | None = None
    """The run's own `class_report.json`."""


def read_candidates(
    paths: Sequence[Path], annotations: Path | None, unknown: Unknown
) -> tuple[list[Candidate], Annotations]:
    """Read run folders and files of predictions, and the labels of the actions that they all predict.

    `annotations` are those of the files, and stand for what a run recorded. UserError naming what is missing
    or damaged, and for runs that were not validated on the same actions with the same labels.
    """
    given = None if annotations is None else annotations_sha256(annotations)
    candidates = [_read(path, annotations, given) for path in paths]
    for other in candidates[1:]:
        _require_same(candidates[0], other)
    path = annotations or _recorded(candidates)
    if annotations_sha256(path) != candidates[0].annotations_sha256:
        raise UserError(
            f"{path}: not the annotations that {candidates[0].path} was validated on (--annotations)"
        )
    return candidates, read_annotations(path, unknown=unknown, labelled=True)


def judge_candidate(candidate: Candidate, truth: Annotations) -> OfficialScores:
    """Judge by the strict rules; UserError where a run's own report says something else."""
    scores = judge_official(truth, candidate.predictions, "strict")
    if candidate.reported is not None:
        for name, part in (("os", scores.os), ("action", scores.action)):
            if _counts(candidate.reported.get(name, ())) != _judged_counts(part):
                raise UserError(
                    f"{candidate.path}: {PREDICTIONS} judged by {truth.path} is not what {REPORT} reports"
                )
    return scores


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths, of equally many parts, that tell them apart.

    >>> short_names([Path("/runs/a/first"), Path("/runs/b/first")])
    ['a/first', 'b/first']

    ValueError for a path that comes twice.
    """
    parts = [path.resolve().parts for path in paths]
    longest = max(map(len, parts))
    for length in range(1, longest + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError("paths: a path comes twice")


def _recorded(candidates: Sequence[Candidate]) -> Path:
    """Return the annotations that a run recorded and that are still there."""
    for candidate in candidates:
        if candidate.annotations.is_file():
            return candidate.annotations
    first = candidates[0]
    raise UserError(f"{first.path}: {first.annotations} is not there any more; --annotations names it")


def _read(path: Path, annotations: Path | None, given: str | None) -> Candidate:
    if path.is_dir():
        return _from_folder(path, annotations, given)
    if not path.is_file():
        raise UserError(f"{path}: no such run folder or file of predictions")
    if annotations is None or given is None:
        raise UserError(f"{path}: a file of predictions needs --annotations, the labels to judge it by")
    return Candidate(
        path=path,
        predictions=read_predictions(path),
        annotations=annotations,
        annotations_sha256=given,
    )


def _from_folder(run: Path, annotations: Path | None, given: str | None) -> Candidate:
    """Read a run folder; a run that did not record its annotations takes the ones given."""
    data = _read_json(run / DATA_REPORT) if (run / DATA_REPORT).is_file() else {}
    settings = read_settings(run, data)
    reported = _finished(run)
    valid = data.get("valid", {})
    recorded, digest = valid.get("annotations"), valid.get("annotations_sha256", given)
    where = annotations if recorded is None else Path(recorded)
    if where is None or digest is None:
        raise UserError(f"{run}: {DATA_REPORT} names no annotations; --annotations does")
    return Candidate(
        path=run,
        predictions=read_predictions(run / PREDICTIONS),
        annotations=where,
        annotations_sha256=digest,
        settings=settings,
        reported=reported,
    )


def _finished(run: Path) -> dict[str, Any]:
    """Return the report about the best model; UserError unless it judged every action officially."""
    if not (run / REPORT).is_file():
        raise UserError(f"{run}: no validation was finished, {REPORT} is not there")
    reported = _read_json(run / REPORT)
    if not (run / PREDICTIONS).is_file():
        raise UserError(f"{run}: predicts no official labels, {PREDICTIONS} is not there")
    if reported.get("partial"):
        raise UserError(f"{run}: only {reported.get('actions')} validation actions were judged, not all")
    return reported


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: an object is expected")
    return content


def _require_same(first: Candidate, other: Candidate) -> None:
    if first.annotations_sha256 != other.annotations_sha256:
        raise UserError(
            f"{first.path} and {other.path}: validated on different annotations, "
            f"{first.annotations} and {other.annotations}"
        )
    if said := "; ".join(_only_one(first, other)):
        raise UserError(f"{first.path} and {other.path}: not the same validation actions: {said}")


def _only_one(first: Candidate, other: Candidate) -> Iterator[str]:
    for here, there in ((first, other), (other, first)):
        lone = [name for name in here.predictions if name not in there.predictions]
        if lone:
            yield f"{len(lone)} only in {here.path}: {shown(lone)}"


def _counts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    return [(row["n"], row["hits"]) for row in rows]


def _judged_counts(part: PartScores) -> list[tuple[int, int]]:
    return list(zip(part.count.tolist(), part.hits.tolist(), strict=True))
