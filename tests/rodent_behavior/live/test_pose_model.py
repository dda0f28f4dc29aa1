"""The generated lessons of the small pose model; its training is in test_dlc.py."""

import numpy as np
import pytest
import torch

from rodent_behavior.live.pose_model import (
    LOCREF_STD,
    RADIUS,
    SIZE,
    STRIDE,
    PoseTask,
    generated_poses,
    pose_targets,
)


class Answers(torch.nn.Module):
    """Answers with given maps."""

    def __init__(self, heat, locref):
        super().__init__()
        self.heat, self.locref = torch.nn.Parameter(heat), torch.nn.Parameter(locref)

    def forward(self, image):
        return {"bodypart": {"heatmap": self.heat, "locref": self.locref}}


def test_offsets_lead_from_the_middle_of_a_cell_to_the_point():
    xy = torch.tensor([[[21.0, 50.0]]])
    heat, offset = pose_targets(xy, 13, 13)
    for row, column in np.ndindex(13, 13):
        middle = STRIDE * (np.array([column, row]) + 0.5)
        assert middle + LOCREF_STD * offset[0, 0, :, row, column].numpy() == pytest.approx([21.0, 50.0])
        near = np.hypot(*(middle - [21.0, 50.0])) <= RADIUS * STRIDE
        assert heat[0, 0, row, column] == near
    assert heat.sum() == 8


def test_a_perfect_answer_costs_nothing():
    batch = {"image": torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8), "xy": torch.tensor([[[21.0, 50.0]]])}
    near, offset = pose_targets(batch["xy"], 13, 13)
    task = PoseTask(Answers(100.0 * (2 * near - 1), offset.flatten(1, 2)))
    terms = task.validation_step(batch)
    assert float(terms["offset"].total) == 0
    assert terms["offset"].count == 2 * near.sum()
    assert terms["heat"].count == 13 * 13
    away = PoseTask(Answers(100.0 * (2 * near - 1), offset.flatten(1, 2) + 1.0)).validation_step(batch)
    assert float(away["offset"].total) == pytest.approx(float(2 * near.sum()))
    worse = PoseTask(Answers(0 * near, offset.flatten(1, 2))).validation_step(batch)
    assert float(worse["heat"].total) > float(terms["heat"].total)


def test_poses_are_inside_the_picture_and_repeatable():
    poses = generated_poses(3)
    assert poses.shape[1:] == (6, 2)
    assert ((poses > 0) & (poses < SIZE)).mean() > 0.999
    assert np.array_equal(poses, generated_poses(3))
    assert not np.array_equal(poses, generated_poses(4))
