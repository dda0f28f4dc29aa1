"""A run of `train_with_class_weights.py`: checked, settled, and analysed or trained."""

from __future__ import annotations

import logging
import os
from dataclasses import fields

import torch

from common.config import LevelFormatter, check, to_yaml
from common.engine.logging import Console
from mvfouls import train
from mvfouls.balance import plan_balance
from mvfouls.checks_class_weights import check_class_weights
from mvfouls.choices_class_weights import Source
from mvfouls.data import open_data
from mvfouls.resolve_class_weights import resolve
from mvfouls.settings import RunSettings

_log = logging.getLogger("mvfouls")


def main(parsed: Source) -> int:
    """Train or analyse as the flags say; return the exit code, see `train.main_modular`."""
    config = parsed.config
    cuda = torch.cuda.is_available() and config.run.device != "cpu"
    check(check_class_weights(parsed, cuda=cuda), config.validation.strict_config_validation, _log)
    settings = resolve(parsed, cuda=cuda, processes=int(os.environ.get("WORLD_SIZE", "1")))
    if config.run.verbose:
        show_settings(settings)
    if config.run.analyze_only:
        analyze(settings)
        return 0
    return train.main(settings, to_yaml(config, typed=parsed.typed))


def show_settings(settings: RunSettings) -> None:
    """Print what all flags amount to, and let every debug message through."""
    handler = logging.StreamHandler()
    handler.setFormatter(LevelFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    _log.setLevel(logging.DEBUG)
    for each in fields(settings):
        _log.debug("%s %s", each.name, getattr(settings, each.name))


def analyze(settings: RunSettings) -> None:
    """Print the classes of the training samples, and what losses, weights and sampler make of them."""
    console = Console()
    data = open_data(settings)
    training = data.training(settings)
    labels = {task: training.presented_labels(task) for task in data.tasks}
    plan = plan_balance(
        settings.balance, settings.losses, labels, data.tasks, epochs=settings.fit.epochs, seed=settings.seed
    )
    for note in settings.notes:
        console.line("note", note)
    for line in (*data.train.report.lines(), *data.valid.report.lines()):
        console.line("data", line)
    for line in plan.lines():
        console.raw(line)
    for level, text in plan.findings():
        console.line(level, text)
