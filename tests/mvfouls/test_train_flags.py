"""Flags whose effect is in the running engine: what they do to samples, losses, steps and validations.

A row of EFFECTS says: with these words, looked at like this, the answer is that; without them it is another.
That each flag reaches the settings of a run is the matter of `test_flags_modular.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from mv_looks import (
    GOLDEN,
    averages,
    cleanups,
    draws,
    is_compiled,
    loader_changes,
    loss_of,
    margin_of_training,
    model_changes,
    moved,
    passes_of_a_judgement,
    pools_by_the_mean,
    precision_inside,
    share_of_the_red,
    shares,
    size_judged,
    sizes_seen,
    weight_of,
)
from mv_pieces import Built
from mv_runs import Trainings, same, script
from torch import nn

from common.engine.randomness import SampleKey
from mvfouls.clips import ClipSource


class Row(NamedTuple):
    """With `words` the answer of `look` is `value`, or passes it as a test; without them it does not.

    `given` is typed both times.
    """

    words: str
    look: Callable[[Built], Any]
    value: Any
    given: str = ""


def about(value: float, within: float = 1e-3) -> Any:
    return pytest.approx(value, abs=within)


STILL = "--augmentation_strength none"
BARE_LOSS = "--class_weighting_strategy none --label_smoothing 0"
OPEN = "--freezing_strategy none"
NO_SAMPLER = "--no-use_class_balanced_sampler"

EFFECTS: dict[str, Row] = {
    # which samples
    "use_class_balanced_sampler": Row(NO_SAMPLER, draws, dict.fromkeys(range(16), 1)),
    "oversample_factor": Row(
        "--oversample_factor 1", share_of_the_red, about(1 / 16, 0.03)
    ),
    "batch_size": Row("--batch_size 3", lambda b: [len(keys) for keys in b.loaders.batches], [3] * 5 + [1]),
    "max_views": Row("--max_views 1", lambda b: {len(clips) for clips in b.batch["clips"]}, {1}),
    "view_sampling": Row(
        "--view_sampling random --max_views 1",
        lambda b: len({b.training.describe(SampleKey(0, 0, n))["views"] for n in range(20)}) > 1, True,
    ),
    "seed": Row("--seed 7", lambda b: b.drawn() == b.again("--seed 42").drawn(), False),
    "test_batches": Row(
        "--test_batches 1", lambda b: (len(b.loaders.batches), b.task.judging.limit), (1, 4), "--test_run"
    ),
    # what is changed at random
    "augmentation_strength": Row(STILL, loader_changes, False),
    "temporal_jitter_strength": Row("--temporal_jitter_strength 3", loader_changes, True, STILL),
    "dropout_prob": Row("--dropout_prob 0.4", loader_changes, True, STILL),
    "spatial_crop_strength": Row("--spatial_crop_strength 0.6", loader_changes, True, STILL),
    "color_aug_strength": Row("--color_aug_strength 0.5", loader_changes, True, STILL),
    "noise_strength": Row("--noise_strength 0.05", model_changes, True, STILL),
    "disable_augmentation": Row(
        "--disable_augmentation", lambda b: (loader_changes(b), model_changes(b)), (False, False)
    ),
    "disable_in_model_augmentation": Row(
        "--disable_in_model_augmentation", lambda b: (loader_changes(b), model_changes(b)), (True, False)
    ),
    "gpu_augmentation": Row(
        "--gpu_augmentation", lambda b: (loader_changes(b), model_changes(b)), (False, True),
        "--temporal_jitter_strength 0",
    ),
    "severity_aware_augmentation": Row(
        "--severity_aware_augmentation", lambda b: len(b.batch["strength"].unique()), 4
    ),
    "multi_scale": Row(
        "--multi_scale", lambda b: (sizes_seen(b), size_judged(b)), ({(24, 32), (32, 32), (32, 40)}, (32, 40))
    ),
    # what is minimised
    "class_weighting_strategy": Row(
        "--class_weighting_strategy none", lambda b: (weight_of(b, 0) + weight_of(b, 4)) / 2, about(1)
    ),
    "max_weight_ratio": Row(
        "--max_weight_ratio 2", lambda b: weight_of(b, 4) / weight_of(b, 0), about(2), NO_SAMPLER
    ),
    "label_smoothing": Row(
        "--label_smoothing 0", lambda b: loss_of(b, "offence", GOLDEN, 0), about(0.1698, 1e-4),
        "--class_weighting_strategy none",
    ),
    "loss_function": Row(
        "--loss_function focal", lambda b: loss_of(b, "offence", GOLDEN, 1), about(1.7026, 1e-4), BARE_LOSS
    ),
    "focal_gamma": Row(
        "--focal_gamma 0", lambda b: loss_of(b, "offence", GOLDEN, 1), about(2.1698, 1e-4),
        f"--loss_function focal {BARE_LOSS}",
    ),
    "main_task_weights": Row(
        "--main_task_weights 1 2", shares,
        {"severity": about(1 / 3.5), "action_class": about(2 / 3.5), "offence": about(0.5 / 3.5)},
    ),
    "auxiliary_task_weight": Row(
        "--auxiliary_task_weight 0", lambda b: list(b.model.heads), ["severity", "action_class"]
    ),
    "loss_types": Row(
        "--loss_types offence ldam", margin_of_training, lambda gap: gap > 5, BARE_LOSS
    ),
    "keep_junk_classes": Row("--keep_junk_classes", lambda b: b.model.classes["action_class"], 10),
    # the network
    "attention_aggregation": Row("--no-attention_aggregation", pools_by_the_mean, True),
    "dropout_rate": Row(
        "--dropout_rate 0.3", lambda b: {m.p for m in b.model.modules() if isinstance(m, nn.Dropout)}, {0.3}
    ),
    "activation_checkpointing": Row(
        "--activation_checkpointing", lambda b: b.model.backbone.checkpointing, True
    ),
    "channels_last": Row(
        "--channels_last",
        lambda b: b.model.backbone.network.stem[0].weight.is_contiguous(memory_format=torch.channels_last_3d),
        True,
    ),
    "compile": Row("--compile", is_compiled, True),
    # steps
    "optimizer": Row("--optimizer sgd", lambda b: type(b.optimization.optimizer).__name__, "SGD"),
    "momentum": Row(
        "--momentum 0.7", lambda b: set(b.groups("momentum").values()), {0.7}, "--optimizer sgd"
    ),
    "weight_decay": Row(
        "--weight_decay 0.05",
        lambda b: {name.split("/")[1]: decay for name, decay in b.groups("weight_decay").items()},
        {"decay": 0.05, "no_decay": 0.0},
    ),
    "lr": Row("--lr 4e-4", lambda b: set(b.groups("lr").values()), {4e-4}, OPEN),
    "head_lr": Row("--head_lr 2e-3", lambda b: b.groups("lr")["head/decay"], 2e-3),
    "backbone_lr": Row("--backbone_lr 2e-5", lambda b: b.groups("lr")["layer4.0/decay"], about(2e-5, 1e-9)),
    "discriminative_lr": Row(
        "--discriminative_lr",
        lambda b: b.groups("lr")["layer3.1/decay"] / b.groups("lr")["layer4.1/decay"], about(0.9), OPEN,
    ),
    "gradient_clip_norm": Row(
        "--gradient_clip_norm 1e-6", lambda b: moved(b) < 1e-6, True, "--optimizer sgd --weight_decay 0"
    ),
    "mixed_precision": Row("--mixed_precision", precision_inside, torch.bfloat16),
    "ema_decay": Row("--ema_decay 0.5", averages, True),
    "memory_cleanup_interval": Row("--memory_cleanup_interval 2", cleanups, 2),
    # validation and freezing
    "tta": Row("--tta", passes_of_a_judgement, 2),
    "selection_metric": Row(
        "--selection_metric val_loss",
        lambda b: (b.task.headline.metric, b.task.headline.mode), ("loss", "min"),
    ),
    "probe_batches": Row("--probe_batches 2", lambda b: len(list(b.freezer.probe)), 2),
    # loading
    "num_workers": Row("--num_workers 1", lambda b: b.loaders.train.num_workers, 1),
    "prefetch_factor": Row(
        "--prefetch_factor 3", lambda b: b.loaders.train.prefetch_factor, 3, "--num_workers 1"
    ),
    "worker_timeout": Row("--worker_timeout 9", lambda b: b.loaders.valid.timeout, 9, "--num_workers 1"),
    "enable_data_optimization": Row(
        "--no-enable_data_optimization",
        lambda b: (b.loaders.train.persistent_workers, b.data.clips.cache, b.loaders.copy_ahead),
        (False, None, False), "--num_workers 1",
    ),
}  # fmt: skip


@pytest.fixture
def build(football: Path, train: Trainings) -> Callable[[str], Built]:
    """The pieces of a training on the small data set."""
    return lambda words: Built(words, football, train)


def matches(answer: Any, value: Any) -> bool:
    return bool(value(answer)) if callable(value) else bool(answer == value)


@pytest.mark.parametrize("name", EFFECTS)
def test_a_flag_acts(name, build):
    row = EFFECTS[name]
    answer = row.look(build(f"{row.given} {row.words}"))
    assert matches(answer, row.value), answer
    assert not matches(row.look(build(row.given)), row.value)


def test_neither_workers_nor_the_cache_change_a_bit(train, remembered, monkeypatch):
    monkeypatch.setattr(ClipSource, "read", remembered.usual)
    usual = train("--epochs 1 --max_views 1")
    monkeypatch.setattr("mvfouls.clips.WindowCache", None)
    other = train("--epochs 1 --max_views 1 --num_workers 2 --disable_data_optimization")
    assert "cache off" in other.out
    assert same(usual.weights(), other.weights())
    for kind in ("epoch", "validation"):
        assert usual.metrics(kind) == other.metrics(kind)


def test_patience_ends_a_run(train, monkeypatch):
    script(monkeypatch, [0.3, 0.2, 0.3, 0.9])
    ran = train("--epochs 4 --freezing_strategy none --early_stopping_patience 2 --batch_size 16")
    assert "done     no better leaderboard in 2 validations: 3 epochs, 3 steps" in ran.out
    assert ran.checkpoint("best").epoch == 1


def test_everything_at_once(train):
    try:
        ran = train(
            "--epochs 1 --batch_size 8 --deterministic --mixed_precision --ema_decay 0.5 --tta --multi_scale",
            "--gpu_augmentation --severity_aware_augmentation --activation_checkpointing --optimizer sgd",
            "--loss_function focal --loss_types offence ldam --auxiliary_tasks offence contact handball",
            "--task_head contact linear --augmentation_strength extreme --freezing_strategy none",
            "--progressive_class_balancing --progressive_epochs 1 --memory_cleanup_interval 1",
            "--num_workers 1 --selection_metric mean_ba --view_sampling random --keep_junk_classes",
        )
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert ran.code == 0, ran.err
    best = ran.checkpoint("best")
    assert best.ema is not None
    assert not same(best.ema, best.model)
    assert "clean-ups 2" in ran.out
    assert [line["data/factor"] for line in ran.metrics("epoch")] == [1.5]
    assert {"severity", "action_class", "offence", "contact", "handball"} == set(best.metadata["tasks"])
