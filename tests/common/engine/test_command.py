"""What a training command does around the engine: how it ends, where it computes, what it resumes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from common.config import UserError
from common.engine.checkpoint import CheckpointError
from common.engine.command import (
    choose_device,
    choose_precision,
    open_run_folder,
    require_checkpoints,
    run_folder_of,
    run_training,
    use_deterministic_kernels,
)
from common.engine.distributed import World
from common.engine.fit import ResumeError, Summary
from common.engine.run import RunFolderError
from common.engine.step import StepMemoryError, TrainingError


class BadFileError(OSError):
    """An error that only an application knows."""


def ended(code: int) -> Summary:
    return Summary(Path("run"), 1, 1, "loss", None, "done", exit_code=code)


@pytest.mark.parametrize("code", [0, 3, 143])
def test_the_exit_code_is_that_of_the_run(code: int) -> None:
    worlds = []

    def train(world: World) -> Summary:
        worlds.append(world)
        return ended(code)

    assert run_training(train, "cpu") == code
    assert worlds == [World(0, 1, torch.device("cpu"))]


@pytest.mark.parametrize("error", [CheckpointError("x", 2), RunFolderError("x"), ResumeError("x")])
def test_what_a_user_can_mend_is_a_user_error(error: Exception) -> None:
    def train(world: World) -> Summary:
        raise error

    with pytest.raises(UserError) as caught:
        run_training(train, "cpu")
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


def test_errors_of_an_application_are_a_users_only_when_named() -> None:
    def train(world: World) -> Summary:
        raise BadFileError("film.mp4: cannot be read")

    with pytest.raises(UserError, match=r"^film\.mp4: cannot be read$"):
        run_training(train, "cpu", bad_input=(BadFileError,))
    with pytest.raises(BadFileError):
        run_training(train, "cpu")


@pytest.mark.parametrize("error", [TrainingError("the loss is nan"), StepMemoryError("the loss is nan")])
def test_a_training_that_fails_is_said_and_ends_with_1(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(world: World) -> Summary:
        raise error

    assert run_training(train, "cpu") == 1
    assert capsys.readouterr().err == "error: training stopped: the loss is nan\n"


@pytest.mark.parametrize("error", [TypeError, KeyError, AssertionError, RuntimeError])
def test_a_mistake_in_the_program_keeps_its_traceback(error: type[Exception]) -> None:
    def train(world: World) -> Summary:
        raise error

    with pytest.raises(error):
        run_training(train, "cpu")


def test_the_other_processes_are_left_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    left = []
    monkeypatch.setattr("common.engine.command.leave_world", lambda: left.append(1))
    run_training(lambda world: ended(0), "cpu")
    with pytest.raises(ZeroDivisionError):
        run_training(lambda world: ended(1 // 0), "cpu")
    assert len(left) == 2


@pytest.mark.parametrize("name", ["cuda:99", "tpu"])
def test_a_device_that_is_not_there_is_refused_before_training(name: str) -> None:
    def train(world: World) -> Summary:
        raise AssertionError

    for call in (lambda: choose_device(name), lambda: run_training(train, name)):
        with pytest.raises(UserError, match=f"^--device: device '{name}'"):
            call()


def test_precision_on_the_cpu() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu, flag="--amp") == "fp32"
    assert choose_precision("off", cpu, flag="--amp") == "fp32"
    assert choose_precision("bf16", cpu, flag="--amp") == "bf16"
    with pytest.raises(UserError, match=r"^--amp fp16 needs a CUDA device; use bf16 or off$"):
        choose_precision("fp16", cpu, flag="--amp")


@pytest.mark.parametrize(("supported", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_precision_on_cuda(supported: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    cuda = torch.device("cuda", 0)
    assert choose_precision("auto", cuda, flag="--amp") == chosen
    assert choose_precision("off", cuda, flag="--amp") == "fp32"
    assert choose_precision("fp16", cuda, flag="--amp") == "fp16"


@pytest.fixture
def usual_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    yield
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("usual_kernels")
def test_deterministic_kernels_are_asked_for_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    use_deterministic_kernels()
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    use_deterministic_kernels()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_run_folder_that_cannot_be_written_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match=r"^--run-dir .*file/run: cannot be written: Not a directory$"):
        open_run_folder(tmp_path / "file" / "run", "seed: 1\n", resuming=False, flag="--run-dir")


def test_a_run_folder_that_holds_a_run_is_not_taken_again(tmp_path: Path) -> None:
    with open_run_folder(tmp_path / "run", "seed: 1\n", resuming=False, flag="--run-dir") as run:
        run.metrics.write("step", 1, 0, {"loss": 1.0})
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 1\n"
    with pytest.raises(RunFolderError, match="already holds a run"):
        open_run_folder(tmp_path / "run", "seed: 2\n", resuming=False, flag="--run-dir")
    with open_run_folder(tmp_path / "run", "seed: 2\n", resuming=True, flag="--resume") as run:
        assert run.folder == tmp_path / "run"


def test_the_folder_to_resume(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000008").mkdir(parents=True)
    assert run_folder_of(run / "checkpoints" / "step-00000008") == run
    assert run_folder_of(run / "checkpoints" / "best") == run
    assert run_folder_of(run) == run
    assert require_checkpoints(run, "last") == run
    with pytest.raises(UserError, match=f"^--resume last: {tmp_path} is neither a run folder nor holds a"):
        require_checkpoints(tmp_path, "last")
