"""Orders of samples: complete, the same on any number of ranks, resumable at every draw."""

from __future__ import annotations

import itertools
import time
import tracemalloc

import numpy as np
import pytest
from torch.utils.data import DataLoader

from common.balancing.samplers import (
    CHUNK,
    KeyedSampler,
    RepeatSampler,
    ShardedEvalSampler,
    ShuffleSampler,
)
from common.engine.randomness import SampleKey
from common.statistics import ClassStatistics


def epoch_of(sampler: KeyedSampler, epoch: int) -> list[SampleKey]:
    sampler.set_epoch(epoch)
    return list(sampler)


def interleave(parts: list[list[SampleKey]]) -> list[SampleKey]:
    rows = itertools.zip_longest(*parts)
    return [key for row in rows for key in row if key is not None]


def test_an_epoch_holds_every_sample_once_in_another_order() -> None:
    sampler = ShuffleSampler(50, seed=1)
    first, second = epoch_of(sampler, 0), epoch_of(sampler, 1)
    assert sorted(key.index for key in first) == list(range(50))
    assert [key.draw for key in first] == list(range(50))
    assert {key.epoch for key in second} == {1}
    assert [key.index for key in first] != [key.index for key in second]
    assert [key.index for key in first] != list(range(50))
    assert epoch_of(sampler, 0) == first
    assert [key.index for key in epoch_of(ShuffleSampler(50, seed=2), 0)] != [key.index for key in first]


