"""The console command `uav-landing` and the two documented scripts."""

from __future__ import annotations

from collections.abc import Sequence

from common.config import Verb, run_main, run_verbs
from uav_landing.config import (
    PRESETS,
    AnalyzeConfig,
    EvaluateConfig,
    PredictConfig,
    PrepareConfig,
    TrainConfig,
)

ALIASES = {"weights": "pretrained_path"}

VERBS = {
    "analyze": Verb(AnalyzeConfig, "count the classes and recommend weights", "uav_landing.analyze:main"),
    "prepare": Verb(PrepareConfig, "check and decode every photo once", "uav_landing.prepare:main"),
    "train": Verb(
        TrainConfig, "train a segmenter", "uav_landing.train:main", presets=PRESETS, aliases=ALIASES
    ),
    "evaluate": Verb(EvaluateConfig, "judge a checkpoint on full photos", "uav_landing.evaluate:main"),
    "predict": Verb(PredictConfig, "write masks for photos or videos", "uav_landing.predict:main"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `uav-landing VERB ...` and return the exit code."""
    return run_verbs("uav-landing", VERBS, argv)


def train_main(argv: Sequence[str] | None = None) -> int:
    """Run the documented training script: `train` with the preset `guide`."""
    return run_main(
        "uav_landing.train:main",
        TrainConfig,
        argv,
        prog="train_memory_efficient_fixed.py",
        description="Train a landing-safety segmenter.",
        presets=PRESETS,
        default_preset="guide",
        aliases=ALIASES,
    )


def analyze_main(argv: Sequence[str] | None = None) -> int:
    """Run the documented analysis script."""
    return run_main(
        "uav_landing.analyze:main",
        AnalyzeConfig,
        argv,
        prog="analyze_class_distribution.py",
        description="Count the classes of a data set and recommend weights.",
    )
