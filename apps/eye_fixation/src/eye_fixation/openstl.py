"""Fill a SimVP from a weights file: ours or OpenSTL's, whose parameter names are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from common.config import UserError
from common.weights_file import read_tensors
from eye_fixation.simvp import SimVP

PREFIXES = re.compile(r"^((model|module|_orig_mod)\.)+")
"""What wrappers of a network put before its names."""
LISTED = 3
MARKS = {
    "TAU": "attn.spatial_gating_unit.fc.0.weight",
    "gSTA": "attn.proj_1.weight",
    "ConvMixer": "conv_pw.weight",
}
"""A tensor by which a type's blocks are known, once the types above it are ruled out; axis 1 is the width."""

Shapes = Mapping[str, tuple[int, ...]]


def load_weights(model: SimVP, path: str | Path, *, flag: str = "--init-from") -> None:
    """Copy every tensor of a safetensors or torch file into `model`.

    Leading `model.`, `module.` and `_orig_mod.` are dropped from the names. Raises UserError if the file is
    missing or unreadable, or unless its tensors are exactly those of `model` in name and shape; then it says
    which sizes the file has, and `model` is unchanged.
    """
    tensors = read_tensors(Path(path), flag=flag)
    state = {PREFIXES.sub("", name): tensor for name, tensor in tensors.items()}
    if len(state) < len(tensors):
        raise UserError(
            f"{flag} {path}: {len(tensors) - len(state)} names occur twice, with and without prefix"
        )
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    faults = list(_faults(found, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}))
    if faults:
        raise UserError(
            "\n".join(
                [
                    f"{flag} {path} does not fit the model: {len(faults)} tensors differ",
                    *(f"  {fault}" for fault in faults[:LISTED]),
                    f"  the file holds {_description(found)}",
                ]
            )
        )
    model.load_state_dict(state)


def _faults(found: Shapes, wanted: Shapes) -> Iterator[str]:
    for name, shape in wanted.items():
        if name not in found:
            yield f"{name} {list(shape)}: not in the file"
        elif found[name] != shape:
            yield f"{name}: {list(found[name])} in the file, {list(shape)} in the model"
    for name, shape in found.items():
        if name not in wanted:
            yield f"{name} {list(shape)}: not in the model"


def _description(found: Shapes) -> str:
    """Return the flags of the network in a file, read from its shapes."""
    try:
        flags = _flags(found)
    except (LookupError, ZeroDivisionError, StopIteration):
        return "no SimVP of these types"
    return " ".join(f"{flag} {value}" for flag, value in flags.items())


def _flags(found: Shapes) -> dict[str, str | int]:
    hid_S = found["enc.enc.0.conv.conv.weight"][0]
    depth = _count(found, "hid.enc.")
    kind, (inputs, hidden, outputs) = _translator(found, depth - 1)
    return {
        "--model-type": kind,
        "--hid-S": hid_S,
        "--hid-T": hidden,
        "--N-S": _count(found, "enc.enc."),
        "--N-T": depth,
        "--in-len": inputs // hid_S,
        "--out-len": outputs // hid_S,
    }


def _translator(found: Shapes, last: int) -> tuple[str, tuple[int, int, int]]:
    """Return the type of the translator and its widths: of its input, inside, of its output."""
    if "hid.enc.0.conv1.weight" in found:
        inputs = found["hid.enc.0.conv1.weight"][1]
        hidden = found["hid.enc.0.layers.0.conv.weight"][0]
        return "IncepU", (inputs, hidden, found[f"hid.dec.{last}.layers.0.conv.weight"][0])
    kind = next(kind for kind, mark in MARKS.items() if f"hid.enc.0.block.{mark}" in found)
    inputs, hidden = (found[f"hid.enc.{k}.block.{MARKS[kind]}"][1] for k in (0, last))
    return kind, (inputs, hidden, found.get(f"hid.enc.{last}.reduction.weight", (hidden,))[0])


def _count(found: Shapes, prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in found if name.startswith(prefix)})
