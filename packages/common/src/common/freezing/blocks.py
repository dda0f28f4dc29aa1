"""Freezable pieces of a network, named from the heads towards the input."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """One freezable piece of a network.

    `parameters` and `modules` are names within the model; frozen modules stay in eval mode. `parts` are the
    pieces that may be opened alone, the one nearest the heads first; together they hold every parameter once.
    ValueError when they do not.
    """

    name: str
    parameters: tuple[str, ...]
    modules: tuple[str, ...]
    parts: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ValueError(f"block {self.name!r} holds no parameter")
        held = sorted(name for part in self.parts for name in part.parameters)
        if self.parts and held != sorted(self.parameters):
            raise ValueError(f"the parts of block {self.name!r} do not hold each of its parameters once")

    @property
    def smallest(self) -> tuple[Block, ...]:
        """The pieces that are opened and closed as a whole: the parts, or the block itself."""
        return tuple(piece for part in self.parts for piece in part.smallest) or (self,)


def check_blocks(blocks: Sequence[Block], parameters: Iterable[str], modules: Iterable[str]) -> None:
    """Check blocks against a model's names.

    Raises ValueError when a name is used twice, or a parameter or module is unknown or in two blocks.
    """
    known, places = set(parameters), set(modules)
    names: set[str] = set()
    taken: set[str] = set()
    for piece in [each for block in blocks for each in _all_pieces(block)]:
        if piece.name in names:
            raise ValueError(f"block name {piece.name!r} is taken")
        names.add(piece.name)
        if missing := sorted(set(piece.parameters) - known) + sorted(set(piece.modules) - places):
            raise ValueError(f"block {piece.name!r}: the model has no {', '.join(missing[:5])}")
    for block in blocks:
        if twice := sorted(taken.intersection(block.parameters)):
            raise ValueError(f"block {block.name!r}: {', '.join(twice[:5])} is in an earlier block")
        taken.update(block.parameters)


def _all_pieces(block: Block) -> list[Block]:
    return [block, *(piece for part in block.parts for piece in _all_pieces(part))]


def closed_pieces(block: Block, opened: Collection[str] | Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of the smallest pieces of a block that are not in `opened`."""
    return tuple(piece.name for piece in block.smallest if piece.name not in opened)


def shortest_names(blocks: Iterable[Block], pieces: Collection[str]) -> tuple[str, ...]:
    """Return what smallest pieces are called together: a block's own name where all of it is meant."""
    names: list[str] = []
    for block in blocks:
        held = [piece.name for piece in block.smallest if piece.name in pieces]
        names += [block.name] if len(held) == len(block.smallest) else held
    return tuple(names)
