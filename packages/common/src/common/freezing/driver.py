"""Applies a freezing strategy to a model in training: flags, modes, rates, snapshots, rollbacks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Sized
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from common.engine.distributed import World
from common.engine.precision import MixedPrecision
from common.engine.state import Progress
from common.engine.step import TrainingError
from common.engine.task import Batch, Headline
from common.freezing.blocks import Block, check_blocks, closed_pieces, shortest_names
from common.freezing.decisions import decide, initial_state
from common.freezing.probe import probe_importance
from common.freezing.rates import HeadPlateau, RateConfig, block_rate, block_warmup, head_rate
from common.freezing.snapshot import Snapshot
from common.freezing.state import Decision, FreezingState, Observation
from common.freezing.strategies import OPENING, PROBED, FreezingConfig, check_config
from common.schedulers.groups import layerwise_param_groups

if TYPE_CHECKING:
    from common.engine.step import Optimization

_T = TypeVar("_T")


class Freezer:
    """Owns which blocks of `model` train and at which base rates; `fit` asks it.

    `blocks` are in order from the heads to the input, and what is in no block is never frozen. `probe` is
    gone through anew at every end of an epoch when the strategy measures importance: training batches without
    augmentation, always the same ones. `metric_scale` turns the headline into a fraction; a headline that is
    to be small is negated.

    Raises ValueError naming a setting or a block that does not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[Block],
        config: FreezingConfig,
        rates: RateConfig,
        *,
        probe: Iterable[Batch] = (),
        metric_scale: float = 1.0,
    ) -> None:
        self.model, self.blocks, self.probe = model, tuple(blocks), probe
        self.config, self.rates = settled(config, rates)
        self.metric_scale = metric_scale
        names = [name for name, _ in model.named_modules()]
        check_blocks(self.blocks, [name for name, _ in model.named_parameters()], names)
        check_config(self.config, self.blocks)
        _check_multipliers(self.rates, self.blocks)
        if self.config.strategy in PROBED and isinstance(probe, Sized) and not len(probe):
            raise ValueError(
                f"probe: strategy {self.config.strategy} needs batches to measure importance with"
            )
        self.state: FreezingState = initial_state(self.config, self.blocks)
        self.plateau = HeadPlateau()
        self.snapshot: Snapshot | None = None
        self._history_from = 0
        """Validations made before a block was open."""
        self._owners = {piece.name: block for block in self.blocks for piece in block.smallest}
        self._apply_flags()

    @property
    def open_names(self) -> tuple[str, ...]:
        """What trains, from the heads on: whole blocks by their name, else their pieces."""
        return shortest_names(self.blocks, self.state.opened)

    @property
    def open_blocks(self) -> int:
        """Blocks of which something trains."""
        return len({self._owners[name].name for name in self.state.opened})

    @property
    def waits(self) -> bool:
        """Whether no block has opened yet in a run that is to open some."""
        return self.config.strategy in OPENING and self.state.changed is None

    def parameter_groups(self, weight_decay: float, *, decay_all: bool = False) -> list[dict[str, Any]]:
        """Return the optimiser's groups: heads first, then a pair for every smallest piece, at its base rate.

        The names are `head/decay`, `head/no_decay`, `<piece>/decay`, `<piece>/no_decay`.
        """
        pieces = [(piece.name, piece.parameters) for block in self.blocks for piece in block.smallest]
        groups = layerwise_param_groups(
            self.model,
            pieces,
            head_lr=self.rates.head_lr,
            backbone_lr=self.rates.backbone_lr,
            weight_decay=weight_decay,
            decay_all=decay_all,
        )
        for group, rate in zip(groups, self.base_lrs(groups), strict=True):
            group["lr"] = rate
        return groups

    def base_lrs(self, groups: Sequence[dict[str, Any]], *, min_lr: float = 0.0) -> list[float]:
        """Return each group's base rate by what is open at present."""
        head = head_rate(
            self.rates,
            any_open=bool(self.state.opened),
            reductions=self.plateau.reductions,
            min_lr=min_lr,
        )
        depths = {block.name: depth for depth, block in enumerate(self.blocks)}
        rates = {
            piece: block_rate(self.rates, depths[block.name], block.name)
            for piece, block in self._owners.items()
        }
        return [rates.get(_piece(group), head) for group in groups]

    def warmups(self, groups: Sequence[dict[str, Any]], epochs: float) -> list[float]:
        """Return each group's warm-up factor after `epochs` of the run, a fraction within an epoch."""
        factors = {
            name: block_warmup(epochs - since, self.rates.warmup_epochs)
            for name, since in self.state.opened.items()
            if since is not None
        }
        return [factors.get(_piece(group), 1.0) for group in groups]

    def history(self, history: list[_T]) -> list[_T]:
        """Return the validations that count for a plateau schedule: those with an open block (`gradual`)."""
        if not self.rates.gradual:
            return history
        return history[self._history_from :] if self.state.opened else []

    def named_rates(self, groups: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Return the present rates of `head` and of everything open, by the shortest names."""
        pieces = {_piece(group): float(group["lr"]) for group in groups}
        named = {"head": pieces["head"]} if "head" in pieces else {}
        for block in self.blocks:
            held = [piece.name for piece in block.smallest if piece.name in self.state.opened]
            alike = len(held) == len(block.smallest) and len({pieces[name] for name in held}) == 1
            named |= {block.name: pieces[held[0]]} if alike else {name: pieces[name] for name in held}
        return named

    def train(self) -> None:
        """Put the model into training mode, and what is frozen into eval mode."""
        self.model.train()
        for block in self.blocks:
            closed = closed_pieces(block, self.state.opened)
            frozen = [piece for piece in block.smallest if piece.name in closed]
            if len(frozen) == len(block.smallest):
                frozen.append(block)
            for name in (name for piece in frozen for name in piece.modules):
                self.model.get_submodule(name).eval()

    def close_epoch(
        self, optimization: Optimization, progress: Progress, headline: Headline, metric: float | None
    ) -> tuple[tuple[Decision, ...], float]:
        """Decide and apply what follows from an epoch; every process calls this together.

        `metric` is the headline's value, None when nothing was validated. Returns the decisions and the
        seconds the probe took. Raises TrainingError when the processes no longer hold the same weights.
        """
        epoch, epochs = progress.epoch, optimization.config.epochs
        sign = self.metric_scale if headline.mode == "max" else -self.metric_scale
        value = None if metric is None else sign * metric
        started = time.monotonic()
        importance = self._probe(optimization) if epoch < epochs else None
        seconds = time.monotonic() - started
        seen = Observation(epoch=epoch, epochs=epochs, metric=value, importance=importance)
        world = optimization.world
        found = decide(self.config, self.blocks, self.state, seen) if world.main else None
        found = world.from_main(found)
        assert found is not None
        state, decisions = found
        if state.opened and not self.state.opened:
            self._history_from = len(progress.history)
        self._follow(state, decisions, optimization, seen)
        return decisions, seconds

    def _probe(self, optimization: Optimization) -> dict[str, float] | None:
        closed = any(closed_pieces(block, self.state.opened) for block in self.blocks)
        if self.config.strategy not in PROBED or not closed:
            return None
        precision = optimization.precision
        if precision.precision == "fp16":
            precision = MixedPrecision("fp32", precision.device)
        return probe_importance(
            optimization.task, self.probe, self.blocks, precision=precision, world=optimization.world
        )

    def _follow(
        self,
        state: FreezingState,
        decisions: Sequence[Decision],
        optimization: Optimization,
        seen: Observation,
    ) -> None:
        """Make the model and the optimiser what the new state says."""
        trial = state.trial
        if any(decision.event == "rollback" for decision in decisions):
            assert self.snapshot is not None
            self.snapshot.restore(optimization)
        if trial is None:
            self.snapshot = None
        elif trial.epoch == seen.epoch:
            self.snapshot = Snapshot.take(optimization)
        self.state = state
        self._count_plateau(seen)
        self._apply_flags()
        if any(decision.pieces for decision in decisions):
            check_equal(self.model, optimization.world)

    def _count_plateau(self, seen: Observation) -> None:
        if self.state.opened:
            self.plateau = HeadPlateau()
        elif self.rates.gradual and seen.value is not None:
            self.plateau = self.plateau.after(seen.value, self.rates.phase1_plateau_patience)

    def _apply_flags(self) -> None:
        parameters = dict(self.model.named_parameters())
        for block in self.blocks:
            for piece in block.smallest:
                for name in piece.parameters:
                    parameters[name].requires_grad_(piece.name in self.state.opened)

    def state_dict(self) -> dict[str, Any]:
        """Return plain types and tensors, the snapshot among them while there is one."""
        return {
            "state": self.state.to_dict(),
            "plateau": asdict(self.plateau),
            "history_from": self._history_from,
            "snapshot": None if self.snapshot is None else self.snapshot.to_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError naming pieces that the model has not."""
        saved = FreezingState.from_dict(state["state"])
        if foreign := sorted(set(saved.opened) - set(self._owners)):
            raise ValueError(f"the checkpoint has open blocks unknown here: {', '.join(foreign)}")
        self.state = saved
        self.plateau = HeadPlateau(**state["plateau"])
        self._history_from = state["history_from"]
        self.snapshot = None if state["snapshot"] is None else Snapshot(**state["snapshot"])
        self._apply_flags()


def settled(config: FreezingConfig, rates: RateConfig) -> tuple[FreezingConfig, RateConfig]:
    """Return both settings with what one says about the other worked in.

    Without freezing the rates have one state; `fixed` with one state has its blocks open from the start.
    """
    if config.strategy == "none":
        return config, replace(rates, gradual=False)
    if config.strategy == "fixed" and not (rates.gradual and config.unfreeze_blocks):
        return replace(config, strategy="closed", open_blocks=config.unfreeze_blocks), rates
    return config, rates


def _check_multipliers(rates: RateConfig, blocks: Sequence[Block]) -> None:
    names = {block.name for block in blocks}
    if unknown := [name for name, _ in rates.multipliers if name not in names]:
        raise ValueError(f"multipliers: unknown block {unknown[0]!r}; known are {', '.join(sorted(names))}")


def _piece(group: dict[str, Any]) -> str:
    return str(group["name"]).rpartition("/")[0]


@torch.no_grad()
def check_equal(model: nn.Module, world: World) -> None:
    """Raise TrainingError when the processes hold different weights."""
    if world.size == 1:
        return
    sums = [_bytes_sum(tensor) for tensor in (*model.parameters(), *model.buffers())]
    if len({tuple(each) for each in world.gather(sums)}) > 1:
        raise TrainingError("the processes hold different weights after a change of what is frozen")


def _bytes_sum(tensor: torch.Tensor) -> int:
    return int(tensor.detach().reshape(-1).contiguous().view(torch.uint8).sum(dtype=torch.int64))
