"""Comparisons that are killed, interrupted and continued."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from eye_files import gaze_splits
from eye_runs import SMALL, Bench, Killed, Ran, at_step, copied, die, plain, same

from eye_fixation import training
from eye_fixation.data.pt import write_folder
from eye_fixation.predictor import Predictor
from eye_fixation.task import GazeTask

LINE = f"compare --losses mse focal --seeds 1 2 {SMALL} --epochs 2 --drop 0.1 --out run"
"""Four trainings of four steps each, with a validation after every second."""
MODELS = [f"{loss}/seed{seed}/model.pt" for loss in ("mse", "focal") for seed in (1, 2)]
RESUME = f"{LINE.removesuffix(' --out run')} --resume run"


@pytest.fixture
def whole(run: Bench) -> Ran:
    """The comparison that nothing disturbs."""
    ran = run.run(LINE)
    assert ran.code == 0, ran.err
    return ran


def check_same(resumed: Ran, whole: Ran) -> None:
    assert resumed.code == 0, resumed.err
    assert plain(resumed.content) == plain(whole.content)
    for name in MODELS:
        one, other = (Predictor.load(ran.folder / name).network.state_dict() for ran in (resumed, whole))
        assert same(one, other)


def in_validation(patch: pytest.MonkeyPatch, number: int) -> None:
    usual, calls = GazeTask.validation_step, []

    def validation_step(task: GazeTask, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            die()
        return usual(task, batch)

    patch.setattr(GazeTask, "validation_step", validation_step)


def in_judging(patch: pytest.MonkeyPatch, number: int) -> None:
    usual, calls = training.save_judged, []

    def save_judged(*given: Any) -> None:
        calls.append(1)
        if len(calls) == number:
            die()
        usual(*given)

    patch.setattr(training, "save_judged", save_judged)


KILLS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], int]] = {
    "in the very first step": (lambda patch: at_step(patch, 1, die), 0),
    "in the first validation, before any checkpoint": (lambda patch: in_validation(patch, 1), 0),
    "in the second training, before any checkpoint": (lambda patch: at_step(patch, 6, die), 1),
    "in the middle of the second training": (lambda patch: at_step(patch, 8, die), 1),
    "in the last validation of the third": (lambda patch: in_validation(patch, 6), 2),
    "while the third is judged": (lambda patch: in_judging(patch, 3), 2),
}


@pytest.mark.parametrize("name", KILLS)
def test_killed_and_resumed_is_never_killed(name: str, run: Bench, whole: Ran, tmp_path: Path) -> None:
    kill, finished = KILLS[name]
    with pytest.MonkeyPatch.context() as patch:
        kill(patch)
        with pytest.raises(Killed):
            _ = run.run(LINE, tmp_path).code
    resumed = run.run(RESUME, tmp_path)
    check_same(resumed, whole)
    trained = [line for line in resumed.out.splitlines() if line.startswith("train    ")]
    assert len(trained) == 4 - finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_comparison_that_can_be_continued(
    number: signal.Signals, run: Bench, whole: Ran, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 7, lambda: signal.raise_signal(number))
        stopped = run.run(LINE, tmp_path)
        assert stopped.code == 128 + number
    assert [len(loss["runs"]) for loss in stopped.losses.values()] == [1, 0]
    resumed = run.run(RESUME, tmp_path)
    assert "resume   step" in resumed.out
    check_same(resumed, whole)


def test_a_finished_comparison_is_not_repeated(run: Bench, whole: Ran, tmp_path: Path) -> None:
    copied(whole, tmp_path / "home")
    resumed = run.run(RESUME, tmp_path / "home")
    check_same(resumed, whole)
    assert "train    " not in resumed.out


def test_what_failed_is_tried_again(run: Bench, whole: Ran, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def broken() -> None:
            raise RuntimeError("no luck")

        at_step(patch, 8, broken)
        failed = run.run(LINE, tmp_path)
        assert failed.code == 1
    assert [entry["status"] for entry in failed.losses["mse"]["runs"]] == ["ok", "failed"]
    check_same(run.run(RESUME, tmp_path), whole)


def test_a_comparison_of_other_settings_is_not_continued(run: Bench, whole: Ran, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "home")
    before = (folder / "loss_comparison.json").read_bytes()
    for words, text in (
        ("--lr 1e-2", "lr: 0.001 in the checkpoint, 0.01 asked for"),
        ("--hid-T 8", "hid_T: 4 in the checkpoint, 8 asked for"),
        ("--max-test 3", "max_test: 0 in the checkpoint, 3 asked for"),
        ("--losses mse focal bce", "losses:"),
        ("--seeds 1 2 3", "seeds:"),
        ("--bootstrap 20", "bootstrap: 0 in the checkpoint, 20 asked for"),
        ("--focal-gamma 1", "focal_gamma: 2.0 in the checkpoint, 1.0 asked for"),
        ("--precision bf16", "precision: 'fp32' in the checkpoint, 'bf16' asked for"),
    ):
        again = run.run(f"{RESUME} {words}", tmp_path / "home")
        assert again.code == 2, words
        assert "error: --resume run: other settings:" in again.err
        assert text in again.err
    assert (folder / "loss_comparison.json").read_bytes() == before


@pytest.mark.parametrize("step", [0, 3])
def test_a_comparison_on_other_data_is_not_continued(
    step: int, run: Bench, whole: Ran, tmp_path: Path
) -> None:
    """Neither one with a finished training nor one killed in the first."""
    home = tmp_path / "home"
    if step:
        with pytest.MonkeyPatch.context() as patch:
            at_step(patch, step, die)
            with pytest.raises(Killed):
                _ = run.run(LINE, home).code
    else:
        copied(whole, home)
    (home / "data").unlink()
    write_folder(home / "data", gaze_splits((24, 12, 10)), {})
    again = run.run(RESUME, home)
    assert again.code == 2, again.out
    assert "error: --resume run: run/mse/seed1" in again.err
    assert "was trained on other data" in again.err or "these differ:\n  data: " in again.err
    assert "Traceback" not in again.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--resume nowhere", "--resume nowhere: holds no comparison (config.yaml not found)"),
        ("--resume there --out elsewhere", "--out elsewhere with --resume there"),
    ],
)
def test_where_to_resume_must_be_clear(words: str, text: str, run: Bench, tmp_path: Path) -> None:
    ran = run.run(f"{LINE.removesuffix(' --out run')} {words}", tmp_path)
    assert ran.code == 2
    assert text in ran.err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_a_killed_process_is_continued(run: Bench, whole: Ran, data_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(data_folder, tmp_path / "data")
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "eye_fixation", *LINE.split()]
    second = tmp_path / "run/mse/seed2/checkpoints"
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not list(second.glob("step-????????")):
            time.sleep(0.002)
        process.kill()
        said = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, said
    check_same(run.run(RESUME, tmp_path), whole)
