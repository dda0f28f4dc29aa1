"""Loaders whose batches depend on the sampler alone, and that can start in mid-epoch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from common.config import UserError
from common.engine.randomness import SampleKey


class TrainSampler(Sized, Protocol):
    """What the engine asks of a training sampler: the same stream for the same epoch, from any position."""

    def __iter__(self) -> Iterator[SampleKey]: ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; `__iter__` then yields its stream from the start."""

    def start(self, position: int) -> None:
        """Skip to a global position of the epoch for the next iteration."""

    def state_dict(self, position: int | None = None) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Batches:
    """Consecutive draws of `sampler` in lists of `batch_size`; a last one under `smallest` is dropped."""

    def __init__(self, sampler: Any, batch_size: int, smallest: int = 1) -> None:
        if batch_size < smallest:
            raise ValueError(f"batch_size {batch_size} is smaller than the smallest batch {smallest}")
        self.sampler, self.batch_size, self.smallest = sampler, batch_size, smallest

    @property
    def dropped(self) -> int:
        """Samples of an epoch that are not used."""
        rest = len(self.sampler) % self.batch_size
        return rest if rest < self.smallest else 0

    def __len__(self) -> int:
        return (len(self.sampler) - self.dropped + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[list[Any]]:
        held: list[Any] = []
        for key in self.sampler:
            held.append(key)
            if len(held) == self.batch_size:
                yield held
                held = []
        if len(held) >= self.smallest and held:
            yield held


@dataclass(frozen=True)
class Loaders:
    """What `fit` reads: training batches with their sampler, and validation batches."""

    train: DataLoader[Any]
    sampler: TrainSampler
    batches: Batches
    valid: DataLoader[Any]
    copy_ahead: bool = False
    """Fetch the next batch before a step and copy it to the device meanwhile; only CUDA has a use for it."""


_USER_ERROR = f"{UserError.__module__}.{UserError.__qualname__}: "


class WorkerError(RuntimeError):
    """A worker process of a loader died."""


class BatchTimeout(RuntimeError):
    """No worker of a loader delivered anything within its timeout; the message says what they are at."""


def iterate(loader: DataLoader[Any]) -> Iterator[Any]:
    """Return an iterator over `loader` that draws nothing from torch's generator.

    A worker that dies is noticed only when the next batch is fetched, as WorkerError: the signal handler by
    which torch interrupts whatever is being computed at that moment is put aside. A UserError of a worker
    reads as if there were none. A batch that takes longer than the loader's timeout is a BatchTimeout, and
    the end of the workers.
    """
    before = signal.getsignal(signal.SIGCHLD)
    with torch.random.fork_rng(devices=[]):
        iterator = iter(loader)
    if _is_torchs(signal.getsignal(signal.SIGCHLD)) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None or _is_torchs(before) else before)
    return _guarded(iterator, loader)


def _is_torchs(handler: object) -> bool:
    return getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"


def _guarded(iterator: Iterator[Any], loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except UserError as error:
            # torch puts the traceback of a worker in front of what the user is meant to read
            raise UserError(str(error).rpartition(_USER_ERROR)[2].rstrip()) from error
        except (RuntimeError, OSError, EOFError) as error:
            dead = _dead_workers(iterator)
            late = not dead and loader.timeout > 0 and "timed out" in str(error)
            if not (dead or late):
                raise
            loader._iterator = None
            if late:
                raise _too_late(iterator, loader) from error
            raise WorkerError(f"loader worker died (pid {', '.join(map(str, dead))})") from error
        yield batch


def _dead_workers(iterator: Iterator[Any]) -> list[int]:
    """Return the process ids of workers that have ended; one that is just dying is given half a second."""
    workers = {worker.sentinel: worker.pid for worker in getattr(iterator, "_workers", ())}
    return [workers[sentinel] for sentinel in wait(list(workers), timeout=0.5)] if workers else []


def _too_late(iterator: Iterator[Any], loader: DataLoader[Any]) -> BatchTimeout:
    """Return the error of a batch that did not come, after ending the workers, which may hang."""
    told = getattr(loader.dataset, "in_work", str)()
    for worker in getattr(iterator, "_workers", ()):
        worker.kill()
    return BatchTimeout(f"no batch within {loader.timeout:g} s" + (f"; in work: {told}" if told else ""))


def make_loader(
    dataset: Dataset[Any],
    batches: Batches,
    *,
    workers: int = 0,
    collate: Callable[[list[Any]], Any] | None = None,
    pin_memory: bool = False,
    prefetch_factor: int = 2,
    persistent: bool = True,
    timeout: float = 0,
) -> DataLoader[Any]:
    """Return a loader over `batches`; its order and content do not depend on `workers`.

    `persistent` workers live from epoch to epoch. When no batch comes for more than `timeout` seconds
    `iterate` raises BatchTimeout with what `dataset.in_work()`, if there is that, says the workers are at;
    0: it waits for ever. A private generator serves the loader, so that creating an iterator leaves torch's
    global one alone.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory and torch.cuda.is_available(),
        persistent_workers=persistent and workers > 0,
        prefetch_factor=prefetch_factor if workers > 0 else None,
        timeout=timeout if workers > 0 else 0,
        generator=torch.Generator(),
    )
