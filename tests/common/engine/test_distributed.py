"""Two processes over gloo must be one process with batches twice as large."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_toy import (
    Faults,
    Outcome,
    ToyTask,
    same,
    start_process,
    toy_config,
    toy_loaders,
    toy_model,
    train,
)
from freezing_toy import block_model, run_freezing
from torch import nn

from common.engine.checkpoint import find_checkpoint, load_checkpoint
from common.engine.distributed import World, join_world, leave_world, pick_device
from common.engine.logging import read_events
from common.engine.settings import OptimizerConfig
from common.engine.step import TrainingError
from common.freezing.driver import check_equal
from common.freezing.strategies import FreezingConfig

WIDE = {"dtype": torch.float64}


def run_plain(folder: Path, world: World, faults: Faults | None = None, **changes: Any) -> Outcome:
    """Train in fp64 with windows of four micro-batches and a remainder; 4 samples a micro-batch in all."""
    task = ToyTask(toy_model(world.rank, **WIDE), faults=faults)
    loaders = toy_loaders(24, 4 // world.size, world=world, **WIDE)
    config = toy_config(accumulation_steps=4, ema_decay=0.9, log_every=1, **changes)
    return train(folder, task, loaders, config, world=world)


def only_on(rank: int, world: World, **faults: Any) -> Faults:
    return Faults(**faults) if world.rank == rank else Faults()


def plain(folder: Path, world: World) -> Outcome:
    return run_plain(folder, world)


def no_memory_on_one(folder: Path, world: World) -> Outcome:
    return run_plain(folder, world, only_on(1, world, no_memory=[2]))


def nan_on_one(folder: Path, world: World) -> Outcome:
    return run_plain(folder, world, only_on(1, world, nan={4: "frames"}))


def infinite_loss_without_gradient_on_one(folder: Path, world: World) -> Outcome:
    class Infinite(ToyTask):
        def _terms(self, batch: dict[str, Any]) -> dict[str, Any]:
            terms = super()._terms(batch)
            if self.calls == 5 and world.rank == 1:
                terms["value"].total.data.fill_(float("inf"))
            return terms

    task = Infinite(toy_model(**WIDE))
    return train(folder, task, toy_loaders(24, 2, world=world, **WIDE), toy_config(), world=world)


def batch_norm_and_dropout(folder: Path, world: World) -> Outcome:
    task = ToyTask(toy_model(world.rank, dropout=0.3, batch_norm=True))
    return train(folder, task, toy_loaders(24, 4, world=world), toy_config(), world=world)


def signal_to_one_then_resume(folder: Path, world: World) -> Outcome:
    def act(call: int) -> None:
        if call == 4 and world.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    task = ToyTask(toy_model(world.rank, dropout=0.3, batch_norm=True), faults=Faults(before_step=act))
    first = train(folder, task, toy_loaders(24, 4, world=world), toy_config(), world=world)
    assert first.summary.exit_code == 143
    assert first.summary.steps == 5
    task = ToyTask(toy_model(5, dropout=0.3, batch_norm=True))
    return train(folder, task, toy_loaders(24, 4, world=world), toy_config(), world=world, resume="last")


def rollback(folder: Path, world: World) -> Outcome:
    own = folder if world.main else folder.parent / "the other process does not know the folder"
    task = ToyTask(toy_model(**WIDE), faults=only_on(1, world, nan={7: "value"}))
    config = toy_config(nonfinite="rollback", epochs=3)
    return train(own, task, toy_loaders(24, 2, world=world, **WIDE), config, world=world)


def nothing_to_validate_on_one(folder: Path, world: World) -> Outcome:
    task = ToyTask(toy_model(**WIDE))
    loaders = toy_loaders(8, 4 // world.size, valid=1, world=world, **WIDE)
    return train(folder, task, loaders, toy_config(epochs=1), world=world)


def unused_parameter(folder: Path, world: World) -> Outcome:
    model = toy_model(**WIDE)
    model.unused = nn.Linear(3, 3).double()
    config = toy_config(optimizer=OptimizerConfig(lr=0.1, weight_decay=0.5))
    return train(
        folder, ToyTask(model), toy_loaders(24, 4 // world.size, world=world, **WIDE), config, world=world
    )


def save_fails(folder: Path, world: World) -> Outcome:
    if world.main:
        folder.mkdir()
        (folder / "checkpoints").write_text("in the way")
    world.barrier()
    with pytest.raises(TrainingError, match="3 checkpoints in a row"):
        run_plain(folder, world, epochs=5)
    return run_plain(folder.parent / "afterwards", world)


def freezing(folder: Path, world: World) -> Outcome:
    """Open, roll back and open again, the same on both; then notice weights that differ."""
    config = FreezingConfig(strategy="advanced", base_importance_threshold=0.0)
    metrics = [0.4, 0.4, 0.39, 0.39, 0.38, 0.38, 0.4, 0.4, 0.4]
    found = run_freezing(folder, config, metrics, world=world)
    flags = [parameter.requires_grad for parameter in found.freezer.model.parameters()]
    assert found.freezer.state.rollbacks == 1
    assert len(set(world.gather(repr((found.freezer.state, flags))))) == 1
    with pytest.raises(TrainingError, match="different weights"):
        check_equal(block_model(world.rank), world)
    return found.outcome


def collectives(folder: Path, world: World) -> None:
    """Check each collective against what a reader would compute."""
    rank = world.rank
    first, second = torch.full((2, 3), rank + 1.0), torch.tensor([rank + 1, 5])
    world.sum_([first, second])
    assert first.tolist() == [[3.0] * 3] * 2
    assert second.tolist() == [3, 10]
    assert world.largest(7 - rank) == 7
    assert world.gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert world.from_main(f"rank {rank}") == "rank 0"
    module = nn.BatchNorm1d(2)
    module.register_buffer("flag", torch.tensor([rank == 0, False]))
    module.register_buffer("scratch", torch.full((2,), float(rank)), persistent=False)
    module.weight.data.fill_(rank)
    world.share_module(module)
    assert module.weight.tolist() == [0.0, 0.0]
    assert module.flag.tolist() == [True, False]
    assert module.scratch.tolist() == [0.0, 0.0]
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad = torch.full((2,), rank + 1.0)
    if rank:
        parameters[1].grad = torch.full((2,), 4.0)
    world.sum_gradients(parameters)
    assert parameters[0].grad.tolist() == [3.0, 3.0]
    assert parameters[1].grad is not None
    assert parameters[1].grad.tolist() == [4.0, 4.0]
    assert parameters[2].grad is None


STORIES: list[Callable[[Path, World], Outcome]] = [
    plain,
    no_memory_on_one,
    nan_on_one,
    infinite_loss_without_gradient_on_one,
    batch_norm_and_dropout,
    signal_to_one_then_resume,
    rollback,
    nothing_to_validate_on_one,
    unused_parameter,
    save_fails,
    freezing,
]


def tell_all(folder: str, rank: int, port: int) -> None:
    """Run every story in one group of two processes and keep what came of it."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", RANK=str(rank))
    world = join_world("cpu", timeout_minutes=1)
    assert (world.rank, world.size) == (rank, 2)
    collectives(Path(folder), world)
    for story in STORIES:
        outcome = story(Path(folder, story.__name__), world)
        kept = {
            "weights": outcome.weights,
            "steps": outcome.summary.steps,
            "best": outcome.summary.best,
            "reports": [(dict(report.train), dict(report.valid)) for report in outcome.task.reports],
        }
        torch.save(kept, Path(folder, f"{story.__name__}-{rank}.pt"))
    leave_world()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes ran all stories."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start_process(tell_all, str(folder), rank, port) for rank in (0, 1)]
    for process in processes:
        process.join(120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0, 0]
    return folder


