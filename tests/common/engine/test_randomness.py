"""Keyed randomness: same key, same numbers, on any machine, whatever was drawn before."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys

import numpy as np
import torch

from common.engine.randomness import (
    SampleKey,
    generator_for,
    random_state,
    sample_rng,
    seed_everything,
    set_random_state,
    stream_key,
)


def test_stream_key_is_the_documented_hash() -> None:
    digest = hashlib.blake2b(b"3/order/7", digest_size=16).digest()
    assert stream_key(3, "order", 7) == int.from_bytes(digest, "little")


def test_generators_are_equal_for_equal_parts_and_independent_of_the_past() -> None:
    first = generator_for(1, "order", 0).random(4)
    np.random.default_rng(0).random(100)
    assert np.array_equal(generator_for(1, "order", 0).random(4), first)
    for parts in ((2, "order", 0), (1, "crops", 0), (1, "order", 1)):
        assert not np.array_equal(generator_for(*parts).random(4), first)


def test_generators_look_uniform_and_uncorrelated_across_neighbouring_keys() -> None:
    draws = np.array([sample_rng(0, SampleKey(5, 0, draw)).random() for draw in range(4000)])
    assert abs(draws.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.05


def test_each_part_of_a_sample_key_counts() -> None:
    keys = [SampleKey(1, 2, 3), SampleKey(2, 1, 3), SampleKey(1, 3, 3), SampleKey(1, 2, 4)]
    values = {float(sample_rng(0, key).random()) for key in keys}
    values.add(float(sample_rng(1, keys[0]).random()))
    values.add(float(sample_rng(0, keys[0], "mixing").random()))
    assert len(values) == 6


def test_seeding_is_repeatable_and_differs_between_ranks() -> None:
    def draw(rank: int) -> tuple[float, float, float]:
        seed_everything(4, rank)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    assert draw(0) == draw(0)
    assert all(first != second for first, second in zip(draw(0), draw(1)))


def test_random_state_covers_all_global_generators() -> None:
    seed_everything(1)
    random.gauss(0, 1)
    np.random.normal()  # noqa: NPY002
    state = random_state()

    def draw() -> list[float]:
        own = [random.gauss(0, 1), random.random(), float(np.random.normal()), float(np.random.rand())]  # noqa: NPY002
        return [*own, *torch.rand(2).tolist(), *torch.randn(2).tolist()]

    first = draw()
    set_random_state(state)
    assert draw() == first


def test_random_state_survives_a_safe_load(tmp_path: object) -> None:
    path = f"{tmp_path}/state.pt"
    torch.save(random_state(), path)
    first = random.random(), torch.rand(())
    set_random_state(torch.load(path, weights_only=True))
    assert (random.random(), torch.rand(())) == first


def test_importing_keys_does_not_import_the_rest_of_the_engine() -> None:
    code = (
        "import sys; from common.engine.randomness import SampleKey; import common.balancing.samplers; "
        "print(sorted(name for name in sys.modules if name.startswith('common.engine.')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['common.engine.randomness']"


def test_public_names_are_there() -> None:
    import common.engine
    from common.engine.fit import Summary

    assert all(hasattr(common.engine, name) for name in common.engine.__all__)
    assert common.engine.Summary is Summary


def test_the_generator_is_philox_keyed_by_the_stream_key() -> None:
    expected = np.random.Generator(np.random.Philox(key=stream_key(3, "order", 5)))
    drawn = generator_for(3, "order", 5)
    assert np.array_equal(drawn.integers(2**62, size=9), expected.integers(2**62, size=9))
