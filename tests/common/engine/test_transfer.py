"""Batches copied ahead: the same ones in the same order, errors in their place, nothing counted too soon."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_toy import Outcome, ToyData, ToyTask, same, toy_config, toy_loaders, toy_model, train
from torch import Tensor
from torch.utils.data import DataLoader

from common.config import UserError
from common.engine import transfer
from common.engine.loading import WorkerError, iterate
from common.engine.randomness import SampleKey
from common.engine.task import Batch, to_device
from common.engine.transfer import on_device, one_ahead


def ending(items: int, error: BaseException | None = None) -> Iterator[int]:
    yield from range(items)
    if error is not None:
        raise error


def test_an_item_is_begun_before_the_one_ahead_of_it_is_used() -> None:
    log: list[tuple[str, int]] = []

    def begin(item: int) -> int:
        log.append(("begin", item))
        return item

    for item in one_ahead(ending(3), begin):
        log.append(("use", item))
    order = [("begin", 0), ("begin", 1), ("use", 0), ("begin", 2), ("use", 1), ("use", 2)]
    assert log == order


@pytest.mark.parametrize("error", [UserError("a.mp4"), RuntimeError("died"), KeyboardInterrupt()])
@pytest.mark.parametrize("items", [0, 1, 2, 3])
def test_an_error_comes_behind_all_that_was_given_before_it(items: int, error: BaseException) -> None:
    given = one_ahead(ending(items, error), lambda item: item)
    assert list(islice(given, items)) == list(range(items))
    with pytest.raises(type(error)) as caught:
        next(given)
    assert caught.value is error


@pytest.mark.parametrize("used", [1, 2, 3])
def test_one_may_leave_at_any_item(used: int) -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(3)
        finally:
            closed.append(True)

    given = one_ahead(items(), lambda item: item)
    assert [next(given) for _ in range(used)] == list(range(used))
    given.close()
    assert list(given) == []
    assert closed == [True]


def test_on_the_host_a_batch_is_fetched_when_it_is_due() -> None:
    fetched = []

    def batches() -> Iterator[Batch]:
        for number in range(3):
            fetched.append(number)
            yield {"x": torch.tensor(number)}

    arrived = on_device(batches(), torch.device("cpu"), ahead=True)
    assert next(arrived)["x"] == 0
    assert fetched == [0]


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look ahead on the host as if it were a device, wherever `copy_ahead` is set."""

    def looking(batches: Iterator[Batch], device: torch.device, *, ahead: bool = False) -> Iterator[Batch]:
        return one_ahead(batches, lambda batch: to_device(batch, device)) if ahead else batches

    for module in ("course", "validation"):
        monkeypatch.setattr(f"common.engine.{module}.on_device", looking)


def fitted(folder: Path, *, ahead: bool, data: ToyData | None = None, **changes: Any) -> Outcome:
    """Train with dropout, running statistics, steps of two batches and a remainder."""
    resume = changes.pop("resume", None)
    loaders = dataclasses.replace(toy_loaders(20, 3, data=data), copy_ahead=ahead)
    task = ToyTask(toy_model(dropout=0.3, batch_norm=True))
    config = toy_config(**{"accumulation_steps": 2, "epochs": 2, **changes})
    return train(folder, task, loaders, config, resume=resume)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return fitted(tmp_path_factory.mktemp("usual") / "run", ahead=False)


@pytest.mark.usefixtures("forced")
def test_looking_ahead_changes_nothing(usual: Outcome, tmp_path: Path) -> None:
    ahead = fitted(tmp_path / "run", ahead=True)
    assert ahead.task.seen == usual.task.seen
    assert same(ahead.weights, usual.weights)
    assert ahead.metrics() == usual.metrics()


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7])
def test_a_batch_that_was_fetched_and_not_used_comes_again_after_resuming(
    usual: Outcome, tmp_path: Path, step: int
) -> None:
    first = fitted(tmp_path / "run", ahead=True, max_steps=step)
    rest = fitted(tmp_path / "run", ahead=True, resume="last")
    assert first.task.seen + rest.task.seen == usual.task.seen
    assert same(rest.weights, usual.weights)


