"""Orders of samples: keyed by seed and epoch, sharded over ranks, resumable at any draw.

A sampler owns an endless stream of indices per epoch; its first `length` positions are the epoch. Rank r of
W takes positions s + r, s + r + W, ... from the global start s (0 unless resumed), so the ranks together
read the stream of a single process, whatever W was before. When W does not divide the epoch, the stream is
read up to W - 1 positions further, so that every rank gets the same number of draws. Those extra draws are
the stream's own continuation with their own `draw` numbers: a repeated sample gets another augmentation,
never the first ones over again.
"""

from __future__ import annotations

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.engine.randomness import SampleKey, generator_for, stream_key
from common.statistics import ClassStatistics, Shares

CHUNK = 65_536
_AS_KEY: Callable[[tuple[int, int, int]], SampleKey] = functools.partial(tuple.__new__, SampleKey)
"""Makes a key of its three numbers in half the time of a call of the class."""


class KeyedSampler(ABC):
    """What all samplers share. A subclass gives the stream in blocks and says what the blocks depend on.

    `epoch` and `position` (global, over all ranks) are where the next iteration begins. ValueError on an
    empty epoch or a rank outside the world.
    """

    kind: ClassVar[str]
    extends: ClassVar[bool] = True

    def __init__(self, length: int, *, block: int, seed: int, rank: int, world: int) -> None:
        if length < 1:
            raise ValueError(f"{type(self).__name__}: an epoch of {length} draws is empty")
        if not 0 <= rank < world:
            raise ValueError(f"{type(self).__name__}: rank {rank} is not in 0..{world - 1}")
        self.length, self.seed, self.rank, self.world = length, seed, rank, world
        self.epoch = self.position = 0
        self._block_length = block

    @abstractmethod
    def presented(self, statistics: ClassStatistics) -> Shares:
        """Return the label shares [K] an epoch is expected to present, in the statistics' unit."""

    @abstractmethod
    def _block(self, epoch: int, number: int) -> NDArray[np.int64]:
        """Return the indices at stream positions number x block ... (number + 1) x block - 1."""

    def _identity(self) -> tuple[int | str, ...]:
        """Return what the stream depends on beside kind, length and seed, for the fingerprint."""
        return ()

    @property
    def fingerprint(self) -> str:
        """Identifies the stream: equal fingerprints and seeds give equal epochs."""
        return f"{stream_key('fingerprint', self.kind, self.length, *self._identity()):032x}"

    def __len__(self) -> int:
        """Number of draws of this rank in a whole epoch, wherever it is started."""
        return len(range(self.rank, self._end(0), self.world))

    def __iter__(self) -> Iterator[SampleKey]:
        return itertools.chain.from_iterable(self._chunks(self.epoch, self.position))

    def set_epoch(self, epoch: int) -> None:
        """Begin epoch `epoch` at its first draw; the same epoch always gives the same stream."""
        self.epoch, self.position = epoch, 0

    def start(self, position: int) -> None:
        """Begin the next iterations after `position` draws, counted over all ranks."""
        if position < 0:
            raise ValueError(f"{type(self).__name__}: position {position} is negative")
        self.position = position

    def state_dict(self, position: int | None = None) -> dict[str, Any]:
        """Return the place in the epoch as plain types.

        `position` is the number of draws used so far by all ranks; loaders read ahead, so only the caller
        knows. None: where the current iteration was started.
        """
        return {
            "kind": self.kind,
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position if position is None else position,
            "fingerprint": self.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved place, at any world size; ValueError when it belongs to another stream."""
        for name in ("kind", "seed", "fingerprint"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"sampler {name} is {getattr(self, name)}, the saved one {state[name]}: "
                    "its position means nothing here"
                )
        self.set_epoch(state["epoch"])
        self.start(state["position"])

    def _end(self, start: int) -> int:
        left = max(0, self.length - start)
        return start + (-(-left // self.world) * self.world if self.extends else left)

    def _chunks(self, epoch: int, start: int) -> Iterator[Iterator[SampleKey]]:
        position, end, held = start + self.rank, self._end(start), -1
        block = np.zeros(0, dtype=np.int64)
        while position < end:
            number, offset = divmod(position, self._block_length)
            if number != held:
                block, held = self._block(epoch, number), number
            stop = min(offset + CHUNK * self.world, self._block_length, offset + end - position)
            indices = block[offset : stop : self.world].tolist()
            places = range(position, position + len(indices) * self.world, self.world)
            yield map(_AS_KEY, zip(indices, itertools.repeat(epoch), places))
            position = places.stop


class ShuffleSampler(KeyedSampler):
    """Every sample once per epoch, in an order keyed by (seed, epoch).

    Further positions (see the module) read the next permutation of the same epoch.
    """

    kind = "shuffle"

    def __init__(self, num_samples: int, *, seed: int, rank: int = 0, world: int = 1) -> None:
        super().__init__(num_samples, block=num_samples, seed=seed, rank=rank, world=world)

    def presented(self, statistics: ClassStatistics) -> Shares:
        """Return the natural shares: nothing is repeated or left out."""
        return statistics.prior

    def _block(self, epoch: int, number: int) -> NDArray[np.int64]:
        return generator_for(self.seed, "order", epoch, number).permutation(self.length)


class ShardedEvalSampler(KeyedSampler):
    """Every sample exactly once over all ranks, in order; ranks may differ by one sample."""

    kind = "sharded_eval"
    extends = False

    def __init__(self, num_samples: int, *, rank: int = 0, world: int = 1) -> None:
        super().__init__(num_samples, block=CHUNK, seed=0, rank=rank, world=world)

    def set_epoch(self, epoch: int) -> None:
        """Go back to the first sample; keys carry epoch 0 always, so that evaluations can be compared."""
        self.position = 0

    def presented(self, statistics: ClassStatistics) -> Shares:
        """Return the natural shares."""
        return statistics.prior

    def _block(self, epoch: int, number: int) -> NDArray[np.int64]:
        return np.arange(number * CHUNK, (number + 1) * CHUNK)


class RepeatSampler(KeyedSampler):
    """Items 0 .. base - 1 once per epoch, item base + i `repeats[i]` times on average; shuffled.

    An epoch always has base + ceil(sum of repeats) draws: item i is drawn floor(repeats[i]) times or once
    more (systematic sampling: the whole-number points of the cumulated repeats, shifted at random), and a
    draw that is left over takes the last item, number base + N, which is to carry no loss.
    `presented_shares` are the class shares [C] that this presents.
    """

    kind = "repeat"

    def __init__(
        self,
        base: int,
        repeats: ArrayLike,
        *,
        presented_shares: Shares,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.base = base
        self.repeats: NDArray[np.float64] = np.asarray(repeats, dtype=np.float64)
        if self.repeats.size and not (np.isfinite(self.repeats).all() and self.repeats.min() >= 0):
            raise ValueError("repeats: finite numbers >= 0 are expected")
        length = base + math.ceil(round(float(self.repeats.sum()), 9))
        self.presented_shares = presented_shares
        super().__init__(length, block=length, seed=seed, rank=rank, world=world)

    def presented(self, statistics: ClassStatistics) -> Shares:
        """Return the class shares that an epoch is expected to present."""
        return self.presented_shares

    def draws(self, epoch: int, number: int = 0) -> NDArray[np.int64]:
        """Return how often each repeated item [N] is drawn."""
        rng = generator_for(self.seed, "repeats", epoch, number)
        order = rng.permutation(len(self.repeats))
        cumulated = np.floor(np.cumsum(self.repeats[order]) + rng.random()).astype(np.int64)
        drawn = np.empty_like(cumulated)
        drawn[order] = np.diff(cumulated, prepend=0)
        return drawn

    def _identity(self) -> tuple[int | str, ...]:
        return (self.base, self.repeats.tobytes().hex())

    def _block(self, epoch: int, number: int) -> NDArray[np.int64]:
        repeated = np.repeat(np.arange(len(self.repeats)), self.draws(epoch, number)) + self.base
        repeated = repeated[: self.length - self.base]
        left = self.length - self.base - len(repeated)
        idle = np.full(left, self.base + len(self.repeats))
        items = np.concatenate([np.arange(self.base), repeated, idle])
        return generator_for(self.seed, "order", epoch, number).permutation(items)
