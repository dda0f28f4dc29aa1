"""The verb `experiment`: methods against imbalance under the same conditions, on one trained backbone.

The backbone runs once, without augmentation; only fresh heads are trained, as in the decoupled training of
Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, 2020.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import (
    NOT_NEGATIVE,
    POSITIVE,
    Finding,
    Parsed,
    Range,
    UserError,
    check,
    out_of_range,
    writing,
)
from common.engine.command import run_training
from common.engine.distributed import World
from common.engine.fit import Summary
from common.engine.logging import Console
from common.engine.manifest import library_versions
from common.video import VideoError
from mvfouls.card import Trained
from mvfouls.config_shared import task_name
from mvfouls.config_verbs import ExperimentConfig, MethodName
from mvfouls.experiment_data import open_bench
from mvfouls.experiment_features import FOLDER
from mvfouls.experiment_methods import METHODS, REFERENCE
from mvfouls.experiment_page import write_page
from mvfouls.experiment_scores import COVERS, Part, Scoreboard, hits_of, parts_of, summarise
from mvfouls.experiment_table import table_lines
from mvfouls.experiment_training import Bench, plan_of, train_heads
from mvfouls.failures import explain
from mvfouls.inference import check_target, open_trained
from mvfouls.judging import LEVEL
from mvfouls.outputs import finite, write_result

KIND, PAGE = "mvfouls experiment", "experiment.html"
CHOSEN = (
    "the checkpoint may have been chosen by these actions: all methods share that, so differences mean "
    "more than levels; --split test is free of it"
)
RANGES = {Range(1): ("epochs", "batch_size", "bootstrap"), NOT_NEGATIVE: ("seeds",), POSITIVE: ("lr",)}
Hits = dict[MethodName, list[NDArray[np.bool_]]]

_log = logging.getLogger("mvfouls")


def main(parsed: Parsed[ExperimentConfig]) -> int:
    """Train, judge, print, write the page; return the exit code: 0 done, 1 failed, 130 or 143 a signal."""
    config = parsed.config
    check(findings(config), False, _log)
    check_out(config.out)
    if config.json is not None:
        check_target(config.json, "--json")

    def run(world: World) -> Summary:
        if world.size > 1:
            raise UserError("mvfouls experiment runs in one process, not under torchrun")
        return experiment(config, world, Console())

    return run_training(run, config.device, bad_input=(VideoError,), explain=explain)


def findings(config: ExperimentConfig) -> Iterator[Finding]:
    """Yield every error and warning about the settings themselves; files are not looked at."""
    tasks = [task_name(name) for name in config.tasks or ("",)]
    for flag, values in (("--methods", config.methods), ("--seeds", config.seeds), ("--tasks", tasks)):
        if not values:
            yield Finding("error", f"{flag}: at least one is expected")
        if twice := [value for place, value in enumerate(values) if value in values[:place]]:
            yield Finding("error", f"{flag}: {twice[0]} is named twice")
    yield from out_of_range(config, RANGES, hyphens=False)
    if config.epochs == 1 and "ldam_drw" in config.methods:
        yield Finding("error", "--epochs 1: ldam_drw re-weights in the second half; more epochs or --methods")
    if REFERENCE not in config.methods:
        yield Finding("warning", f"--methods without {REFERENCE}: there are no differences to tell")


def check_out(folder: Path) -> None:
    """Make the folder; UserError for one that cannot be made or holds something other than an experiment."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be used: {error.strerror or error}") from error
    if held and not held & {FOLDER, PAGE}:
        raise UserError(
            f"--out {folder}: {min(held)} is there, so it is no folder of an experiment; name a new one"
        )