class Refusing(ToyData):
    """Cannot read draw 10."""

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        if key.draw == 10:
            raise UserError("a.mp4: cannot be read")
        return super().__getitem__(key)


@pytest.mark.usefixtures("forced")
def test_a_sample_that_cannot_be_read_stops_the_run_where_it_would_have(tmp_path: Path) -> None:
    steps = {}
    for ahead in (False, True):
        folder = tmp_path / str(ahead)
        with pytest.raises(UserError, match=r"a\.mp4: cannot be read"):
            fitted(folder, ahead=ahead, data=Refusing(), accumulation_steps=1, save_every_steps=1)
        steps[ahead] = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    assert steps[True] == steps[False] == [f"step-{number:08d}" for number in (1, 2, 3)]


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("ahead", [False, True])
def test_a_loader_that_dies_is_started_anew_at_the_batch_that_was_lost(
    usual: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    deaths = [WorkerError("gone")]

    def dying(loader: DataLoader[Any]) -> Iterator[Batch]:
        for number, batch in enumerate(iterate(loader)):
            if number == 3 and deaths:
                raise deaths.pop()
            yield batch

    monkeypatch.setattr("common.engine.course.iterate", dying)
    mended = fitted(tmp_path / "run", ahead=ahead)
    assert "gone; loader started anew at draw 9 of epoch 1" in mended.console
    assert mended.task.seen == usual.task.seen
    assert same(mended.weights, usual.weights)


class FakeCuda:
    """Stands in for `torch.cuda` and writes down what is asked of the device."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.names = iter(["side"])
        self.current = "main"

    def Stream(self, device: torch.device) -> FakeStream:
        return FakeStream(self, next(self.names))

    def current_stream(self, device: torch.device) -> FakeStream:
        return FakeStream(self, self.current)

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream.name
        yield
        self.current = before


@dataclasses.dataclass
class FakeStream:
    cuda: FakeCuda
    name: str
    events: int = 0

    def record_event(self) -> str:
        self.events += 1
        self.cuda.log.append(f"{self.name} records {self.events}")
        return str(self.events)

    def wait_event(self, event: str) -> None:
        self.cuda.log.append(f"{self.name} waits for {event}")


def test_copies_run_on_a_stream_of_their_own_and_each_is_waited_for_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(transfer.torch, "cuda", cuda)

    def move(tensor: Tensor, device: torch.device, *, non_blocking: bool) -> Tensor:
        cuda.log.append(f"{cuda.current} copies {int(tensor)}")
        assert non_blocking
        return tensor.clone()

    def keep(tensor: Tensor, stream: FakeStream) -> None:
        cuda.log.append(f"{stream.name} keeps {int(tensor)}")

    monkeypatch.setattr(Tensor, "to", move)
    monkeypatch.setattr(Tensor, "record_stream", keep)
    batches = ({"x": [torch.tensor(number)]} for number in (7, 8))
    for batch in on_device(batches, torch.device("cuda"), ahead=True):
        cuda.log.append(f"step {int(batch['x'][0])}")
    assert cuda.log == [
        *("side copies 7", "main keeps 7", "side records 1"),
        *("side copies 8", "main keeps 8", "side records 2"),
        *("main waits for 1", "step 7", "main waits for 2", "step 8"),
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_arrive_whole_on_cuda_without_a_wait_of_the_host() -> None:
    device = torch.device("cuda")
    weight = torch.randn(2048, 2048, device=device)
    batches = [{"x": [torch.full((1 << 20,), float(number)).pin_memory()]} for number in range(8)]
    totals = []
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in on_device(iter(batches), device, ahead=True):
            for _ in range(20):
                weight = torch.tanh(weight @ weight)
            totals.append(batch["x"][0].sum(dtype=torch.float64))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [float(total) for total in totals] == [number * float(1 << 20) for number in range(8)]
