"""A run that ends at any moment and is resumed must be the run that never ended."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_toy import (
    TIMES,
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

from common.engine.checkpoint import CheckpointError, find_checkpoint, load_checkpoint
from common.engine.logging import read_events, read_metrics
from common.engine.saving import ResumeError
from common.engine.settings import FitConfig
from common.engine.step import TrainingError
from common.schedulers.learning_rate import ScheduleConfig

SCRIPT = [0.5, 0.6, 0.6, 0.6]
"""The plateau comes after the third validation; the patience of three is not reached."""


def hard_config(**changes: Any) -> FitConfig:
    """Everything that must survive: plateau history, average, remainder windows, patience, half log lines."""
    schedule = ScheduleConfig(name="plateau", plateau_patience=0, plateau_factor=0.5)
    return toy_config(
        **{
            "epochs": 3,
            "schedule": schedule,
            "ema_decay": 0.8,
            "accumulation_steps": 3,
            "early_stopping_patience": 3,
            "save_every_steps": 1,
            **changes,
        }
    )


def hard_task(faults: Faults | None = None, seed: int = 0) -> ToyTask:
    return ToyTask(toy_model(seed, dropout=0.3, batch_norm=True), faults=faults, scripted=SCRIPT)


def state_of(folder: Path, where: str = "last") -> dict[str, Any]:
    """Return all that a checkpoint holds, without clock readings, in a form that can be compared."""
    checkpoint = load_checkpoint(find_checkpoint(where, folder))
    for rank in checkpoint.state["ranks"]:
        rank["tally"].pop("seconds")
        rank["tally"].pop("waited")
    parts = {"model": checkpoint.model, "ema": checkpoint.ema, "state": checkpoint.state}
    return {
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "headline": checkpoint.headline,
        **plain(parts),
    }


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), value.flatten().view(torch.uint8).tolist() if value.dim() else value.item())
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def lines_of(folder: Path) -> list[dict[str, Any]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Nine steps, a checkpoint after each."""
    outcome = train(
        tmp_path_factory.mktemp("unbroken") / "run", hard_task(), toy_loaders(20, 3), hard_config()
    )
    assert outcome.summary.steps == 9
    rates = [line["lr/decay"] for line in outcome.metrics() if line["kind"] == "epoch"]
    assert rates == [0.01, 0.01, 0.01]
    return outcome


@pytest.mark.parametrize("step", range(1, 10))
def test_resuming_at_any_step_changes_nothing(unbroken: Outcome, tmp_path: Path, step: int) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    name = f"step-{step:08d}"
    shutil.copytree(unbroken.folder / "checkpoints" / name, folder / "checkpoints" / name)
    shutil.copy(unbroken.folder / "metrics.jsonl", folder)
    torch.manual_seed(step)
    resumed = train(
        folder,
        hard_task(seed=step),
        toy_loaders(20, 3),
        hard_config(),
        resume=str(folder / "checkpoints" / name),
    )
    assert resumed.summary == type(resumed.summary)(**{**vars(unbroken.summary), "folder": folder})
    assert state_of(folder) == state_of(unbroken.folder)
    assert lines_of(folder) == lines_of(unbroken.folder)
    used = [3, 6, 7, 10, 13, 14, 17, 20, 21][step - 1]
    assert resumed.task.seen == unbroken.task.seen[used:]


