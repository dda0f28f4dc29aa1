"""A tiny problem for the engine's tests: ragged sequences in, a label per frame and one number out.

Two heads with different normalisers, ignored labels in uneven shares, augmentation keyed by the draw, and
switches for dropout, batch normalisation and the faults the engine must survive.
"""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from common.balancing.samplers import ShardedEvalSampler, ShuffleSampler
from common.engine.distributed import World
from common.engine.fit import Summary, fit
from common.engine.loading import Batches, Loaders, make_loader
from common.engine.logging import Console, read_metrics
from common.engine.randomness import SampleKey, sample_rng, seed_everything
from common.engine.run import Run, start_run
from common.engine.settings import FitConfig, OptimizerConfig
from common.engine.state import Provenance
from common.engine.task import EpochReport, Headline, LossTerm, Task
from common.freezing.driver import Freezer
from common.schedulers.learning_rate import ScheduleConfig

FEATURES, HIDDEN, FRAMES, CLASSES = 5, 8, 4, 3
IGNORED = -100
TIMES = {
    "seconds",
    "train/seconds",
    "time/wait_fraction",
    "train/samples_per_second",
    "valid/seconds",
    "valid/samples_per_second",
}


class ToyData(Dataset[dict[str, Any]]):
    """Sample i: 1 to 3 views [FEATURES], a label per frame (some ignored) and a value; noise per draw."""

    def __init__(self, dtype: torch.dtype = torch.float32, size: int = 100) -> None:
        generator = torch.Generator().manual_seed(5)
        self.views = torch.randn(size, 3, FEATURES, generator=generator, dtype=torch.float64).to(dtype)
        self.labels = torch.randint(0, CLASSES, (size, FRAMES), generator=generator)
        self.labels[torch.rand(size, FRAMES, generator=generator) < 0.4] = IGNORED
        self.labels[::3] = IGNORED
        self.values = self.views.sum(dim=(1, 2))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        index = key.index
        views = self.views[index, : 1 + index % 3]
        noise = torch.from_numpy(sample_rng(7, key).normal(0, 0.1, tuple(views.shape)))
        return {
            "views": views + noise.to(views.dtype),
            "labels": self.labels[index],
            "value": self.values[index],
            "key": torch.tensor(tuple(key)),
        }


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack everything but the ragged views."""
    batch = {name: torch.stack([s[name] for s in samples]) for name in ("labels", "value", "key")}
    return {"views": [sample["views"] for sample in samples], **batch}


class ToyModel(nn.Module):
    """Mean over views, one hidden layer, a head for frame labels and a head for the value."""

    def __init__(self, *, dropout: float = 0.0, batch_norm: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Linear(FEATURES, HIDDEN)
        self.norm = nn.BatchNorm1d(HIDDEN) if batch_norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.frames = nn.Linear(HIDDEN, FRAMES * CLASSES)
        self.value = nn.Linear(HIDDEN, 1)

    def forward(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        pooled = torch.stack([each.mean(0) for each in views])
        hidden = self.drop(torch.tanh(self.norm(self.encoder(pooled))))
        return self.frames(hidden).view(-1, FRAMES, CLASSES), self.value(hidden)[:, 0]


@dataclass(kw_only=True)
class Faults:
    """What goes wrong, by the number of the call of `training_step`, counted from 0."""

    no_memory: Collection[int] = ()
    no_memory_above: int | None = None
    """Batches of more samples than this never fit."""
    no_memory_in_validation_above: int | None = None
    nan: Mapping[int, str] = field(default_factory=dict)
    """Which loss term is NaN."""
    before_step: Callable[[int], None] = lambda call: None
    """Called first."""
    in_validation: Callable[[int], None] = lambda epoch: None


class ToyTask(Task):
    """Losses `frames` (per valid frame) and `value` (per sample, weight 0.5); headline `accuracy`.

    `scripted` replaces the headline by given values, one per validation.
    """

    console_metrics = ("accuracy",)

    def __init__(
        self,
        model: ToyModel,
        *,
        faults: Faults | None = None,
        headline: Headline | None = None,
        scripted: list[float] | None = None,
        alarm_at: int | None = None,
    ) -> None:
        self.model = model
        self.faults = faults or Faults()
        self.headline = headline or Headline("accuracy")
        self.scripted = scripted
        self.alarm_at = alarm_at
        self.calls = self.validations = 0
        self.counted = torch.zeros(2, dtype=torch.int64)
        self.hits = torch.zeros(2, dtype=torch.int64)
        self.seen: list[list[list[int]]] = []
        """Sample keys of each training batch."""
        self.reports: list[EpochReport] = []
        self.first_weights: list[Tensor] = []

    def training_step(self, batch: dict[str, Any]) -> dict[str, LossTerm]:
        call, self.calls = self.calls, self.calls + 1
        self.faults.before_step(call)
        self.seen.append(batch["key"].tolist())
        self.counted += torch.tensor([len(batch["labels"]), int((batch["labels"] != IGNORED).sum())])
        terms = self._terms(batch)
        limit = self.faults.no_memory_above
        if call in self.faults.no_memory or (limit is not None and len(batch["labels"]) > limit):
            raise torch.OutOfMemoryError("out of memory (injected)")
        if name := self.faults.nan.get(call):
            terms[name] = LossTerm(terms[name].total * float("nan"), terms[name].count, terms[name].weight)
        return terms

    def _terms(self, batch: dict[str, Any]) -> dict[str, LossTerm]:
        logits, value = self.model(batch["views"])
        labels = batch["labels"]
        frames = F.cross_entropy(
            logits.flatten(0, 1).to(self._wide(logits)),
            labels.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )
        squared = (value.to(self._wide(value)) - batch["value"]).square().sum()
        valid, size = (labels != IGNORED).sum(), torch.tensor(len(labels))
        return {"frames": LossTerm(frames, valid), "value": LossTerm(squared, size, 0.5)}

    @staticmethod
    def _wide(tensor: Tensor) -> torch.dtype:
        return torch.promote_types(tensor.dtype, torch.float32)

    def normalizers(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"frames": (batch["labels"] != IGNORED).sum(), "value": torch.tensor(len(batch["value"]))}

    def validation_step(self, batch: dict[str, Any]) -> dict[str, LossTerm]:
        logits, _ = self.model(batch["views"])
        labels = batch["labels"]
        valid = labels != IGNORED
        self.hits += torch.stack([((logits.argmax(-1) == labels) & valid).sum(), valid.sum()])
        limit = self.faults.no_memory_in_validation_above
        if limit is not None and len(labels) > limit:
            raise torch.OutOfMemoryError("out of memory (injected)")
        return self._terms(batch)

    def begin_epoch(self, epoch: int) -> None:
        self.counted.zero_()

    def begin_validation(self) -> None:
        self.faults.in_validation(self.validations)
        self.hits.zero_()
        self.first_weights.append(self.model.encoder.weight.detach().clone())

    def metric_states(self) -> list[Tensor]:
        return [self.hits]

    def train_metric_states(self) -> list[Tensor]:
        return [self.counted]

    def metrics(self) -> dict[str, float]:
        number, self.validations = self.validations, self.validations + 1
        accuracy = float(self.hits[0] / self.hits[1])
        return {"accuracy": accuracy if self.scripted is None else self.scripted[number]}

    def train_metrics(self) -> dict[str, float]:
        return {"samples": float(self.counted[0]), "labelled": float(self.counted[1])}

    def epoch_events(self, report: EpochReport) -> list[dict[str, Any]]:
        self.reports.append(report)
        if report.epoch != self.alarm_at:
            return []
        return [{"kind": "alarm", "name": "toy", "text": "ALARM: toy", "stop": True}]

    def state_dict(self) -> dict[str, Any]:
        return {"counted": self.counted, "validations": self.validations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counted.copy_(state["counted"])
        self.validations = state["validations"]


def toy_loaders(
    size: int = 20,
    batch_size: int = 3,
    *,
    valid: int = 9,
    workers: int = 0,
    world: World | None = None,
    dtype: torch.dtype = torch.float32,
    data: ToyData | None = None,
) -> Loaders:
    """Return loaders over the first `size` samples, the validation over the first `valid`."""
    world = world or World()
    data = data or ToyData(dtype)
    sampler = ShuffleSampler(size, seed=3, rank=world.rank, world=world.size)
    batches = Batches(sampler, batch_size)
    evaluation = Batches(ShardedEvalSampler(valid, rank=world.rank, world=world.size), 4)
    train = make_loader(data, batches, workers=workers, collate=collate)
    return Loaders(train, sampler, batches, make_loader(data, evaluation, collate=collate))


def toy_batch(indices: Iterable[int], dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Return the batch of given samples, each as the draw of its own number."""
    data = ToyData(dtype)
    return collate([data[SampleKey(index, 0, index)] for index in indices])


