"""Trainings from the command line: what they write, print, refuse and replace."""

import csv
import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from mv_runs import Ran, Trainings, interrupt, same

from common.reporting import write_report
from mvfouls.card import load_trained
from mvfouls.dataset import FoulDataset
from mvfouls.labels import OFFICIAL_ACTIONS, TASKS
from mvfouls.report_rows import TITLES

TASK_NAMES = ("severity", "action_class", "offence")
NUMBER = r"-?\d+\.\d+"
SHARE = r"(?:-|\d*\.\d\d)"
PLAN = (
    r"run      .* seed 42   cpu 1 threads   fp32   git .*",
    r"(?:note     .*\n)+"
    r"data     train 16 actions 32 clips \| views 2:16 \| missing clips 0 short 0 "
    r"\| ignored severity 2 action_class 0 offence 0",
    r"data     valid 8 actions 16 clips \| views 2:8 \| missing clips 0 short 0 \| ignored .*",
    r"data     train samples 16",
    r"data     window 67\.\.82 T=4 0\.64 s 5\.0 fps \| input 32x40 \| cache \d+\.\d % warm in .*_cache",
    r"model    r2plus1d_18 weights=none \(random start\) params 36401 trainable 18777   views attention",
    *(
        rf"loss     {task} ce smoothing=0\.1 \| task weight {w}"
        for task, w in zip(TASK_NAMES, ("3", "3", r"0\.5"))
    ),
    r"balance  severity 1\.0=9 2\.0=0 3\.0=4 4\.0=0 5\.0=1 \| f 1\.50 \| weights .* \| effective .*",
    r"balance  action_class Tackling=\d+ .*",
    r"balance  offence Offence=14 .*",
    r"(?:warning  .*\n)+"
    r"freeze   fixed   blocks layer4 layer3 layer2 layer1 stem   open none",
    r"plan     2 epochs of 4 steps   batch 4 = effective 4   adamw   cosine, warm-up 0 epochs   early .*",
)
EPOCH = (
    rf"epoch  (\d)/2 \| {NUMBER} s \| wait {NUMBER} % \| lr head (\S+)(?: layer4 \S+)? \| open (\S+) "
    r"\| f (\S+)",
    rf"  train loss ({NUMBER}) \| severity {NUMBER} action_class {NUMBER} offence {NUMBER} \| grad {NUMBER}",
    rf"  valid LB ({NUMBER}) \[{NUMBER}-{NUMBER}\] \| OS BA ({NUMBER}) acc {NUMBER} \| action BA {NUMBER} "
    rf"acc {NUMBER} \| severity BA {NUMBER} F1 {NUMBER} .* \| action_class BA .* \| offence BA .*",
    rf"  recall OS: No offence {SHARE}/2 No card {SHARE}/3 Yellow {SHARE}/2 Red {SHARE}/1",
    rf"  recall action: Tackling {SHARE}/1 .* Dive {SHARE}/1",
    rf"  recall severity: 1\.0 {SHARE}/3 2\.0 -/0 .*",
    r"  recall action_class: .*",
    r"  recall offence: .* Between -/0",
    r"  red-card recall rests on 1 samples",
    rf"  best LB ({NUMBER}) \(epoch \d\)(?: \| saved best)?",
)


@pytest.fixture(scope="module")
def kept() -> dict[str, Ran]:
    """The one training that several tests look at."""
    return {}


@pytest.fixture
def ran(kept, train, tmp_path_factory, monkeypatch) -> Ran:
    """A training of two epochs in which the sampler's factor rises, with its report but for the curves."""
    if not kept:
        monkeypatch.setattr("mvfouls.outcome.write_report", write_report)
        monkeypatch.setattr("common.reporting.report.curves_section", lambda run, panels: None)
        train.home = tmp_path_factory.mktemp("kept")
        kept["ran"] = train("--progressive_class_balancing --progressive_epochs 1")
    return kept["ran"]


def test_a_run_folder_holds_everything(ran):
    assert ran.code == 0, ran.err
    names = {path.name for path in ran.folder.iterdir()} - {"checkpoints"}
    assert names == {
        "config.yaml", "environment.json", "metrics.jsonl", "events.jsonl", "report.html", "data_report.json",
        "val_predictions.json", "class_report.json", *(f"confusion_{task}.csv" for task in TASK_NAMES),
    }  # fmt: skip
    assert {path.name for path in (ran.folder / "checkpoints").iterdir()} >= {"last", "best"}
    recorded = yaml.safe_load((ran.folder / "config.yaml").read_text())
    assert recorded["progressive"]["progressive_epochs"] == 1
    assert json.loads((ran.folder / "environment.json").read_text())["versions"]["torch"]
    for kind in ("balance", "statistics"):
        assert {event["task"] for event in ran.events(kind)} == set(TASK_NAMES)
    report = json.loads((ran.folder / "data_report.json").read_text())
    assert (report["train"]["actions"], report["valid"]["clips"]) == (16, 16)
    assert len(report["train"]["sha256"]) == 64
    page = (ran.folder / "report.html").read_text()
    for text in ("leaderboard", "Offence and severity (official)", "Standing tackling", "layer4"):
        assert text in page
    budgets = page.partition('id="balance"')[2].partition('id="timeline"')[0]
    assert {task for task in TASK_NAMES if f"<h3>{TITLES[task]}</h3>" in budgets} == set(TASK_NAMES)


