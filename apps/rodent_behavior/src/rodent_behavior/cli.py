"""The console command `rodent-behavior` and the documented script."""

from __future__ import annotations

from collections.abc import Sequence

from common.config import Verb, run_main, run_verbs
from rodent_behavior.config import (
    DemoConfig,
    DoctorConfig,
    EvaluateConfig,
    PredictConfig,
    TrainConfig,
)
from rodent_behavior.live_config import LiveConfig, PoseModelConfig, ReplayConfig

ALIASES = {
    "encoder_name": "backbone",
    "tcn_layers": "num_layers",
    "scheduler": "lr_schedule",
    "early_stop_patience": "early_stopping_patience",
}

VERBS = {
    "doctor": Verb(DoctorConfig, "look for what is wrong with a data set", "rodent_behavior.examine:main"),
    "train": Verb(
        TrainConfig, "train a model on labelled trials", "rodent_behavior.train:main", aliases=ALIASES
    ),
    "evaluate": Verb(EvaluateConfig, "judge a model on labelled trials", "rodent_behavior.evaluate:main"),
    "predict": Verb(PredictConfig, "name the behaviour in every frame", "rodent_behavior.predict:main"),
    "live": Verb(LiveConfig, "follow a camera and fire triggers", "rodent_behavior.live.loop:main"),
    "replay": Verb(ReplayConfig, "compute a live recording again", "rodent_behavior.live.replay:main"),
    "make-pose-model": Verb(
        PoseModelConfig, "train a small pose model for trying `live`", "rodent_behavior.live.pose_model:main"
    ),
    "demo": Verb(DemoConfig, "do all of it on generated trials", "rodent_behavior.demo:main"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `rodent-behavior VERB ...` and return the exit code."""
    return run_verbs("rodent-behavior", VERBS, argv)


def train_main(argv: Sequence[str] | None = None) -> int:
    """Run the documented training script, the same as `rodent-behavior train`."""
    return run_main(
        "rodent_behavior.train:main",
        TrainConfig,
        argv,
        prog="train_multitask.py",
        description="Train a behaviour model on labelled trials.",
        aliases=ALIASES,
    )
