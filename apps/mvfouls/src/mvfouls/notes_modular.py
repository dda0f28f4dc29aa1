"""What `train_modular.py` tells about flags that stand for others and defaults that gave way."""

from __future__ import annotations

from collections.abc import Iterator

from common.config import Parsed
from mvfouls.choices_modular import Choices
from mvfouls.config_modular import ModularConfig
from mvfouls.notes_shared import shared_notes


def notes_of(parsed: Parsed[ModularConfig], choices: Choices) -> Iterator[str]:
    """Yield a line for each choice that the typed flags do not say themselves."""
    yield from shared_notes(parsed, parsed.config.saving.save_dir)
    yield from _flags(parsed)
    yield from _losses(parsed, choices)
    yield from _freezing(parsed, choices)


def _flags(parsed: Parsed[ModularConfig]) -> Iterator[str]:
    config = parsed.config
    if config.preset is not None:
        values = ", ".join(
            f"{name} {value}" for name, value in parsed.preset_fields.items() if name != "preset"
        )
        yield f"preset {config.preset}: {values or 'every value is typed'}"
    if config.modes.simple_training:
        yield "simple training: plain loss, no sampler, no class weights, no augmentation, no label smoothing"


def _losses(parsed: Parsed[ModularConfig], choices: Choices) -> Iterator[str]:
    config = parsed.config
    if config.modes.disable_class_balancing:
        changed = choices.loss_function != config.loss.loss_function
        loss = ", loss weighted becomes plain" if changed else ""
        yield f"class balancing off: no sampler, no class weights{loss}"
    if config.progressive.progressive_class_balancing and not choices.progressive:
        yield "progressive class balancing off: there is no class-balanced sampler"
    margins = sorted(task for task, kind in choices.kinds.items() if kind == "ldam")
    unweighted = [task for task in margins if task not in choices.weighted]
    if unweighted and choices.weighting != "none":
        yield f"no class weights for {', '.join(unweighted)}: ldam has margins instead"
    adjusted = sorted(choices.adjusted - choices.weighted)
    if adjusted and choices.weighting != "none":
        yield f"no class weights for {', '.join(adjusted)}: logits are adjusted instead"


def _freezing(parsed: Parsed[ModularConfig], choices: Choices) -> Iterator[str]:
    config = parsed.config
    if choices.closed:
        blocks = config.rates.unfreeze_blocks
        yield f"fixed without gradual fine-tuning: the last {blocks} blocks train from the first epoch"
