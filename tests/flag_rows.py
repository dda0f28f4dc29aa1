"""Rows that say what a flag of training does, and looks that all applications share."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn


class Row(NamedTuple):
    """With `words` the answer of `look` is `value`, or passes it as a test; without them it does not.

    `look` gets the pieces of a training. `given` is typed both times.
    """

    words: str
    look: Callable[[Any], Any]
    value: Any
    given: str = ""


class Changes:
    """The value of a row that only asks for another answer, and the same one each time."""


def has(text: str) -> Callable[[Any], bool]:
    return lambda answer: text in str(answer)


def check_effect(row: Row, see: Callable[[str], Any]) -> None:
    """Assert what a row says; `see` returns the answer of its look for words typed behind those given."""
    answer, without = see(row.words), see("")
    if row.value is Changes:
        assert answer != without, answer
        assert answer == see(row.words), answer
        return
    holds = row.value if isinstance(row.value, types.FunctionType) else lambda seen: seen == row.value
    assert holds(answer), answer
    assert not holds(without), without


def distance(network: nn.Module, train: Callable[[], dict[str, torch.Tensor]]) -> float:
    """Return how far a training moves the weights from those of `network`; `train` returns them."""
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    after = train()
    return float(torch.cat([(after[name] - p).flatten() for name, p in before.items()]).norm())


def wandb_options(b: Any) -> dict[str, Any]:
    """Return what a stand-in for wandb is asked for."""
    asked: dict[str, Any] = {}

    def init(**options: Any) -> Any:
        asked.update(options)
        return types.SimpleNamespace(id="x", log=lambda *a, **k: None, finish=lambda *a, **k: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
        patch.setenv("WANDB_API_KEY", "x" * 40)
        b.ran("--max-steps 1")
    return asked


def resumed(b: Any) -> bool:
    """Return whether `--resume last` goes on in the folder of the same words without it."""
    first = b.train(*[word for word in b.words if word not in ("--resume", "last")], "--max-steps 1")
    second = b.ran("--max-steps 2")
    return second.folder == first.folder and "resume   step 1" in second.out


def forget_deterministic_kernels() -> None:
    """Asking for nothing takes seconds too, so ask only where it was set."""
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


def deterministic(b: Any) -> bool:
    """Return whether a training asks for deterministic kernels."""
    forget_deterministic_kernels()
    b.ran("--max-steps 1")
    return torch.are_deterministic_algorithms_enabled()
