"""What the training loop is told: frames in, logits out, a loss, and how many bits the density is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from common.engine.task import Batch, EpochReport, Headline, LossTerm, Task
from common.losses.sparse_map import OutputKind, SparseMapLoss
from common.metrics.sparse_map import to_density
from eye_fixation.study import Sequences

Select = Literal["val_loss", "val_bits"]


class Frames(NamedTuple):
    """Input frames [B, T_in, 1, S, S], target frames [B, T_out, 1, S, S], which count: bool [B, T_out]."""

    inputs: Tensor
    targets: Tensor
    mask: Tensor


Read = Callable[[Any], Frames]


def reader(sequences: Sequences) -> Read:
    """Return the function that draws the frames of a batch {"index": int64 [B]}."""

    def read(batch: dict[str, Tensor]) -> Frames:
        return Frames(sequences.inputs(batch["index"]), *sequences.targets(batch["index"]))

    return read


def given_frames(batch: Any) -> Frames:
    """Return the frames of a batch (inputs, targets) or (inputs, targets, mask)."""
    inputs, targets = batch[0], batch[1]
    mask = batch[2] if len(batch) > 2 else torch.ones(targets.shape[:2], device=targets.device)
    return Frames(inputs, targets, mask > 0)


class GazeTask(Task):
    """A network, one loss and the record of its epochs; `best_state` is kept when asked for."""

    console_metrics = ("bits",)

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        train: Read,
        valid: Read,
        *,
        select: Select = "val_loss",
        keep_best: bool = False,
    ) -> None:
        self.model, self.loss = model, loss
        self.train, self.valid = train, valid
        self.headline = Headline("loss", "min") if select == "val_loss" else Headline("bits", "max")
        self.keep_best = keep_best
        self.best_state: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        """Step, training and validation loss, bits and learning rate of each epoch."""
        device = next(model.parameters()).device
        self._bits = torch.zeros(2, dtype=torch.float64, device=device)

    @property
    def kind(self) -> OutputKind:
        """Return what the network's outputs are; those of a loss that does not say are probabilities."""
        return self.loss.output_kind if isinstance(self.loss, SparseMapLoss) else "bernoulli"

    def training_step(self, batch: Batch) -> dict[str, LossTerm]:
        """Return the loss terms of a batch."""
        frames = self.train(batch)
        return self._terms(self.model(frames.inputs), frames)

    def normalizers(self, batch: Batch) -> dict[str, Tensor]:
        """Return the divisor of each term, from the targets alone."""
        frames = self.train(batch)
        if isinstance(self.loss, SparseMapLoss):
            return self.loss.counts(frames.targets, frames.mask)
        return {"loss": torch.tensor(float(len(frames.targets)), dtype=torch.float64)}

    def begin_validation(self) -> None:
        """Forget the last validation."""
        self._bits = torch.zeros_like(self._bits)

    def validation_step(self, batch: Batch) -> dict[str, LossTerm]:
        """Return the loss terms of a batch and add up the bits of its target cells."""
        frames = self.valid(batch)
        output = self.model(frames.inputs).float()
        held = frames.targets[frames.mask].flatten(1).argmax(1)
        density = to_density(output[frames.mask], self.kind).flatten(1)
        bits = density.gather(1, held[:, None]).double().log2()
        self._bits += torch.stack([bits.sum(), bits.new_tensor(float(len(held)))])
        return self._terms(output, frames)

    def metric_states(self) -> list[Tensor]:
        """Return the sums of the validation."""
        return [self._bits]

    def metrics(self) -> dict[str, float]:
        """Return the mean log2 density of the target cells, uncalibrated."""
        total, count = self._bits.tolist()
        return {"bits": total / max(count, 1.0)}

    def epoch_events(self, report: EpochReport) -> list[dict[str, Any]]:
        """Write the epoch down; keep its weights when they are the best and are wanted."""
        self.history.append(
            {
                "step": float(report.step),
                "train_loss": report.train["loss"],
                "val_loss": report.valid["loss"],
                "val_bits": report.valid["bits"],
                "lr": next(iter(report.lr.values())),
            }
        )
        if self.keep_best and report.improved:
            self.best_state = {name: value.clone() for name, value in self.model.state_dict().items()}
        return []

    def state_dict(self) -> dict[str, Any]:
        """Return the record of the epochs."""
        return {"history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the record of the epochs."""
        self.history = [dict(epoch) for epoch in state["history"]]

    def _terms(self, output: Tensor, frames: Frames) -> dict[str, LossTerm]:
        if isinstance(self.loss, SparseMapLoss):
            terms = self.loss.terms(output, frames.targets, frames.mask)
            return {name: LossTerm(term.total, term.count, term.weight) for name, term in terms.items()}
        size = len(frames.targets)
        total = self.loss(output, frames.targets) * size
        return {"loss": LossTerm(total, torch.tensor(float(size), dtype=torch.float64))}
