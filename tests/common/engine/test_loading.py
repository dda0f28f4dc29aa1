"""Batches come from the sampler alone: same for any number of workers, from any position."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_toy import Outcome, ToyData, ToyTask, collate, same, toy_config, toy_loaders, toy_model, train
from torch.utils.data import get_worker_info

from common.balancing.samplers import ShardedEvalSampler, ShuffleSampler
from common.config import UserError
from common.engine.loading import Batches, BatchTimeout, Loaders, iterate, make_loader
from common.engine.logging import read_events
from common.engine.randomness import SampleKey
from common.engine.step import TrainingError


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


class Deadly(ToyData):
    """Kills the worker that reads a given draw of epoch 1, as often as there are files to use up."""

    def __init__(self, folder: Path, times: int, draw: int = 10) -> None:
        super().__init__()
        self.draw, self.lives = draw, [folder / f"life-{number}" for number in range(times)]
        for life in self.lives:
            life.touch()

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        left = [life for life in self.lives if life.exists()]
        if get_worker_info() is not None and left and (key.epoch, key.draw) == (1, self.draw):
            left[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


def run_with_deaths(folder: Path, times: int, resume: str | None = None) -> Outcome:
    folder.mkdir(exist_ok=True)
    loaders = toy_loaders(20, 3, workers=1, data=Deadly(folder, times))
    task = ToyTask(toy_model(dropout=0.3))
    return train(folder / "run", task, loaders, toy_config(accumulation_steps=2), resume=resume)


def test_dead_worker_is_replaced_and_no_sample_is_lost(tmp_path: Path) -> None:
    whole = run_with_deaths(tmp_path / "whole", 0)
    mended = run_with_deaths(tmp_path / "mended", 1)
    assert mended.task.seen == whole.task.seen
    assert same(mended.weights, whole.weights)
    assert mended.metrics() == whole.metrics()
    (event,) = [e for e in read_events(mended.folder / "events.jsonl") if e["kind"] == "worker_died"]
    assert "loader worker died (pid " in event["text"]


@pytest.mark.slow
def test_third_death_stops_with_a_checkpoint_from_which_the_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loader worker died"):
        run_with_deaths(tmp_path / "dead", 3)
    resumed = run_with_deaths(tmp_path / "dead", 0, resume="last")
    whole = run_with_deaths(tmp_path / "whole", 0)
    assert same(resumed.weights, whole.weights)
    assert resumed.metrics() == whole.metrics()


def test_a_data_set_that_fails_is_not_mistaken_for_a_dead_worker(tmp_path: Path) -> None:
    class Failing(ToyData):
        def __getitem__(self, key: SampleKey) -> dict[str, Any]:
            raise RuntimeError("photo 7 cannot be read")

    with pytest.raises(RuntimeError, match="photo 7 cannot be read"):
        train(tmp_path / "run", loaders=toy_loaders(20, 3, workers=1, data=Failing()))


class Refusing(ToyData):
    """Tells the user about every sample."""

    def __getitem__(self, key: SampleKey) -> Any:
        try:
            raise ValueError("cause")
        except ValueError as error:
            raise UserError("a.mp4: cannot be read\n  second line") from error


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_tells_the_user_comes_without_its_traceback(workers: int) -> None:
    batches = Batches(ShuffleSampler(4, seed=0), 2)
    with pytest.raises(UserError) as caught:
        next(iterate(make_loader(Refusing(), batches, workers=workers)))
    assert str(caught.value) == "a.mp4: cannot be read\n  second line"


def test_a_loader_that_ends_before_its_sampler_is_an_error(tmp_path: Path) -> None:
    long, short = toy_loaders(20, 3), toy_loaders(10, 3)
    mixed = Loaders(short.train, long.sampler, long.batches, long.valid)
    with pytest.raises(ValueError, match="the training loader ended 3 batches before its sampler"):
        train(tmp_path / "run", loaders=mixed)


class Hanging(ToyData):
    """Sample 7 never comes."""

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        if key.index == 7:
            time.sleep(600)
        return super().__getitem__(key)

    def in_work(self) -> str:
        return "sample 7"


def test_a_batch_that_never_comes_says_what_its_workers_are_at() -> None:
    batches = Batches(ShardedEvalSampler(12), 3)
    loader = make_loader(Hanging(), batches, workers=1, collate=collate, timeout=0.4)
    arrived = iterate(loader)
    assert len([next(arrived), next(arrived)]) == 2
    with pytest.raises(BatchTimeout, match=r"^no batch within 0\.4 s; in work: sample 7$"):
        next(arrived)
