"""The averaged weights, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from common.engine.ema import Ema


class Tied(nn.Module):
    """Two names for one weight, a plain buffer that is replaced at each call, and one that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + 1
        self.count = self.count + 1
        self.scratch = self.scratch + 1
        out: Tensor = self.second(self.first(x))
        return out


def test_decay_warms_up_and_is_bounded() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    ema = Ema(model, 0.3)
    expected, weight = 0.0, 0.0
    for updates, decay in enumerate([1 / 10, 2 / 11, 3 / 12, 0.3, 0.3]):
        weight += 1.0
        model.weight.data.fill_(weight)
        ema.update(model)
        expected = decay * expected + (1 - decay) * weight
        assert float(ema.shadow["weight"]) == pytest.approx(expected, rel=1e-6)
        assert ema.updates == updates + 1


def test_buffers_are_averaged_counters_copied_and_tied_weights_stay_tied() -> None:
    model = Tied()
    ema = Ema(model, 0.5)
    start = model.first.weight.detach().clone()
    model(torch.ones(1, 2))
    model.first.weight.data += 1.0
    ema.update(model)
    assert set(ema.shadow) == {"first.weight", "second.weight", "seen", "count"}
    assert float(ema.shadow["seen"]) == pytest.approx(0.9)
    assert int(ema.shadow["count"]) == 1
    assert torch.allclose(ema.shadow["first.weight"], start + 0.9)
    assert torch.equal(ema.shadow["first.weight"], ema.shadow["second.weight"])
    with ema.applied_to(model):
        assert torch.allclose(model.first.weight, start + 0.9)
        assert model.second.weight is model.first.weight


def test_own_weights_come_back_bit_for_bit_even_after_an_error() -> None:
    model = nn.BatchNorm1d(3)
    ema = Ema(model, 0.9)
    model.weight.data.uniform_()
    model.running_mean.uniform_()
    own = {name: value.clone() for name, value in model.state_dict().items()}

    def fail() -> None:
        with ema.applied_to(model):
            assert torch.equal(model.weight, torch.ones(3))
            raise RuntimeError("validation failed")

    with pytest.raises(RuntimeError, match="validation failed"):
        fail()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_load_and_restart() -> None:
    model = nn.Linear(2, 1)
    first, second = Ema(model, 0.9), Ema(model, 0.9)
    for _ in range(3):
        model.weight.data += 1
        first.update(model)
    second.load(first.shadow, first.updates)
    for ema in (first, second):
        model.weight.data += 1
        ema.update(model)
        model.weight.data -= 1
    assert torch.equal(first.shadow["weight"], second.shadow["weight"])
    first.restart(model)
    assert first.updates == 0
    assert torch.equal(first.shadow["weight"], model.weight)
