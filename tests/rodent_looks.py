"""What can be seen of a behaviour training: looks at its pieces, and words that rows of flags share."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flag_rows import distance
from rodent_pieces import KEYS, Built

from common.config.commands import FAILED
from rodent_behavior.backbones import HALVES, Plan, TinyCNN
from rodent_behavior.dlc import DEFAULT_KP_NAMES
from rodent_behavior.task import BehaviorTask

LOGITS = torch.tensor([2, 0, -1, 0.5, 0, 0], dtype=torch.float64)[None, :, None]
"""The logits of golden numbers R10."""
VIDEO = "--backbone tiny_cnn --img_size 32"
FRAMES = f"{VIDEO} --freeze_backbone_epochs 0"
STILL = "--aug_brightness 0 --aug_contrast 0 --aug_temporal_drop 0 --aug_noise_std 0 --aug_roll 0"
PLATEAU = "--lr_schedule plateau --warmup_epochs 0 --epochs 30"
STALE = [(10 * epoch, 0.5) for epoch in range(1, 10)]
ONE_STEP = "--weight_decay 0 --epochs 1 --lr 1e-2"


def untouched(b: Built, stream: str) -> bool:
    """Return whether a stream of every window is what it is without augmentation."""
    plain = b.again("--no-augment").samples
    return all(torch.equal(one[stream], other[stream]) for one, other in zip(b.samples, plain))


def as_tracked(b: Built) -> bool:
    """Return whether every window's pose features are those of the files."""
    windows = [b.windows.windows[key.index] for key in KEYS]
    whole = [b.inputs.encoder(b.data.train[window.trial].poses) for window in windows]
    clean = [pose[window.start : window.stop] for pose, window in zip(whole, windows)]
    return all(np.allclose(s["pose"], pose, atol=1e-5) for s, pose in zip(b.samples, clean))


def mirrored(b: Built) -> bool:
    """Return whether keypoint targets are those of the files, seen in a mirror."""
    swap = [DEFAULT_KP_NAMES.index(_partner(name)) for name in DEFAULT_KP_NAMES]
    plain = b.again("--no-augment").samples
    for one, other in zip(b.samples, plain):
        found, true = (sample["keypoints"].reshape(-1, 6, 2) for sample in (one, other))
        shown = (found != 0).all(-1) & (true[:, swap] != 0).all(-1)
        expected = true[:, swap] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
        if not torch.allclose(found[shown], expected[shown], atol=1e-6):
            return False
    return True


def _partner(name: str) -> str:
    return {"l": "r", "r": "l"}[name[0]] + name[1:] if name[:2] in ("l_", "r_") else name


def loss_value(b: Built) -> float:
    return float(b.plan.objective.action(LOGITS, torch.tensor([[0]])))


def weight_of(b: Built, term: str) -> float | None:
    """Return the weight of a loss term, None when it is not computed."""
    b.network.train()
    found = b.task.training_step(b.batch).get(term)
    return None if found is None else found.weight


def keypoint_error(b: Built) -> float:
    """Return the loss of one point that is half a frame off."""
    batch = {"keypoints": torch.zeros(1, 1, 2), "hidden": torch.ones(1, 1, 1, dtype=torch.bool)}
    return float(b.plan.objective.keypoint_term(torch.full((1, 1, 2), 0.5), batch).total)


def weight_ratio(b: Built) -> float:
    weight = b.plan.objective.action.weight
    return 1.0 if weight is None else float(weight.max() / weight[weight > 0].min())


def looks_ahead(b: Built) -> bool:
    """Return whether a later frame of the input changes an earlier output."""
    b.network.eval()
    batch = b.batch
    changed = {**batch, "pose": batch["pose"].clone()}
    changed["pose"][:, 20:] += 1
    outputs = [b.network(given)["stages"][-1][:, :, :20] for given in (batch, changed)]
    return not torch.equal(*outputs)


def large_backbone(b: Built) -> str:
    """Return the name of the backbone; a small network stands in for one that takes long to import."""
    plan = Plan(TinyCNN(), 128, HALVES, [("all", ("1.", "2.", "3.", "4."))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rodent_behavior.backbones._resnet", lambda name: plan)
        return b.network.backbone.name


def windows_judged(b: Built) -> list[tuple[int, int]]:
    """Return batch size and length of each pass over the first trial of validation."""
    shapes: list[tuple[int, int]] = []
    b.network.eval()
    hook = lambda module, inputs: shapes.append(tuple(inputs[0]["valid"].shape))  # noqa: E731
    b.network.register_forward_pre_hook(hook)
    b.task.begin_validation()
    b.task.validation_step(next(iter(b.loaders.valid)))
    return shapes[:1]


def opened(b: Built) -> int:
    """Return how many parameters of the backbone are trained after the freeze."""
    b.task.begin_epoch(b.config.model.freeze_backbone_epochs)
    return sum(p.numel() for p in b.network.backbone.parameters() if p.requires_grad)


def moved(b: Built) -> float:
    """Return how far one step moved the weights."""
    return distance(b.network, lambda: b.ran("--max_steps 1").weights())


def stays_flat(b: Built) -> str:
    with pytest.MonkeyPatch.context() as patch:
        usual = BehaviorTask.metrics
        patch.setattr(BehaviorTask, "metrics", lambda task: usual(task) | {"macro_f1": 0.5})
        return b.ran("--epochs 4").out


def averaged(b: Built) -> tuple[str, float]:
    """Return which weights were exported, and a sum of them."""
    contents = b.ran("--max_steps 3 --lr 1e-2").contents
    weights = contents["model_state_dict"]
    return contents["weights_used"], float(sum(value.double().sum() for value in weights.values()))


def runs_out_of_memory_once(b: Built) -> int:
    """Return the exit code of a run whose first training step does not fit into memory."""
    usual, calls = BehaviorTask.training_step, []

    def training_step(task: BehaviorTask, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return usual(task, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BehaviorTask, "training_step", training_step)
        with contextlib.suppress(MemoryError):
            return b.ran("--max_steps 1").code
    return FAILED


def stored_frames(b: Built) -> int:
    """Return how many videos have their frames in the cache after one batch."""
    assert "frames" in b.batch
    return len(list((Path(b.config.cache.cache_dir) / "frames").glob("*.npy")))


def exported_names(b: Built) -> set[str]:
    """Return the parts of the network whose weights are in the exported file."""
    return {name.split(".")[0] for name in b.ran("--max_steps 1").contents["model_state_dict"]}


def warnings_of(b: Built) -> str:
    return " ".join(finding.text for finding in b.findings if finding.level == "warning")
