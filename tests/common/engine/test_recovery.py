"""Taking a step back, and telling memory errors from others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from common.engine.recovery import Rewind, is_out_of_memory, smaller_micro_batch

CPU = torch.device("cpu")


class Counting(nn.Module):
    """Replaces its buffer instead of writing into it, and lets it grow."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("absent", None)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + 1
        out: Tensor = self.norm(x)
        return out


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("HIP Out Of Memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_memory_errors_are_told_apart(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_host_allocation_that_fails_for_real_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**52, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("size", "factor", "smallest", "expected"),
    [
        (8, 0.75, 1, 6),
        (6, 0.75, 1, 4),
        (2, 0.75, 1, 1),
        (2, 0.99, 1, 1),
        (1, 0.75, 1, None),
        (8, 0.1, 4, 4),
        (4, 0.5, 4, None),
        (3, 0.5, 4, None),
        (100, 0.999, 1, 99),
    ],
)
def test_next_micro_batch(size: int, factor: float, smallest: int, expected: int | None) -> None:
    assert smaller_micro_batch(size, factor, smallest) == expected


def test_discard_restores_buffers_and_metrics_and_leaves_random_state() -> None:
    model, counted = Counting(), torch.zeros(2, dtype=torch.int64)
    rewind = Rewind(model, lambda: [counted], CPU, random=True)
    for step in range(2):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        rewind.mark()
        model(torch.rand(4, 2))
        counted += 3
        drawn = torch.get_rng_state()
        rewind.discard()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert counted.tolist() == [0, 0]
        assert torch.equal(torch.get_rng_state(), drawn)
        model.norm.running_mean += step


def test_replay_draws_the_same_numbers_again() -> None:
    rewind = Rewind(nn.Dropout(0.5), list, CPU, random=True)
    rewind.mark()
    first = torch.rand(5)
    rewind.replay()
    assert torch.equal(torch.rand(5), first)


def test_metrics_that_move_or_grow_are_still_restored() -> None:
    held = [torch.zeros(1)]
    rewind = Rewind(nn.Identity(), lambda: held, CPU, random=False)
    rewind.mark()
    held[0] = torch.full((1,), 7.0)
    rewind.discard()
    assert float(held[0]) == 0.0
    held[0] = torch.ones(3)
    rewind.mark()
    held[0] += 1
    rewind.discard()
    assert held[0].tolist() == [1.0, 1.0, 1.0]
