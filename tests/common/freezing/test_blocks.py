"""Blocks: their pieces, their names, and models they do not fit."""

from __future__ import annotations

import pytest
from freezing_toy import BLOCKS

from common.freezing.blocks import Block, check_blocks, closed_pieces, shortest_names

PARAMETERS = [name for block in BLOCKS for name in block.parameters]
MODULES = [
    name for block in BLOCKS for name in (*block.modules, *(m for part in block.parts for m in part.modules))
]


def test_the_smallest_pieces_are_the_parts_or_the_block_itself() -> None:
    assert [piece.name for piece in BLOCKS[0].smallest] == ["layer4.1", "layer4.0"]
    assert BLOCKS[-1].smallest == (BLOCKS[-1],)
    assert closed_pieces(BLOCKS[0], {"layer4.1"}) == ("layer4.0",)


def test_whole_blocks_go_by_their_own_name() -> None:
    assert shortest_names(BLOCKS, {"layer3.0", "layer4.1", "layer4.0", "stem"}) == (
        "layer4",
        "layer3.0",
        "stem",
    )


def test_parts_hold_every_parameter_once() -> None:
    part = Block("a.0", ("x",), ())
    with pytest.raises(ValueError, match="each of its parameters once"):
        Block("a", ("x", "y"), (), (part,))
    with pytest.raises(ValueError, match="no parameter"):
        Block("a", (), ())


def test_blocks_fit_the_model() -> None:
    check_blocks(BLOCKS, PARAMETERS, MODULES)
    with pytest.raises(ValueError, match=r"has no stem\.weight"):
        check_blocks(BLOCKS, PARAMETERS[:-1], MODULES)
    with pytest.raises(ValueError, match="has no stem"):
        check_blocks(BLOCKS, PARAMETERS, MODULES[:-1])
    with pytest.raises(ValueError, match="'stem' is taken"):
        check_blocks([*BLOCKS, BLOCKS[-1]], PARAMETERS, MODULES)
    with pytest.raises(ValueError, match="in an earlier block"):
        check_blocks([*BLOCKS, Block("again", ("stem.weight",), ())], PARAMETERS, MODULES)
