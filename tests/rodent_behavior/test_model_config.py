"""Sizes and their checks."""

import pytest

from rodent_behavior.model_config import BehaviorModelConfig, dual_dilations, receptive_field


def test_receptive_fields():
    def field(**sizes):
        return receptive_field(BehaviorModelConfig(num_classes=6, pose_dim=77, **sizes))

    assert field(refinements=0) == 3969
    assert field(refinements=2) == 3969 + 2 * 2046
    assert field(temporal_model="tcn", num_layers=3, refinements=0) == 15


def test_dual_dilations_fall_and_rise():
    assert dual_dilations(4) == [(8, 1), (4, 2), (2, 4), (1, 8)]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"temporal_model": "lstm"}, "temporal_model"),
        ({"head": "mlp"}, "head"),
        ({"num_classes": 1}, "num_classes"),
        ({"hidden_dim": 1}, "hidden_dim"),
        ({"num_layers": 0}, "num_layers"),
        ({"dropout": 1.0}, "dropout"),
        ({"head_dropout": -0.1}, "head_dropout"),
        ({"pose_dim": 0}, "pose_dim"),
        ({"temporal_model": "tcn"}, "refinements"),
        ({"temporal_model": "tcn", "refinements": 0, "hidden_dim": 60}, "hidden_dim"),
    ],
)
def test_a_bad_field_is_named(fields, word):
    with pytest.raises(ValueError, match=word):
        BehaviorModelConfig(**{"num_classes": 6, "pose_dim": 77, **fields})
