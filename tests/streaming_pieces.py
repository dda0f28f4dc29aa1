"""Random walks of a mouse, and small causal models with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rodent_behavior.keypoints import fill_gaps, visible
from rodent_behavior.model import BehaviorModel, BehaviorModelConfig
from rodent_behavior.pose_features import Normalizer
from rodent_behavior.streaming import StreamingBehavior, StreamingConfig, Tracked

BODY = np.array([(0, -60), (0, 60), (-12, -42), (12, -42), (-14, 36), (14, 36)], dtype=np.float64)
CLASSES = ("rest", "paw_withdraw", "paw_lick", "paw_shake", "walk", "active")
FRAME_SIZE = (512, 400)


def walk(frames: int, *, seed: int = 0, hidden: float = 0.2) -> NDArray[np.float32]:
    """Return poses float32 [T, 6, 3] in px; `hidden` is the share of low likelihoods, in runs."""
    rng = np.random.default_rng(seed)
    angle = np.cumsum(rng.normal(0, 0.05, frames))
    centre = np.array([250.0, 200.0]) + np.cumsum(rng.normal(0, 0.8, (frames, 2)), axis=0)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
    xy = np.einsum("tij,kj->tki", turn, BODY) + centre[:, None] + rng.normal(0, 1.0, (frames, 6, 2))
    runs = np.repeat(rng.random((frames // 7 + 1, 6)), 7, axis=0)[:frames]
    likelihood = np.where(runs < hidden, 0.3, 0.99)
    return np.concatenate([xy, likelihood[..., None]], axis=2).astype(np.float32)


def build(
    *,
    seed: int = 0,
    pose_features: str = "invariant",
    max_gap: int = 5,
    temperature: float = 1.5,
    **sizes: Any,
) -> tuple[BehaviorModel, StreamingBehavior]:
    """Return a causal model with random weights, in evaluation mode, and the stream of its weights."""
    dims = {"invariant": 77, "graph18": 18, "generic": 45, "none": 0}
    torch.manual_seed(seed)
    model_config = BehaviorModelConfig(
        **{
            "num_classes": 6, "pose_dim": dims[pose_features], "num_keypoints": 6, "hidden_dim": 16,
            "num_layers": 4, "causal": True, **sizes,
        }
    )  # fmt: skip
    model = BehaviorModel(model_config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("output.weight"):
                weight.mul_(10)  # the probabilities of fresh weights hardly move
    rng = np.random.default_rng(seed)
    size = dims[pose_features]
    config = StreamingConfig(
        model=model_config,
        classes=CLASSES,
        fps=30.0,
        frame_size=FRAME_SIZE,
        pose_features=pose_features,
        normalizer=Normalizer(
            rng.normal(0, 0.3, size).astype(np.float32), rng.uniform(0.5, 2, size).astype(np.float32)
        ),
        max_gap=max_gap,
        temperature=temperature,
    )
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return model, StreamingBehavior(weights, config)


def offline(
    model: BehaviorModel,
    config: StreamingConfig,
    poses: NDArray[np.floating],
    visual: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Return the probabilities [T, C] of the whole recording at once, through the offline functions."""
    batch: dict[str, Any] = {"valid": torch.ones(1, len(poses), dtype=torch.bool)}
    features = config.features()
    if features is not None:
        assert config.normalizer is not None
        poses = poses.astype(np.float64)
        xy, likelihood = poses[:, :, :2], poses[:, :, 2]
        seen = visible(Tracked(xy, likelihood), config.likelihood_threshold, *config.frame_size)
        filled, visibility = fill_gaps(xy, seen, config.max_gap, True)
        values = config.normalizer.apply(*features(filled, visibility, likelihood))
        batch["pose"] = torch.from_numpy(values)[None]
    if visual is not None:
        batch["visual"] = torch.from_numpy(np.asarray(visual, dtype=np.float32))[None]
    with torch.no_grad():
        logits = model(batch)["stages"][-1][0].T  # type: ignore[arg-type]
    return (logits / config.temperature).softmax(dim=1).numpy()