def test_every_order_of_three_is_equally_likely() -> None:
    sampler = ShuffleSampler(3, seed=5)
    seen: dict[tuple[int, ...], int] = {}
    for epoch in range(3000):
        order = tuple(key.index for key in epoch_of(sampler, epoch))
        seen[order] = seen.get(order, 0) + 1
    chi_square = sum((count - 500) ** 2 / 500 for count in seen.values())
    assert len(seen) == 6
    assert chi_square < 25.7  # p = 1e-4 at 5 degrees of freedom


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_together_read_the_single_process_stream(world: int) -> None:
    single = epoch_of(ShuffleSampler(9, seed=3), 4)
    ranks = [ShuffleSampler(9, seed=3, rank=rank, world=world) for rank in range(world)]
    parts = [epoch_of(sampler, 4) for sampler in ranks]
    assert {len(part) for part in parts} == {len(ranks[0])} == {-(-9 // world)}
    union = interleave(parts)
    assert union[:9] == single
    assert [key.draw for key in union] == list(range(len(union)))


def test_the_stream_is_extended_and_not_wrapped() -> None:
    ranks = [ShuffleSampler(101, seed=0, rank=rank, world=100) for rank in range(100)]
    union = interleave([epoch_of(sampler, 0) for sampler in ranks])
    extra = [key.index for key in union[101:]]
    assert len(union) == 200
    assert len(set(extra)) == 99
    assert extra != [key.index for key in union[:99]]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_resuming_at_every_index_continues_the_epoch(world: int) -> None:
    whole = epoch_of(ShuffleSampler(11, seed=7), 2)
    for position in range(12):
        parts = []
        for rank in range(world):
            sampler = ShuffleSampler(11, seed=7, rank=rank, world=world)
            sampler.load_state_dict(
                ShuffleSampler(11, seed=7).state_dict() | {"epoch": 2, "position": position}
            )
            parts.append(list(sampler))
        assert len({len(part) for part in parts}) == 1
        assert interleave(parts)[: 11 - position] == whole[position:]


def test_resuming_with_the_same_ranks_repeats_each_rank_exactly() -> None:
    sampler = ShuffleSampler(11, seed=7, rank=1, world=2)
    whole = epoch_of(sampler, 0)
    for used in range(len(whole) + 1):
        sampler.start(2 * used)
        assert list(sampler) == whole[used:]
    assert len(sampler) == len(whole)


def test_state_holds_the_position_the_caller_knows() -> None:
    sampler = ShuffleSampler(10, seed=1)
    sampler.set_epoch(3)
    state = sampler.state_dict(position=4)
    assert state == {
        "kind": "shuffle", "seed": 1, "epoch": 3, "position": 4, "fingerprint": sampler.fingerprint
    }  # fmt: skip
    sampler.start(6)
    assert sampler.state_dict()["position"] == 6
    sampler.set_epoch(4)
    assert sampler.state_dict()["position"] == 0


@pytest.mark.parametrize(
    "other", [ShuffleSampler(11, seed=1), ShuffleSampler(10, seed=2), ShardedEvalSampler(10)]
)
def test_the_state_of_another_stream_is_refused(other: KeyedSampler) -> None:
    with pytest.raises(ValueError, match="its position means nothing here"):
        ShuffleSampler(10, seed=1).load_state_dict(other.state_dict())


def test_an_iterator_keeps_its_epoch_when_the_next_one_is_set() -> None:
    sampler = ShuffleSampler(10, seed=1)
    iterator = iter(sampler)
    sampler.set_epoch(1)
    assert {key.epoch for key in iterator} == {0}


@pytest.mark.parametrize("world", [1, 2, 4])
def test_evaluation_sees_each_sample_once_over_all_ranks(world: int) -> None:
    ranks = [ShardedEvalSampler(10, rank=rank, world=world) for rank in range(world)]
    parts = [epoch_of(sampler, 6) for sampler in ranks]
    assert interleave(parts) == [SampleKey(index, 0, index) for index in range(10)]
    assert [len(part) for part in parts] == [len(sampler) for sampler in ranks]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_ranks_than_evaluation_samples_leave_some_idle() -> None:
    assert [len(ShardedEvalSampler(2, rank=rank, world=4)) for rank in range(4)] == [1, 1, 0, 0]


def test_block_borders_are_crossed_without_a_gap() -> None:
    keys = list(ShardedEvalSampler(2 * CHUNK + 3, rank=1, world=2))
    assert [key.index for key in keys] == list(range(1, 2 * CHUNK + 3, 2))
    shuffled = list(ShuffleSampler(CHUNK + 5, seed=0))
    assert sorted(key.index for key in shuffled) == list(range(CHUNK + 5))


def test_presented_shares_are_the_natural_ones() -> None:
    statistics = ClassStatistics.from_counts([3, 1])
    assert ShuffleSampler(4, seed=0).presented(statistics).tolist() == [0.75, 0.25]
    assert ShardedEvalSampler(4).presented(statistics).tolist() == [0.75, 0.25]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="an epoch of 0 draws"):
        ShuffleSampler(0, seed=0)
    with pytest.raises(ValueError, match=r"rank 2 is not in 0\.\.1"):
        ShuffleSampler(4, seed=0, rank=2, world=2)
    with pytest.raises(ValueError, match="position -1"):
        ShuffleSampler(4, seed=0).start(-1)


def test_a_loader_hands_the_keys_to_the_dataset() -> None:
    class Keys(dict[SampleKey, SampleKey]):
        def __missing__(self, key: SampleKey) -> SampleKey:
            return key

    sampler = ShuffleSampler(5, seed=0)
    loader = DataLoader(Keys(), sampler=sampler, batch_size=2, collate_fn=list)  # type: ignore[arg-type, var-annotated]
    assert [key for batch in loader for key in batch] == list(sampler)


def repeat_sampler(repeats: object, *, seed: int = 3, rank: int = 0, world: int = 1) -> RepeatSampler:
    return RepeatSampler(4, repeats, presented_shares=np.array([0.5, 0.5]), seed=seed, rank=rank, world=world)


REPEATS = [0.0, 1.0, 2.25, 0.5, 29.9]


def test_repeats_have_the_asked_expectation_and_a_fixed_length() -> None:
    sampler = repeat_sampler(REPEATS)
    draws = np.array([sampler.draws(epoch) for epoch in range(2000)])
    assert set(draws[:, 0]) == {0}
    assert set(draws[:, 1]) == {1}
    assert set(draws[:, 2]) == {2, 3}
    assert set(draws[:, 4]) == {29, 30}
    assert set(draws.sum(axis=1)) == {33, 34}
    np.testing.assert_allclose(draws.mean(axis=0), REPEATS, atol=4 * 0.5 / np.sqrt(2000))
    assert len(sampler) == 4 + 34


def test_an_epoch_holds_base_repeats_and_at_most_one_idle_draw() -> None:
    sampler = repeat_sampler(REPEATS)
    for epoch in range(40):
        times = np.bincount([key.index for key in epoch_of(sampler, epoch)], minlength=10)
        assert times[:4].tolist() == [1, 1, 1, 1]
        assert times[4:9].tolist() == sampler.draws(epoch).tolist()
        assert times[9] == 34 - times[4:9].sum()


def test_whole_repeats_need_no_idle_draw_and_none_are_a_shuffle() -> None:
    times = np.bincount([key.index for key in epoch_of(repeat_sampler([2.0, 1.0]), 0)], minlength=7)
    assert times.tolist() == [1, 1, 1, 1, 2, 1, 0]
    assert sorted(key.index for key in epoch_of(repeat_sampler([]), 1)) == [0, 1, 2, 3]


def test_repeats_depend_on_seed_and_epoch_and_are_shared_by_the_ranks() -> None:
    repeats = np.full(40, 0.5)
    first = repeat_sampler(repeats)
    assert first.draws(0).tolist() == repeat_sampler(repeats).draws(0).tolist()
    assert first.draws(0).tolist() != first.draws(1).tolist()
    assert first.draws(0).tolist() != repeat_sampler(repeats, seed=4).draws(0).tolist()
    ranks = [epoch_of(repeat_sampler(repeats, rank=rank, world=2), 5) for rank in range(2)]
    assert interleave(ranks) == epoch_of(first, 5)
    assert first.fingerprint != repeat_sampler(np.full(40, 0.6)).fingerprint
    with pytest.raises(ValueError, match="repeats"):
        repeat_sampler([-0.5])


@pytest.mark.slow
def test_twenty_million_samples_start_quickly_and_use_only_the_order() -> None:
    sampler = ShuffleSampler(20_000_000, seed=0)
    tracemalloc.start()
    begin = time.monotonic()
    first = list(itertools.islice(sampler, 1000))
    seconds, (_, peak) = time.monotonic() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.unique([key.index for key in first]).size == 1000
    assert max(key.index for key in first) > 2**24
    assert seconds < 20
    assert peak < 200e6
