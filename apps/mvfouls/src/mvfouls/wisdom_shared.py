"""Settings of both training command lines that work and are rarely meant."""

from __future__ import annotations

import os
from collections.abc import Collection

from common.config import Parsed
from mvfouls.architectures import Architecture
from mvfouls.choices_shared import shortened
from mvfouls.config_both import Either

USUAL_MARGIN = (0.1, 1.0)
USUAL_SCALE = (10.0, 50.0)
LARGE_BATCH = 64
LARGE_INPUT = 224 * 398
MOST_VIEWS = 4
"""Views of an action in the data set."""
LONG_TEST = 3
LONG_WARMUP = 0.2
MUCH_SMOOTHING = 0.2


def long_rules(
    parsed: Parsed[Either], epochs: int, *, emergency: bool, warmup: int | None
) -> dict[str, bool]:
    """Return what does not fit the length of the run; a test run is short on purpose.

    `emergency`: the strategy knows one; `warmup` in epochs, None when nobody typed it.
    """
    config, short = parsed.config, shortened(parsed)
    late = config.emergency.emergency_unfreeze_epoch
    return {
        f"--emergency-unfreeze-epoch {late} with {epochs} epochs: it comes too late": (
            emergency and config.emergency.min_unfreeze_layers > 0 and late >= epochs and not short
        ),
        f"--scheduler-warmup-epochs {warmup} of {epochs} epochs: more than a fifth": (
            warmup is not None and warmup > LONG_WARMUP * epochs and not short
        ),
        f"--test-run with --epochs {epochs}: more than {LONG_TEST} epochs for a test": (
            config.testing.test_run and epochs > LONG_TEST
        ),
    }


def habit_rules(
    parsed: Parsed[Either],
    network: Architecture,
    kinds: Collection[str],
    *,
    clips: int,
    smoothing: float,
    frozen: bool,
    sampler: str | None,
) -> dict[str, bool]:
    """Return what is odd at any length.

    `clips` are those of a batch at most, `sampler` is what favours rare classes, if something does.
    """
    config, loss = parsed.config, parsed.config.task_losses
    workers, cores, ldam = config.loading.num_workers, os.cpu_count() or 1, "ldam" in kinds
    height, width = config.video.img_height, config.video.img_width
    if network.family != "conv":
        height, width = network.default_size
    return {
        "--weights none with a frozen backbone: its features are random": (
            config.backbone_weights.weights == "none" and frozen
        ),
        f"ldam with {sampler}: margins and sampling both favour rare classes": ldam and sampler is not None,
        f"up to {clips} clips in a batch at {height}x{width}: this needs much memory": (
            clips > LARGE_BATCH and height * width >= LARGE_INPUT
        ),
        f"--label-smoothing {smoothing:g}: more than {MUCH_SMOOTHING}": smoothing > MUCH_SMOOTHING,
        f"--num-workers {workers}: this machine has {cores} cores": (
            "num_workers" in parsed.typed and workers > cores
        ),
        "--fit stretch distorts the picture": config.input.fit == "stretch",
        f"--ldam-max-m {loss.ldam_max_m:g}: {USUAL_MARGIN[0]} to {USUAL_MARGIN[1]:g} is usual": (
            ldam and not USUAL_MARGIN[0] <= loss.ldam_max_m <= USUAL_MARGIN[1]
        ),
        f"--ldam-s {loss.ldam_s:g}: {USUAL_SCALE[0]:g} to {USUAL_SCALE[1]:g} is usual": (
            ldam and not USUAL_SCALE[0] <= loss.ldam_s <= USUAL_SCALE[1]
        ),
    }
