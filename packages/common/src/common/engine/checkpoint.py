"""Checkpoint folders: written beside, renamed into place, verified before they are read.

`ROOT/step-00001234/` holds the weights, the training state and everything an application needs to rebuild
its model. The one-line text files `ROOT/last` and `ROOT/best` name folders. A process killed at any moment
leaves every checkpoint whose save had returned, whole and findable.
"""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.engine.checkpoint_folders import candidates, prune, publish, remove_leftovers
from common.engine.manifest import (
    CONFIG,
    EMA,
    MANIFEST,
    METADATA,
    MODEL,
    SCHEMA,
    STATE,
    STATISTICS,
    TEMPORARY,
    CheckpointError,
    FileStatus,
    library_versions,
    read_manifest,
    sealed,
    sync_and_hash,
    sync_folder,
    verify_checkpoint,
    write_synced,
)

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "FileStatus",
    "find_checkpoint",
    "load_checkpoint",
    "load_latest_good",
    "load_weights",
    "read_manifest",
    "save_checkpoint",
    "verify_checkpoint",
]

_PLAIN_TYPES = (type(None), bool, int, float, str, bytes)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything known at one optimizer step.

    `headline` is {metric, mode, value} of the last validation; a value that is not finite is stored as None.
    `state` holds plain types and tensors only. `config` is YAML text. `metadata` is what an application needs
    to rebuild model, labels and preprocessing: JSON types with text keys. `path` is where it was read from.
    """

    step: int
    epoch: int
    headline: dict[str, Any] | None
    model: dict[str, Tensor]
    state: dict[str, Any]
    config: str
    ema: dict[str, Tensor] | None = None
    statistics: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None


def save_checkpoint(root: Path, checkpoint: Checkpoint, *, best: bool, keep_last: int = 2) -> Path:
    """Write `root/step-<step>`, point `last` (and `best`) at it, and remove what is no longer kept.

    Kept are the `keep_last` newest steps up to this one and the best; folders of later steps, left by a run
    that was continued from before them, go. A step saved before is replaced; if that folder was the best and
    the new one is not, it stays under another name. One process may write to a root at a time.

    Raises CheckpointError naming the folder and the reason, with earlier checkpoints intact, and TypeError
    naming the entry of `state`, `model` or `metadata` that cannot be stored.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last must be at least 1, got {keep_last}")
    writers = _writers(checkpoint)
    final = root / f"step-{checkpoint.step:08d}"
    temporary = root / f"{final.name}{TEMPORARY}{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(root)
        temporary.mkdir()
        files = _write_files(temporary, writers)
        write_synced(temporary / MANIFEST, sealed(_manifest(checkpoint, files)))
        sync_folder(temporary)
        publish(temporary, final, best)
        prune(final, keep_last)
    except OSError as error:
        raise CheckpointError(f"cannot save {final}: {error.strerror or error}", error.errno) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def load_checkpoint(path: Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Verify and read one checkpoint folder, the weights onto `device`, the state onto the CPU.

    Raises CheckpointError naming the folder, the file and the reason; nothing in a file is ever executed.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint folder", errno.ENOENT)
    try:
        manifest = read_manifest(path)
        files = manifest["files"]
        return Checkpoint(
            step=manifest["step"],
            epoch=manifest["epoch"],
            headline=manifest["headline"],
            model=_read_tensors(path / MODEL, device),
            ema=_read_tensors(path / EMA, device) if EMA in files else None,
            state=_read_state(path / STATE),
            config=(path / CONFIG).read_bytes().decode(),
            statistics=json.loads((path / STATISTICS).read_bytes()) if STATISTICS in files else None,
            metadata=json.loads((path / METADATA).read_bytes()),
            path=path,
        )
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}", error.errno) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def find_checkpoint(where: str | Path, run_folder: Path | None = None) -> Path:
    """Return the checkpoint folder that `where` means, without reading it.

    `where` is a run folder (its last checkpoint), a checkpoint folder, or `last` or `best` of `run_folder`.
    Raises CheckpointError when there is none.
    """
    return candidates(where, run_folder)[0][0]


