"""Losses and metrics of behaviour recognition, as the training engine asks for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from common.engine.task import EpochReport, Headline, LossTerm, Task
from common.metrics import report
from common.metrics.confusion import ConfusionMatrix
from common.metrics.keypoints import KeypointError
from common.metrics.temporal import EditScore, SegmentF1
from common.schedulers.groups import layerwise_param_groups
from rodent_behavior.console import epoch_block
from rodent_behavior.inference import INPUTS, TrialOutput, run_trial
from rodent_behavior.judging import SEGMENT_IOU
from rodent_behavior.labels import LabelMap
from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.objective import IGNORE, Objective


@dataclass(frozen=True, kw_only=True)
class Opening:
    """When backbone blocks are opened: at the start of epoch `epoch` (from 0), the last `blocks` of them."""

    epoch: int
    blocks: int
    lr_scale: float


UNJUDGED = Headline("epochs_trained", "max")
"""What stands for a score when nothing is held out: it grows, so the last weights are kept."""


class BehaviorTask(Task):
    """Actions per frame and hidden keypoints, judged on whole trials.

    Training batches are windows; a validation batch is one trial. `on_best` is called with the weights that
    were validated whenever they are the best so far, and returns console lines; `say` with a line when the
    backbone opens. Unless `judged`, there are no validation trials and the latest weights count as the best.
    """

    headline = Headline("macro_f1", "max")
    console_metrics: tuple[str, ...] = ("segment_f1_0.3",)

    def __init__(
        self,
        network: BehaviorNetwork,
        objective: Objective,
        labels: LabelMap,
        *,
        window: int,
        num_keypoints: int,
        opening: Opening | None = None,
        on_best: Callable[[dict[str, Tensor], EpochReport], list[str]] | None = None,
        say: Callable[[str], None] | None = None,
        epochs: int = 0,
        judged: bool = True,
    ) -> None:
        self.model: BehaviorNetwork = network
        self.objective, self.labels = objective, labels
        self.window, self.opening, self.epochs = window, opening, epochs
        self.on_best, self.say = on_best, say
        self.matrix = ConfusionMatrix(len(labels.names), ignore_index=IGNORE)
        self.train_matrix = ConfusionMatrix(len(labels.names), ignore_index=IGNORE)
        background = (labels.background,)
        self.segments = SegmentF1(
            len(labels.names), thresholds=SEGMENT_IOU, background=background, ignore_index=IGNORE
        )
        self.edit = EditScore(len(labels.names), background=background, ignore_index=IGNORE)
        self.points = KeypointError(num_keypoints) if objective.keypoint_weight else None
        self.validated: dict[str, Tensor] = {}
        self.epoch, self.judged = 0, judged
        if not judged:
            self.headline, self.console_metrics = UNJUDGED, ()

    def parameter_groups(self, lr: float, weight_decay: float, *, decay_all: bool) -> list[dict[str, Any]]:
        """Return groups of the heads and, at its own rate, of every backbone block that will be opened."""
        backbone, opening = self.model.backbone, self.opening
        blocks = [] if backbone is None else [(name, _prefixed(names)) for name, names in backbone.blocks]
        groups = layerwise_param_groups(
            self.model,
            blocks,
            head_lr=lr,
            backbone_lr=lr * (opening.lr_scale if opening else 0.0),
            weight_decay=weight_decay,
            decay_all=decay_all,
        )
        trained = {"head"} | {name for name, _ in blocks[: opening.blocks if opening else 0]}
        return [group for group in groups if group["name"].rpartition("/")[0] in trained]

    def begin_epoch(self, epoch: int) -> None:
        """Forget the last epoch's training frames; open the backbone when it is time."""
        self.train_matrix.reset()
        self.epoch = epoch
        opening = self.opening
        if opening is not None and epoch >= opening.epoch and not self.model.opened:
            parameters = self.model.open_blocks(opening.blocks)
            self.model.train(self.model.training)
            if self.say is not None:
                self.say(f"[info] Unfroze {opening.blocks} blocks: {parameters} parameters")

    def opened_since(self) -> int:
        """Return the number of epochs after which the backbone is trained; more than any when it never is."""
        return sys.maxsize if self.opening is None else self.opening.epoch

    def training_step(self, batch: dict[str, Tensor]) -> dict[str, LossTerm]:
        """Return the loss terms of a batch of windows and count its frames."""
        self.objective.action.train()
        output = self.model({name: batch[name] for name in INPUTS if name in batch})
        self.train_matrix.update(output["stages"][-1].detach(), batch["target"])
        return self.objective.terms(output, batch)

    def normalizers(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return frames with action loss, pairs with smoothing, coordinates to be predicted."""
        return self.objective.normalizers(batch)

    def begin_validation(self) -> None:
        """Forget the last validation."""
        self.matrix.reset()
        self.segments.reset()
        self.edit.reset()
        if self.points is not None:
            self.points.reset()

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, LossTerm]:
        """Judge one whole trial; hidden keypoints in a second pass of their own."""
        self.objective.action.eval()
        trial = {name: value[0] for name, value in batch.items()}
        output = self._run(trial, "pose")
        target = trial["target"]
        self.matrix.update(output.logits[None], target[None])
        found = output.logits.argmax(dim=0)
        self.segments.update(found, target)
        self.edit.update(found, target)
        terms = self.objective.action_terms([stage[None] for stage in output.stages], batch)
        if self.points is not None:
            terms["kp"] = self._judge_keypoints(trial)
        return terms

    def _judge_keypoints(self, trial: dict[str, Tensor]) -> LossTerm:
        output = self._run(trial, "masked_pose")
        assert output.keypoints is not None
        assert self.points is not None
        found, true = (points.view(len(points), -1, 2) for points in (output.keypoints, trial["keypoints"]))
        self.points.update(found, true, trial["hidden"], trial["frame_size"])
        batch = {name: trial[name][None] for name in ("keypoints", "hidden")}
        return self.objective.keypoint_term(output.keypoints[None], batch)

    def _run(self, trial: dict[str, Tensor], pose: str) -> TrialOutput:
        streams = {name: trial[name] for name in INPUTS if name in trial}
        if pose in trial:
            streams["pose"] = trial[pose]
        return run_trial(self.model, streams, self.window, causal=self.model.behavior.config.causal)

    def metric_states(self) -> list[Tensor]:
        """Return the validation counts, to be summed over processes."""
        points = self.points.states() if self.points else []
        return [*self.matrix.states(), *self.segments.states(), *self.edit.states(), *points]

    def train_metric_states(self) -> list[Tensor]:
        """Return the training counts."""
        return self.train_matrix.states()

    def metrics(self) -> dict[str, float]:
        """Return every metric of the validation trials, and keep the weights they belong to."""
        state = self.model.state_dict()
        self.validated = {name: value.detach().cpu().clone() for name, value in state.items()}
        if not self.judged:
            return {self.headline.metric: float(self.epoch + 1)}
        values = frame_metrics(self.matrix, self.labels)
        found = self.segments.compute()
        values |= {f"segment_f1_{level:g}": found.at(level) for level in SEGMENT_IOU}
        values["edit"] = self.edit.compute()
        if self.points is not None:
            error = self.points.compute()
            values |= {"kp_mae_norm": error.mae, "kp_mae_px": error.mae_px}
        return values

    def train_metrics(self) -> dict[str, float]:
        """Return macro F1 over the training frames, augmented and repeated as they were."""
        return {"macro_f1": frame_metrics(self.train_matrix, self.labels)["macro_f1"]}

    def epoch_lines(self, report: EpochReport) -> list[str]:
        """Return the documented block; the best model so far is written first."""
        saved = self.on_best(self.validated, report) if report.improved and self.on_best else []
        return [*epoch_block(report, self.objective, self.labels, self.epochs), *saved]

    def state_dict(self) -> dict[str, Any]:
        """Return the running counts of training frames."""
        return {"train_matrix": self.train_matrix.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.train_matrix.load_state_dict(state["train_matrix"])


def frame_metrics(matrix: ConfusionMatrix, labels: LabelMap) -> dict[str, float]:
    """Return the metrics of single frames: three macro averages of F1, and F1 and support per class."""
    counts = matrix.compute().cpu().numpy()
    values = {
        "macro_f1": float(report.macro(counts, "f1", "present")),
        "macro_f1_observed": float(report.macro(counts, "f1", "observed")),
        "macro_f1_all": float(report.macro(counts, "f1", "all")),
        "balanced_accuracy": float(report.balanced_accuracy(counts)),
        "accuracy": float(report.accuracy(counts)),
        "mcc": float(report.mcc(counts)),
    }
    for name, f1, support in zip(labels.names, report.f1(counts), report.support(counts), strict=True):
        values |= {f"f1_{name}": float(f1), f"support_{name}": float(support)}
    return values


def _prefixed(names: Sequence[str]) -> list[str]:
    return [f"backbone.{name}" for name in names]
