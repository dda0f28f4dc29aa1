"""The verb `analyze`: what an annotation file holds, what balancing makes of it, and logit offsets."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.balancing.weighted_samplers import OversampleSampler
from common.balancing.weights import ldam_margins
from common.config import Finding, Parsed, UserError, check, has_no_effect
from common.engine.logging import Console
from mvfouls.analyze_counts import SetCounts, count_set
from mvfouls.analyze_text import (
    RHO,
    balance_lines,
    count_lines,
    official_lines,
    preset_lines,
    set_lines,
    threshold_lines,
)
from mvfouls.annotations import canonical_set, read_annotations
from mvfouls.balance import BalancePlan, plan_balance
from mvfouls.calibration import Calibration, calibration_lines, fit_calibration, write_calibration
from mvfouls.config_modular import PRESETS, PresetName
from mvfouls.config_shared import repeated, task_name
from mvfouls.config_verbs import AnalyzeConfig
from mvfouls.labels import IGNORE, TASKS, task_labels
from mvfouls.outputs import write_result
from mvfouls.settings import BalanceSettings, LossSettings

SIZES: tuple[tuple[PresetName, int, int | None], ...] = (
    ("very_small", 0, 99),
    ("small", 100, 500),
    ("medium", 501, 1000),
    ("large", 1001, None),
)
"""Presets of training with the fewest and the most actions they are recommended for."""
CALIBRATING = ("max_offset", "out")

_log = logging.getLogger("mvfouls")


@dataclass(frozen=True, kw_only=True)
class TaskBalance:
    """What sampler and weights do to the classes [K] of a task; `factors` None: the sampler ignores it."""

    names: tuple[str, ...]
    counts: tuple[int, ...]
    natural: tuple[float, ...]
    factors: tuple[float, ...] | None
    presented: tuple[float, ...]
    weights: tuple[float, ...] | None
    effective: tuple[float, ...]
    margins: tuple[float, ...]
    strength: float | None
    inversion: float | None


def main(parsed: Parsed[AnalyzeConfig]) -> int:
    """Count, show, fit, write; return 0."""
    config, console = parsed.config, Console()
    check(findings(parsed), False, _log)
    content: dict[str, Any] = {}
    if config.annotations is not None:
        content |= analyze_set(config, config.annotations, console)
    if config.val_logits is not None:
        content["calibration"] = asdict(calibrate(config, config.val_logits, console))
    if config.json is not None:
        write_result(config.json, content)
        console.line("json", str(config.json))
    return 0


def findings(parsed: Parsed[AnalyzeConfig]) -> Iterator[Finding]:
    """Yield every error and warning about the settings themselves; files are not looked at."""
    config = parsed.config
    rules = {
        "give --annotations, which are counted, or --val-logits, on which offsets are fitted": (
            config.annotations is None and config.val_logits is None
        ),
        "--tasks: no task is named": not config.tasks,
        "--balance-tasks: no task is named": (
            config.use_class_balanced_sampler and not config.balance.balance_tasks
        ),
        **_bounds(config),
    }
    for flag, words in (("--tasks", config.tasks), ("--balance-tasks", config.balance.balance_tasks)):
        rules |= {f"{flag}: the task {task} is given twice": True for task in repeated(words)}
    yield from (Finding("error", text) for text, applies in rules.items() if applies)
    for names, reason, idle in _idle(config):
        for name in names:
            if idle and name in parsed.typed:
                yield Finding("warning", has_no_effect(name, reason))


def _bounds(config: AnalyzeConfig) -> dict[str, bool]:
    least = {
        "max_weight_ratio": config.max_weight_ratio,
        "oversample_factor": config.oversample_factor,
        "max_repeat": config.balance.max_repeat,
    }
    positive = {"ldam_max_m": config.ldam_max_m, "max_offset": config.max_offset}
    return {
        **{
            f"{_flag(name)} {value:g}: a finite number from 1 on is expected": not 1 <= value < math.inf
            for name, value in least.items()
        },
        **{
            f"{_flag(name)} {value:g}: a number above 0 is expected": not 0 < value < math.inf
            for name, value in positive.items()
        },
    }


def _idle(config: AnalyzeConfig) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    """Yield flags, why they cannot act, and whether that is so; of several reasons the first one counts."""
    counting = [name for name in _names() if name not in ("annotations", "val_logits", "json", *CALIBRATING)]
    sampling = ("oversample_factor", "balance_tasks", "max_repeat", "weight_basis")
    none = config.class_weighting_strategy == "none"
    counted = config.annotations is not None
    sampled = config.use_class_balanced_sampler
    yield CALIBRATING, "--val-logits is not given", config.val_logits is None
    yield tuple(counting), "--annotations is not given", not counted
    yield sampling, "the class-balanced sampler is off", counted and not sampled
    weighting = ("max_weight_ratio", *(("weight_basis",) if sampled else ()))
    yield weighting, "--class-weighting-strategy is none", counted and none


def _names() -> tuple[str, ...]:
    own = [name for name in AnalyzeConfig.__dataclass_fields__ if name != "balance"]
    return (*own, *vars(AnalyzeConfig().balance))


def analyze_set(config: AnalyzeConfig, path: Path, console: Console) -> dict[str, Any]:
    """Show what an annotation file holds and what training would make of it; return it as plain types."""
    junk = None if config.keep_junk_classes == "none" else config.keep_junk_classes
    annotations = read_annotations(path, unknown=config.unknown_labels, labelled=True)
    tasks = {name: task_labels(name, junk) for name in TASKS}
    counts = count_set(annotations, tasks)
    for warning in annotations.warnings:
        console.line("warning", warning)
    _show(console, "data", set_lines(counts))
    for task in counts.tasks.values():
        _show(console, "classes", count_lines(task))
    _show(console, "official", official_lines(counts.official, counts))
    plan = plan_of(config, counts)
    balances = {task: balance_of(config, plan, task) for task in plan.trained}
    for name, balance in balances.items():
        _show(console, "balance", balance_lines(name, balance, config))
    console.line("note", RHO)
    for level, text in plan.findings():
        console.line(level, text)
    for name in map(task_name, config.tasks):
        if name not in balances:
            console.line("note", f"{name}: no action has a label, nothing can be balanced")
    if canonical_set(annotations.set_name) != "train":
        console.line(
            "note", f"training balances by the counts of its own split, not of {annotations.set_name}"
        )
    preset = recommended_preset(len(annotations.actions))
    _show(console, "preset", preset_lines(preset, SIZES, len(annotations.actions)))
    return {
        **counts.to_dict(),
        "balance": {name: asdict(balance) for name, balance in balances.items()},
        "findings": [list(finding) for finding in plan.findings()],
        "preset": {"name": preset, "flags": PRESETS[preset]},
    }


def plan_of(config: AnalyzeConfig, counts: SetCounts) -> BalancePlan:
    """Return the balance that the flags give to a training set like this one.

    The plan has a weighted ce for each task of `config.tasks` that any action has a label of. UserError for a
    task to be sampled that none has a label of.
    """
    sampled = tuple(task_name(word) for word in config.balance.balance_tasks)
    strategy = config.class_weighting_strategy
    settings = BalanceSettings(
        sampler="factor" if config.use_class_balanced_sampler else "shuffle",
        sampler_tasks=sampled,
        factor_start=config.oversample_factor,
        factor_end=config.oversample_factor,
        max_repeat=config.balance.max_repeat,
        strategy=strategy,
        limit=config.max_weight_ratio,
        basis=config.balance.weight_basis,
        allow_overcorrection=config.balance.allow_overcorrection,
    )
    shown = [name for name in map(task_name, config.tasks) if sum(counts.tasks[name].actions)]
    if not shown:
        raise UserError(f"--tasks: no action of {counts.annotations.path} has a label of any of them")
    losses = {name: LossSettings(weighted=strategy != "none") for name in shown}
    tasks = {name: counts.tasks[name].labels for name in dict.fromkeys([*shown, *sampled])}
    encoded = [[labels.encode(action) for labels in tasks.values()] for action in counts.annotations.actions]
    table = np.array([row for row in encoded if set(row) != {IGNORE}], dtype=np.int64)
    labels = dict(zip(tasks, table.T))
    return plan_balance(settings, losses, labels, tasks, epochs=1, seed=0)


def balance_of(config: AnalyzeConfig, plan: BalancePlan, task: str) -> TaskBalance:
    """Return what the plan does to the classes of a task."""
    statistics, budget = plan.statistics[task], plan.budget(task, 0)
    return TaskBalance(
        names=statistics.names or (),
        counts=tuple(statistics.counts.tolist()),
        natural=tuple(statistics.prior.tolist()),
        factors=_factors(plan, task),
        presented=tuple(budget.presented.tolist()),
        weights=plan.weights(task, 0),
        effective=tuple(budget.effective.tolist()),
        margins=tuple(ldam_margins(statistics.counts, max_margin=config.ldam_max_m).tolist()),
        strength=budget.strength,
        inversion=budget.inversion,
    )


def _factors(plan: BalancePlan, task: str) -> tuple[float, ...] | None:
    sampler = plan.sampler()
    if not isinstance(sampler, OversampleSampler) or task not in plan.settings.sampler_tasks:
        return None
    found = sampler.class_factors(plan.settings.sampler_tasks.index(task), 0).tolist()
    return tuple(found + [1.0] * (plan.statistics[task].num_classes - len(found)))


def recommended_preset(actions: int) -> PresetName:
    """Return the preset of training that is recommended for a number of training actions."""
    return next(name for name, _, most in SIZES if most is None or actions <= most)


def calibrate(config: AnalyzeConfig, path: Path, console: Console) -> Calibration:
    """Fit offsets and thresholds on validation logits, show them and write the file."""
    calibration = fit_calibration(path, limit=config.max_offset)
    for line in (*calibration_lines(calibration), *threshold_lines(calibration)):
        console.raw(line)
    write_calibration(config.out, calibration)
    console.line("written", f"{config.out}   for predict and submit: --calibration {config.out}")
    return calibration


def _show(console: Console, label: str, lines: Sequence[str]) -> None:
    console.line(label, "\n".join(lines))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