def load_latest_good(
    where: str | Path, run_folder: Path | None = None, *, device: str | torch.device = "cpu"
) -> tuple[Checkpoint, list[str]]:
    """Load what `find_checkpoint` means or, when that is damaged, the newest good one before it.

    Returns the checkpoint and a line for each damaged one that was passed over.
    Raises CheckpointError listing every checkpoint with its damage when none is good.
    """
    paths, lines = candidates(where, run_folder)
    for path in paths:
        try:
            checkpoint = load_checkpoint(path, device=device)
        except CheckpointError as error:
            lines.append(str(error))
            continue
        return checkpoint, [*lines, f"using {path}"] if lines else []
    raise CheckpointError("no good checkpoint:\n  " + "\n  ".join(lines))


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Load `state` into `model`, key by key; `what` names the source in errors.

    Raises ValueError listing missing, unexpected and wrongly shaped keys; the model is then unchanged.
    """
    own = model.state_dict()
    shapes = [
        f"{name}: {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    ]
    problems = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "wrong shape": shapes,
    }
    lines = [
        f"{kind} ({len(names)}): {_shortened(sorted(names))}" for kind, names in problems.items() if names
    ]
    if lines:
        raise ValueError(f"{what} does not fit the model\n  " + "\n  ".join(lines))
    model.load_state_dict(dict(state))


def _shortened(names: list[str], limit: int = 10) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _writers(checkpoint: Checkpoint) -> dict[str, Callable[[Path], None]]:
    """Return what writes each file, with the content already checked and owning its memory."""
    writers: dict[str, Callable[[Path], None]] = {
        MODEL: partial(_write_tensors, _own_memory(checkpoint.model, "model")),
        STATE: partial(_write_state, _plain(checkpoint.state, "state")),
        CONFIG: partial(_write_text, checkpoint.config),
        METADATA: partial(_write_text, _json_text(checkpoint.metadata, "metadata")),
    }
    if checkpoint.ema is not None:
        writers[EMA] = partial(_write_tensors, _own_memory(checkpoint.ema, "ema"))
    if checkpoint.statistics is not None:
        writers[STATISTICS] = partial(_write_text, _json_text(checkpoint.statistics, "statistics"))
    return writers


def _own_memory(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return contiguous CPU tensors none of which shares memory, as safetensors stores them."""
    owned: dict[str, Tensor] = {}
    held: set[int] = set()
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{where}[{name!r}] is a {type(tensor).__name__}, not a tensor")
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in held or storage.nbytes() != plain.nbytes:
            plain = plain.clone()
        held.add(plain.untyped_storage().data_ptr())
        owned[name] = plain
    return owned


def _plain(value: Any, where: str) -> Any:
    """Return `value` rebuilt from types that load without executing anything."""
    if isinstance(value, Tensor):
        tensor = value.detach()
        return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
    kind = type(value)
    if kind in _PLAIN_TYPES:
        return value
    if kind in (dict, OrderedDict):
        return {_plain(key, f"{where} key"): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if kind in (list, tuple):
        return kind(_plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    raise TypeError(
        f"{where} is a {kind.__module__}.{kind.__qualname__}; only plain types and tensors can be saved"
    )


def _json_text(value: Any, where: str) -> str:
    _check_keys(value, where)
    return json.dumps(value, indent=1)


def _check_keys(value: Any, where: str) -> None:
    """Refuse keys that JSON would turn into text silently."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}; JSON keys are text")
            _check_keys(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_keys(item, f"{where}[{index}]")


def _write_files(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> dict[str, dict[str, Any]]:
    """Write each file; flush and hash it while the next one is written."""
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="checkpoint") as pool:
        pending = {}
        for name, write in writers.items():
            write(folder / name)
            pending[name] = pool.submit(sync_and_hash, folder / name)
        return {name: result.result() for name, result in pending.items()}


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        code = int(found[1]) if found else errno.EIO
        raise OSError(code, os.strerror(code) if found else str(error)) from error


def _write_state(state: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _write_text(text: str, path: Path) -> None:
    path.write_bytes(text.encode())


def _manifest(checkpoint: Checkpoint, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    headline = checkpoint.headline
    if headline is not None and isinstance(headline["value"], float) and not math.isfinite(headline["value"]):
        headline = {**headline, "value": None}
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return {
        "schema": SCHEMA,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "headline": headline,
        "files": files,
        "versions": library_versions(),
        "world": torch.distributed.get_world_size() if distributed else 1,
    }


def _read_tensors(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: refused, it holds more than plain types and tensors") from error
    except (RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, not a dictionary")
    return state
