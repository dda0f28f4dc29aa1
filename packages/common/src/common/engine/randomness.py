"""Randomness that depends on the sample drawn, never on the worker, the rank or what was drawn before."""

from __future__ import annotations

import hashlib
import random
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike, NDArray


class SampleKey(NamedTuple):
    """One draw of a sampler: which sample, in which epoch, at which place of the epoch's global stream."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a key for
    epoch: int
    draw: int


class _Key(ISeedSequence):
    """A 128-bit key in the place of a seed sequence, whose own construction costs more than the generator."""

    def __init__(self, key: bytes) -> None:
        self.words = np.frombuffer(key, "<u8")

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint64) -> NDArray[Any]:
        """Return the key; Philox asks for it once."""
        return self.words


def _digest(parts: tuple[int | str, ...]) -> bytes:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()


def stream_key(*parts: int | str) -> int:
    """Return a 128-bit counter key that is the same on every machine for the same `parts`."""
    return int.from_bytes(_digest(parts), "little")


def generator_for(*parts: int | str) -> np.random.Generator:
    """Return a NumPy generator keyed by `parts`, for example `generator_for(seed, "order", epoch)`.

    >>> generator_for(1, "order", 0).integers(100) == generator_for(1, "order", 0).integers(100)
    np.True_
    """
    key: Any = _Key(_digest(parts))  # NumPy takes any ISeedSequence, its types name SeedSequence alone
    return np.random.Generator(np.random.Philox(key))


def sample_rng(seed: int, key: SampleKey, stream: str = "augment") -> np.random.Generator:
    """Return the NumPy generator of one draw; a sample drawn twice in an epoch gets two different ones."""
    return generator_for(seed, stream, *key)


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch; ranks differ so that dropout masks do."""
    value = stream_key(seed, "process", rank) % 2**32
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - third-party code may draw from the global state
    torch.manual_seed(value)


def random_state() -> dict[str, Any]:
    """Return the state of every global generator as plain types and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    version, words, gauss_next = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(words), gauss_next],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what `random_state` returned."""
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
