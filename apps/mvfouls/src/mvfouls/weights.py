"""Weights of backbones from local files: found, translated, checked, and loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from common.config import UserError
from common.weights_file import read_dictionary, read_tensors
from mvfouls.architectures import Architecture, architecture
from mvfouls.backbones import VideoBackbone

FLAG = "--weights"
PYSLOWFAST_SUFFIX, PYSLOWFAST_KEY = ".pyth", "model_state"
"""PySlowFast's files and the key that holds the tensors."""
LISTED = 5
"""Faults of a file that an error names."""
_COUNTER = "num_batches_tracked"

_RENAMED = (
    (r"cls_token", "pos_encoding.class_token"),
    (r"patch_embed\.proj\.(weight|bias)", r"conv_proj.\1"),
    (r"norm\.(weight|bias)", r"norm.\1"),
    (r"head\.projection\.(weight|bias)", r"head.1.\1"),
    (r"(blocks\.\d+)\.(norm[12]\.(?:weight|bias))", r"\1.\2"),
    (r"(blocks\.\d+\.attn)\.(qkv\.(?:weight|bias)|rel_pos_[hwt])", r"\1.\2"),
    (r"(blocks\.\d+\.attn)\.proj\.(weight|bias)", r"\1.project.0.\2"),
    (r"(blocks\.\d+\.attn\.pool_[qkv])\.weight", r"\1.pool.weight"),
    (r"(blocks\.\d+\.attn)\.norm_([qkv])\.(weight|bias)", r"\1.pool_\2.norm_act.0.\3"),
    (r"(blocks\.\d+\.mlp)\.fc1\.(weight|bias)", r"\1.0.\2"),
    (r"(blocks\.\d+\.mlp)\.fc2\.(weight|bias)", r"\1.3.\2"),
    (r"(blocks\.\d+)\.proj\.(weight|bias)", r"\1.project.\2"),
)
"""Names of PySlowFast's MViT, and ours."""


class Translated(NamedTuple):
    """Tensors under our names, and the names that have no counterpart."""

    tensors: dict[str, Tensor]
    unknown: tuple[str, ...]


def from_pyslowfast(tensors: Mapping[str, Tensor]) -> Translated:
    """Return the tensors of PySlowFast's MViTv2 under the names of `mvitv2.mvitv2_b`, classifier included.

    Source: facebookresearch/SlowFast, slowfast/models/attention.py and video_model_builder.py.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        found = next((re.sub(old, new, name) for old, new in _RENAMED if re.fullmatch(old, name)), None)
        if found is None:
            unknown.append(name)
        else:
            renamed[found] = tensor.flatten() if name == "cls_token" else tensor
    return Translated(renamed, tuple(unknown))


def find_weights(name: str, choice: str, folder: Path) -> Path | None:
    """Return the file that `--weights` names for a backbone, None for `none`.

    `auto` looks for the published file in `folder` and in torch's local cache. Nothing is downloaded; raises
    UserError listing the places when there is no such file.
    """
    if choice == "none":
        return None
    if choice != "auto":
        if not Path(choice).is_file():
            raise UserError(f"{FLAG}: no file at {choice}")
        return Path(choice)
    file = architecture(name).file
    if file is None:
        raise UserError(f"{FLAG} auto: no weights of {name} are published under a known name; give a file")
    places = [folder / file, Path(torch.hub.get_dir()) / "checkpoints" / file]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"{FLAG} auto: nothing at {' or '.join(map(str, places))}; nothing is downloaded")
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file under torchvision's names, classifier included.

    Raises UserError for a file that cannot be read, and names that a file of PySlowFast should not have.
    """
    tensors = {key.removeprefix("module."): value for key, value in _tensors(path).items()}
    if "patch_embed.proj.weight" not in tensors or "cls_token" not in tensors:
        return tensors
    translated = from_pyslowfast(tensors)
    if translated.unknown:
        raise UserError(f"{FLAG} {path}: tensors that MViTv2 lacks: {_some(translated.unknown)}")
    return translated.tensors


def head_classes(tensors: Mapping[str, Tensor], known: Architecture) -> int | None:
    """Return the number of classes of a file's classifier, None when it has none."""
    ends = (value for name, value in tensors.items() if name.startswith(known.classifier) and value.ndim > 1)
    return next((len(value) for value in ends), None)


def check_head(tensors: Mapping[str, Tensor], known: Architecture, classes: int) -> None:
    """Raise UserError unless the file's classifier has `classes` outputs."""
    found = head_classes(tensors, known)
    if found != classes:
        has = "no classifier" if found is None else f"a classifier of {found} classes"
        raise UserError(f"{FLAG}: the file has {has}, {classes} classes are expected")


def fit_tensors(tensors: Mapping[str, Tensor], backbone: VideoBackbone, name: str) -> dict[str, Tensor]:
    """Return what `backbone.network` loads: every tensor of it, none of the classifier.

    Raises UserError naming the tensors that are missing, left over, or of another shape.
    """
    classifier = architecture(name).classifier
    state = {key: value for key, value in tensors.items() if not key.startswith(classifier)}
    target = backbone.network.state_dict()
    counters = {key: value for key, value in target.items() if key.endswith(_COUNTER)}
    state = {**counters, **state}  # absent from old files, without effect
    faults = [f"{key} is missing" for key in target if key not in state]
    faults += [f"{key} fits nothing" for key in state if key not in target]
    faults += [
        f"{key} is {list(state[key].shape)} in the file, {list(value.shape)} in the network"
        for key, value in target.items()
        if key in state and state[key].shape != value.shape
    ]
    if faults:
        raise UserError(f"{FLAG}: the file does not fit {name}: {_some(faults)}")
    return state


def load_weights(backbone: VideoBackbone, name: str, path: Path, *, classes: int | None = None) -> None:
    """Fill `backbone` from a file; `classes` is what the file's classifier must have.

    Raises UserError, and changes nothing, for a file that does not fit.
    """
    tensors = read_weights(path)
    if classes is not None:
        check_head(tensors, architecture(name), classes)
    backbone.network.load_state_dict(fit_tensors(tensors, backbone, name))


def _tensors(path: Path) -> Mapping[str, Tensor]:
    if path.suffix != PYSLOWFAST_SUFFIX:
        return read_tensors(path, flag=FLAG)
    content = read_dictionary(path)
    inner = content.get(PYSLOWFAST_KEY, content)
    return {name: value for name, value in inner.items() if isinstance(value, Tensor)}


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return "; ".join(items[:LISTED]) + more
