"""Trainings that meet trouble: no memory, losses that are no numbers, clips that hang; and a shortcut."""

import json
import time
from dataclasses import replace

import pytest
import torch
from mv_pieces import settled
from mv_runs import Ran, before_step

from mvfouls.backbones import ConvBackbone
from mvfouls.clips import ClipSource
from mvfouls.features import reusable
from mvfouls.task import FoulTask

PLAIN = "--dropout_rate 0 --disable_augmentation --freezing_strategy fixed --unfreeze_blocks 0"
"""Nothing depends on how a batch is cut: neither dropout nor the statistics of a batch."""


@pytest.fixture
def _without_reuse(monkeypatch):
    """Let the frozen backbone run in every step all the same."""
    monkeypatch.setattr("mvfouls.train.reusable", lambda settings: False)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.usefixtures("_without_reuse")
def test_out_of_memory_changes_neither_batch_nor_samples(train):
    drawn: dict[int, list[list[int]]] = {3: [], 99: []}
    sizes: list[int] = []

    def trained(room: int) -> Ran:
        def step(number, task, batch):
            sizes.append(len(batch["action"]))
            if number > 1 and sizes[-1] > room:
                raise MemoryError
            drawn[room] += batch["key"].tolist()

        with pytest.MonkeyPatch.context() as patch:
            before_step(patch, step)
            return train("--epochs 1", PLAIN)

    usual, ran = trained(99), trained(3)
    assert ran.code == 0, ran.err
    (event,) = ran.events("out_of_memory")
    assert (event["step"], event["micro_batch"]) == (1, 3)
    assert "micro-batch 4 -> 3, same samples and effective batch" in ran.out
    assert sizes == [4] * 4 + [4, 4, 2, 2, 2, 2, 2, 2]
    assert drawn[3] == drawn[99]
    assert [line["step"] for line in ran.metrics("epoch")] == [4]
    assert distance(ran.weights(), usual.weights()) < 2e-6


@pytest.mark.parametrize("words", ["--min_batch_size 4", "--no-enable_oom_recovery"])
def test_too_little_memory_ends_a_run_with_advice(words, train, monkeypatch):
    def fail(number, task, batch):
        if number == 3:
            raise MemoryError("no room")

    before_step(monkeypatch, fail)
    ran = train("--epochs 1", words)
    assert ran.code == 1
    assert "a smaller --batch_size, --max_views" in ran.err
    if "min_batch_size" in words:
        assert "error: training stopped: out of memory at the smallest micro-batch: 4 of 4 samples" in ran.err
        assert ran.checkpoint().step == 2
    else:
        assert "error: out of memory: no room" in ran.err
        assert "GiB" in ran.err


def test_losses_that_are_no_numbers_are_skipped_and_five_in_a_row_end_a_run(train, monkeypatch):
    actions: list[list[str]] = []
    usual = FoulTask.training_step

    def training_step(task, batch):
        actions.append(batch["action"])
        terms = usual(task, batch)
        if len(actions) == 2 or len(actions) > 6:
            terms["severity"] = replace(terms["severity"], total=terms["severity"].total * float("inf"))
        return terms

    monkeypatch.setattr(FoulTask, "training_step", training_step)
    ran = train("--epochs 2 --batch_size 3 --freezing_strategy none")
    assert ran.code == 1
    events = ran.events("nonfinite")
    assert [event["step"] for event in events] == [2, 7, 8, 9, 10, 11]
    assert all("severity" in event["terms"] for event in events)
    named = [f"({' '.join(f'action {name}' for name in batch)}); step skipped" for batch in actions]
    assert named[1] in events[0]["text"]
    assert ran.err.startswith("error: training stopped: not finite: ")
    assert f"{named[10]} (5 in a row)" in ran.err
    assert not ran.events("rollback")
    assert not ran.events("hint")
    saved = ran.checkpoint()
    assert (saved.step, saved.state["progress"]["discarded"]) == (6, 1)
    assert all(bool(torch.isfinite(value).all()) for value in saved.model.values())


def test_a_clip_that_hangs_is_named(train, monkeypatch):
    usual = ClipSource.read

    def read(source, view, shift=0):
        if "train/action_3/clip_1" in str(view.path):
            time.sleep(600)
        return usual(source, view, shift)

    monkeypatch.setattr(ClipSource, "read", read)
    started = time.monotonic()
    ran = train("--no-use_class_balanced_sampler --num_workers 2 --worker_timeout 1")
    assert ran.code == 1
    assert "error: training stopped: no batch within 1 s; in work: action_3/clip_1.mp4 (" in ran.err
    assert list((ran.folder / "checkpoints").glob("step-*"))
    assert time.monotonic() - started < 60


def test_features_that_never_change_are_computed_once(train, monkeypatch):
    words = f"--epochs 2 {PLAIN} --view_sampling random --max_views 1"
    passes: list[int] = []
    usual = ConvBackbone.forward

    def forward(backbone, clips):
        passes.append(len(clips))
        return usual(backbone, clips)

    monkeypatch.setattr(ConvBackbone, "forward", forward)
    reused = train(words)
    once = passes.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mvfouls.train.reusable", lambda settings: False)
        normal = train(words)
    assert "views of train: the backbone never trains" in reused.out
    report = json.loads((reused.folder / "data_report.json").read_text())
    views = report["train"]["clips"] + report["valid"]["clips"]
    assert sum(once) == views + 8, "every view of both splits, and the predictions of the best model"
    for kind in ("epoch", "validation"):
        for one, other in zip(reused.metrics(kind), normal.metrics(kind), strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                assert value == pytest.approx(other[name], abs=1e-6, nan_ok=True), name
    assert distance(reused.weights(), normal.weights()) < 1e-5
    name = "val_predictions.json"
    assert (reused.folder / name).read_text() == (normal.folder / name).read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", True),
        ("--no-gradual_finetuning", True),
        ("--unfreeze_blocks 1", False),
        ("--freezing_strategy adaptive", False),
        ("--tta", False),
        ("--test_run", False),
    ],
)
@pytest.mark.usefixtures("_tiny")
def test_what_makes_features_reusable(words, expected, football):
    assert reusable(settled(f"{PLAIN} {words}", football)) == expected
    assert not reusable(settled("--freezing_strategy fixed --unfreeze_blocks 0", football))
