"""Trainings that are killed, interrupted and continued."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from rodent_pieces import SMALL
from run_results import without_clocks

from common.engine.checkpoint import find_checkpoint
from common.engine.checkpoint import load_checkpoint as load_run
from rodent_behavior.task import BehaviorTask

SCRIPT = Path(__file__).parents[2] / "apps" / "rodent_behavior" / "train_multitask.py"
VIDEO = "--backbone tiny_cnn --img_size 32"


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def stopping():
    """Let something happen in the given training step."""

    def after(patch: pytest.MonkeyPatch, step: int, act) -> None:
        usual, done = BehaviorTask.training_step, []

        def training_step(task, batch):
            done.append(1)
            if len(done) == step:
                act()
            return usual(task, batch)

        patch.setattr(BehaviorTask, "training_step", training_step)

    return after


LONG = f"--epochs 3 {VIDEO} --freeze_backbone_epochs 1 --lr 1e-3 --use_ema --ema_decay 0.9"


def kill_after_an_epoch(home: Path, recordings: Path) -> None:
    """Start the documented script in a process of its own and kill it once its first epoch is saved."""
    home.mkdir()
    for folder in ("Annotations", "Videos"):
        (home / folder).symlink_to(recordings / folder)
    command = [sys.executable, str(SCRIPT), *SMALL.split(), *LONG.split(), "--run_dir", str(home / "run")]
    command += ["--annotations", str(home / "Annotations"), "--videos", str(home / "Videos")]
    checkpoints = home / "run" / "checkpoints"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not list(checkpoints.glob("step-????????")):
            time.sleep(0.005)
        process.kill()
        said = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, said


def test_killed_interrupted_and_resumed_is_never_stopped(train, recordings, tmp_path, stopping):
    whole = train(LONG, name="whole")
    steps = int(whole.metrics("epoch")[0]["step"])
    kill_after_an_epoch(tmp_path / "stopped", recordings)
    again = f"{LONG} --run_dir {tmp_path / 'stopped' / 'run'} --resume last"
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, 2, lambda: signal.raise_signal(signal.SIGINT))
        stopped = train(again, name="stopped")
    assert stopped.code == 130, stopped.err
    assert re.search(r"resume   step \d+, epoch [23]\b", stopped.out)
    assert "[info] Unfroze 4 blocks: 97920 parameters" in stopped.out
    assert "--resume" in stopped.out.splitlines()[-1]
    assert load_run(find_checkpoint("last", stopped.folder)).step % steps == 2
    resumed = train(again, name="stopped")
    assert resumed.code == 0, resumed.err
    assert same(resumed.weights(), whole.weights())
    for key in ("model_state_dict", "temperature", "val_metrics", "epoch", "step"):
        one, other = resumed.contents[key], whole.contents[key]
        assert same(one, other) if key == "model_state_dict" else one == other
    for kind in ("epoch", "validation"):
        assert without_clocks(resumed.metrics(kind)) == without_clocks(whole.metrics(kind))
    assert not (resumed.home / "best_model_multitask.prev.pt").exists()


def test_a_run_of_other_things_cannot_be_resumed(train, files):
    first = train("--max_steps 1", name="a")
    before = first.weights()
    for words, text in (
        ("--hidden_dim 16", "model:"),
        ("--lr 1e-3", "lr:"),
        ("--pose_features graph18", "pose_features:"),
        (f"--label_map {files / 'map.yaml'}", "classes:"),
        ("--val_share 0.5", "split:"),
    ):
        second = train(f"{words} --run_dir {first.folder} --resume last", name="a")
        assert second.code == 2
        assert second.err.startswith("error: cannot resume, these differ:")
        assert text in second.err
    assert same(before, first.weights())


def test_more_epochs_keep_the_warm_up_of_the_first_run(train):
    first = train("--epochs 2", name="a")
    again = f"--run_dir {first.folder} --resume last"
    refused = train(f"{again} --epochs 4 --warmup_epochs 2", name="a")
    assert refused.code == 2
    assert "warmup_epochs" in refused.err
    shorter = train(f"{again} --epochs 1", name="a")
    assert shorter.code == 2
    assert "--epochs 1: the run to resume warms up for 1 epochs" in shorter.err
    longer = train(f"{again} --epochs 4", name="a")
    assert longer.code == 0, longer.err
    settings = yaml.safe_load((first.folder / "config.yaml").read_text())
    assert (settings["run"]["epochs"], settings["optimizer"]["warmup_epochs"]) == (4, 1)
    assert len(longer.metrics("epoch")) == 4


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--resume nowhere", "--resume nowhere: nowhere is neither a run folder nor holds a checkpoint"),
        ("--resume last", "--resume last needs --run_dir"),
        ("--resume there --run_dir elsewhere", "--run_dir elsewhere with --resume there"),
    ],
)
def test_where_to_resume_must_be_clear(words, text, train):
    ran = train(words)
    assert ran.code == 2
    assert text in ran.err


def test_a_run_folder_that_cannot_be_written_is_named(train, tmp_path):
    (tmp_path / "file").write_text("text")
    ran = train(f"--run_dir {tmp_path / 'file' / 'run'}")
    assert ran.code == 2
    assert ran.err.startswith(f"error: --run_dir {tmp_path / 'file' / 'run'}: cannot be written: ")


def test_the_model_of_another_run_is_not_judged_as_ones_own(train, stopping):
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, 10, lambda: signal.raise_signal(signal.SIGTERM))
        first = train("--epochs 2", name="a")
    assert first.code == 143
    other = train("--max_steps 1", name="b")
    shutil.copy(other.model, first.model)
    contents = torch.load(first.model, weights_only=True) | {"run": "other"}
    torch.save(contents, first.model)
    with pytest.MonkeyPatch.context() as patch:
        usual = BehaviorTask.metrics
        patch.setattr(BehaviorTask, "metrics", lambda task: usual(task) | {"macro_f1": 0.0})
        resumed = train(f"--epochs 2 --run_dir {first.folder} --resume last", name="a")
    assert resumed.code == 0
    assert "holds a model of run other: not judged, no report" in resumed.out
    assert same(resumed.contents["model_state_dict"], contents["model_state_dict"])
