"""One loss, one seed: trained, calibrated on val, judged on test, written down."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from common.config import to_yaml
from common.engine.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, load_weights
from common.engine.fit import Summary, fit
from common.engine.loading import Loaders
from common.engine.logging import Console
from common.engine.randomness import seed_everything
from common.engine.run import start_run
from common.engine.state import Provenance
from common.engine.wandb import WandbSink
from common.losses.sparse_map import OutputKind
from common.metrics.ranking import Threshold
from common.metrics.sparse_map import to_density
from common.weights_file import read_dictionary, write_dictionary
from eye_fixation.checks import Config
from eye_fixation.config import DataConfig
from eye_fixation.fitting import (
    apply_bias,
    build_network,
    fit_config,
    index_loaders,
    network_config,
    start_bias,
    state_hash,
)
from eye_fixation.losses import build_loss, loss_info
from eye_fixation.metrics import Fitted, Scores, converged, fit_on_validation, judge, seed_compat
from eye_fixation.predictor import FILE_NAME, ModelFile, network_outputs, write_model
from eye_fixation.simvp import SimVP
from eye_fixation.study import Sequences, Study
from eye_fixation.task import GazeTask, reader
from eye_fixation.yardsticks import Yardsticks

PLACES = frozenset({"out", "results_file", "resume", "device", "num_threads", "wandb", "wandb_project"})
"""Settings that a resumed comparison may change."""
FREE_SETTINGS = PLACES | {"losses", "seeds", "loss", "seed", "judging"}
RESULT = "judged.pt"
INTERRUPTED = 128
"""Exit codes above it say which signal ended a training."""
FILM_SEQUENCES = 3


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """What became of one training.

    `entry` is its part of the result file; `raw` and `calibrated` are None for a run that failed. `film`
    float16 [n, T_out, S, S] shows a few test sequences.
    """

    loss: str
    seed: int
    entry: dict[str, Any]
    initial_state: str = ""
    compat: dict[str, Any] = field(default_factory=dict)
    raw: Scores | None = None
    calibrated: Scores | None = None
    film: Tensor | None = None

    @property
    def ok(self) -> bool:
        """Whether the training was completed and judged."""
        return self.raw is not None

    @property
    def headline(self) -> Scores:
        """Return the scores that count: the calibrated ones, where there are any."""
        assert self.raw is not None
        return self.raw if self.calibrated is None else self.calibrated


@dataclass(frozen=True, eq=False)
class Setting:
    """What all trainings of a comparison share."""

    config: Config
    study: Study
    yardsticks: Yardsticks
    device: torch.device
    console: Console

    @property
    def img_size(self) -> int:
        """Side of the grid."""
        return self.study.metadata.img_size


@dataclass(frozen=True, eq=False)
class Training:
    """A training before its first step; `initial_state` is the hash of the weights it starts from."""

    loss: str
    seed: int
    network: SimVP
    initial_state: str
    task: GazeTask
    loaders: Loaders


def train_one(setting: Setting, loss: str, seed: int, folder: Path) -> tuple[Summary, JudgedRun | None]:
    """Train or go on training in `folder`; the judged run is None when a signal ended it."""
    training = open_training(setting, loss, seed)
    summary = fit_training(setting, training, folder)
    if summary.exit_code > INTERRUPTED:
        return summary, None
    best = load_checkpoint(find_checkpoint("best", folder))
    load_weights(training.network, best.model, what=str(best.path))
    entry = training_entry(setting, training, summary, best, folder)
    return summary, judge_network(setting, training.network, loss, entry, training.initial_state)


def open_training(setting: Setting, loss: str, seed: int) -> Training:
    """Build network, task and loaders."""
    config, splits = setting.config, setting.study.splits
    train, val = (Sequences.of(data, config.data, setting.device) for data in (splits.train, splits.val))
    size = setting.img_size
    network = build_network(network_config(config.network, config.data, size), config.network, seed)
    initial_state = state_hash(network)
    apply_bias(network, start_bias(loss, config.network, size))
    function = build_loss(loss, config.loss_options, size)
    network = network.to(setting.device)
    task = GazeTask(network, function, reader(train), reader(val), select=config.optimization.select)
    loaders = index_loaders(len(train), len(val), config.optimization.batch_size, seed)
    return Training(loss, seed, network, initial_state, task, loaders)


def fit_training(setting: Setting, training: Training, folder: Path) -> Summary:
    """Fit in `folder`, from where a resumed comparison left it."""
    config, loss, seed = setting.config, training.loss, training.seed
    provenance = Provenance(
        config=to_yaml(config),
        metadata={"loss": loss, "seed": seed, "data": setting.study.sha256},
        free_settings=FREE_SETTINGS,
        fixed_metadata=("loss", "seed", "data"),
    )
    resuming = config.run.resume is not None and begun(folder)
    seed_everything(seed)
    with start_run(folder, config=provenance.config, command=sys.argv, resuming=resuming) as run:
        return fit(
            run,
            training.task,
            training.loaders,
            fit_config(config.optimization, config.run, len(training.loaders.batches)),
            provenance=provenance,
            resume=str(folder) if resuming else None,
            sink=_sink(setting, loss, seed, folder),
        )


def training_entry(
    setting: Setting, training: Training, summary: Summary, best: Checkpoint, folder: Path
) -> dict[str, Any]:
    """Return what the result file says of a training before it is judged."""
    history, paces = training.task.history, training_seconds(folder / "metrics.jsonl")
    return {
        "seed": training.seed,
        "status": "ok",
        "data": setting.study.sha256,
        "error": None,
        "epochs": len(history),
        "best_epoch": best.epoch,
        "best_val_loss": next(epoch["val_loss"] for epoch in history if epoch["step"] == best.step),
        "train_losses": [epoch["train_loss"] for epoch in history],
        "val_losses": [epoch["val_loss"] for epoch in history],
        "seconds": sum(paces.values()),
        "step_ms": 1000 * sum(paces.values()) / max(1, summary.steps),
        "checkpoint": str(folder / FILE_NAME),
    }


def begun(folder: Path) -> bool:
    """Return whether a training can be continued; what one left that had saved nothing is removed."""
    if any((folder / "checkpoints").glob("step-*")):
        return True
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    return False


def judge_network(
    setting: Setting, network: SimVP, loss: str, entry: dict[str, Any], initial: str
) -> JudgedRun:
    """Calibrate on val, judge on test, write the model file."""
    config, study, kind = setting.config, setting.study, loss_info(loss).kind
    val, test = (_cpu(data, config.data) for data in (study.splits.val, study.splits.test))
    fitted = fit_on_validation(_density(network, val, kind), *val.future)
    outputs = _outputs(network, test)
    density = to_density(outputs, kind)
    raw = _judge(setting, density, test, fitted.raw_threshold)
    calibrated, calibrated_density = None, density
    if config.judging.calibrate:
        calibrated_density = fitted.calibration.apply(density)
        calibrated = _judge(setting, calibrated_density, test, fitted.threshold)
    targets, mask = test.targets(torch.arange(len(test)))
    compat = seed_compat(outputs[:, :, None], targets, mask)
    compat |= {
        "best_val_loss": entry["best_val_loss"],
        "final_train_loss": entry["train_losses"][-1] if entry["train_losses"] else math.nan,
        "converged": converged(entry["val_losses"]),
    }
    entry |= {
        "calibration": fitted.calibration.to_dict() if config.judging.calibrate else None,
        "threshold": {"value": _threshold(setting, fitted).value, "chosen_on": "val"},
        "metrics": {
            "raw": raw.to_dict(),
            "calibrated": None if calibrated is None else calibrated.to_dict(),
        },
    }
    write_model(
        Path(entry["checkpoint"]),
        _model_file(setting, network, loss, kind, fitted, entry),
        network.state_dict(),
    )
    film = calibrated_density[film_sequences(len(test))].half()
    judged = JudgedRun(loss, entry["seed"], entry, initial, compat, raw, calibrated, film)
    save_judged(Path(entry["checkpoint"]).parent / RESULT, judged)
    return judged


def film_sequences(count: int) -> list[int]:
    """Return the positions of the test sequences that are shown, spread over all."""
    return sorted({place * count // FILM_SEQUENCES for place in range(FILM_SEQUENCES)})


def save_judged(path: Path, judged: JudgedRun) -> None:
    """Write a judged run beside its checkpoints, so that a resumed comparison need not repeat it."""
    scores = {name: getattr(judged, name) for name in ("raw", "calibrated")}
    write_dictionary(
        path,
        {
            "loss": judged.loss,
            "seed": judged.seed,
            "entry": judged.entry,
            "initial_state": judged.initial_state,
            "compat": judged.compat,
            "film": judged.film,
            **{name: None if value is None else value.to_state() for name, value in scores.items()},
        },
    )


def load_judged(path: Path) -> JudgedRun | None:
    """Return what `save_judged` wrote, None where there is nothing."""
    if not path.is_file():
        return None
    held = read_dictionary(path)
    for name in ("raw", "calibrated"):
        held[name] = None if held[name] is None else Scores.from_state(held[name])
    return JudgedRun(**held)


def _cpu(data: Any, config: DataConfig) -> Sequences:
    return Sequences.of(data, config, torch.device("cpu"))


def _outputs(network: SimVP, sequences: Sequences) -> Tensor:
    return network_outputs(
        network, *sequences.past, img_size=sequences.img_size, input_sigma=sequences.input_sigma
    )


def _density(network: SimVP, sequences: Sequences, kind: OutputKind) -> Tensor:
    return to_density(_outputs(network, sequences), kind)


def _judge(setting: Setting, density: Tensor, sequences: Sequences, threshold: Threshold) -> Scores:
    return judge(
        density,
        *sequences.future,
        sequences.last_input,
        references=setting.yardsticks.references,
        threshold=threshold,
        geometry=setting.study.metadata.geometry,
    )


def _threshold(setting: Setting, fitted: Fitted) -> Threshold:
    return fitted.threshold if setting.config.judging.calibrate else fitted.raw_threshold


def training_seconds(path: Path) -> dict[int, float]:
    """Return how long each epoch trained, as `metrics.jsonl` says; if trained twice, the last time."""
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {record["epoch"]: record["train/seconds"] for record in records if "train/seconds" in record}


def _model_file(
    setting: Setting, network: SimVP, loss: str, kind: OutputKind, fitted: Fitted, entry: dict[str, Any]
) -> ModelFile:
    thresholds = {"raw": fitted.raw_threshold.to_dict()}
    calibrated = {}
    if setting.config.judging.calibrate:
        thresholds["calibrated"] = fitted.threshold.to_dict()
        calibrated = {"calibration": fitted.calibration}
    return ModelFile(
        model=network.config,
        loss=loss,
        kind=kind,
        metadata=setting.study.metadata,
        sha256=setting.study.sha256,
        input_sigma=setting.config.data.input_sigma,
        thresholds=thresholds,
        baselines=setting.yardsticks.stored,
        seed=entry["seed"],
        best_epoch=entry["best_epoch"],
        **calibrated,
    )


def _sink(setting: Setting, loss: str, seed: int, folder: Path) -> WandbSink | None:
    run = setting.config.run
    if not run.wandb:
        return None
    sink = WandbSink(
        run.wandb_project,
        name=f"{loss}-seed{seed}",
        tags=[loss],
        config=yaml.safe_load(to_yaml(setting.config)),
        folder=folder,
    )
    return sink.start(setting.console)
