"""Files of tensors and plain types: read without executing anything in them, replaced in one step."""

from __future__ import annotations

import os
import pickle
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from common.config import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs store the tensors; the first that a file has is read."""
DAMAGED = (
    OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, OverflowError,
    AssertionError, struct.error, SafetensorError,
)  # fmt: skip
"""What torch and safetensors raise for bytes that are no weights."""
_CLASS = re.compile(r"GLOBAL (\S+)")


def read_tensors(path: Path, *, flag: str) -> dict[str, Tensor]:
    """Return the named tensors of a safetensors or torch file, on the CPU, under the names it gives them.

    A torch file holds them bare or under one of `WRAPPERS`; what else it holds must be plain data and is
    left out. `flag` is what the user named the file with. Raises UserError, which starts with `flag`, if the
    file is missing, damaged, holds other objects than plain data, or no tensors.
    """
    if not path.is_file():
        raise UserError(f"{flag}: no file at {path}")
    try:
        tensors = _read(path)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{flag}: cannot read {path}: refused, it is damaged or holds more than tensors and plain data: "
            f"{_first_line(error)}"
        ) from error
    except DAMAGED as error:
        raise UserError(f"{flag}: cannot read {path}: {_first_line(error)}") from error
    if not tensors:
        raise UserError(f"{flag}: {path} holds no named tensors")
    return tensors


def read_dictionary(path: Path) -> dict[str, Any]:
    """Return the dictionary of tensors and plain types that `torch.save` wrote, on the CPU.

    Raises UserError naming the file, and the class of an object in it that is neither.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := _CLASS.search(str(error)):
            raise UserError(
                f"{path}: holds objects of {named[1]}, which are not read; tensors and plain types are "
                "expected"
            ) from None
        raise UserError(f"{path}: damaged, or not written by torch.save") from None
    except DAMAGED as error:
        raise UserError(f"{path}: cannot be read: {_first_line(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a dictionary is expected, not a {type(content).__name__}")
    return content


def write_dictionary(path: Path, content: Mapping[str, Any], *, keep_previous: Path | None = None) -> None:
    """Write tensors and plain types beside `path` and rename the file into place.

    A file that was there becomes `keep_previous`. Raises UserError when the disk refuses; the old file stays.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(content), partial)
        if keep_previous is not None and path.exists():
            os.replace(path, keep_previous)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or _first_line(error)
        raise UserError(f"{path}: cannot be written: {reason}") from error


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        return {}
    inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    return {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
