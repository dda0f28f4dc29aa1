"""What the training loop adds to a step of a model that costs nothing, beside Accelerate's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timing import Entry, Row, Settings, absolute, at_least, at_most, missing, ratio
from torch import Tensor, nn
from torch.utils.data import Dataset

from common.balancing.samplers import ShardedEvalSampler, ShuffleSampler
from common.engine.fit import fit
from common.engine.loading import Batches, Loaders, make_loader
from common.engine.logging import Console
from common.engine.randomness import SampleKey
from common.engine.run import Run
from common.engine.settings import FitConfig, OptimizerConfig
from common.engine.state import Provenance, build_optimizer
from common.engine.task import Headline, LossTerm, Task
from common.schedulers.groups import param_groups

INPUTS, CLASSES, BATCH = 8, 4, 4
OPTIMIZER = OptimizerConfig()


class Rows(Dataset[dict[str, Tensor]]):
    """Random rows with labels."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(count, INPUTS, generator=generator)
        self.y = torch.randint(CLASSES, (count,), generator=generator)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        return {"x": self.x[key.index], "y": self.y[key.index]}


@dataclass
class Stopwatch:
    """Seconds between the first step of an epoch and the end of its last."""

    started: float = 0.0
    seconds: list[float] = field(default_factory=list)


class LinearTask(Task):
    """One linear layer and cross-entropy; the watch runs while the engine trains."""

    headline = Headline("loss", "min")

    def __init__(self, watch: Stopwatch) -> None:
        self.model = network()
        self.watch = watch

    def begin_epoch(self, epoch: int) -> None:
        """Start the watch."""
        self.watch.started = time.perf_counter()

    def begin_validation(self) -> None:
        """Stop the watch."""
        self.watch.seconds.append(time.perf_counter() - self.watch.started)

    def training_step(self, batch: Any) -> dict[str, LossTerm]:
        """Return the summed loss and the number of rows."""
        total = F.cross_entropy(self.model(batch["x"]), batch["y"], reduction="sum")
        return {"ce": LossTerm(total, torch.tensor(len(batch["y"])))}

    def normalizers(self, batch: Any) -> dict[str, Tensor]:
        """Return the number of rows."""
        return {"ce": torch.tensor(len(batch["y"]))}

    def validation_step(self, batch: Any) -> dict[str, LossTerm]:
        """Return the loss."""
        return self.training_step(batch)

    def metrics(self) -> dict[str, float]:
        """Return the headline; the engine adds no other."""
        return {"loss": 0.0}


def network() -> nn.Module:
    """Return the model of both loops, with the same weights."""
    torch.manual_seed(0)
    return nn.Linear(INPUTS, CLASSES)


def loaders(steps: int) -> Loaders:
    """Return `steps` batches for training and one for validation."""
    rows, sampler = Rows(steps * BATCH), ShuffleSampler(steps * BATCH, seed=0)
    batches = Batches(sampler, BATCH)
    valid = Batches(ShardedEvalSampler(BATCH), BATCH)
    return Loaders(make_loader(rows, batches), sampler, batches, make_loader(rows, valid))


def engine_loop(steps: int) -> float:
    """Return the seconds of an epoch of `fit`, without clipping, averaging, console and files."""
    watch = Stopwatch()
    config = FitConfig(epochs=1, optimizer=OPTIMIZER, clip_norm=0.0, log_every=10 * steps)
    run = Run.dry(console=Console(enabled=False))
    fit(run, LinearTask(watch), loaders(steps), config, provenance=Provenance(config="", metadata={}))
    return watch.seconds[0]


def raw_loop(steps: int) -> float:
    """Return the seconds of the same epoch, written out."""
    model, data = network(), loaders(steps)
    optimizer = build_optimizer(param_groups(model, OPTIMIZER.lr, OPTIMIZER.weight_decay), OPTIMIZER)
    started = time.perf_counter()
    for batch in data.train:
        F.cross_entropy(model(batch["x"]), batch["y"]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def accelerate_loop(steps: int) -> float:
    """Return the seconds of the same epoch as Accelerate's documentation writes it; no loss is looked at."""
    from accelerate import Accelerator  # type: ignore[import-not-found]

    accelerator = Accelerator(cpu=True)
    model, data = network(), loaders(steps)
    optimizer = build_optimizer(param_groups(model, OPTIMIZER.lr, OPTIMIZER.weight_decay), OPTIMIZER)
    model, optimizer, train = accelerator.prepare(model, optimizer, data.train)
    started = time.perf_counter()
    for batch in train:
        with accelerator.accumulate(model):
            accelerator.backward(F.cross_entropy(model(batch["x"]), batch["y"]))
            optimizer.step()
            optimizer.zero_grad()
    return time.perf_counter() - started


def overhead(settings: Settings) -> Iterator[Row]:
    """Time per step that `fit`, and Accelerate, add to the same loop written out."""
    steps = 50 if settings.small else 1000
    loops = {"engine": engine_loop, "raw loop": raw_loop}
    peer = "Accelerate over a raw loop / engine over it"
    if reason := missing("accelerate"):
        yield Row(what=peer, unit="x", budget=at_least(5), skipped=reason)
    else:
        loops["Accelerate"] = accelerate_loop
    for loop in loops.values():
        loop(steps)
    times: dict[str, list[float]] = {name: [] for name in loops}
    for repeat in range(settings.repeats):
        for name in list(loops)[:: 1 if repeat % 2 == 0 else -1]:
            times[name].append(loops[name](steps) / steps)
    seconds = {name: np.array(values) for name, values in times.items()}
    added = {name: values - seconds["raw loop"] for name, values in seconds.items() if name != "raw loop"}
    note = ", ".join(f"{name} {1e6 * np.median(values):.0f} us" for name, values in seconds.items())
    yield absolute("engine step over a raw loop", added["engine"], "us", at_most(50), note=note)
    if "Accelerate" in added:
        yield ratio(peer, added, "Accelerate", "engine", at_least(5))


ENTRIES: dict[str, Entry] = {"overhead": overhead}
