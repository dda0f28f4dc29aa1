"""Model, optimiser and averaged weights, and how one optimiser step moves them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from common.engine.distributed import World
from common.engine.ema import Ema
from common.engine.precision import MixedPrecision
from common.engine.recovery import Rewind, is_out_of_memory, smaller_micro_batch
from common.engine.settings import FitConfig
from common.engine.state import build_optimizer, load_optimizer_state, optimizer_state
from common.engine.task import Batch, Task
from common.engine.window import LossSums, WindowLosses, accumulate, window_normalizers

if TYPE_CHECKING:
    from common.freezing.driver import Freezer

OnShrink = Callable[[int, int], None]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why."""


class StepMemoryError(TrainingError):
    """A step does not fit into memory however it is cut; nothing has moved."""


@dataclass(frozen=True)
class StepResult:
    """Outcome of one attempted step. `bad_terms` names what was not finite; nothing moved then."""

    sums: LossSums
    grad_norm: float
    applied: bool
    bad_terms: tuple[str, ...] = ()


class Optimization:
    """What training changes. `take` is the only place where gradients and weights meet."""

    def __init__(self, task: Task, config: FitConfig, world: World, freezer: Freezer | None = None) -> None:
        self.task, self.config, self.world, self.freezer = task, config, world, freezer
        self.model = task.model.to(world.device)
        world.share_module(self.model)
        settings = config.optimizer
        if freezer is None:
            groups = task.parameter_groups(settings.lr, settings.weight_decay, decay_all=settings.decay_all)
        else:
            groups = freezer.parameter_groups(settings.weight_decay, decay_all=settings.decay_all)
        self.optimizer = build_optimizer(groups, settings)
        self.base_lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.precision = MixedPrecision(config.precision, world.device)
        self.ema = Ema(self.model, config.ema_decay) if config.ema_decay else None
        self.micro_batch: int | None = None
        """Micro-batch size in force after an out-of-memory recovery."""
        self._rewind = Rewind(self.model, task.train_metric_states, world.device, random=config.oom_recovery)

    def take(self, window: list[Batch], lr_factors: list[float], on_shrink: OnShrink) -> StepResult:
        """Step on the gradient of `window`, group i at `lr_factors[i]` times its base rate.

        Out of memory replays the same samples in smaller pieces and tells `on_shrink(old, new)`.
        Raises StepMemoryError at the smallest piece.
        """
        for group, base, factor in zip(self.optimizer.param_groups, self.base_lrs, lr_factors, strict=True):
            group["lr"] = base * factor
        norms = window_normalizers(self.task, window, self.world)
        self._rewind.mark()
        losses = self._accumulate(window, norms, on_shrink)
        self.world.sum_gradients(self.parameters)
        self.precision.unscale(self.optimizer)
        result = self._apply(losses, norms)
        self.optimizer.zero_grad(set_to_none=True)
        return result

    def _accumulate(self, window: list[Batch], norms: dict[str, Tensor], on_shrink: OnShrink) -> WindowLosses:
        while True:
            losses = self._try(window, norms)
            failed = self.world.largest(int(losses is None))
            if losses is not None and not failed:
                return losses
            self.optimizer.zero_grad(set_to_none=True)
            self._rewind.replay()
            self._shrink(self.world.largest(max(map(self.task.size, window))), on_shrink)

    def _try(self, window: list[Batch], norms: dict[str, Tensor]) -> WindowLosses | None:
        try:
            return accumulate(self.task, self._micro_batches(window), norms, self.precision)
        except (RuntimeError, MemoryError) as error:
            if not (self.config.oom_recovery and is_out_of_memory(error)):
                raise
        self.optimizer.zero_grad(set_to_none=True)
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _micro_batches(self, window: list[Batch]) -> list[Batch]:
        limit = self.micro_batch
        if limit is None:
            return window
        task = self.task
        return [part for batch in window for part in task.split(batch, math.ceil(task.size(batch) / limit))]

    def _shrink(self, size: int, on_shrink: OnShrink) -> None:
        current = min(size, self.micro_batch or size)
        smaller = smaller_micro_batch(current, self.config.oom_reduction_factor, self.config.min_batch_size)
        if smaller is None:
            raise StepMemoryError(
                f"out of memory at the smallest micro-batch: {current} of {size} samples, "
                f"min_batch_size {self.config.min_batch_size}"
            )
        self.micro_batch = smaller
        on_shrink(current, smaller)

    def _apply(self, losses: WindowLosses, norms: dict[str, Tensor]) -> StepResult:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        grad_norm, sums = self._read(gradients, losses, norms)
        values = {"gradient": grad_norm, **sums.totals}
        bad = tuple(name for name, value in values.items() if not math.isfinite(value))
        if bad and not (bad == ("gradient",) and self.precision.may_overflow):
            self.precision.skip()
            self._rewind.discard()
            return StepResult(sums, grad_norm, applied=False, bad_terms=bad)
        if 0 < self.config.clip_norm < grad_norm < math.inf:
            torch._foreach_mul_(gradients, self.config.clip_norm / grad_norm)
        applied = self.precision.step(self.optimizer)
        self.world.share_buffers(self.model)
        if applied and self.ema is not None:
            self.ema.update(self.model)
        return StepResult(sums, grad_norm, applied)

    def _read(
        self, gradients: list[Tensor], losses: WindowLosses, norms: dict[str, Tensor]
    ) -> tuple[float, LossSums]:
        """Return the gradient norm and the losses; the only place where a step waits for the device."""
        each_norm = list(torch._foreach_norm(gradients)) if gradients else []
        totals = [total for each in losses.totals.values() for total in each]
        vector = torch.stack([*each_norm, *totals, *norms.values()])  # float64, as the norms of `norms` are
        first, last = len(each_norm), len(each_norm) + len(totals)
        self.world.sum_([vector[first:last]])
        values = vector.tolist()
        share = iter(values[first:last])
        sums = LossSums(
            {name: sum(islice(share, len(each))) for name, each in losses.totals.items()},
            dict(zip(norms, values[last:], strict=True)),
            losses.weights,
        )
        return math.hypot(*values[:first]), sums

    def rates(self) -> dict[str, float]:
        """Return each group's learning rate as used in the last step; with a freezer, of what is open."""
        groups = self.optimizer.param_groups
        if self.freezer is not None:
            return {f"lr/{name}": rate for name, rate in self.freezer.named_rates(groups).items()}
        return {f"lr/{group['name']}": float(group["lr"]) for group in groups}

    def state_dict(self) -> dict[str, Any]:
        """Return optimiser, scaler and averaging state; weights are stored apart."""
        return {
            "optimizer": optimizer_state(self.optimizer),
            "lrs": [float(group["lr"]) for group in self.optimizer.param_groups],
            "scaler": self.precision.state_dict(),
            "ema_updates": 0 if self.ema is None else self.ema.updates,
            "micro_batch": self.micro_batch,
        }

    def load_state_dict(self, state: dict[str, Any], ema: dict[str, Tensor] | None) -> None:
        """Restore what `state_dict` returned, and the averaged weights; the model's own are loaded before.

        An average that was not saved begins at the model's weights.
        """
        load_optimizer_state(self.optimizer, state["optimizer"])
        for group, rate in zip(self.optimizer.param_groups, state["lrs"]):
            group["lr"] = rate
        self.precision.load_state_dict(state["scaler"])
        self.micro_batch = state["micro_batch"]
        if self.ema is not None:
            if ema is None:
                self.ema.restart(self.model)
            else:
                self.ema.load(ema, state["ema_updates"])