def test_step_limits_and_workers_leave_no_trace_in_the_run(unbroken: Outcome, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for limit, workers, resume in ((2, 0, None), (5, 2, "last"), (0, 2, "last")):
        config = hard_config(max_steps=limit, save_every_steps=0)
        train(folder, hard_task(seed=limit % 2), toy_loaders(20, 3, workers=workers), config, resume=resume)
    assert state_of(folder) == state_of(unbroken.folder)
    found, expected = lines_of(folder), lines_of(unbroken.folder)
    assert [line for line in found if line in expected] == expected
    extra = [(line["kind"], line["step"]) for line in found if line not in expected]
    assert extra == [("epoch", 2), ("validation", 2), ("step", 5), ("epoch", 5), ("validation", 5)]


def kill_itself(at: int, number: int = signal.SIGKILL, again: bool = False) -> Faults:
    def act(call: int) -> None:
        if call == at:
            os.kill(os.getpid(), number)
            if again:
                os.kill(os.getpid(), number)

    return Faults(before_step=act)


def run_until_signal(folder: str, workers: int, call: int, number: int, again: bool, every: int) -> None:
    """Train in a process of its own that sends itself a signal in the forward pass of micro-batch `call`."""
    task = hard_task(kill_itself(call, number, again))
    config = hard_config(save_every_steps=every)
    summary = train(Path(folder), task, toy_loaders(20, 3, workers=workers), config).summary
    raise SystemExit(summary.exit_code)


def finish(process: ForkServerProcess) -> int:
    process.join(120)
    assert process.exitcode is not None, "still running"
    return process.exitcode


@pytest.mark.parametrize(("workers", "call"), [(0, 13), (2, 13), (0, 8)])
def test_killed_run_resumes_bit_for_bit(unbroken: Outcome, tmp_path: Path, workers: int, call: int) -> None:
    folder = tmp_path / "run"
    process = start_process(run_until_signal, str(folder), workers, call, signal.SIGKILL, False, 2)
    assert finish(process) == -signal.SIGKILL
    saved = load_checkpoint(find_checkpoint("last", folder))
    assert saved.step == {13: 4, 8: 3}[call]
    resumed = train(
        folder,
        hard_task(seed=9),
        toy_loaders(20, 3, workers=workers),
        hard_config(save_every_steps=2),
        resume=str(folder),
    )
    assert resumed.summary.steps == 9
    assert state_of(folder) == state_of(unbroken.folder)
    assert lines_of(folder) == lines_of(unbroken.folder)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_within_a_step_and_the_run_goes_on(
    unbroken: Outcome, tmp_path: Path, number: int, code: int
) -> None:
    folder = tmp_path / "run"
    process = start_process(run_until_signal, str(folder), 2, 11, number, False, 0)
    assert finish(process) == code
    assert load_checkpoint(find_checkpoint("last", folder)).step == 5
    resumed = train(
        folder, hard_task(seed=2), toy_loaders(20, 3), hard_config(save_every_steps=0), resume="last"
    )
    assert resumed.summary.exit_code == 0
    assert state_of(folder) == state_of(unbroken.folder)
    assert lines_of(folder) == lines_of(unbroken.folder)


@pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, {-15}), (signal.SIGINT, {1, -2, 130})])
def test_second_signal_ends_the_process_at_once(tmp_path: Path, number: int, codes: set[int]) -> None:
    folder = tmp_path / "run"
    process = start_process(run_until_signal, str(folder), 0, 11, number, True, 0)
    assert finish(process) in codes
    assert load_checkpoint(find_checkpoint("last", folder)).step == 3, "only the end of epoch 1 was saved"


@pytest.mark.parametrize("call", [8, 19, 20])
def test_signal_in_process_at_the_last_steps_of_an_epoch(
    unbroken: Outcome, tmp_path: Path, call: int
) -> None:
    folder = tmp_path / "run"
    stopped = train(
        folder,
        hard_task(kill_itself(call, signal.SIGTERM)),
        toy_loaders(20, 3),
        hard_config(save_every_steps=0),
    )
    assert stopped.summary.exit_code == 143
    assert stopped.summary.reason == "stopped by signal 15"
    train(folder, hard_task(seed=4), toy_loaders(20, 3), hard_config(save_every_steps=0), resume="last")
    assert state_of(folder) == state_of(unbroken.folder)
    assert lines_of(folder) == lines_of(unbroken.folder)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_signal_in_validation_leaves_it_to_the_resumed_run(
    unbroken: Outcome, tmp_path: Path, epoch: int
) -> None:
    def act(number: int) -> None:
        if number == epoch:
            torch.rand(3)
            os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "run"
    config = hard_config(save_every_steps=0)
    stopped = train(folder, hard_task(Faults(in_validation=act)), toy_loaders(20, 3), config)
    assert (stopped.summary.exit_code, stopped.task.validations) == (143, epoch)
    train(folder, hard_task(seed=4), toy_loaders(20, 3), config, resume="last")
    assert state_of(folder) == state_of(unbroken.folder)
    assert lines_of(folder) == lines_of(unbroken.folder)


