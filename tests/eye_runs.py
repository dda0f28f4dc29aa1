"""Short comparisons of losses in this process, each in a folder of its own, and what they leave behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from common.config import Parsed, UserError, parse
from common.engine.checkpoint import find_checkpoint, load_checkpoint
from common.engine.logging import read_metrics
from common.engine.settings import FitConfig
from common.schedulers.learning_rate import Schedule
from eye_fixation.checks import check_comparison
from eye_fixation.cli import ALIASES, VERBS, main
from eye_fixation.config import PRESETS
from eye_fixation.data.contract import GazeSplits
from eye_fixation.data.pt import FILES
from eye_fixation.fitting import build_network, fit_config
from eye_fixation.predictor import Predictor
from eye_fixation.simvp import SimVP
from eye_fixation.task import GazeTask

SMALL = (
    "--hid-S 2 --hid-T 4 --N-S 2 --N-T 2 --in-len 3 --out-len 3 --epochs 1 --batch-size 4 --max-train 8 "
    "--max-val 8 --device cpu --no-baselines --bootstrap 0"
)
"""A training of two steps, judged without baselines and intervals."""
JUDGED = f"{SMALL} --baselines --bootstrap 20"
TRAIN = "train --loss mse"
VARYING = {
    "date",
    "dir",
    "seconds",
    "step_ms",
    "checkpoint",
    "command",
    "git",
    "out",
    "resume",
    "results_file",
}


class FakeWandb:
    """Stands for the sink: keeps what it is asked for."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012  # shared on purpose, emptied before each run

    def __init__(self, project: str, **options: Any) -> None:
        self.asked.append({"project": project, **options, "steps": 0})

    def start(self, console: object) -> FakeWandb:
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.asked[-1]["steps"] = step

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given, **named: None


class Done(NamedTuple):
    """Exit code of a line, what it said and asked for, and where it ran."""

    home: Path
    code: int
    out: str
    err: str
    wandb: list[dict[str, Any]]
    deterministic: bool


@dataclass(frozen=True, eq=False)
class Ran:
    """A command line, what it said and what it left behind; it runs when that is asked for."""

    words: tuple[str, ...]
    start: Callable[[tuple[str, ...]], Done]

    @cached_property
    def done(self) -> Done:
        """What became of it."""
        return self.start(self.words)

    @property
    def home(self) -> Path:
        """The folder it ran in."""
        return self.done.home

    @property
    def code(self) -> int:
        """Its exit code."""
        return self.done.code

    @property
    def out(self) -> str:
        """What it printed."""
        return self.done.out

    @property
    def err(self) -> str:
        """What it complained about."""
        return self.done.err

    @cached_property
    def folder(self) -> Path:
        """The run folder, as the console names it."""
        (line,) = [line for line in self.out.splitlines() if line.startswith("run ")]
        return self.home / line.split(maxsplit=1)[1]

    @cached_property
    def content(self) -> dict[str, Any]:
        """The result file."""
        found: dict[str, Any] = json.loads((self.folder / "loss_comparison.json").read_text())
        return found

    @property
    def losses(self) -> dict[str, Any]:
        """What the result file says of each loss."""
        found: dict[str, Any] = self.content["losses"]
        return found

    @property
    def loss(self) -> dict[str, Any]:
        """What it says of the first."""
        first: dict[str, Any] = next(iter(self.losses.values()))
        return first

    @property
    def entry(self) -> dict[str, Any]:
        """The first training."""
        first: dict[str, Any] = self.loss["runs"][0]
        return first

    @cached_property
    def training(self) -> Path:
        """Folder of the first training."""
        return self.home / Path(self.entry["checkpoint"]).parent

    @cached_property
    def predictor(self) -> Predictor:
        """The exported model."""
        return Predictor.load(self.training)

    @property
    def network(self) -> SimVP:
        """Its network."""
        return self.predictor.network

    @property
    def weights(self) -> dict[str, Tensor]:
        """Its weights."""
        return self.network.state_dict()

    @property
    def moved(self) -> float:
        """How far training moved the parameters."""
        config: Any = self.parsed.config
        before = build_network(self.network.config, config.network, config.seed)
        pairs = zip(before.parameters(), self.network.parameters(), strict=True)
        return max(float((one - other).detach().abs().max()) for one, other in pairs)

    @property
    def steps(self) -> int:
        """Steps of the first training."""
        return load_checkpoint(find_checkpoint("last", self.training)).step

    def metrics(self, kind: str) -> list[dict[str, Any]]:
        """Its lines of one kind."""
        return [line for line in read_metrics(self.training / "metrics.jsonl") if line["kind"] == kind]

    @property
    def rates(self) -> list[float]:
        """Its learning rate in each epoch."""
        return [line["lr/decay"] for line in self.metrics("epoch")]

    @cached_property
    def parsed(self) -> Parsed[Any]:
        """The words as settings."""
        verb = VERBS[self.words[0]]
        return parse(
            verb.config_class,
            self.words[1:],
            prog="",
            presets=PRESETS,
            default_preset="full",
            aliases=ALIASES,
        )

    @property
    def fit(self) -> FitConfig:
        """The settings as the engine gets them."""
        config: Any = self.parsed.config
        return fit_config(config.optimization, config.run, 10)

    def rate(self, history: list[tuple[int, float]]) -> float:
        """Learning rate after validations (steps done, value), in epochs of ten steps."""
        schedule = Schedule(
            config=self.fit.schedule, base_lr=1.0, total_steps=10 * self.fit.epochs, steps_per_epoch=10,
            mode="min",
        )  # fmt: skip
        return schedule.factor(history[-1][0], len(history), history)


