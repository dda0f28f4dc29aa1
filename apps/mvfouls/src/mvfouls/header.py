"""What a training run says about itself before the first step."""

from __future__ import annotations

import json
import math

import torch
from torch import nn

from common.engine.distributed import World
from common.engine.loading import Loaders
from common.engine.manifest import replace_text
from common.engine.run import Run, git_commit
from common.freezing.driver import Freezer
from mvfouls.balance import BalancePlan
from mvfouls.data import FoulData
from mvfouls.dataset import FoulDataset
from mvfouls.outputs import DATA_REPORT
from mvfouls.report_rows import TITLES
from mvfouls.settings import RunSettings
from mvfouls.split import Split, ignored_labels, shared_labels
from mvfouls.task import LOWER_IS_BETTER

SHOWN_TASK = "offence_severity"
MEANING = (
    "mean of the balanced accuracies of offence-and-severity and of the action class, by the strict official "
    "rules, over the validation actions"
)


def print_header(
    run: Run,
    settings: RunSettings,
    data: FoulData,
    training: FoulDataset,
    plan: BalancePlan,
    freezer: Freezer,
    loaders: Loaders,
    world: World,
) -> None:
    """Print and record the run, its data, network, losses, balance and length."""
    before = [
        ("run", _run_line(run, settings, world)),
        *(("note", note) for note in settings.notes),
        *(("data", line) for line in _data_lines(data, settings, training)),
        ("model", _model_line(settings, freezer.model)),
    ]
    behind = [
        *plan.findings(),
        ("freeze", _freeze_line(settings, freezer)),
        ("plan", _plan_line(settings, loaders, world)),
    ]
    balance = plan.lines()
    for label, text in before:
        run.console.line(label, text)
    for line in balance:
        run.console.raw(line)
    for label, text in behind:
        run.console.line(label, text)
    told = [f"{label:<8} {text}" for label, text in [*before, *behind]]
    run.events.write("header", 0, 0, {"lines": told, "headline": _headline(settings.judge.headline)})
    ordered = _rarest_first(plan)
    for task in ordered:
        named = {"task": task, "title": TITLES[task]}
        run.events.write("statistics", 0, 0, {**named, "statistics": plan.statistics[task].to_dict()})
        lines = balance if task == ordered[0] else []
        run.events.write("balance", 0, 0, {**named, "budget": plan.budget(task, 0).to_dict(), "lines": lines})
    if run.writes:
        replace_text(run.folder / DATA_REPORT, json.dumps(data.report(), indent=1) + "\n")


def _headline(metric: str) -> dict[str, str]:
    return {
        "metric": metric,
        "mode": "min" if metric in LOWER_IS_BETTER else "max",
        "meaning": MEANING if metric == "leaderboard" else "",
    }


def _rarest_first(plan: BalancePlan) -> list[str]:
    """Return the tasks with a loss, that with the most unequal classes first."""
    return sorted(plan.trained, key=lambda task: -plan.statistics[task].ratio)


def _run_line(run: Run, settings: RunSettings, world: World) -> str:
    commit = (git_commit() or "none")[:8]
    threads = f" {torch.get_num_threads()} threads" if world.device.type == "cpu" else ""
    ranks = f"   {world.size} processes" if world.size > 1 else ""
    return (
        f"{run.folder}   seed {settings.seed}   {world.device}{threads}   {settings.fit.precision}   "
        f"git {commit}{ranks}"
    )


def _data_lines(data: FoulData, settings: RunSettings, training: FoulDataset) -> list[str]:
    rule, pixels = settings.data.pixels.frames, settings.data.pixels
    left = " ".join(f"{kind} {count}" for kind, count in training.left_out.items() if count)
    folder = settings.data.cache.folder
    first, last = rule.indices()[0], rule.indices()[-1]
    return [
        *data.train.report.lines(ignored_labels(data.train, data.tasks.values())),
        *data.valid.report.lines(ignored_labels(data.valid, data.tasks.values())),
        *_soft_lines(data),
        f"train samples {len(training)}" + (f" | left out {left}" if left else ""),
        f"window {first}..{last} T={rule.count} {rule.seconds:.2f} s {rule.rate:.1f} fps | "
        f"input {pixels.height}x{pixels.width} | "
        + (
            "cache off"
            if folder is None
            else f"cache {data.clips.warm(data.train.views):.1f} % warm in {folder}"
        ),
    ]


def _soft_lines(data: FoulData) -> list[str]:
    splits: list[Split] = [data.train, data.valid]
    found = {split.source.name: shared_labels(split, data.tasks.values()) for split in splits}
    return [
        f"{name} soft labels {' '.join(f'{task} {count}' for task, count in counts.items())}: halves of two "
        "classes, in none of these tasks' own metrics"
        for name, counts in found.items()
        if counts
    ]


def _model_line(settings: RunSettings, model: nn.Module) -> str:
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights = settings.model.weights
    random = " (random start)" if weights == "none" else ""
    return (
        f"{settings.model.backbone} weights={weights}{random} params {total} trainable {trained}   "
        f"views {settings.model.aggregation}"
    )


def _freeze_line(settings: RunSettings, freezer: Freezer) -> str:
    blocks = " ".join(block.name for block in freezer.blocks)
    opened = " ".join(freezer.open_names) or "none"
    return f"{settings.freezing.strategy}   blocks {blocks}   open {opened}"


def _plan_line(settings: RunSettings, loaders: Loaders, world: World) -> str:
    fit = settings.fit
    steps = math.ceil(len(loaders.batches) / fit.accumulation_steps)
    batch = settings.loader.batch_size * world.size
    patience = fit.early_stopping_patience
    stopping = f"early stopping after {patience}" if patience else "no early stopping"
    schedule = f"{fit.schedule.name}, warm-up {fit.schedule.warmup_epochs:g} epochs"
    return (
        f"{fit.epochs} epochs of {steps} steps   batch {batch} = effective "
        f"{batch * fit.accumulation_steps}   {fit.optimizer.name}   {schedule}   {stopping}"
    )
