"""Pain behaviour: an epoch on cached features, and samples from the cache against decoding every epoch."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timing import Entry, Row, Settings, absolute, at_least, at_most, interleave, ratio
from torch import Tensor

from common.config import parse
from common.engine.distributed import World
from common.engine.loading import Loaders, iterate
from common.engine.logging import Console
from common.engine.randomness import SampleKey, seed_everything
from common.engine.step import Optimization
from rodent_behavior.checks import resolved
from rodent_behavior.cli import ALIASES
from rodent_behavior.config import TrainConfig
from rodent_behavior.data import open_data
from rodent_behavior.dataset import Inputs, WindowDataset
from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.plan import plan_balance
from rodent_behavior.synth import generate
from rodent_behavior.task import BehaviorTask
from rodent_behavior.train import build_inputs, build_loaders, build_network, build_task, fit_config
from rodent_behavior.visual import VisualSource

TRIALS = 5
"""Trials of 360 frames in a video."""
SAME = (
    "--kp_jitter_std 0 --aug_brightness 0 --aug_contrast 0 --aug_noise_std 0 --aug_temporal_drop 0 "
    "--aug_roll 0 --aug_hflip 0"
)
"""Samples as they are."""


@dataclass(frozen=True)
class Pieces:
    """What `fit` would be given, and the optimiser around it."""

    network: BehaviorNetwork
    inputs: Inputs
    loaders: Loaders
    task: BehaviorTask
    optimization: Optimization

    def epoch(self) -> list[float]:
        """Train through the batches of the first epoch; return the loss of each step."""
        self.network.train()
        self.task.begin_epoch(0)
        self.loaders.sampler.set_epoch(0)
        factors = [1.0] * len(self.optimization.optimizer.param_groups)
        return [
            self.optimization.take([batch], factors, lambda old, new: None).sums.means()["loss"]
            for batch in iterate(self.loaders.train)
        ]


def build(home: Path, words: str) -> Pieces:
    """Return the pieces of `rodent-behavior train` on what `generate` wrote."""
    given = f"--annotations {home / 'Annotations'} --videos {home / 'Videos'} --num_workers 0 --device cpu"
    config = resolved(parse(TrainConfig, [*given.split(), *words.split()], prog="train", aliases=ALIASES))
    world, console = World(), Console(enabled=False)
    data = open_data(config, console)
    plan = plan_balance(config, data.statistics(), [trial.actions for trial in data.train])
    seed_everything(0)
    network = build_network(config, data)
    inputs = build_inputs(config, data, network.backbone, console)
    loaders = build_loaders(config, data, plan, inputs, network, world)
    task = build_task(config, data, plan, network, None, console)
    return Pieces(network, inputs, loaders, task, Optimization(task, fit_config(config, world), world))


def epoch(settings: Settings) -> Iterator[Row]:
    """Training on 50 trials while the backbone is frozen: its features come from the cache."""
    videos, words = (3, "--hidden_dim 8 --num_layers 2") if settings.small else (10, "")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        generate(home, videos=videos, trials=TRIALS, size=48)
        pieces = build(home, f"--batch_size 2 --img_size 48 --val_share 0 {words}")
        batch = next(iterate(pieces.loaders.train))
        assert "visual" in batch
        assert "frames" not in batch
        losses = pieces.epoch()
        assert all(map(math.isfinite, losses))
        seconds = interleave({"epoch": pieces.epoch}, settings)
        trials = len(_windows(pieces).trials)
    what = (
        f"epoch on cached features, {trials} trials, {len(losses)} steps, {torch.get_num_threads()} threads"
    )
    yield absolute(what, seconds["epoch"], "s", at_most(5))


def samples(settings: Settings) -> Iterator[Row]:
    """All samples of an epoch: features from the cache, or frames decoded anew."""
    videos, size = (3, 96) if settings.small else (3, 224)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        generate(home, videos=videos, trials=2, size=size)
        pieces = build(home, f"--img_size {size} {SAME}")
        cached = _windows(pieces)
        decoding = _decoding(cached)
        keys = [SampleKey(index, 0, index) for index in range(len(cached))]
        _check_same(pieces, cached, decoding, keys[:2])

        def load(dataset: WindowDataset) -> None:
            for key in keys:
                dataset[key]

        actions = {"decode": lambda: load(decoding), "cache": lambda: load(cached)}
        seconds = interleave(actions, settings)
    what = f"samples with decoded frames / with cached features, {size}x{size}, {len(keys)} windows"
    yield ratio(what, seconds, "decode", "cache", at_least(20))


def _windows(pieces: Pieces) -> WindowDataset:
    dataset = pieces.loaders.train.dataset
    assert isinstance(dataset, WindowDataset)
    return dataset


def _decoding(cached: WindowDataset) -> WindowDataset:
    """Return the same samples with frames, which are decoded each time, in place of features."""
    visual = cached.inputs.visual
    assert isinstance(visual, VisualSource)
    source = VisualSource(visual._features, None, [trial.index for trial in cached.trials])
    inputs = Inputs(cached.inputs.encoder, source)
    dataset = WindowDataset(cached.trials, cached.windows, (), inputs, cached.augmenter, open_epoch=0)
    dataset.windows = cached.windows
    return dataset


@torch.no_grad()
def _check_same(
    pieces: Pieces, cached: WindowDataset, decoding: WindowDataset, keys: Sequence[SampleKey]
) -> None:
    """Assert that the backbone makes the cached features of the decoded frames, and all else is equal."""
    network = pieces.network.eval()
    for key in keys:
        found, expected = decoding[key], cached[key]
        made: Tensor = network.features(found.pop("frames")[None])[0]
        torch.testing.assert_close(expected.pop("visual"), made, rtol=1e-3, atol=1e-3)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)


ENTRIES: dict[str, Entry] = {"epoch": epoch, "samples": samples}
