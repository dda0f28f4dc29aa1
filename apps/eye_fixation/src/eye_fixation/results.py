"""The result file of a comparison: everything measured, in JSON types, written anew after each training."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from common.config import to_yaml
from common.engine.manifest import replace_text
from common.engine.run import git_commit
from eye_fixation.fitting import network_config, start_bias
from eye_fixation.losses import build_loss, hyperparameters, loss_info
from eye_fixation.simvp import SimVP, SimVPConfig
from eye_fixation.statistics import GroupStatistics, null_warnings, seed_compat_summary, without_nan
from eye_fixation.study import Sequences
from eye_fixation.training import JudgedRun, Setting, film_sequences
from eye_fixation.yardsticks import CPU, HUMAN, KERNEL, ORACLE

FILE_NAME, FILM_NAME = "loss_comparison.json", "film.npz"
LEAKAGE = 3.0
"""Standard errors above the exact optimum at which a result cannot be honest."""
CAVEAT = "0.5 on sigmoid measures calibration: an uninformed MSE model gets recall 1.0"


class Bench:
    """The resamples of the test groups, and the baselines summarised on them once."""

    def __init__(self, setting: Setting) -> None:
        judging, scores = setting.config.judging, setting.yardsticks.scores
        self.statistics = GroupStatistics(
            setting.study.groups(), resamples=judging.bootstrap, level=judging.ci
        )
        self.baselines = {
            name: {"summary": self.statistics.summary([found])} for name, found in scores.items()
        }


def assemble(
    setting: Setting,
    bench: Bench,
    runs: Mapping[str, Sequence[JudgedRun]],
    command: Sequence[str],
    names: Sequence[str],
) -> dict[str, Any]:
    """Return the contents of the result file for the trainings done so far."""
    statistics = bench.statistics
    good = {name: [run for run in found if run.ok] for name, found in runs.items()}
    good = {name: found for name, found in good.items() if found}
    scores = {name: [run.headline for run in found] for name, found in good.items()}
    yardsticks = setting.yardsticks.scores
    reference = (KERNEL, yardsticks[KERNEL]) if KERNEL in yardsticks else None
    content = {
        "schema": 1,
        "kind": "loss_comparison",
        "command": shlex.join(command),
        "config": yaml.safe_load(to_yaml(setting.config)),
        "environment": environment(setting),
        "data": describe_data(setting),
        "seed_compat": {
            name: seed_compat_summary([run.compat for run in found]) for name, found in good.items()
        },
        "losses": {name: _loss(setting, name, runs.get(name, ()), statistics) for name in names},
        "baselines": {name: found for name, found in bench.baselines.items() if name not in (HUMAN, ORACLE)},
        "oracle": bench.baselines.get(ORACLE),
        "human": bench.baselines.get(HUMAN),
        "comparison": statistics.comparison(scores, reference=reference) if scores else None,
    }
    warnings = [*statistics.warnings, *_leaks(statistics, scores, yardsticks)]
    clean, places = without_nan(content)
    return {**clean, "warnings": [*warnings, *null_warnings(places)]}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the result file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_film(setting: Setting, path: Path, runs: Mapping[str, Sequence[JudgedRun]]) -> None:
    """Write the densities of a few test sequences, of the first run of each loss and of the kernel."""
    data = setting.config.data
    test = Sequences.of(setting.study.splits.test, data, CPU)
    shown = film_sequences(len(test))
    arrays: dict[str, Any] = {
        "coordinates": test.coordinates[shown].numpy(),
        "mask": test.mask[shown].numpy(),
        "in_len": data.in_len,
    }
    kernel = setting.yardsticks.baselines.get(KERNEL)
    if kernel is not None:
        past, mask = test.past
        density = kernel.density(past[shown], mask[shown])
        assert density is not None
        arrays[f"density.{KERNEL}"] = density.half().numpy()
    for name, found in runs.items():
        film = next((run.film for run in found if run.film is not None), None)
        if film is not None:
            arrays[f"density.{name}"] = film.numpy()
    np.savez_compressed(path, **arrays)


def environment(setting: Setting) -> dict[str, Any]:
    """Return what the numbers were computed with."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(setting.device),
        "precision": setting.config.run.precision,
        "threads": torch.get_num_threads(),
        "git": git_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe_data(setting: Setting) -> dict[str, Any]:
    """Return what was used, and where it came from."""
    study, data = setting.study, setting.config.data
    metadata = study.metadata
    splits = dict(zip(("train", "val", "test"), study.splits, strict=True))
    return {
        "source": metadata.source,
        "source_name": metadata.source_name,
        "dir": str(study.folder),
        "sha256": study.sha256,
        "sequences": {name: len(split) for name, split in splits.items()},
        "valid_target_frames": {
            name: int(split.mask[:, data.in_len :].sum()) for name, split in splits.items()
        },
        "counts": {name: dict(split.counts) for name, split in splits.items()},
        "split_by": metadata.split_by,
        "img_size": metadata.img_size,
        "in_len": data.in_len,
        "out_len": data.out_len,
        "rate_hz": metadata.rate_hz,
        "geometry": metadata.geometry.to_dict(),
        "prevalence": metadata.prevalence,
    }


def in_short(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the few values that stand for a comparison elsewhere."""
    best = content["comparison"]["ranking"][0]
    summary = content["losses"][best]["summary"]
    short = {f"bits of {best}": summary["bits"]["mean"], "gain over the kernel": summary["ig_kernel"]["mean"]}
    return short | {"gaze": content["data"]["source"]}


def leaking(content: Mapping[str, Any]) -> bool:
    """Return whether a result lies above what is possible."""
    return any("above the oracle" in line for line in content["warnings"])


def _loss(
    setting: Setting, name: str, runs: Sequence[JudgedRun], statistics: GroupStatistics
) -> dict[str, Any]:
    config, size = setting.config, setting.img_size
    loss = build_loss(name, config.loss_options, size)
    good = [run for run in runs if run.ok]
    return {
        "kind": loss_info(name).kind,
        "hyperparameters": hyperparameters(loss),
        "prior_bias": start_bias(name, config.network, size),
        "parameters": parameter_count(network_config(config.network, config.data, size)),
        "initial_state_sha256": {str(run.seed): run.initial_state for run in good},
        "runs": [run.entry for run in runs],
        "summary": statistics.summary([run.headline for run in good]) if good else None,
    }


@cache
def parameter_count(config: SimVPConfig) -> int:
    """Return the number of parameters of a network."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in SimVP(config).parameters())


def _leaks(
    statistics: GroupStatistics, scores: Mapping[str, Any], yardsticks: Mapping[str, Any]
) -> list[str]:
    if ORACLE not in yardsticks:
        return []
    found = {
        name: statistics.standard_errors_above(runs, yardsticks[ORACLE]) for name, runs in scores.items()
    }
    return [
        f"{name} lies {errors:.1f} standard errors above the oracle: test data have leaked into training"
        for name, errors in found.items()
        if errors > LEAKAGE
    ]
