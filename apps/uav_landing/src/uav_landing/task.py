"""Losses and metrics of landing-safety segmentation, as the training engine asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.engine.task import EpochReport, Headline, LossTerm, Task
from common.losses import Loss
from common.losses.overlap import DiceLoss
from common.metrics.confusion import ConfusionMatrix
from uav_landing.alarms import AlarmBoard
from uav_landing.labels import IGNORE, LANDING_NAMES
from uav_landing.metrics import LOWER_IS_BETTER, landing_metrics, to_frame
from uav_landing.predictor import PhotoPredictor

DICE_SMOOTH = 1e-6


@dataclass(frozen=True, kw_only=True)
class LossPlan:
    """The main loss with its name, and the weight of each term; a weight of 0 leaves the term out."""

    main: Loss
    main_name: str
    main_weight: float
    dice_weight: float
    aux_weight: float


class LandingTask(Task):
    """Crops in, class logits out; validation slides a window over whole photos.

    A training batch holds `image` float [B, 3, H, W] and `target` int64 [B, H, W]; a validation batch is one
    whole photo of the same form. Output k stands for landing class `class_ids[k]`.
    """

    console_metrics = ("miou", "miou_landing", "danger_as_safe")

    def __init__(
        self,
        predictor: PhotoPredictor,
        losses: LossPlan,
        *,
        class_ids: list[int],
        monitor: str,
        alarms: AlarmBoard | None,
        stop_on_alarm: bool = False,
    ) -> None:
        self.model = predictor.model
        self.predictor = predictor
        self.losses = losses
        self.losses.main.to(predictor.device)
        self.dice = DiceLoss(smooth=DICE_SMOOTH, ignore_index=IGNORE)
        self.class_ids = class_ids
        self.headline = Headline(monitor, "min" if monitor in LOWER_IS_BETTER else "max")
        self.alarms = alarms
        self.stop_on_alarm = stop_on_alarm
        self.train_matrix = ConfusionMatrix(len(class_ids), ignore_index=IGNORE)
        self.valid_matrix = ConfusionMatrix(len(class_ids), ignore_index=IGNORE)

    def training_step(self, batch: dict[str, Tensor]) -> dict[str, LossTerm]:
        """Return the loss terms of one micro-batch and count its pixels."""
        self.losses.main.train()
        output = self.model(batch["image"])
        self.train_matrix.update(output.logits.detach(), batch["target"])
        terms = self._terms(output.logits, batch["target"])
        if output.aux and self.losses.aux_weight:
            parts = [self.losses.main.total_and_count(logits, batch["target"]) for logits in output.aux]
            total = torch.stack([total for total, _ in parts]).sum()
            terms["aux"] = LossTerm(total, parts[0][1], self.losses.aux_weight)
        return terms

    def _terms(self, logits: Tensor, target: Tensor) -> dict[str, LossTerm]:
        terms = {}
        if self.losses.main_weight:
            total, count = self.losses.main.total_and_count(logits, target)
            terms[self.losses.main_name] = LossTerm(total, count, self.losses.main_weight)
        if self.losses.dice_weight:
            total, count = self.dice.total_and_count(logits, target)
            terms["dice"] = LossTerm(total, count, self.losses.dice_weight)
        return terms

    def normalizers(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return valid pixels (or their weights) for the main loss and the heads, crops for Dice."""
        norms = {}
        if self.losses.main_weight:
            norms[self.losses.main_name] = self.losses.main.normalizer(batch["target"])
        if self.losses.dice_weight:
            norms["dice"] = self.dice.normalizer(batch["target"])
        if self.model.has_auxiliary_heads and self.losses.aux_weight:
            norms["aux"] = self.losses.main.normalizer(batch["target"])
        return norms

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, LossTerm]:
        """Judge one whole photo by its blended probabilities."""
        self.losses.main.eval()
        probabilities = self.predictor(batch["image"][0])[None]
        self.valid_matrix.update(probabilities, batch["target"])
        return self._terms(probabilities.clamp_min(1e-12).log(), batch["target"])

    def begin_epoch(self, epoch: int) -> None:
        """Forget the training pixels of the last epoch."""
        self.train_matrix.reset()

    def begin_validation(self) -> None:
        """Forget the last validation."""
        self.valid_matrix.reset()

    def metric_states(self) -> list[Tensor]:
        """Return the validation counts, to be summed over processes."""
        return self.valid_matrix.states()

    def train_metric_states(self) -> list[Tensor]:
        """Return the training counts, to be put back when a step is replayed."""
        return self.train_matrix.states()

    def metrics(self) -> dict[str, float]:
        """Return every landing metric of the validation photos."""
        return self._metrics_of(self.valid_matrix)

    def train_metrics(self) -> dict[str, float]:
        """Return the same metrics of the training crops, and the share of each class among them."""
        values = self._metrics_of(self.train_matrix)
        support = np.array([values[f"class_{index}_support"] for index in range(len(LANDING_NAMES))])
        shares = support / max(support.sum(), 1)
        return values | {f"share/{index}": float(share) for index, share in enumerate(shares)}

    def _metrics_of(self, matrix: ConfusionMatrix) -> dict[str, float]:
        return landing_metrics(to_frame(matrix.compute().cpu().numpy(), self.class_ids))

    def epoch_lines(self, report: EpochReport) -> list[str]:
        """Return the four documented class lines."""
        return [class_line(index, report.valid, ignored=index not in self.class_ids) for index in range(4)]

    def epoch_events(self, report: EpochReport) -> list[dict[str, Any]]:
        """Return the red flags of this validation."""
        if self.alarms is None:
            return []
        return [alarm.event(stop=self.stop_on_alarm) for alarm in self.alarms.check(report)]

    def state_dict(self) -> dict[str, Any]:
        """Return the running counts and the alarms' history."""
        alarms = {} if self.alarms is None else self.alarms.state_dict()
        return {"train_matrix": self.train_matrix.state_dict(), "alarms": alarms}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.train_matrix.load_state_dict(state["train_matrix"])
        if self.alarms is not None:
            self.alarms.load_state_dict(state["alarms"])


def class_line(index: int, metrics: Mapping[str, float], *, ignored: bool) -> str:
    """Return `Class 1: IoU=0.803, Acc=0.871`, or why there is no number."""
    if ignored:
        return f"Class {index}: IoU=n/a, Acc=n/a (void, ignored)"
    if not metrics[f"class_{index}_support"]:
        return f"Class {index}: IoU=n/a, Acc=n/a (no pixels)"
    iou, accuracy = metrics[f"class_{index}_iou"], metrics[f"class_{index}_accuracy"]
    return f"Class {index}: IoU={iou:.3f}, Acc={accuracy:.3f}"
