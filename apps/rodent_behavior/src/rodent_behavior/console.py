"""The documented console lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from common.engine.task import EpochReport

if TYPE_CHECKING:
    from rodent_behavior.labels import LabelMap
    from rodent_behavior.objective import Objective


def epoch_block(report: EpochReport, objective: Objective, labels: LabelMap, epochs: int) -> list[str]:
    """Return the lines of one epoch, from `Epoch 45/200` to the F1 of every class if anything was judged."""
    action, keypoints = action_and_keypoints(report.train, objective)
    valid = report.valid
    lines = [
        f"Epoch {report.epoch}/{epochs}",
        f"Train loss: {report.train['loss']:.4f} (action: {action:.4f}, kp: {keypoints:.4f})",
    ]
    if "macro_f1" not in valid:
        return lines
    lines += [
        f"Val loss: {valid['loss']:.4f}",
        f"Val macro F1: {valid['macro_f1']:.4f}{_averaged(valid, labels)}",
        f"Val segment F1@0.3: {valid['segment_f1_0.3']:.4f}",
    ]
    if "kp_mae_norm" in valid:
        lines.append(f"Val keypoint MAE (norm): {_number(valid['kp_mae_norm'])}")
    lines.append("Per-class F1:")
    return lines + [f"  {name}: {_class_f1(valid, name)}" for name in labels.names]


def action_and_keypoints(train: Mapping[str, float], objective: Objective) -> tuple[float, float]:
    """Return the action loss with its smoothing terms, and the keypoint loss, both before its weight."""
    action = (
        train["action"]
        + objective.smooth_weight * train.get("smooth", 0.0)
        + objective.tmse_weight * train.get("tmse", 0.0)
    )
    return action, train.get("kp", 0.0)


def _averaged(valid: Mapping[str, float], labels: LabelMap) -> str:
    present = sum(valid[f"support_{name}"] > 0 for name in labels.names)
    return "" if present == len(labels.names) else f" ({present} of {len(labels.names)} classes)"


def _class_f1(valid: Mapping[str, float], name: str) -> str:
    return f"{valid[f'f1_{name}']:.4f}" if valid[f"support_{name}"] else "n/a (0 frames)"


def _number(value: float) -> str:
    return f"{value:.4f}" if value == value else "n/a"