def experiment(config: ExperimentConfig, world: World, console: Console) -> Summary:
    """Open everything, train every method with every seed, compare, report; return how the last one ended."""
    started = time.monotonic()
    trained = open_trained(config.checkpoint, config.device)
    bench = open_bench(config, trained, world, console)
    hits: Hits = {}
    parts: list[Part] = []
    seconds: dict[str, float] = {}
    for name, seed in ((name, seed) for name in config.methods for seed in config.seeds):
        done = train_heads(bench, METHODS[name], seed)
        if done.judgement is None:
            console.line("stopped", f"{done.summary.reason}; the features stay in {config.out / FOLDER}")
            return done.summary
        parts = parts or parts_of(done.judgement, bench.training)
        hits.setdefault(name, []).append(hits_of(done.judgement, parts))
        seconds[name] = seconds.get(name, 0.0) + done.seconds
        value = 100 * done.judgement.metrics()["leaderboard"]
        console.line("trained", f"{name:<18} seed {seed}   LB {value:.1f}   {done.seconds:.1f} s")
    board = Scoreboard(parts, resamples=config.bootstrap)
    content = {
        **about(config, trained, bench),
        **results(config, bench, board, hits),
        "seconds": {"training": seconds, "all": time.monotonic() - started},
    }
    report(config, content, console)
    return done.summary


def about(config: ExperimentConfig, trained: Trained, bench: Bench) -> dict[str, Any]:
    """Return what was done with what, as plain types."""
    card = trained.card
    splits = {"train": bench.training, "judged": bench.judged}
    return {
        "kind": KIND,
        "split": config.split,
        "caveat": CHOSEN if config.split == "valid" else "",
        "checkpoint": {"path": str(trained.path), "epoch": trained.epoch, "step": trained.step},
        "data": {
            side: {
                "folder": str(held.split.source.folder),
                "sha256": held.split.sha256,
                "actions": len(held.split.actions),
                "views": len(held.split.views),
                "samples": len(held),
            }
            for side, held in splits.items()
        },
        "settings": {
            **bench.recipe.to_dict(),
            "seeds": list(config.seeds),
            "tasks": list(bench.tasks),
            "backbone": card.model.backbone,
            "aggregation": card.model.aggregation,
            "dropout": card.model.dropout,
            "heads": {task: asdict(card.model.heads[task]) for task in bench.tasks},
            "frames": list(card.pixels.frames.indices()),
            "height": card.pixels.height,
            "width": card.pixels.width,
        },
        "versions": library_versions(),
        "command": list(sys.argv),
    }


def results(
    config: ExperimentConfig,
    bench: Bench,
    board: Scoreboard,
    hits: Mapping[MethodName, list[NDArray[np.bool_]]],
) -> dict[str, Any]:
    """Return the classes and what each method made of them, as plain types."""
    stacked: dict[str, NDArray[np.bool_]] = {name: np.stack(found) for name, found in hits.items()}
    found = summarise(board, stacked, REFERENCE)
    plans = {name: plan_of(bench, METHODS[name], config.seeds[0]) for name in hits}
    said = {name: [text for _, text in plan.findings()] for name, plan in plans.items()}
    common = [text for text in next(iter(said.values())) if all(text in each for each in said.values())]
    for name, plan in plans.items():
        found[name] |= {"text": METHODS[name].text, "lines": plan.lines(config.epochs - 1)}
        found[name]["findings"] = [text for text in said[name] if text not in common]
        for seed, numbers in zip(config.seeds, found[name]["runs"], strict=True):
            numbers["seed"] = seed
    return {
        "titles": board.titles,
        "parts": [part.to_dict() for part in board.parts],
        "reference": REFERENCE if REFERENCE in hits else None,
        "findings": common,
        "interval": {"level": LEVEL, "resamples": config.bootstrap, "covers": COVERS},
        "methods": found,
    }


def report(config: ExperimentConfig, content: dict[str, Any], console: Console) -> None:
    """Print the table; write the page and the file. UserError when the disk refuses."""
    for line in table_lines(content):
        console.raw(line)
    if content["caveat"]:
        console.line("note", content["caveat"])
    path = config.out / PAGE
    with writing(f"--out {path}"):
        write_page(path, finite(content))
    console.line("page", str(path))
    if config.json is not None:
        write_result(config.json, content)
        console.line("json", str(config.json))