def test_the_console_shows_the_documented_blocks(ran):
    block = "\n".join(PLAN) + "\n"
    assert re.match(block, ran.out[ran.out.index("run      ") :]), ran.out
    found = re.findall("\n".join(EPOCH) + "\n", ran.out)
    valid, train = ran.metrics("validation"), ran.metrics("epoch")
    assert len(found) == 2, ran.out
    for number, (match, judged, trained) in enumerate(zip(found, valid, train)):
        epoch, lr, opened, factor, loss, leaderboard, os_ba, best = match
        assert (epoch, opened, factor) == (
            str(number + 1),
            ("none", "layer4")[number],
            ("1.50", "3.00")[number],
        )
        assert float(loss) == pytest.approx(trained["train/loss"], abs=6e-5)
        assert float(lr) == pytest.approx(trained["lr/head"], rel=6e-3)
        assert float(leaderboard) == pytest.approx(100 * judged["valid/leaderboard"], abs=0.06)
        assert float(os_ba) == pytest.approx(100 * judged["valid/os_ba"], abs=0.06)
        assert float(best) == pytest.approx(
            100 * max(v["valid/leaderboard"] for v in valid[: number + 1]), abs=0.06
        )
    assert "freeze   epoch 1 unfreeze open layer4\n" in ran.out
    assert ran.out.splitlines()[-2:] == [
        "done     completed all epochs: 2 epochs, 8 steps", f"report   {ran.folder / 'report.html'}",
    ]  # fmt: skip


def test_curves_have_their_documented_names(ran):
    epoch, valid = ran.metrics("epoch")[-1], ran.metrics("validation")[-1]
    expected = {"train/loss", *(f"train/{task}" for task in TASK_NAMES), "lr/head", "lr/layer4"}
    expected |= {"freeze/open_blocks", "data/factor", "data/effective_prior_severity/4", "train/severity_acc"}
    assert expected <= epoch.keys()
    assert "train/grad_norm" in ran.metrics("step")[-1]
    assert "time/wait_fraction" in (ran.folder / "metrics.jsonl").read_text()
    expected = {"valid/leaderboard", "valid/os_ba", "valid/action_ba", "valid/loss", "valid/mean_ba"}
    expected |= {f"valid/{task}_{kind}" for task in TASK_NAMES for kind in ("ba", "macro_f1", "acc", "top2")}
    expected |= {f"valid/severity_recall/{label}" for label in range(5)} | {"valid/os_recall/3"}
    assert expected <= valid.keys()
    assert [line["data/factor"] for line in ran.metrics("epoch")] == [1.5, 3.0]


def test_the_files_speak_of_the_best_model(ran, football):
    best = ran.checkpoint("best")
    (judged,) = [line for line in ran.metrics("validation") if line["step"] == best.step]
    report = json.loads((ran.folder / "class_report.json").read_text())
    assert report["leaderboard"]["value"] == pytest.approx(judged["valid/leaderboard"])
    assert report["official"]["strict"]["leaderboard_value"] == pytest.approx(
        100 * judged["valid/leaderboard"]
    )
    for task in TASK_NAMES:
        table = list(csv.reader((ran.folder / f"confusion_{task}.csv").read_text().splitlines()))
        assert table[0][1:] == [row[0] for row in table[1:]] == list(TASKS[task].classes)
        hits = sum(int(row[place]) for place, row in enumerate(table[1:], start=1))
        total = sum(int(value) for row in table[1:] for value in row[1:])
        assert hits / total == pytest.approx(judged[f"valid/{task}_acc"])
        assert report["tasks"][task]["balanced_accuracy"] == pytest.approx(judged[f"valid/{task}_ba"])
    predictions = json.loads((ran.folder / "val_predictions.json").read_text())
    truth = json.loads((football / "mvfouls" / "valid" / "annotations.json").read_text())
    assert predictions["Actions"].keys() == truth["Actions"].keys()
    assert {action["Action class"] for action in predictions["Actions"].values()} <= set(OFFICIAL_ACTIONS)


