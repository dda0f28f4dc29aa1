"""The documented functions: data, frames, model, one training, one evaluation, the whole comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.engine.distributed import World
from common.engine.fit import fit
from common.engine.logging import Console
from common.engine.run import Run
from common.engine.state import Provenance
from eye_fixation.compare import run_comparison
from eye_fixation.config import CompareConfig
from eye_fixation.data.contract import SPLITS, GazeData
from eye_fixation.data.pt import find_folder, load_folder
from eye_fixation.data.pt_file import file_contents
from eye_fixation.fitting import documented_fit_config, own_loaders
from eye_fixation.frames import create_sparse_frames
from eye_fixation.metrics import CompatSums
from eye_fixation.simvp import create_model
from eye_fixation.task import GazeTask, given_frames
from eye_fixation.training import INTERRUPTED

__all__ = [
    "create_model",
    "create_sparse_frames",
    "evaluate_model",
    "load_real_training_data",
    "run_real_loss_function_analysis",
    "train_model_with_loss",
]

Contents = dict[str, Any]
Trained = tuple[nn.Module, float, list[float], list[float]]


def load_real_training_data(
    data_dir: Path | str | None = None, coord_order: Literal["xy", "yx"] | None = None
) -> tuple[Contents, Contents, Contents]:
    """Return train, val and test, checked.

    `coordinates` (N, T, 2) are (x, y) in cells, with `fixation_mask` (N, T); `metadata` says where they come
    from. Without `data_dir` the first of the known folders is read. Prints number, shape and source. Raises
    UserError naming what is missing or wrong.
    """
    folder = find_folder(None if data_dir is None else Path(data_dir))
    splits, console = load_folder(folder, coord_order=coord_order), Console()
    console.line("data", str(folder))
    for name, data in zip(SPLITS, splits):
        shape = tuple(data.coordinates.shape)
        console.line(
            "data", f"{name:<5} {len(data)} sequences  coordinates {shape}  source {data.metadata.source}"
        )
    return _contents(splits.train), _contents(splits.val), _contents(splits.test)


def train_model_with_loss(
    model: nn.Module,
    train_loader: DataLoader[Any],
    val_loader: DataLoader[Any],
    loss_fn: nn.Module,
    loss_name: str,
    device: str | torch.device,
    epochs: int = 25,
) -> Trained:
    """Return the model with its best weights, best validation loss, and the losses of every epoch.

    Adam at 1e-3 with coupled weight decay 1e-5, halved after 5 epochs without gain, gradient norm at most 1.
    Loaders yield (inputs, targets) or (inputs, targets, mask) of frames [B, T, 1, S, S] and bool [B, T]. The
    best validation loss is NaN where none was finite. ValueError for epochs < 1, TrainingError where training
    cannot go on, KeyboardInterrupt after a signal.
    """
    if epochs < 1:
        raise ValueError(f"epochs {epochs}: at least 1 is expected")
    world, steps = World(device=torch.device(device)), len(train_loader)
    task = GazeTask(
        model.to(world.device), loss_fn.to(world.device), given_frames, given_frames, keep_best=True
    )
    with Run.dry() as run:
        run.console.line("train", f"{loss_name}  {epochs} epochs of {steps} steps  {world.device}")
        summary = fit(
            run,
            task,
            own_loaders(train_loader, val_loader),
            documented_fit_config(epochs, steps),
            provenance=Provenance(config="", metadata={"loss": loss_name}),
            world=world,
        )
    if summary.exit_code > INTERRUPTED:
        raise KeyboardInterrupt
    if task.best_state:
        model.load_state_dict(task.best_state)
    best = math.nan if summary.best is None else summary.best
    return (
        model, best, [epoch["train_loss"] for epoch in task.history],
        [epoch["val_loss"] for epoch in task.history],
    )  # fmt: skip


@torch.no_grad()
def evaluate_model(
    model: nn.Module, test_loader: Iterable[Any], device: str | torch.device
) -> dict[str, float]:
    """Return mean squared error of the raw output, and recall, precision and F1 of sigmoid(z) > .5.

    Pixels of all batches are counted together, so that the size of a batch does not matter; 0 / 0 is 0.
    Batches as in `train_model_with_loss`. An uninformed MSE model gets recall 1.
    """
    target = torch.device(device)
    model.to(target).eval()
    sums = CompatSums()
    for batch in test_loader:
        frames = given_frames([part.to(target) for part in batch])
        output: Tensor = model(frames.inputs)
        sums += CompatSums.of(output, frames.targets, frames.mask)
    return sums.metrics()


def run_real_loss_function_analysis(config: CompareConfig | None = None) -> dict[str, Any]:
    """Run the comparison and return the contents of its result file; UserError for bad input.

    Without `config` it is the documented one: five losses, one seed, 25 epochs of the full model.
    """
    return run_comparison(CompareConfig() if config is None else config)


def _contents(data: GazeData) -> Contents:
    """Return a split as its file holds it, its coordinates and what is said of them as (x, y)."""
    contents = file_contents(data)
    return contents | {"metadata": contents["metadata"] | {"coord_order": "xy"}}
