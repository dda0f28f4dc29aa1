"""What `train_with_class_weights.py` tells about flags that stand for others and defaults that gave way."""

from __future__ import annotations

from collections.abc import Iterator

from mvfouls.checks_class_weights import SAMPLER_FLAGS
from mvfouls.choices_class_weights import Choices, Source
from mvfouls.notes_shared import shared_notes


def notes_of(parsed: Source, choices: Choices) -> Iterator[str]:
    """Yield a line for each choice that the typed flags do not say themselves."""
    yield from shared_notes(parsed, parsed.config.saving.output_dir)
    yield from _tasks(parsed, choices)
    yield from _losses(parsed, choices)
    yield from _freezing(parsed, choices)


def _tasks(parsed: Source, choices: Choices) -> Iterator[str]:
    config = parsed.config
    if not config.core.multi_task:
        task = next(iter(choices.tasks))
        between = "" if choices.undecided else ", Between is ignored"
        yield f"single task: {task}, {choices.classes[task]} classes{between}"
    if config.task_weights.adaptive_weights and config.core.multi_task:
        given = config.task_weights
        yield f"task weights follow {given.task_weight_source} metrics: {given.weighting_strategy}"


def _losses(parsed: Source, choices: Choices) -> Iterator[str]:
    weighting = parsed.config.weighting
    if weighting.disable_class_weights:
        yield "no class weights: --disable-class-weights"
        return
    if choices.sampler != "shuffle" and not weighting.enable_class_weights:
        yield (
            f"no class weights: {SAMPLER_FLAGS[choices.sampler]} favours rare classes instead; "
            "--enable-class-weights adds them"
        )
        return
    margins = [task for task, kind in choices.kinds.items() if kind == "ldam"]
    unweighted = [task for task in margins if task not in choices.weighted]
    if unweighted:
        yield f"no class weights for {', '.join(unweighted)}: ldam has margins instead"
    adjusted = sorted(choices.adjusted - choices.weighted)
    if adjusted:
        yield f"no class weights for {', '.join(adjusted)}: logits are adjusted instead"


def _freezing(parsed: Source, choices: Choices) -> Iterator[str]:
    config = parsed.config.freezing
    if choices.mode == "gradual":
        opens = " ".join(f"{name} after {time}" for time, name in choices.schedule)
        yield f"blocks open: {opens or 'none within the run'}"
    if choices.opens and config.reduce_batch_on_unfreeze:
        yield (
            f"from the first opening on a step is computed in parts of at most {config.unfreeze_batch_size}, "
            "the effective batch stays"
        )
