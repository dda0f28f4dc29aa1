"""A result file as a comparison writes it, from random densities that are judged as trained ones are."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.metrics.sparse_map import to_density
from eye_fixation.losses import build_loss, hyperparameters, loss_info, readout_bias
from eye_fixation.metrics import Fitted, References, Scores, fit_on_validation, judge, judge_points
from eye_fixation.statistics import GroupStatistics, seed_compat_summary, without_nan

SHARPNESS = {"mse": 60.0, "dice": 3.0, "softmax_ce": 7.0}
"""Width of each loss's predictions, in squared cells; the gaze moves by a normal law of variance 6."""
IN_LEN = 4


class Scene:
    """Gaze of `count` sequences that stay near where they were, and predictions of it."""

    def __init__(self, *, count: int = 24, out_len: int = 4, size: int = 16, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.count, self.out_len, self.size = count, out_len, size
        start = torch.rand(count, 1, 2, generator=generator) * size
        steps = 2.4 * torch.randn(count, IN_LEN + out_len - 1, 2, generator=generator)
        path = torch.cat([start, start + steps.cumsum(1)], 1)
        self.coordinates = path.clamp(0, size - 1e-3)
        self.mask = torch.rand(count, IN_LEN + out_len, generator=generator) < 0.9
        self.mask[:, IN_LEN - 1] = True
        self.future, self.valid = self.coordinates[:, IN_LEN:], self.mask[:, IN_LEN:]
        self.last = self.coordinates[:, IN_LEN - 1]

    def density(self, width: float, *, seed: int = 0, noise: float = 0.4) -> Tensor:
        """Densities [N, T_out, S, S] around the last input gaze, wider with every frame ahead."""
        cells = torch.stack(torch.meshgrid(*[torch.arange(self.size) + 0.5] * 2, indexing="xy"), -1)
        distance = (cells - self.last[:, None, None]).square().sum(-1)[:, None]
        ahead = torch.arange(1, self.out_len + 1).view(1, -1, 1, 1)
        generator = torch.Generator().manual_seed(seed)
        logits = -distance / (2 * width * ahead)
        return to_density(logits + noise * torch.randn(logits.shape, generator=generator), "categorical")


def judged(scene: Scene, density: Tensor, fitted: Fitted | None = None) -> Scores:
    """Scores of densities with the references that a comparison has."""
    flat = scene.density(40.0, noise=0.0).flatten(2)
    column, row = scene.future.long().unbind(-1)
    held = flat.gather(2, (row * scene.size + column)[..., None])[..., 0].double().log2()
    weights = torch.ones(scene.out_len, scene.size, scene.size)
    references = References(weights, {"center": held - 1.0, "kernel": held})
    threshold = None if fitted is None else fitted.threshold
    return judge(density, scene.future, scene.valid, scene.last, references=references, threshold=threshold)


def fake_results(
    *,
    losses: Sequence[str] = tuple(SHARPNESS),
    seeds: Sequence[int] = (1, 2),
    source: str = "simulated",
    scene: Scene | None = None,
    failed: str | None = None,
) -> dict[str, Any]:
    """The contents of a result file; `failed` names one more loss, whose run broke off."""
    scene = scene or Scene()
    statistics = GroupStatistics(np.arange(scene.count) // 2, resamples=200)
    runs = {loss: [_run(scene, loss, seed) for seed in seeds] for loss in losses}
    scores = {loss: [found for _, found, _ in made] for loss, made in runs.items()}
    kernel = judged(scene, scene.density(40.0, noise=0.0))
    entries = {loss: _entry(scene, loss, made, statistics) for loss, made in runs.items()}
    if failed is not None:
        broken = {"seed": seeds[0], "status": "failed", "error": "RuntimeError: <no> memory"}
        entries[failed] = {"kind": loss_info(failed).kind, "hyperparameters": {}, "prior_bias": None}
        entries[failed] |= {"parameters": 1, "initial_state_sha256": {}, "runs": [broken], "summary": None}
    point = judge_points(
        scene.last[:, None].expand_as(scene.future), scene.future, scene.valid, img_size=scene.size
    )
    content = {
        "schema": 1,
        "kind": "loss_comparison",
        "command": "eye-fixation compare --preset smoke",
        "config": {"losses": list(losses), "loss_options": {"pos_weight": 50.0}, "judging": {"ci": 0.95}},
        "environment": {"torch": "2", "device": "cpu", "threads": 1},
        "data": describe(scene, source),
        "seed_compat": {
            loss: seed_compat_summary([compat for _, _, compat in made]) for loss, made in runs.items()
        },
        "losses": entries,
        "baselines": {
            "history_kernel": {"summary": statistics.summary([kernel])},
            "constant_velocity": {"summary": statistics.summary([point])},
        },
        "oracle": {"summary": statistics.summary([judged(scene, scene.density(6.0, noise=0.0))])},
        "human": None,
        "comparison": statistics.comparison(scores, reference=("history_kernel", kernel)),
    }
    clean, _ = without_nan(content)
    return {**clean, "warnings": statistics.warnings}


def describe(scene: Scene, source: str) -> dict[str, Any]:
    """The part `data` of a result file."""
    splits = ("train", "val", "test")
    return {
        "source": source,
        "source_name": "osie" if source == "real" else "field",
        "dir": "data",
        "sha256": {split: f"{split}-sum" for split in splits},
        "sequences": dict(zip(splits, (96, 12, scene.count))),
        "valid_target_frames": dict(zip(splits, (384, 48, int(scene.valid.sum())))),
        "split_by": "sequence",
        "img_size": scene.size,
        "in_len": IN_LEN,
        "out_len": scene.out_len,
        "rate_hz": 10.0,
        "prevalence": 1 / scene.size**2,
    }


def write_results(
    folder: Path, content: Mapping[str, Any], *, scene: Scene | None = None, film: bool = True
) -> Path:
    """Write a result file and the film beside it; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    if film:
        scene, arrays = scene or Scene(), {}
        for name, width in {"history_kernel": 40.0, **SHARPNESS}.items():
            arrays[f"density.{name}"] = scene.density(width, noise=0.0)[:3].half().numpy()
        first = {"coordinates": scene.coordinates[:3].numpy(), "mask": scene.mask[:3].numpy()}
        np.savez_compressed(folder / "film.npz", in_len=IN_LEN, **first, **arrays)
    path = folder / "loss_comparison.json"
    path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    return path


def _run(scene: Scene, loss: str, seed: int) -> tuple[dict[str, Any], Scores, dict[str, Any]]:
    density = scene.density(SHARPNESS.get(loss, 10.0), seed=seed)
    fitted = fit_on_validation(density, scene.future, scene.valid)
    raw, calibrated = judged(scene, density), judged(scene, fitted.calibration.apply(density), fitted)
    epochs = 6
    falling = [2.0 / (1 + epoch) + 0.05 * seed for epoch in range(epochs)]
    entry = {
        "seed": seed, "status": "ok", "error": None, "epochs": epochs, "best_epoch": 4 + seed,
        "best_val_loss": falling[-1], "train_losses": falling, "val_losses": [v + 0.1 for v in falling],
        "seconds": 12.5, "step_ms": 20.0 + SHARPNESS.get(loss, 10.0) / 3,
        "checkpoint": f"{loss}/seed{seed}/model.pt", "calibration": fitted.calibration.to_dict(),
        "threshold": {"value": fitted.threshold.value, "chosen_on": "val"},
        "metrics": {"raw": raw.to_dict(), "calibrated": calibrated.to_dict()},
    }  # fmt: skip
    compat = {
        "best_val_loss": falling[-1],
        "final_train_loss": falling[-1],
        "test_loss": 0.01,
        "white_pixel_recall": min(0.998, SHARPNESS.get(loss, 10.0) / 60),
        "white_pixel_precision": 0.001,
        "f1_score": 0.002,
        "converged": True,
    }
    return entry, calibrated, compat


def _entry(
    scene: Scene, loss: str, made: Sequence[tuple[Any, Scores, Any]], statistics: GroupStatistics
) -> dict[str, Any]:
    return {
        "kind": loss_info(loss).kind,
        "hyperparameters": hyperparameters(build_loss(loss, None, scene.size)),
        "prior_bias": readout_bias(loss, "auto", scene.size),
        "parameters": 34689,
        "initial_state_sha256": {str(entry["seed"]): 16 * "ab" for entry, _, _ in made},
        "runs": [entry for entry, _, _ in made],
        "summary": statistics.summary([scores for _, scores, _ in made]),
    }
