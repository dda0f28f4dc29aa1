"""When groups open, and how large they are."""

import pytest
from mv_tiny_backbone import bare_backbone

from common.config import UserError
from mvfouls.architectures import BACKBONES, STAGES
from mvfouls.openings import (
    MASSIVE,
    given_schedule,
    open_blocks,
    out_of_order,
    rate_multipliers,
    usual_schedule,
)

SWIN, CONV = BACKBONES["swin3d_t"], BACKBONES["r2plus1d_18"]


@pytest.mark.parametrize(
    ("epochs", "times"),
    [(50, (3, 6, 9, 12, 15)), (20, (3, 6, 9, 12, 15)), (19, (2, 5, 8, 11, 14)), (15, (2, 5, 8, 11, 14)),
     (14, (1, 3, 5, 7, 9)), (10, (1, 3, 5, 7, 9)), (9, (1, 2, 3, 4, 5)), (3, (1, 2)), (1, ())],
)  # fmt: skip
def test_the_usual_times(epochs, times):
    assert usual_schedule(SWIN, epochs) == tuple(zip(times, STAGES))


@pytest.mark.parametrize("name", BACKBONES)
def test_massive_blocks_have_more_than_ten_million_parameters(name):
    backbone = bare_backbone(name)
    sizes = {key: value.numel() for key, value in backbone.named_parameters()}
    counts = [sum(sizes[key] for key in block.parameters) for block in backbone.blocks()]
    assert [count > 10_000_000 for count in counts[:2]] == [
        place < MASSIVE.get(name, 0) for place in range(2)
    ]


def test_factors_by_place_and_size():
    factors = dict(rate_multipliers(CONV, minor=1.2, major=1.5, massive=2.0))
    assert factors == {"layer4": 2.0, "layer3": 1.5, "layer2": 1.5, "layer1": 1.2, "stem": 1.2}


def test_a_given_schedule_is_sorted_by_time_and_place():
    text = '{"6": "patch_embed", "2": "stage_3", "10": "layer2"}'
    assert given_schedule(text, CONV, 20) == ((2, "layer4"), (6, "stem"), (10, "layer2"))
    assert given_schedule('{"30": "stage_0"}', CONV, None) == ((30, "layer1"),)
    with pytest.raises(UserError, match="no group 'layer4'; groups are stage_3"):
        given_schedule('{"2": "layer4"}', SWIN, 20)


def test_order_is_from_the_heads_on():
    assert out_of_order(((2, "stage_3"), (2, "stage_2"), (5, "stage_1")), SWIN) is None
    assert out_of_order(((2, "stage_2"), (5, "stage_3")), SWIN) == ("stage_2", "stage_3")
    assert out_of_order(((2, "stage_2"),), SWIN) == ("stage_2", "stage_3")
    assert out_of_order((), SWIN) is None


def test_frozen_stages_count_from_the_input():
    modes = ["freeze_all", *(f"freeze_stages{number}" for number in range(5))]
    assert [open_blocks(mode, SWIN) for mode in modes] == [0, 4, 3, 2, 1, 0]