def kept(told: Path, story: Callable[..., Outcome]) -> list[dict[str, Any]]:
    return [torch.load(told / f"{story.__name__}-{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_processes_hold_the_same_weights_and_numbers(told: Path, story: Callable[..., Outcome]) -> None:
    first, second = kept(told, story)
    assert same(first["weights"], second["weights"])
    assert (first["steps"], first["best"]) == (second["steps"], second["best"])
    assert repr(first["reports"]) == repr(second["reports"])


@pytest.mark.parametrize("story", [plain, no_memory_on_one, nothing_to_validate_on_one, unused_parameter])
def test_two_processes_equal_one_with_twice_the_batch(
    told: Path, tmp_path: Path, story: Callable[[Path, World], Outcome]
) -> None:
    single = story(tmp_path / "single", World())
    double = kept(told, story)[0]
    assert double["steps"] == single.summary.steps
    for name, value in single.weights.items():
        assert torch.allclose(double["weights"][name], value, rtol=0, atol=1e-12), name
    for (train_two, valid_two), report in zip(double["reports"], single.task.reports, strict=True):
        assert train_two == pytest.approx(dict(report.train), rel=1e-12)
        assert valid_two == pytest.approx(dict(report.valid), rel=1e-12, nan_ok=True)


def test_metrics_file_is_written_once_and_equals_the_single_process(told: Path, tmp_path: Path) -> None:
    single = plain(tmp_path / "single", World()).metrics()
    double = Outcome(None, None, told / "plain", "").metrics()  # type: ignore[arg-type]
    assert len(double) == len(single)
    for one, two in zip(single, double, strict=True):
        assert one.pop("kind") == two.pop("kind")
        assert two == pytest.approx(one, rel=1e-11)


def test_memory_recovery_is_agreed(told: Path) -> None:
    events = read_events(told / "no_memory_on_one" / "events.jsonl")
    assert [event["micro_batch"] for event in events if event["kind"] == "out_of_memory"] == [1]


def test_a_step_is_skipped_by_all_when_one_process_is_not_finite(told: Path) -> None:
    for story, terms in (
        (nan_on_one, ["gradient", "frames"]),
        (infinite_loss_without_gradient_on_one, ["value"]),
    ):
        events = read_events(told / story.__name__ / "events.jsonl")
        (event,) = [event for event in events if event["kind"] == "nonfinite"]
        assert event["terms"] == terms
        assert all(torch.isfinite(value).all() for value in kept(told, story)[0]["weights"].values())


def test_stopped_and_resumed_equals_never_stopped(told: Path) -> None:
    unbroken = kept(told, batch_norm_and_dropout)[0]
    resumed = kept(told, signal_to_one_then_resume)[0]
    assert same(resumed["weights"], unbroken["weights"])
    assert resumed["reports"] == unbroken["reports"][-len(resumed["reports"]) :]


def test_rollback_is_done_by_all(told: Path) -> None:
    events = read_events(told / "rollback" / "events.jsonl")
    assert [event["to"] for event in events if event["kind"] == "rollback"] == [6]


def test_a_run_of_two_processes_can_go_on_alone(told: Path, tmp_path: Path) -> None:
    last = find_checkpoint("last", told / "plain")
    assert len(load_checkpoint(last).state["ranks"]) == 2
    config = toy_config(epochs=4, accumulation_steps=4, ema_decay=0.9)
    task = ToyTask(toy_model(**WIDE))
    outcome = train(tmp_path / "alone", task, toy_loaders(24, 4, **WIDE), config, resume=str(last))
    assert "saved by 2 processes, continued by 1: not bitwise" in outcome.console
    assert outcome.summary.epochs == 4
    assert len(task.seen) == 6


@pytest.mark.parametrize(("batch_size", "first_draw"), [(4, 16), (5, 15)])
def test_in_mid_epoch_the_other_world_goes_on_at_the_next_sample(
    told: Path, tmp_path: Path, batch_size: int, first_draw: int
) -> None:
    saved = told / "signal_to_one_then_resume" / "checkpoints" / "step-00000005"
    task = ToyTask(toy_model(dropout=0.3, batch_norm=True))
    train(tmp_path / "alone", task, toy_loaders(24, batch_size), toy_config(), resume=str(saved))
    draws = [(epoch, draw) for keys in task.seen for _, epoch, draw in keys]
    assert draws == [(1, draw) for draw in range(first_draw, 24)] + [(2, draw) for draw in range(24)]


def test_one_process_needs_no_group() -> None:
    world = join_world("cpu")
    tensor = torch.ones(2)
    world.sum_([tensor])
    world.share_module(nn.Linear(1, 1))
    world.sum_gradients([])
    world.barrier()
    assert (world.rank, world.size, world.main) == (0, 1, True)
    assert tensor.tolist() == [1.0, 1.0]
    assert (world.largest(3), world.gather("a"), world.from_main("b")) == (3, ["a"], "b")


@pytest.mark.parametrize(("name", "text"), [("gpu", "expected auto, cpu"), ("meta", "expected auto, cpu")])
def test_unknown_devices_are_named(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        pick_device(name)


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    with pytest.raises(ValueError, match="not there"):
        pick_device(f"cuda:{count}")
    assert pick_device("auto").type == ("cuda" if count else "cpu")


def test_blocks_open_and_close_for_all(told: Path) -> None:
    events = read_events(told / "freezing" / "events.jsonl")
    kinds = [event["event"] for event in events if event["kind"] == "freezing" and event["blocks"]]
    assert kinds == ["unfreeze", "rollback", "unfreeze"]
