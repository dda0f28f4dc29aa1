"""Batches come from the sampler alone: same for any number of workers, from any position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_toy import ToyData, collate, toy_loaders

from common.balancing.samplers import ShuffleSampler
from common.engine.loading import Batches, Loaders, make_loader


def stream(loaders: Loaders, epoch: int, position: int = 0) -> list[dict[str, Any]]:
    loaders.sampler.set_epoch(epoch)
    loaders.sampler.start(position)
    return list(loaders.train)


def flat(batches: list[dict[str, Any]]) -> list[Any]:
    """Return keys and augmented views as plain values."""
    return [[batch["key"].tolist(), [view.tolist() for view in batch["views"]]] for batch in batches]


@pytest.fixture(scope="module")
def alone() -> Loaders:
    return toy_loaders(20, 3)


@pytest.fixture(scope="module")
def helped() -> Loaders:
    return toy_loaders(20, 3, workers=2)


def test_batches_do_not_depend_on_workers(alone: Loaders, helped: Loaders) -> None:
    for epoch in (0, 1):
        assert flat(stream(helped, epoch)) == flat(stream(alone, epoch))
    assert flat(stream(alone, 0)) != flat(stream(alone, 1))


@pytest.mark.parametrize("batches", range(8))
def test_starting_in_mid_epoch_gives_the_rest_of_the_stream(alone: Loaders, batches: int) -> None:
    whole = flat(stream(alone, 2))
    assert len(whole) == 7
    assert flat(stream(alone, 2, 3 * batches)) == whole[batches:]


def test_starting_in_mid_epoch_with_workers(alone: Loaders, helped: Loaders) -> None:
    assert flat(stream(helped, 2, 9)) == flat(stream(alone, 2))[3:]


def test_creating_and_reading_loaders_leaves_the_global_generator_alone(
    alone: Loaders, helped: Loaders
) -> None:
    before = torch.get_rng_state()
    for loaders in (alone, helped, toy_loaders(9, 3)):
        stream(loaders, 0)
        list(loaders.valid)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sample_drawn_twice_gets_two_augmentations() -> None:
    class Twice(ShuffleSampler):
        def _block(self, epoch: int, number: int) -> Any:
            return super()._block(epoch, number) * 0

    sampler = Twice(4, seed=0)
    (batch,) = list(make_loader(ToyData(), Batches(sampler, 4), collate=collate))
    assert [key[0] for key in batch["key"].tolist()] == [0, 0, 0, 0]
    assert len({tuple(view.flatten().tolist()) for view in batch["views"]}) == 4


@pytest.mark.parametrize(
    ("samples", "size", "smallest", "lengths", "dropped"),
    [
        (7, 3, 1, [3, 3, 1], 0),
        (7, 3, 2, [3, 3], 1),
        (6, 3, 3, [3, 3], 0),
        (8, 3, 3, [3, 3], 2),
        (2, 3, 3, [], 2),
    ],
)
def test_batches_count_what_they_drop(
    samples: int, size: int, smallest: int, lengths: list[int], dropped: int
) -> None:
    batches = Batches(ShuffleSampler(samples, seed=0), size, smallest)
    assert [len(batch) for batch in batches] == lengths
    assert len(batches) == len(lengths)
    assert batches.dropped == dropped


def test_batch_smaller_than_the_smallest_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 1 is smaller than the smallest batch 2"):
        Batches(ShuffleSampler(4, seed=0), 1, 2)
