"""Batches of any shape: their size, their pieces, and moving them."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch

from common.engine.task import Headline, batch_size, split_batch, to_device

Pair = namedtuple("Pair", "image label")
X, Y = torch.arange(12.0).view(6, 2), torch.arange(6)
RAGGED = [torch.full((n,), float(n)) for n in range(1, 7)]


CASES: dict[str, tuple[Any, Callable[[Any], list[Any]]]] = {
    "tensor": (Y, lambda batch: [batch.tolist()]),
    "mapping": ({"x": X, "y": Y}, lambda batch: [batch["x"][:, 0].tolist(), batch["y"].tolist()]),
    "list": ([X, Y], lambda batch: [batch[0][:, 0].tolist(), batch[1].tolist()]),
    "tuple": ((X, Y), lambda batch: [batch[0][:, 0].tolist(), batch[1].tolist()]),
    "named": (Pair(X, Y), lambda batch: [batch.image[:, 0].tolist(), batch.label.tolist()]),
    "ragged": (
        {"views": RAGGED, "y": Y},
        lambda batch: [[len(view) for view in batch["views"]], batch["y"].tolist()],
    ),
    "nested": (
        {"name": list("abcdef"), "inner": {"y": Y}, "scale": torch.tensor(2.0), "note": "text"},
        lambda batch: [batch["name"], batch["inner"]["y"].tolist()],
    ),
    "tuple of ragged": (
        (RAGGED, {"y": Y}),
        lambda batch: [[len(view) for view in batch[0]], batch[1]["y"].tolist()],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_pieces_put_together_are_the_batch(case: str) -> None:
    batch, read = CASES[case]
    assert batch_size(batch) == 6
    assert [batch_size(part) for part in split_batch(batch, 4)] == [2, 2, 2]
    first, second = split_batch(batch, 2)
    assert type(first) is type(second) is type(batch)
    assert [a + b for a, b in zip(read(first), read(second), strict=True)] == read(batch)
    assert {len(values) for values in read(first)} == {3}


def test_what_is_not_per_sample_comes_with_every_piece() -> None:
    for part in split_batch(CASES["nested"][0], 3):
        assert (float(part["scale"]), part["note"]) == (2.0, "text")


def test_more_parts_than_samples_gives_single_samples() -> None:
    assert [part["y"].tolist() for part in split_batch({"y": Y}, 50)] == [[0], [1], [2], [3], [4], [5]]


def test_last_piece_may_be_smaller() -> None:
    assert [batch_size(part) for part in split_batch({"y": torch.arange(7)}, 3)] == [3, 3, 1]


def test_a_list_of_samples_as_a_batch_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"1, 2, 3, 4, 5, 6 entries.*inside a mapping.*Task.split"):
        batch_size(RAGGED)


@pytest.mark.parametrize("batch", [{"scale": 3}, "text", {}, torch.tensor(1.0)])
def test_a_batch_without_samples_is_refused(batch: Any) -> None:
    with pytest.raises(TypeError, match="one entry per sample"):
        batch_size(batch)


def test_to_device_reaches_every_tensor_and_keeps_the_form() -> None:
    batch = {"views": RAGGED, "pair": Pair(X, "name"), "n": 3}
    moved = to_device(batch, torch.device("meta"))
    assert all(view.device.type == "meta" for view in moved["views"])
    assert type(moved["pair"]) is Pair
    assert moved["pair"].image.device.type == "meta"
    assert (moved["pair"].label, moved["n"]) == ("name", 3)


@pytest.mark.parametrize(
    ("mode", "value", "best", "delta", "better"),
    [
        ("max", -5.0, None, 0.0, True),
        ("min", 1e9, None, 0.0, True),
        ("max", float("nan"), None, 0.0, False),
        ("max", float("inf"), None, 0.0, False),
        ("max", 0.5, 0.5, 0.0, False),
        ("max", 0.55, 0.5, 0.1, False),
        ("max", 0.65, 0.5, 0.1, True),
        ("min", 0.45, 0.5, 0.1, False),
        ("min", 0.35, 0.5, 0.1, True),
        ("min", -1.0, 0.0, 0.0, True),
        ("min", float("nan"), 0.5, 0.0, False),
    ],
)
def test_headline(mode: Any, value: float, best: float | None, delta: float, better: bool) -> None:
    assert Headline("m", mode).better(value, best, delta) is better


@pytest.mark.parametrize(("device", "waits"), [("cpu", True), ("meta", False)])
def test_copies_to_the_host_are_waited_for(device: str, waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def move(tensor: torch.Tensor, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
        asked.append(not non_blocking)
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", move)
    to_device([torch.zeros(1)], torch.device(device))
    assert asked == [waits]
