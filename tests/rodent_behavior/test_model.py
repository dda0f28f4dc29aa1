"""Parameter counts, inputs and outputs of the behaviour model."""

import pytest
import torch

from rodent_behavior.model import BehaviorModel, BehaviorModelConfig

TCN = {"temporal_model": "tcn", "hidden_dim": 512, "num_layers": 3, "refinements": 0}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def model(**fields):
    return BehaviorModel(BehaviorModelConfig(**{"num_classes": 6, **fields}))


def test_counts_of_mstcnpp():
    both = model(visual_dim=128, pose_dim=77, num_keypoints=6)
    assert count(both) == 524_856
    assert count(both.pose) == 9_984
    assert count(both.temporal.first) == 346_438
    assert count(both.temporal.refinements) == 165_958
    assert count(both.keypoints) == 2_476
    pose_only = model(pose_dim=77, num_keypoints=6)
    assert count(pose_only) == 516_664
    assert count(pose_only.temporal.first) == 338_246


def test_counts_of_tcn():
    small = model(visual_dim=384, pose_dim=18, num_keypoints=6, **TCN)
    assert count(small) == 2_503_826
    assert count(small.pose) == 2_432
    assert count(small.temporal.blocks) == 2_363_904
    assert count(small.temporal.output) == 3_078
    assert count(small.keypoints) == 134_412
    assert count(model(visual_dim=384, pose_dim=18, **TCN)) == 2_369_414
    assert count(model(visual_dim=768, pose_dim=18, num_keypoints=6, **TCN)) == 3_552_914


def test_causal_counts_are_the_same():
    assert count(model(pose_dim=77, num_keypoints=6, causal=True)) == 516_664


SMALL = {"visual_dim": 3, "pose_dim": 7, "hidden_dim": 8, "num_layers": 2}


def batch(frames=9, visual=3, pose=7):
    generator = torch.Generator().manual_seed(0)
    valid = torch.ones(2, frames, dtype=torch.bool)
    values = {"visual": torch.randn(2, frames, visual, generator=generator), "valid": valid}
    return {**values, "pose": torch.randn(2, frames, pose, generator=generator)}


def test_output_shapes():
    output = model(**SMALL, num_keypoints=4)(batch())
    assert [tuple(stage.shape) for stage in output["stages"]] == [(2, 6, 9)] * 2
    assert output["keypoints"].shape == (2, 9, 8)
    assert ((output["keypoints"] > 0) & (output["keypoints"] < 1)).all()
    assert model(**SMALL)(batch())["keypoints"] is None


def test_both_inputs_reach_the_logits():
    network = model(**SMALL).eval()
    given = batch()
    before = network(given)["stages"][-1]
    for name in ("visual", "pose"):
        after = network({**given, name: given[name] + 1})["stages"][-1]
        assert not torch.allclose(before, after)


def test_pose_dropout_is_half_of_the_dropout_and_the_keypoint_head_has_the_head_dropout():
    network = model(**SMALL, num_keypoints=2, dropout=0.4, head_dropout=0.1)
    assert network.pose[2].p == pytest.approx(0.2)
    assert network.keypoints[2].p == pytest.approx(0.1)
    assert network.temporal.first.output.dropout.p == pytest.approx(0.1)
    assert network.temporal.first.layers[0].dropout.p == pytest.approx(0.4)


def test_missing_or_wrong_inputs_are_named():
    network = model(**SMALL)
    given = batch()
    with pytest.raises(ValueError, match="pose is absent"):
        network({"visual": given["visual"], "valid": given["valid"]})
    with pytest.raises(ValueError, match="visual is absent"):
        network({**given, "visual": None})
    with pytest.raises(ValueError, match="pose is"):
        network(batch(pose=6))


def test_gradients_reach_every_parameter():
    network = model(**SMALL, num_keypoints=2)
    output = network(batch())
    (sum(stage.square().sum() for stage in output["stages"]) + output["keypoints"].sum()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
