"""One training of a comparison: network, loss, loaders and the engine's settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sized
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from common.balancing.samplers import ShardedEvalSampler, ShuffleSampler
from common.engine.loading import Batches, Loaders, make_loader
from common.engine.randomness import SampleKey, seed_everything
from common.engine.settings import FitConfig, OptimizerConfig
from common.schedulers.learning_rate import ScheduleConfig
from eye_fixation.config import DataConfig, NetworkConfig, OptimizationConfig, RunConfig
from eye_fixation.losses import readout_bias
from eye_fixation.openstl import load_weights
from eye_fixation.simvp import SimVP, SimVPConfig, set_prior_bias
from eye_fixation.simvp_config import SimVPOptions

EVALUATION_BATCH = 64
TEST_RUN_STEPS = 2


class Positions(Dataset[int]):
    """The numbers 0 to N - 1: a batch names sequences, the frames are drawn on the device."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: SampleKey) -> int:
        return key.index


def network_config(network: NetworkConfig, data: DataConfig, img_size: int) -> SimVPConfig:
    """Return the network's settings; UserError names the flag that does not fit."""
    return SimVPConfig(
        in_shape=(data.in_len, 1, img_size, img_size),
        out_len=data.out_len,
        **{option.name: getattr(network, option.name) for option in fields(SimVPOptions)},
    )


def build_network(config: SimVPConfig, network: NetworkConfig, seed: int) -> SimVP:
    """Return the network as every loss of a seed starts from it."""
    seed_everything(seed)
    model = SimVP(config)
    if network.init_from is not None:
        load_weights(model, network.init_from)
    return model


def state_hash(model: nn.Module) -> str:
    """Return the sha256 of all weights and buffers but the readout bias, which depends on the loss."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if name != "dec.readout.bias":
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def start_bias(name: str, network: NetworkConfig, img_size: int) -> float | None:
    """Return the readout bias a loss starts with, None where weights or chance decide."""
    return None if network.init_from is not None else readout_bias(name, network.prior_bias, img_size)


def apply_bias(model: SimVP, bias: float | None) -> None:
    """Set the readout bias, unless it is None."""
    if bias is not None:
        set_prior_bias(model, bias)


def index_loaders(train: int, valid: int, batch_size: int, seed: int) -> Loaders:
    """Return batches {"index": [B]} in an order that depends on the seed alone."""

    def collate(positions: list[int]) -> dict[str, Tensor]:
        return {"index": torch.tensor(positions)}

    sampler = ShuffleSampler(train, seed=seed)
    batches = Batches(sampler, batch_size)
    judged = Batches(ShardedEvalSampler(valid), max(batch_size, EVALUATION_BATCH))
    return Loaders(
        train=make_loader(Positions(train), batches, collate=collate),
        sampler=sampler,
        batches=batches,
        valid=make_loader(Positions(valid), judged, collate=collate),
    )


def fit_config(optimization: OptimizationConfig, run: RunConfig, steps_per_epoch: int) -> FitConfig:
    """Return the engine's settings; the console has one line per epoch."""
    return FitConfig(
        epochs=optimization.epochs,
        optimizer=OptimizerConfig(
            name=optimization.optimizer,
            lr=optimization.lr,
            weight_decay=optimization.weight_decay,
            decay_all=True,
        ),
        schedule=ScheduleConfig(
            name=optimization.scheduler,
            plateau_patience=optimization.plateau_patience,
            plateau_factor=optimization.plateau_factor,
        ),
        precision=run.precision,
        clip_norm=optimization.clip_norm,
        early_stopping_patience=optimization.early_stopping_patience or None,
        max_steps=TEST_RUN_STEPS if run.test_run else 0,
        log_every=max(10, steps_per_epoch),
    )


class LoaderStream:
    """A user's own loader as the engine wants it: sampler and batches in one, never entered in mid-epoch."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.batch_size = loader.batch_size or 1
        self.sampler: Sized = loader.dataset  # type: ignore[assignment]  # data sets here have a length

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[SampleKey]:
        raise TypeError("the user's loader draws for itself")

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the loader shuffles as its owner wants."""

    def start(self, position: int) -> None:
        """Refuse to skip."""
        if position:
            raise ValueError("a loader of one's own cannot be entered in mid-epoch")

    def state_dict(self, position: int | None = None) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing."""


def own_loaders(train: DataLoader[Any], valid: DataLoader[Any]) -> Loaders:
    """Return a user's loaders for the engine."""
    stream = LoaderStream(train)
    return Loaders(train=train, sampler=stream, batches=stream, valid=valid)  # type: ignore[arg-type]


def documented_fit_config(epochs: int, steps_per_epoch: int) -> FitConfig:
    """Return the documented settings of `train_model_with_loss`."""
    return fit_config(replace(OptimizationConfig(), epochs=epochs), RunConfig(), steps_per_epoch)
