"""The documented script `train_modular.py`."""

from __future__ import annotations

from collections.abc import Sequence

from common.config import run_main
from mvfouls.config_modular import ALIASES, PRESETS, ModularConfig

TARGET = "mvfouls.train:main_modular"
DESCRIPTION = "Train a network that names foul, severity and offence from the views of an action."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the documented training script and return the exit code."""
    return run_main(
        TARGET,
        ModularConfig,
        argv,
        prog="train_modular.py",
        description=DESCRIPTION,
        presets=PRESETS,
        aliases=ALIASES,
    )
