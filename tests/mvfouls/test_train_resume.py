"""Trainings that are interrupted and continued end as if they had never been."""

import shutil
import signal
from dataclasses import replace

import pytest
import yaml
from mv_runs import Ran, interrupt, same, script

MIXED = "--mixed_precision --ema_decay 0.5 --progressive_class_balancing --progressive_epochs 2"
LOADED = "--gpu_augmentation --severity_aware_augmentation --multi_scale --num_workers 1"
FLAT = [0.4]
WORSE = [0.4, 0.4, 0.392, 0.395, 0.41, 0.42]
GUIDED = "--freezing_strategy gradient_guided --importance_threshold 0"
ADVANCED = "--freezing_strategy advanced --base_importance_threshold 0 --emergency_unfreeze_epoch 9"
COURSES = {
    "fixed": (f"--epochs 2 {MIXED} --scheduler onecycle --batch_size 4", [0.3, 0.2], (6,)),
    "none": (f"--epochs 2 --freezing_strategy none {LOADED} --optimizer sgd", FLAT, (1,)),
    "adaptive": ("--epochs 4 --freezing_strategy adaptive --adaptive_patience 1", FLAT, (7,)),
    "gradient_guided": (f"--epochs 3 {GUIDED} --probe_batches 1", FLAT, (7,)),
    "advanced": (
        f"--epochs 5 {ADVANCED} --probe_batches 1 --scheduler reduce_on_plateau --plateau_patience 1", WORSE,
        (10, 3),
    ),
}  # fmt: skip
"""Words, scripted metrics, and the passes (those of the probe included) in which the run is interrupted.

An advanced run stops in mid-epoch 4, when an opening is on trial, and in mid-epoch 5, after its rollback.
"""


def equal_outcomes(one: Ran, other: Ran) -> None:
    """Assert that weights, averages, numbers, decisions and predictions are those of the other run."""
    ours, theirs = one.checkpoint(), other.checkpoint()
    assert same(ours.model, theirs.model)
    assert (ours.ema is None) == (theirs.ema is None)
    assert ours.ema is None or same(ours.ema, theirs.ema)
    for kind in ("epoch", "validation"):
        assert one.metrics(kind) == other.metrics(kind)
    decisions = [
        [{k: v for k, v in event.items() if "second" not in k} for event in ran.events("freezing")]
        for ran in (one, other)
    ]
    assert decisions[0] == decisions[1]
    for name in ("val_predictions.json", "class_report.json"):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


@pytest.mark.parametrize("name", COURSES)
def test_interrupted_and_resumed_is_never_interrupted(name, train, monkeypatch):
    words, metrics, steps = COURSES[name]
    words = f"--batch_size 8 {words}"
    script(monkeypatch, metrics)
    whole, resume = train(words), ""
    for step in steps:
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, step, signal.SIGTERM)
            stopped = train(words, resume, name="stopped")
        assert stopped.code == 143, stopped.err
        assert stopped.out.splitlines()[-1].endswith(f"--resume {stopped.folder} continues")
        assert not (stopped.folder / "class_report.json").exists()
        assert stopped.checkpoint().state["progress"]["batch"] > 0
        resume = f"--resume {stopped.folder}"
    resumed = train(words, resume, name="stopped")
    assert resumed.code == 0, resumed.err
    equal_outcomes(resumed, whole)
    if name == "advanced":
        events = [(event["epoch"], event["event"]) for event in resumed.events("freezing")]
        assert events[1:4] == [(2, "unfreeze"), (3, "analysing"), (4, "rollback")]


@pytest.fixture(scope="module")
def kept() -> dict[str, Ran]:
    """The training that several tests continue."""
    return {}


@pytest.fixture
def first(kept, train, tmp_path, tmp_path_factory) -> Ran:
    """A training of one step."""
    if not kept:
        train.home = tmp_path_factory.mktemp("kept")
        kept["ran"] = train("--epochs 1 --batch_size 16 --freezing_strategy none", name="a")
        train.home = tmp_path
    shutil.copytree(kept["ran"].folder, tmp_path / "a")
    return replace(kept["ran"], folder=tmp_path / "a")


def test_a_run_of_other_things_is_refused(first, train):
    words = f"--epochs 2 --batch_size 16 --freezing_strategy none --resume {first.folder}"
    before = first.weights()
    for changed, text in (
        ("--label_smoothing 0.2", "label_smoothing: 0.1 in the checkpoint, 0.2 asked for"),
        ("--loss_types offence ldam", "scores: "),
        ("--auxiliary_tasks contact", "tasks: "),
    ):
        ran = train(words, changed, name="a")
        assert ran.code == 2
        assert "cannot resume, these differ:" in ran.err
        assert text in ran.err
    assert same(first.weights(), before)


def test_a_change_that_is_allowed_is_told_and_kept(first, train):
    words = (
        f"--epochs 2 --batch_size 16 --freezing_strategy none --resume {first.folder} --allow_config_change"
    )
    ran = train(words, "--label_smoothing 0.2", name="a")
    assert ran.code == 0, ran.err
    assert "label_smoothing: 0.1 in the checkpoint, 0.2 asked for" in ran.out
    assert "severity ce smoothing=0.2" in ran.out
    kept = yaml.safe_load((ran.folder / "config.yaml").read_text())
    assert kept["task_weights"]["label_smoothing"] == 0.2
    refused = train(words, "--auxiliary_tasks contact", name="a")
    assert (refused.code, "tasks: " in refused.err) == (2, True)


@pytest.mark.parametrize(("best", "improved"), [(0.9, False), (0.05, True)])
def test_the_best_value_to_beat_is_replaced(best, improved, first, train, monkeypatch):
    script(monkeypatch, [0.3, 0.3])
    words = f"--epochs 2 --batch_size 16 --freezing_strategy none --resume {first.folder}"
    ran = train(words, f"--resume_best_acc {best}", name="a")
    assert f"resume   best {best} instead of " in ran.out
    assert (ran.checkpoint("best").epoch == 2) == improved
    assert f"  best LB {30.0 if improved else 100 * best:.1f} (epoch " in ran.out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--resume run-1", "--resume run-1: run-1 is neither a run folder nor holds a checkpoint"),
        ("--resume last --save_dir elsewhere", "--resume last: elsewhere is neither a run folder"),
        ("--resume_best_acc 0.4", "--resume-best-acc without --resume"),
    ],
)
def test_where_to_resume_must_be_clear(words, text, train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = train(words)
    assert ran.code == 2
    assert text in ran.err
    assert not list(tmp_path.iterdir())


def test_a_run_stays_in_its_folder(first, train, tmp_path):
    words = "--epochs 2 --batch_size 16 --freezing_strategy none"
    other = train(words, f"--resume {first.folder}", name="b")
    assert other.code == 2
    assert f"--save-dir {other.folder} with --resume {first.folder}" in other.err
    (checkpoint,) = (first.folder / "checkpoints").glob("step-*")
    longer = train(words, f"--resume {checkpoint} --memory_cleanup_interval 3", name="a")
    assert longer.code == 0, longer.err
    assert [line["epoch"] for line in longer.metrics("epoch")] == [1, 2]
