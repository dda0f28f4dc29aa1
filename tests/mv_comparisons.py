"""Run folders written by hand: what a run predicted, by which settings, for which annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mv_class_weights import DATA
from mv_official import ACTIONS, Labels, as_entry, slow_scores
from numpy.typing import NDArray

from common.config import parse, to_yaml
from mvfouls.annotations import annotations_sha256, read_annotations
from mvfouls.config_class_weights import ClassWeightsConfig
from mvfouls.config_modular import ModularConfig
from mvfouls.official import judge_official
from mvfouls.outputs import parts_report
from mvfouls.submission import write_predictions

FRONTENDS = {"modular": (ModularConfig, "--dataset_root ."), "class_weights": (ClassWeightsConfig, DATA)}
OUTCOMES = [("No offence", ""), ("Offence", "1.0"), ("Offence", "3.0"), ("Offence", "5.0")]
Entries = Mapping[str, Mapping[str, str]]


def drawn_labels(number: int, seed: int) -> dict[str, Labels]:
    """Draw labels that count officially, commoner and rarer ones."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(ACTIONS, number, p=[0.2, 0.35, 0.1, 0.15, 0.05, 0.05, 0.07, 0.03])
    outcomes = rng.choice(4, number, p=[0.2, 0.4, 0.3, 0.1])
    return {str(k): (str(kinds[k]), *OUTCOMES[outcomes[k]]) for k in range(number)}


def guesses(rows: Mapping[str, Labels], share: float, seed: int) -> dict[str, dict[str, str]]:
    """Predict a share of the actions right, the others like a random one."""
    rng = np.random.default_rng(seed)
    names = list(rows)
    return {
        name: as_entry(*rows[name if rng.random() < share else names[rng.integers(len(names))]])
        for name in names
    }


OFFICIAL = {
    "leaderboard": "leaderboard_value",
    "os_ba": "balanced_accuracy_offence_severity",
    "action_ba": "balanced_accuracy_action",
    "os_acc": "accuracy_offence_severity",
    "action_acc": "accuracy_action",
}
"""Name of each averaged number in what the official evaluator says."""


def resampled(rows: Mapping[str, Labels], predictions: Entries, resamples: int) -> dict[str, NDArray[Any]]:
    """Return every averaged number of each resample, a share, judged one action after the other."""
    number = len(rows)
    drawn = np.random.default_rng([0, 0]).multinomial(number, np.full(number, 1 / number), size=resamples)
    found = []
    for counts in drawn:
        copies = [(name, k) for name, count in zip(rows, counts) for k in range(count)]
        truth = {f"{name}-{k}": rows[name] for name, k in copies}
        found.append(slow_scores(truth, {f"{name}-{k}": predictions[name] for name, k in copies}, "strict"))
    return {key: np.array([each[name] for each in found]) / 100 for key, name in OFFICIAL.items()}


def write_run(
    folder: Path,
    annotations: Path,
    predictions: Entries,
    words: str = "",
    *,
    frontend: str = "modular",
    training_data: str = "t" * 64,
) -> Path:
    """Write what a finished run leaves behind besides its checkpoints; `words` were typed."""
    config_class, fixed = FRONTENDS[frontend]
    parsed = parse(config_class, f"{fixed} {words}".split(), prog="train")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(parsed.config, typed=parsed.typed))
    digest = annotations_sha256(annotations)
    valid = {"annotations": str(annotations), "annotations_sha256": digest, "sha256": digest}
    train = {"annotations_sha256": "labels of training", "sha256": training_data}
    (folder / "data_report.json").write_text(json.dumps({"train": train, "valid": valid}))
    write_predictions(folder / "val_predictions.json", predictions, "valid")
    scores = judge_official(read_annotations(annotations), predictions)
    report = {"actions": len(predictions), "partial": False, **parts_report(scores)}
    (folder / "class_report.json").write_text(json.dumps(report))
    return folder
