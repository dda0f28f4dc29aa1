"""Files about the best validation of a run."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import writing
from common.engine.manifest import replace_text, sync_folder, write_synced
from common.metrics import report
from mvfouls.judging import JudgedTask, Judgement, wilson
from mvfouls.labels import IGNORE
from mvfouls.official import OfficialScores, PartScores
from mvfouls.submission import write_predictions

PREDICTIONS, REPORT, LOGITS = "val_predictions.json", "class_report.json", "val_logits.npz"
DATA_REPORT = "data_report.json"


def write_outputs(
    folder: Path,
    judgement: Judgement,
    *,
    split: str = "valid",
    logits: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Write the predictions, the report and the confusion tables into `folder`, and the logits if given.

    Without the heads for an official prediction there is no file of predictions.
    """
    if judgement.projected is not None:
        write_predictions(folder / PREDICTIONS, judgement.entries(), split)
    text = json.dumps(finite(class_report(judgement)), indent=1, allow_nan=False)
    replace_text(folder / REPORT, text + "\n")
    for name, task in judgement.tasks.items():
        replace_text(folder / f"confusion_{name}.csv", confusion_csv(task))
    if logits is not None:
        write_val_logits(folder / LOGITS, judgement, logits, split=split)


def class_report(judgement: Judgement) -> dict[str, Any]:
    """Return every number with its support and interval as plain types; shares, the official keys percent."""
    official = {scores.mode: scores.to_dict() for scores in (judgement.strict, judgement.compat) if scores}
    content: dict[str, Any] = {"actions": len(judgement.ids), "partial": judgement.partial}
    if judgement.strict is not None and judgement.interval is not None:
        content["leaderboard"] = {name: float(end) for name, end in judgement.interval._asdict().items()}
        content |= {"official": official, **parts_report(judgement.strict)}
    return content | {"tasks": {name: task_report(task) for name, task in judgement.tasks.items()}}


def parts_report(scores: OfficialScores) -> dict[str, list[dict[str, Any]]]:
    """Return the classes of `os` and `action` with number, hits, recall and its Wilson interval."""
    return {"os": _part_rows(scores.os), "action": _part_rows(scores.action)}


def task_report(task: JudgedTask) -> dict[str, Any]:
    """Return the numbers of a task and of its classes."""
    matrix = task.matrix
    support, predicted = report.support(matrix), report.predicted(matrix)
    hits = np.diagonal(matrix)
    columns = {
        "n": support,
        "predicted": predicted,
        "hits": hits,
        **_with_interval(hits, support),
        "precision": report.precision(matrix),
        "f1": report.f1(matrix),
    }
    return {
        "accuracy": task.accuracy,
        "balanced_accuracy": task.ba,
        "macro_f1": task.macro_f1,
        "top2": task.top2,
        "averaged_classes": int(task.averaged.sum()),
        "classes": _rows(task.labels.classes, columns),
        "confusion": matrix.tolist(),
    }


def confusion_csv(task: JudgedTask) -> str:
    """Return the confusion matrix as text: a row per true class, a column per predicted one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true/predicted", *task.labels.classes])
    for name, row in zip(task.labels.classes, task.matrix.tolist()):
        writer.writerow([name, *row])
    return text.getvalue()


def write_val_logits(
    path: Path, judgement: Judgement, logits: Mapping[str, NDArray[Any]], *, split: str
) -> None:
    """Write logits [N, K] per task beside probabilities, labels, class names and the official projection.

    Arrays: `split`, `action_ids`, and `logits/T`, `probabilities/T`, `labels/T` (-100: none), `classes/T` for
    each task T; with a projection also `official/action`, `official/os` (probabilities) and
    `official/action_label`, `official/os_label` (-100: does not count). Readable without pickle.
    """
    arrays: dict[str, NDArray[Any]] = {"split": np.array(split), "action_ids": np.array(judgement.ids)}
    for name, task in judgement.tasks.items():
        if logits[name].shape != task.probabilities.shape:
            raise ValueError(f"logits: {name} is {logits[name].shape}, not {task.probabilities.shape}")
        arrays[f"logits/{name}"] = np.asarray(logits[name], dtype=np.float32)
        arrays[f"probabilities/{name}"] = task.probabilities
        arrays[f"labels/{name}"] = task.truth
        arrays[f"classes/{name}"] = np.array(task.labels.classes)
    if judgement.projected is not None and judgement.strict is not None:
        arrays |= {"official/action": judgement.projected.actions, "official/os": judgement.projected.os}
        for name, part in (("action", judgement.strict.action), ("os", judgement.strict.os)):
            arrays[f"official/{name}_label"] = _labels_of(judgement.ids, judgement.strict.ids, part)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    partial = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        write_synced(partial, content.getvalue())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write what a verb found to its --json file, all at once; UserError when the disk refuses."""
    with writing(f"--json {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Return nested plain types with NaN and infinity as None, so that every JSON reader takes them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def _part_rows(part: PartScores) -> list[dict[str, Any]]:
    return _rows(part.names, {"n": part.count, "hits": part.hits, **_with_interval(part.hits, part.count)})


def _with_interval(hits: NDArray[np.int64], count: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    low, high = wilson(hits, count)
    return {"recall": report.divide(hits, count), "low": low, "high": high}


def _rows(names: Iterable[str], columns: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    plain = {title: values.tolist() for title, values in columns.items()}
    return [
        {"id": place, "name": name, **{title: values[place] for title, values in plain.items()}}
        for place, name in enumerate(names)
    ]


def _labels_of(ids: Iterable[str], counted: Iterable[str], part: PartScores) -> NDArray[np.int64]:
    known = dict(zip(counted, part.truth.tolist()))
    return np.array([known.get(name, IGNORE) for name in ids], dtype=np.int64)
