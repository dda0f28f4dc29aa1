"""The console command `eye-fixation` and the documented script."""

from __future__ import annotations

from collections.abc import Sequence

from common.config import Verb, run_main, run_verbs
from eye_fixation.config import PRESETS, CompareConfig, EvaluateConfig, TrainConfig
from eye_fixation.predict_config import PredictConfig
from eye_fixation.prepare_config import PrepareConfig
from eye_fixation.report_config import ReportConfig

ALIASES = {"alpha": "focal_alpha", "gamma": "focal_gamma"}
DEFAULT_PRESET = "full"

VERBS = {
    "prepare": Verb(
        PrepareConfig, "write data files from gaze or by simulation", "eye_fixation.prepare:main"
    ),
    "train": Verb(
        TrainConfig,
        "train with one loss and judge it",
        "eye_fixation.compare:main",
        presets=PRESETS,
        default_preset=DEFAULT_PRESET,
        aliases=ALIASES,
    ),
    "compare": Verb(
        CompareConfig,
        "train with several losses and compare them",
        "eye_fixation.compare:main",
        presets=PRESETS,
        default_preset=DEFAULT_PRESET,
        aliases=ALIASES,
    ),
    "evaluate": Verb(EvaluateConfig, "judge a model or a baseline on a split", "eye_fixation.evaluate:main"),
    "predict": Verb(PredictConfig, "densities of the next gaze from a CSV", "eye_fixation.predict:main"),
    "report": Verb(ReportConfig, "one HTML page from result files", "eye_fixation.report:main"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eye-fixation VERB ...` and return the exit code."""
    return run_verbs("eye-fixation", VERBS, argv)


def compare_main(argv: Sequence[str] | None = None) -> int:
    """Run the documented comparison script, the same as `eye-fixation compare`."""
    return run_main(
        "eye_fixation.compare:main",
        CompareConfig,
        argv,
        prog="train_loss_comparison.py",
        description="Train with several losses and compare them.",
        presets=PRESETS,
        default_preset=DEFAULT_PRESET,
        aliases=ALIASES,
    )