def test_finished_runs_stay_finished(tmp_path: Path) -> None:
    folder, config = tmp_path / "run", toy_config(epochs=5, early_stopping_patience=1)
    task = ToyTask(toy_model(), scripted=[0.9, 0.1, 0.2, 0.3, 0.4])
    first = train(folder, task, toy_loaders(6, 3), config)
    assert first.summary.epochs == 2
    again = train(folder, ToyTask(toy_model()), toy_loaders(6, 3), config, resume="last")
    assert again.task.seen == []
    assert again.summary == first.summary
    limited = toy_config(max_steps=3)
    train(tmp_path / "limited", ToyTask(toy_model()), toy_loaders(20, 3), limited)
    again = train(tmp_path / "limited", ToyTask(toy_model()), toy_loaders(20, 3), limited, resume="last")
    assert (again.task.seen, again.summary.steps) == ([], 3)


def test_more_epochs_may_be_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, ToyTask(toy_model()), toy_loaders(6, 3), toy_config(epochs=2))
    longer = train(folder, ToyTask(toy_model(5)), toy_loaders(6, 3), toy_config(epochs=4), resume="last")
    whole = train(tmp_path / "whole", ToyTask(toy_model()), toy_loaders(6, 3), toy_config(epochs=4))
    assert same(longer.weights, whole.weights)
    assert lines_of(folder) == lines_of(whole.folder)


def test_changed_setting_is_refused_with_old_and_new(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    loaders, once = toy_loaders(6, 3), toy_config(epochs=1)
    train(folder, ToyTask(toy_model()), loaders, once, settings="lr: 0.1\nworkers: 0\n")
    changed = "lr: 0.2\nworkers: 2\n"
    with pytest.raises(ResumeError) as caught:
        train(folder, ToyTask(toy_model()), loaders, once, resume="last", settings=changed, free={"workers"})
    assert "lr: 0.1 in the checkpoint, 0.2 asked for" in str(caught.value)
    assert "workers" not in str(caught.value)
    assert (folder / "config.yaml").read_text() == "lr: 0.1\nworkers: 0\n"
    free = "lr: 0.1\nworkers: 2\n"
    train(folder, ToyTask(toy_model()), loaders, once, resume="last", settings=free, free={"workers"})
    assert (folder / "config.yaml").read_text() == free


def test_changes_that_are_allowed_are_told(tmp_path: Path) -> None:
    folder, loaders, once = tmp_path / "run", toy_loaders(6, 3), toy_config(epochs=1)
    train(folder, ToyTask(toy_model()), loaders, once, settings="lr: 0.1\n")
    changed = "lr: 0.2\n"
    resumed = train(
        folder, ToyTask(toy_model()), loaders, once, resume="last", settings=changed, allow_changes=True
    )
    assert "resume   lr: 0.1 in the checkpoint, 0.2 asked for" in resumed.console
    assert (folder / "config.yaml").read_text() == changed


def test_the_best_value_to_beat_may_be_replaced(tmp_path: Path) -> None:
    folder, loaders = tmp_path / "run", toy_loaders(6, 3)
    train(folder, ToyTask(toy_model(), scripted=[0.5]), loaders, toy_config(epochs=1))
    again = train(
        folder,
        ToyTask(toy_model(), scripted=[0.5, 0.3]),
        loaders,
        toy_config(epochs=2, resume_best=0.2),
        resume="last",
    )
    assert "resume   best 0.2 instead of 0.5" in again.console
    assert again.summary.best == 0.3


def test_wrong_model_is_refused_and_a_missing_checkpoint_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, ToyTask(toy_model()), toy_loaders(6, 3), toy_config(epochs=1))
    with pytest.raises(ResumeError, match=r"cannot resume: .*step-\d+ does not fit the model\n  missing"):
        train(
            folder,
            ToyTask(toy_model(batch_norm=True)),
            toy_loaders(6, 3),
            toy_config(epochs=1),
            resume="last",
        )
    with pytest.raises(CheckpointError, match="nowhere"):
        train(tmp_path / "other", resume=str(tmp_path / "nowhere"))


