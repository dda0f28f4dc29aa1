"""Parameter groups of an optimizer: weight decay or none, one rate or a rate per block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

_NORMS_OF_ANY_SHAPE = (nn.LayerNorm, nn.RMSNorm)


def param_groups(
    model: nn.Module, lr: float, weight_decay: float, *, decay_all: bool = False
) -> list[dict[str, Any]]:
    """Return the groups `decay` and `no_decay` that together hold every parameter of `model` once.

    Each group is {name, params, param_names, lr, weight_decay}; an empty one is left out. Weight decay 0 goes
    to norm weights, biases, layer scales, other vectors and the names in `model.no_weight_decay()`;
    `decay_all` puts every parameter into `decay`.
    """
    names = [name for name, _ in model.named_parameters()]
    return _split_by_decay(model, "", names, lr, weight_decay, decay_all)


def layerwise_param_groups(
    model: nn.Module,
    blocks: Sequence[tuple[str, Sequence[str]]],
    *,
    head_lr: float,
    backbone_lr: float,
    layer_decay: float = 1.0,
    weight_decay: float,
    decay_all: bool = False,
) -> list[dict[str, Any]]:
    """Return groups `<block>/decay` and `<block>/no_decay`, and `head/...` for parameters in no block.

    `blocks` lists (name, parameter names) from the head backwards; block k, counted from 1, gets
    backbone_lr x layer_decay^(k - 1) and the rest head_lr. Decay as in `param_groups`. ValueError if a block
    is empty, is called like another one or like the head, or names a parameter that is unknown or taken.
    """
    heads = _check_blocks(model, blocks)
    groups = _split_by_decay(model, "head/", heads, head_lr, weight_decay, decay_all)
    for depth, (name, members) in enumerate(blocks):
        lr = backbone_lr * layer_decay**depth
        groups += _split_by_decay(model, f"{name}/", members, lr, weight_decay, decay_all)
    return groups


def _check_blocks(model: nn.Module, blocks: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return the names of the parameters in no block."""
    free = dict.fromkeys(name for name, _ in model.named_parameters())
    labels = {"head"}
    for block, members in blocks:
        if block in labels:
            raise ValueError(f"block name {block!r} is taken")
        labels.add(block)
        if not members:
            raise ValueError(f"block {block!r} holds no parameter")
        for name in members:
            if name not in free:
                raise ValueError(f"block {block!r}: parameter {name!r} is unknown or in an earlier block")
            del free[name]
    return list(free)


def _split_by_decay(
    model: nn.Module, prefix: str, names: Iterable[str], lr: float, weight_decay: float, decay_all: bool
) -> list[dict[str, Any]]:
    parameters = dict(model.named_parameters())
    spared = set() if decay_all else _without_decay(model)
    split: dict[str, list[str]] = {"decay": [], "no_decay": []}
    for name in names:
        split["no_decay" if name in spared else "decay"].append(name)
    return [
        {
            "name": prefix + kind,
            "params": [parameters[name] for name in members],
            "param_names": members,
            "lr": lr,
            "weight_decay": weight_decay if kind == "decay" else 0.0,
        }
        for kind, members in split.items()
        if members
    ]


def _without_decay(model: nn.Module) -> set[str]:
    listed: Callable[[], Iterable[str]] | None = getattr(model, "no_weight_decay", None)
    names = set(listed()) if listed is not None else set()
    for path, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            vector = parameter.ndim <= 1 or (
                leaf != "weight" and sum(size > 1 for size in parameter.shape) <= 1
            )
            if vector or leaf == "bias" or isinstance(module, _NORMS_OF_ANY_SHAPE):
                names.add(f"{path}.{leaf}" if path else leaf)
    return names
