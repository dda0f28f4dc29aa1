"""Short runs of both command lines with all auxiliary tasks, with soft labels and with an ordinal head."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mv_files import entry, write_split
from mv_runs import Ran, Trainings, before_step, same
from mv_tiny_backbone import DIM

from mvfouls.cli.class_weights import main
from mvfouls.labels import FIELDS

ATTRIBUTES = list(FIELDS)[3:]
AUXILIARY = ["offence", "offence_severity", *ATTRIBUTES]
PLAIN = [
    {"action_class": "Tackling", "severity": "1.0"},
    {"action_class": "Holding", "severity": "3.0", "offence": "No offence"},
    {"action_class": "Tackling", "severity": "5.0"},
    {"action_class": "Holding", "severity": "1.0"},
]
SHARED = [{"severity": "2.0"}, {"severity": "4.0", "offence": "Between"}]
SMALL = (
    "--multi-task --backbone-arch r2plus1d_18 --img_height 32 --img_width 40 --frames_per_clip 4 "
    "--batch-size 4 --num-workers 0 --device cpu --epochs 1 --bag-of-clips --allow_overcorrection"
)

Run = Callable[[Path, str], Ran]


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two splits in which no label lies between two classes; every attribute has two values."""
    root = tmp_path_factory.mktemp("hard")
    attributes = [{name: FIELDS[name].values[k % 2] for name in ATTRIBUTES} for k in range(len(PLAIN))]
    for name in ("train", "valid"):
        write_split(root, [entry((0,), **a, **b) for a, b in zip(PLAIN, attributes)], name=name)
    return root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two splits in which some labels lie between two classes."""
    root = tmp_path_factory.mktemp("shared")
    for name in ("train", "valid"):
        write_split(root, [entry((0,), **labels) for labels in [*PLAIN, *SHARED]], name=name)
    return root


@pytest.fixture(params=["modular", "class_weights"])
def run(request: pytest.FixtureRequest, train: Trainings, capfd: pytest.CaptureFixture[str]) -> Run:
    """Train by one of the command lines, which is told the data and further words."""

    def modular(data: Path, words: str) -> Ran:
        return train(f"--epochs 1 --freezing_strategy none --allow_overcorrection {words}", data=data)

    def class_weights(data: Path, words: str) -> Ran:
        folder = train.home / f"run-{len(list(train.home.iterdir()))}"
        splits = [
            f"--{a}-{b}={data}/{c}" for a, c in (("train", "train"), ("val", "valid")) for b in ("dir",)
        ]
        splits += [
            f"--{a}-annotations={data}/{c}/annotations.json" for a, c in (("train",) * 2, ("val", "valid"))
        ]
        capfd.readouterr()
        code = main([*splits, *SMALL.split(), f"--output-dir={folder}", *words.split()])
        return Ran(code, *capfd.readouterr(), folder)

    return modular if request.param == "modular" else class_weights


def test_every_auxiliary_task_is_learned(run, hard, monkeypatch):
    before: dict[str, torch.Tensor] = {}

    def remember(step: int, task: Any, batch: Any) -> None:
        if step == 1:
            before.update({name: value.clone() for name, value in task.model.named_parameters()})

    before_step(monkeypatch, remember)
    ran = run(hard, f"--auxiliary_tasks {' '.join(AUXILIARY)}")
    assert ran.code == 0, ran.err
    after = ran.weights()
    tasks = ran.checkpoint().metadata["tasks"]
    assert tasks.keys() == {"severity", "action_class", *AUXILIARY}
    for task in tasks:
        moved = [name for name in before if name.startswith(f"heads.{task}.")]
        assert moved
        assert all(not torch.equal(before[name], after[name]) for name in moved)


def test_soft_labels_and_an_ordinal_head(run, shared):
    ran = run(shared, "--soft_labels severity offence --task_head severity ordinal")
    assert ran.code == 0, ran.err
    for name in ("train", "valid"):
        assert f"{name} soft labels severity 2 offence 1: halves of two classes" in ran.out
    assert "balance  severity 1.0=2.5 2.0=0 3.0=2 4.0=0 5.0=1.5 |" in ran.out
    assert "recall offence: Offence" in ran.out
    report = json.loads((ran.folder / "class_report.json").read_text())["tasks"]
    assert [row["n"] for row in report["severity"]["classes"]] == [2, 0, 1, 0, 1]
    assert [row["n"] for row in report["offence"]["classes"]] == [4, 1, 0]
    shapes = {name: tuple(value.shape) for name, value in ran.weights().items() if "heads.severity" in name}
    head = "heads.severity.1."
    assert shapes == {f"{head}first": (1,), f"{head}gaps": (3,), f"{head}score.weight": (1, DIM)}


def test_without_such_labels_a_run_is_bitwise_the_same(run, hard):
    usual = run(hard, "--label_smoothing 0.1")
    soft = run(hard, "--label_smoothing 0.1 --soft_labels severity offence")
    assert usual.code == soft.code == 0, soft.err
    assert same(usual.weights(), soft.weights())
    assert usual.metrics("validation") == soft.metrics("validation")
    assert "soft labels severity 0 offence 0" in soft.out


def test_logits_and_labels_for_calibration(train, shared, capfd):
    folder = train.home / "logits"
    words = [f"--{flag}={shared}/{place}" for flag, place in (
        ("train-dir", "train"), ("val-dir", "valid"), ("train-annotations", "train/annotations.json"),
        ("val-annotations", "valid/annotations.json"),
    )]  # fmt: skip
    words += [*SMALL.split(), "--save-val-logits", "--soft_labels", "severity", f"--output-dir={folder}"]
    assert main([*words, "--task-head", "severity", "ordinal", "depth=1", "hidden=8"]) == 0
    arrays = np.load(folder / "val_logits.npz")
    assert arrays["labels/severity"].tolist() == [0, 2, 4, 0, -100, -100]
    assert arrays["labels/offence"].tolist() == [0, 1, 0, 0, 0, 2]
    assert arrays["logits/severity"].shape == (6, 5)
    np.testing.assert_allclose(np.exp(arrays["logits/severity"]), arrays["probabilities/severity"], atol=1e-6)
    np.testing.assert_allclose(arrays["official/os"].sum(axis=1), 1)