@pytest.mark.usefixtures("_tiny")
def test_the_checkpoint_alone_rebuilds_the_model(ran):
    trained = load_trained(ran.folder, torch.device("cpu"))
    assert same(trained.model.state_dict(), ran.weights("best"))
    assert trained.card.pixels.frames.indices() == (67, 72, 77, 82)
    assert (trained.card.pixels.height, trained.card.pixels.width) == (32, 40)
    assert trained.card.tasks == {task: TASKS[task].classes for task in TASK_NAMES}
    assert trained.card.normalisation["mean"] == pytest.approx((0.43216, 0.394666, 0.37645))


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_test_run_leaves_nothing(interrupted, train, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    if interrupted:
        interrupt(monkeypatch, 2)
    ran = train("--test_run --test_batches 2 --emergency_unfreeze_epoch 1 --freezing_strategy advanced")
    assert ran.code == (130 if interrupted else 0), ran.err
    assert list(tmp_path.iterdir()) == [tmp_path / "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert "--resume" not in ran.out
    assert f"note     test run: nothing is written to {ran.folder}" in ran.out
    assert ("read back equal" in ran.out) != interrupted
    if not interrupted:
        assert "plan     2 epochs of 2 steps" in ran.out
        assert ran.out.count("  valid partial 8 actions, no leaderboard value") == 2
        assert "freeze   epoch 1 emergency open layer4.1" in ran.out


def test_a_folder_with_a_run_is_refused_or_replaced(train):
    first = train("--epochs 1 --batch_size 16", name="a")
    (first.folder / "notes.txt").write_text("mine")
    before = first.weights()
    refused = train("--epochs 1 --seed 5", name="a")
    assert (refused.code, refused.out) == (2, "")
    assert all(text in refused.err for text in ("--save_dir", "--resume", "--overwrite"))
    assert same(before, first.weights())
    second = train("--epochs 1 --seed 5 --overwrite --batch_size 16", name="a")
    assert second.code == 0, second.err
    assert not same(before, second.weights())
    assert (second.folder / "notes.txt").read_text() == "mine"
    assert [line["step"] for line in second.metrics("epoch")] == [1]


def copied(football: Path, root: Path) -> Path:
    """Return a copy of the data set, of links to its clips."""
    for split in ("train", "valid"):
        folder = root / "mvfouls" / split
        folder.mkdir(parents=True)
        shutil.copy(football / "mvfouls" / split / "annotations.json", folder)
        for clip in (football / "mvfouls" / split).glob("*/*.mp4"):
            (folder / clip.parent.name).mkdir(exist_ok=True)
            (folder / clip.parent.name / clip.name).symlink_to(clip)
    return root


def test_a_clip_in_both_splits_is_refused_by_name(train, football, tmp_path):
    root = copied(football, tmp_path / "leak")
    source, leaked = (root / "mvfouls" / split / "action_3" / "clip_1.mp4" for split in ("train", "valid"))
    leaked.unlink()
    shutil.copy(source, leaked)
    ran = train(data=root)
    assert ran.code == 2
    assert f"{source} and {leaked} are the same clip" in ran.err
    assert not ran.folder.exists()


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--dataset_root nowhere", ["--dataset_root nowhere", "nowhere/mvfouls/train"]),
        ("--device cuda:9", ["--device", "cuda:9"]),
        (
            "--auxiliary_tasks none --selection_metric leaderboard",
            ["--selection-metric leaderboard", "offence"],
        ),
        ("--weight_basis natural --oversample_factor 9", ["--allow-stacking (--allow-overcorrection)"]),
        ("--short_clip error --end_frame 100", ["--short_clip error", "clips end inside the window"]),
        ("--save_dir x --progressive_class_balancing --no-use_class_balanced_sampler", ["take one of them"]),
        ("--balance_tasks contact", ["--balance-tasks", "contact"]),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(words, texts, train):
    ran = train(words)
    assert ran.code == 2, ran.out
    assert ran.err.startswith("error: ") or "\nerror: " in ran.err
    assert all(text in ran.err for text in texts), ran.err
    assert not ran.folder.exists()


def test_clips_are_read_lazily(train: Trainings, monkeypatch):
    """A test run reads the clips of its batches, not of the data set."""
    read: list[str] = []
    usual = FoulDataset._fitted

    def fitted(dataset, view, shift):
        read.append(view.path)
        return usual(dataset, view, shift)

    monkeypatch.setattr(FoulDataset, "_fitted", fitted)
    words = "--freezing_strategy fixed --unfreeze_blocks 0 --disable_augmentation"
    train(words, "--test_run --test_batches 1 --batch_size 1 --epochs 1 --max_views 1")
    assert len(read) <= 3
