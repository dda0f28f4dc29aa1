"""What every training command does around the engine: device, kernels, numbers, folder to resume, exit code.

Flags are named as users type them, so all applications must call them `--device` and `--resume`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from common.config import UserError
from common.config.commands import FAILED
from common.engine.checkpoint import CheckpointError
from common.engine.distributed import World, join_world, leave_world, pick_device
from common.engine.fit import ResumeError, Summary
from common.engine.run import Run, RunFolderError, start_run
from common.engine.settings import Precision
from common.engine.step import TrainingError

CHECKPOINTS = "checkpoints"


def failure_text(error: BaseException) -> str | None:
    """Return what a user reads about an error that ended training; None for one that is a bug."""
    return f"training stopped: {error}" if isinstance(error, TrainingError) else None


def run_training(
    train: Callable[[World], Summary],
    device: str,
    *,
    bad_input: tuple[type[Exception], ...] = (),
    explain: Callable[[BaseException], str | None] = failure_text,
) -> int:
    """Call `train` with this process's place among those of `torchrun`; return its exit code, 1 if it failed.

    A failure that `explain` has a text for is printed, others leave with their traceback. Raises UserError
    for a device that is not there, for a checkpoint or run folder that cannot be used, and for the
    application's own errors `bad_input`.
    """
    expected: tuple[type[Exception], ...] = (CheckpointError, RunFolderError, ResumeError, *bad_input)
    try:
        choose_device(device)
        return train(join_world(device)).exit_code
    except expected as error:
        raise UserError(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        text = explain(error)
        if text is None:
            raise
        sys.stderr.write(f"error: {text}\n")
        return FAILED
    finally:
        leave_world()


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; UserError for one that is absent or unknown."""
    try:
        return pick_device(name)
    except ValueError as error:
        raise UserError(f"--device: {error}") from error


def choose_precision(
    mode: Literal["auto", "off", "bf16", "fp16"], device: torch.device, *, flag: str
) -> Precision:
    """Return what the `flag` of mixed precision means on a device; UserError for fp16 without CUDA."""
    cuda = device.type == "cuda"
    if mode == "auto":
        return "bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32"
    if mode == "fp16" and not cuda:
        raise UserError(f"{flag} fp16 needs a CUDA device; use bf16 or off")
    return "fp32" if mode == "off" else mode


def use_deterministic_kernels() -> None:
    """Make torch refuse operators without a deterministic kernel; CUDA needs its workspace setting first."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def open_run_folder(folder: Path, config: str, *, resuming: bool, flag: str) -> Run:
    """Open a new or a resumed run folder with this command on record.

    Raises UserError naming the `flag` that chose the folder when it cannot be written, and RunFolderError as
    `start_run` does.
    """
    try:
        return start_run(folder, config=config, command=sys.argv, resuming=resuming)
    except RunFolderError:
        raise
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be written: {error.strerror}") from error


def run_folder_of(path: Path) -> Path:
    """Return the run folder of a checkpoint folder, or `path` itself if it lies in no folder of checkpoints.

    >>> print(run_folder_of(Path("runs/a/checkpoints/step-00000008")), run_folder_of(Path("runs/a")))
    runs/a runs/a
    """
    return path.parent.parent if path.parent.name == CHECKPOINTS else path


def require_checkpoints(folder: Path, resume: str) -> Path:
    """Return the run folder that `--resume` stands for; UserError when it holds no checkpoint."""
    if not (folder / CHECKPOINTS).is_dir():
        raise UserError(f"--resume {resume}: {folder} is neither a run folder nor holds a checkpoint")
    return folder
