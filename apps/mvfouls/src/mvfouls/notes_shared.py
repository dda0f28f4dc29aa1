"""What both training command lines tell about flags that stand for others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from common.config import Parsed
from mvfouls.choices_shared import legacy_strengths, shortened
from mvfouls.config_both import Either


def shared_notes(parsed: Parsed[Either], folder: Path) -> Iterator[str]:
    """Yield a line for each choice that the typed flags do not say; `folder` is that of the run."""
    config = parsed.config
    for spelling, strength in legacy_strengths(parsed).items():
        yield f"{spelling} is deprecated; use --augmentation-strength {strength}"
    if "enable_data_optimization" in parsed.typed and config.data_optimization.disable_data_optimization:
        yield "data optimisation off: --disable-data-optimization"
    if shortened(parsed):
        yield "epochs 1: --test-run without --epochs"
    if config.testing.test_run:
        yield f"test run: nothing is written to {folder}"
    if config.backbone_weights.weights == "none":
        yield "weights none: the network starts from random numbers"