def toy_model(seed: int = 0, *, dtype: torch.dtype = torch.float32, **options: Any) -> ToyModel:
    """Return a seeded model; `options` are those of ToyModel."""
    seed_everything(seed)
    return ToyModel(**options).to(dtype)


def toy_config(**changes: Any) -> FitConfig:
    """Return 3 epochs of AdamW at a constant rate, with `changes`."""
    defaults: dict[str, Any] = {
        "epochs": 3,
        "optimizer": OptimizerConfig(lr=0.01),
        "schedule": ScheduleConfig(name="none"),
        "log_every": 2,
        "keep_last": 100,
    }
    return FitConfig(**{**defaults, **changes})


@dataclass
class Outcome:
    """A finished run with what is needed to compare it to another."""

    summary: Summary
    task: ToyTask
    folder: Path
    console: str

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.task.model.state_dict()

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines that count, without clock readings."""
        lines = read_metrics(self.folder / "metrics.jsonl")
        return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def train(
    folder: Path,
    task: ToyTask | None = None,
    loaders: Loaders | None = None,
    config: FitConfig | None = None,
    *,
    resume: str | None = None,
    settings: str = "seed: 1\n",
    free: Collection[str] = (),
    allow_changes: bool = False,
    world: World | None = None,
    freezer: Freezer | None = None,
) -> Outcome:
    """Run `fit` in `folder` and return what came of it."""
    task = task or ToyTask(toy_model())
    text = io.StringIO()
    provenance = Provenance(
        config=settings,
        metadata={"classes": CLASSES},
        free_settings=frozenset(free),
        allow_changes=allow_changes,
    )
    with _quiet_run(folder, settings, resume is not None, text) as run:
        summary = fit(
            run,
            task,
            loaders or toy_loaders(),
            config or toy_config(),
            provenance=provenance,
            world=world,
            resume=resume,
            freezer=freezer,
        )
    return Outcome(summary, task, folder, text.getvalue())


@contextmanager
def _quiet_run(folder: Path, settings: str, resuming: bool, text: io.StringIO) -> Iterator[Run]:
    with start_run(folder, config=settings, command=["toy"], resuming=resuming) as run:
        run.console = Console(text)
        yield run


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Return whether two sets of tensors are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def start_process(function: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Start `function` in a fresh process that has never run a backward pass."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "common.engine.fit", "common.balancing.samplers"])
    process = context.Process(target=_alone, args=(function, *arguments), daemon=False)
    process.start()
    return process


def _alone(function: Callable[..., None], *arguments: object) -> None:
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    function(*arguments)