def test_damaged_checkpoint_is_passed_over_with_a_line(unbroken: Outcome, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken.folder, folder)
    for step in (9, 8):
        path = folder / "checkpoints" / f"step-{step:08d}" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    resumed = train(folder, hard_task(seed=3), toy_loaders(20, 3), hard_config(), resume="last")
    assert "step-00000009: model.safetensors size" in resumed.console
    assert "step-00000007" in resumed.console
    assert state_of(folder) == state_of(unbroken.folder)


def test_best_may_be_resumed_from(unbroken: Outcome, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken.folder, folder)
    resumed = train(folder, hard_task(seed=3), toy_loaders(20, 3), hard_config(), resume="best")
    assert len(resumed.task.seen) == 7, "the best was measured after epoch 2"
    assert state_of(folder) == state_of(unbroken.folder)


def test_average_switched_on_later_begins_at_the_loaded_weights(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = train(folder, ToyTask(toy_model()), toy_loaders(6, 3), toy_config(epochs=1))
    start = {name: value.clone() for name, value in first.weights.items()}
    task = ToyTask(toy_model(7))
    train(folder, task, toy_loaders(6, 3), toy_config(epochs=2, ema_decay=0.999), resume="last")
    gap = float((task.first_weights[0] - start["encoder.weight"]).abs().max())
    assert gap < 0.03, "two steps of Adam at 0.01"


def save_in_vain(folder: str, epochs: int, blocked: int) -> None:
    """Let files grow to 700 bytes at most while epochs 1 to `blocked` (from 0) are saved."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def limit(epoch: int) -> None:
        inside = 1 <= epoch <= blocked
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY) if inside else unlimited)

    task = ToyTask(toy_model(), faults=Faults(in_validation=limit))
    failed = False
    try:
        outcome = train(Path(folder), task, toy_loaders(6, 3), toy_config(epochs=epochs))
    except TrainingError as error:
        failed = True
        text = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    Path(folder, "outcome.txt").write_text(text if failed else f"done\n{outcome.console}")


@pytest.mark.parametrize(("blocked", "ends_well"), [(2, True), (3, False)])
def test_failed_saves_warn_and_the_third_in_a_row_stops(
    tmp_path: Path, blocked: int, ends_well: bool
) -> None:
    folder = tmp_path / "run"
    assert finish(start_process(save_in_vain, str(folder), 5, blocked)) == 0
    text = (folder / "outcome.txt").read_text()
    last = load_checkpoint(find_checkpoint("last", folder))
    if ends_well:
        assert text.startswith("done")
        assert "save_failed checkpoint not saved (2 of 3)" in text
        assert last.step == 10
    else:
        assert text.startswith("3 checkpoints in a row could not be saved: cannot save")
        assert last.step == 2, "the old one is whole"
    assert not [path.name for path in (folder / "checkpoints").iterdir() if ".tmp-" in path.name]
    assert read_metrics(folder / "metrics.jsonl")
    assert read_events(folder / "events.jsonl")


def test_folder_that_cannot_be_written_warns(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoints").write_text("a file in the way")
    with pytest.raises(TrainingError, match="3 checkpoints in a row"):
        train(folder, ToyTask(toy_model()), toy_loaders(6, 3), toy_config(epochs=3))
    failed = [event for event in read_events(folder / "events.jsonl") if event["kind"] == "save_failed"]
    assert len(failed) == 3


@pytest.mark.parametrize(("minutes", "expected"), [(1e-9, [1, 2, 3, 4]), (60.0, [4])])
def test_saving_by_the_clock(tmp_path: Path, minutes: float, expected: list[int]) -> None:
    config = toy_config(epochs=1, save_every_minutes=minutes)
    outcome = train(tmp_path / "run", ToyTask(toy_model()), toy_loaders(12, 3), config)
    events = read_events(outcome.folder / "events.jsonl")
    assert [event["step"] for event in events if event["kind"] == "checkpoint"] == expected
