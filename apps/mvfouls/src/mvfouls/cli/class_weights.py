"""The documented script `train_with_class_weights.py`."""

from __future__ import annotations

from collections.abc import Sequence

from common.config import run_main
from mvfouls.config_class_weights import ALIASES, ClassWeightsConfig

TARGET = "mvfouls.run_class_weights:main"
DESCRIPTION = "Train a network that names foul, severity and offence with losses for rare classes."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the documented training script and return the exit code."""
    return run_main(
        TARGET,
        ClassWeightsConfig,
        argv,
        prog="train_with_class_weights.py",
        description=DESCRIPTION,
        aliases=ALIASES,
    )