class Bench:
    """Runs command lines, each once: the same words again give the same `Ran`."""

    def __init__(self, root: Path, data: Path, capfd: pytest.CaptureFixture[str] | None = None) -> None:
        self.root, self.data, self.capfd = root, data, capfd
        self.known: dict[str, Ran] = {}
        self.homes = 0

    def run(self, line: str, home: Path | None = None) -> Ran:
        """Return a line, to be run in `home`, else in a new folder, with the data in its folder `data`."""
        if home is not None:
            return Ran(tuple(line.split()), lambda words: self._run(words, home))
        if line not in self.known:
            self.known[line] = Ran(tuple(line.split()), lambda words: self._run(words, self._new_home()))
        return self.known[line]

    def _new_home(self) -> Path:
        self.homes += 1
        return self.root / f"home-{self.homes}"

    def _run(self, words: tuple[str, ...], home: Path) -> Done:
        home.mkdir(exist_ok=True, parents=True)
        if not (home / "data").exists():
            (home / "data").symlink_to(self.data)
        return execute(words, home, self.capfd)


def execute(words: tuple[str, ...], home: Path, capfd: pytest.CaptureFixture[str] | None = None) -> Done:
    """Run `eye-fixation WORDS` in this process, in a folder, without page; leave torch as it was."""
    threads = torch.get_num_threads()
    FakeWandb.asked = []
    if capfd is not None:
        capfd.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr("eye_fixation.compare.write_report", lambda results, out: out)
        patch.setattr("eye_fixation.compare.step_seconds", lambda *given: 0.01)
        patch.setattr("eye_fixation.training.WandbSink", FakeWandb)
        try:
            code = main(list(words))
            deterministic = torch.are_deterministic_algorithms_enabled()
        finally:
            torch.use_deterministic_algorithms(False)
            torch.set_num_threads(threads)
    said = ("", "") if capfd is None else capfd.readouterr()
    return Done(home, code, *said, FakeWandb.asked, deterministic)


def worded(line: str) -> Ran:
    """Return a line that is only to be read."""

    def refuse(words: tuple[str, ...]) -> Done:
        raise AssertionError(f"{' '.join(words)} is not to be run")

    return Ran(tuple(line.split()), refuse)


def checked(line: str) -> str:
    """Return what is said to a line before anything is read: a refusal, or nothing."""
    try:
        check_comparison(worded(line).parsed)
    except UserError as error:
        return str(error)
    return ""


def swapped(folder: Path, splits: GazeSplits) -> Path:
    """Write files of nothing but coordinates (y, x) and mask, which do not say their order."""
    folder.mkdir()
    for name, data in zip(FILES, splits):
        torch.save({"coordinates": data.coordinates.flip(-1), "fixation_mask": data.mask}, folder / name)
    return folder


def plain(content: Any) -> Any:
    """Return a result file without what differs between two runs of the same: time, place, command."""
    if isinstance(content, dict):
        return {name: plain(part) for name, part in content.items() if name not in VARYING}
    return [plain(part) for part in content] if isinstance(content, list) else content


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return whether two sets of weights are equal."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def copied(ran: Ran, home: Path) -> Path:
    """Copy what a run left, run folders and all, and return the copy of its run folder."""
    shutil.copytree(ran.home, home, symlinks=True)
    return home / ran.folder.relative_to(ran.home)


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def at_step(patch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Let something happen at the start of a training step, counted from 1 over all trainings."""
    usual, calls = GazeTask.training_step, count(1)

    def training_step(task: GazeTask, batch: Any) -> Any:
        if next(calls) == step:
            act()
        return usual(task, batch)

    patch.setattr(GazeTask, "training_step", training_step)


def die() -> None:
    """End as a killed process ends."""
    raise Killed
