"""What switches that both training command lines have amount to."""

from __future__ import annotations

from common.config import Parsed
from mvfouls.augment_presets import PRESETS, AugmentValues, Strength
from mvfouls.config_both import BothConfig, Either
from mvfouls.config_modular import ModesConfig

WEIGHTABLE = ("ce", "focal", "bce")
"""Losses that class weights go with."""
MEASURED = ("gradient_guided", "advanced")
"""Strategies that measure the importance of blocks."""
AUGMENTATION_FLAGS = {
    "temporal_jitter_strength": "jitter",
    "dropout_prob": "frame_dropout",
    "spatial_crop_strength": "crop",
    "color_aug_strength": "colour",
    "noise_strength": "noise",
}
"""Flags of single augmentations, and what they set."""


def shortened(parsed: Parsed[Either]) -> bool:
    """Return whether a test run sets the number of epochs."""
    return parsed.config.testing.test_run and "epochs" not in parsed.typed


def optimized(config: BothConfig) -> bool:
    """Return whether data loading is optimised."""
    switch = config.data_optimization
    return switch.enable_data_optimization and not switch.disable_data_optimization


def legacy_strengths(parsed: Parsed[Either]) -> dict[str, Strength]:
    """Return what each typed legacy augmentation flag means, by its spelling."""
    legacy = parsed.config.legacy_augmentation
    meant: dict[str, Strength] = {}
    if "aggressive_augmentation" in parsed.typed:
        on = legacy.aggressive_augmentation
        name = "--aggressive-augmentation" if on else "--no-aggressive-augmentation"
        meant[name] = "aggressive" if on else "moderate"
    if legacy.extreme_augmentation:
        meant["--extreme-augmentation"] = "extreme"
    return meant


def unaugmented(config: BothConfig) -> bool:
    """Return whether a mode turns all augmentation off."""
    modes = config.modes
    return modes.disable_augmentation or (isinstance(modes, ModesConfig) and modes.simple_training)


def strength_of(parsed: Parsed[Either]) -> Strength:
    """Return the augmentation preset."""
    if unaugmented(parsed.config):
        return "none"
    legacy = list(legacy_strengths(parsed).values())
    return legacy[-1] if legacy else parsed.config.strength.augmentation_strength


def augment_values(parsed: Parsed[Either], strength: Strength) -> AugmentValues:
    """Return the values of a preset, and of the flags that were typed."""
    values = vars(PRESETS[strength]).copy()
    if not unaugmented(parsed.config):
        given = vars(parsed.config.augmentation)
        values |= {
            AUGMENTATION_FLAGS[flag]: given[flag] for flag in AUGMENTATION_FLAGS if flag in parsed.typed
        }
    return AugmentValues(**values)
