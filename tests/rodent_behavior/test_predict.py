"""What `predict` says about recordings that are not like those of training."""

import json
import subprocess
import sys

import numpy as np
import pytest
from rodent_pieces import SLOT, motion, write_pose


@pytest.fixture
def tracked(tmp_path):
    """A folder of two recordings of keypoints alone."""
    folder = tmp_path / "tracked"
    folder.mkdir()
    for number in (1, 2):
        write_pose(folder / f"m{number}DLC_net.csv", *motion(np.random.default_rng(number)))
    return folder


def test_the_package_is_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "rodent_behavior", "--help"], capture_output=True, text=True, check=True
    )
    assert "rodent-behavior" in done.stdout
    assert "make-pose-model" in done.stdout


def test_another_frame_rate_is_a_warning(train, use, tracked, tmp_path):
    ran = train("--max_steps 1")
    predict = f"predict {tracked} --checkpoint {ran.model} --frame_size 64,48 --out {tmp_path / 'p'} --fps"
    text = "2 of 2 recordings differ by more than 2% from the 30 frames per second of training"
    for fps, warned in (("30.5", False), ("29.5", False), ("30.7", True), ("29.3", True)):
        said = use(predict, fps)
        assert said.code == 0, said.err
        assert (text in said.out) == warned
        summary = json.loads((tmp_path / "p" / "predictions.json").read_text())
        assert (summary["fps"], summary["recordings"]["m2"]) == (30, {"frames": 2 * SLOT, "fps": float(fps)})
        assert [f"m1 {fps}, m2 {fps}" in line for line in summary["warnings"]] == [True] * warned
