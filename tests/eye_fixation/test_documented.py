"""The documented functions, called as the document calls them."""

import importlib.util
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from eye_files import gaze_splits, masked
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from common.config import UserError
from eye_fixation import compare, documented, training
from eye_fixation.config import (
    CompareConfig,
    DataConfig,
    JudgingConfig,
    NetworkConfig,
    OptimizationConfig,
    RunConfig,
)
from eye_fixation.data import pt
from eye_fixation.data.pt_file import file_contents
from eye_fixation.documented import (
    create_model,
    create_sparse_frames,
    evaluate_model,
    load_real_training_data,
    run_real_loss_function_analysis,
    train_model_with_loss,
)
from eye_fixation.losses import LOSSES, build_loss, get_loss_function
from eye_fixation.simvp import SimVP, SimVPConfig

DOOR = Path(documented.__file__).parents[2] / "experiments" / "phase1_loss_function_analysis"


class Constant(nn.Module):
    """The same number everywhere, learned, and a buffer that counts the training steps."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return self.value.expand(x.shape) + 0 * x


def loader(targets: Tensor, *others: Tensor, batch_size: int = 2) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros_like(targets), targets, *others), batch_size=batch_size)


def uniform(value: float, count: int = 2) -> Tensor:
    return torch.full((count, 3, 1, 4, 4), value)


def tiny() -> SimVP:
    torch.manual_seed(0)
    return SimVP(SimVPConfig(in_shape=(3, 1, 8, 8), out_len=3, hid_S=4, hid_T=8, N_S=2, N_T=2))


def tiny_loader(count: int, seed: int, *, with_mask: bool = True) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    points = 8 * torch.rand(count, 6, 2, generator=generator)
    mask = torch.rand(count, 6, generator=generator) > 0.2
    frames = create_sparse_frames(points, mask, 8)
    rest = (mask[:, 3:],) if with_mask else ()
    return DataLoader(TensorDataset(frames[:, :3], frames[:, 3:], *rest), batch_size=3)


def test_the_door_exports_the_documented_names() -> None:
    spec = importlib.util.spec_from_file_location("train_loss_comparison", DOOR / "train_loss_comparison.py")
    assert spec is not None
    assert spec.loader is not None
    door = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(door)
    assert documented.__all__ == [
        "create_model", "create_sparse_frames", "evaluate_model", "load_real_training_data",
        "run_real_loss_function_analysis", "train_model_with_loss",
    ]  # fmt: skip
    for name in documented.__all__:
        assert getattr(door, name) is getattr(documented, name)


@pytest.mark.parametrize("place", ["app", "app/experiments/phase1_loss_function_analysis", "elsewhere"])
@pytest.mark.parametrize("held", ["app/data", "app/experiments/data"])
def test_data_are_found_from_any_working_folder(
    place: str, held: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("app/experiments/phase1_loss_function_analysis", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / held).symlink_to(data_folder)
    monkeypatch.setattr(pt, "_APP", tmp_path / "app")
    monkeypatch.chdir(tmp_path / place)
    train, val, test = load_real_training_data()
    assert [len(part["coordinates"]) for part in (train, val, test)] == [24, 12, 12]


@pytest.mark.parametrize("source", ["real", "simulated", "unknown"])
def test_source_is_said(source: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "gaze"
    pt.write_folder(folder, gaze_splits((4, 2, 2), source=source), {})
    train, *_ = load_real_training_data(str(folder))
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].endswith(str(folder))
    assert lines[1] == f"data     train 4 sequences  coordinates (4, 20, 2)  source {source}"
    assert [line.endswith(f"source {source}") for line in lines[1:]] == [True] * 3
    assert source == "real" or not any("real" in line for line in lines[1:])
    assert train["metadata"]["source"] == source
    assert train["coordinates"].shape == (4, 20, 2)
    assert train["fixation_mask"].dtype == torch.bool
    assert len(train["group"]) == 4


def test_coordinates_of_either_order_come_out_the_same(tmp_path: Path) -> None:
    splits = gaze_splits((4, 2, 2))
    pt.write_folder(tmp_path / "xy", splits, {})
    (tmp_path / "yx").mkdir()
    for name, data in zip(pt.FILES, splits):
        contents = file_contents(data)
        contents |= {"coordinates": data.coordinates.flip(-1)}
        contents["metadata"] |= {"coord_order": "yx"}
        torch.save(contents, tmp_path / "yx" / name)
    first, second = (load_real_training_data(tmp_path / order)[0] for order in ("xy", "yx"))
    assert torch.equal(first["coordinates"], second["coordinates"])
    assert first["metadata"]["coord_order"] == second["metadata"]["coord_order"] == "xy"
    with pytest.raises(UserError, match="--coord-order yx contradicts"):
        load_real_training_data(tmp_path / "xy", coord_order="yx")


def test_a_model_that_worsens_after_epoch_2_is_returned_at_epoch_2(capfd: pytest.CaptureFixture[str]) -> None:
    """One step of Adam moves the value by its rate, 1e-3: after epoch 2 it is .002, nearest to .0021."""
    model, best, train, val = train_model_with_loss(
        Constant(), loader(uniform(1.0)), loader(uniform(0.0021)), nn.MSELoss(), "steady", "cpu", epochs=5
    )
    assert len(train) == len(val) == 5
    assert val[1] == min(val) == best
    assert val[4] > val[3] > val[2] > val[1] < val[0]
    assert model.value.item() == pytest.approx(0.002, rel=1e-3)
    assert model.steps.item() == 2
    assert best == pytest.approx((0.0021 - 0.002) ** 2, rel=0.05)
    assert train == pytest.approx([(1 - 0.001 * epoch) ** 2 for epoch in range(5)], rel=1e-4)
    assert evaluate_model(model, loader(uniform(0.0021)), "cpu")["test_loss"] == pytest.approx(best)
    assert "steady  5 epochs of 1 steps" in capfd.readouterr().out


def test_the_documented_optimisation() -> None:
    """Against torch's own Adam with coupled decay, clipping at 1 and the plateau schedule."""
    data, mse = tiny_loader(5, 1, with_mask=False), nn.MSELoss()
    ours, theirs = tiny(), tiny()
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-3, weight_decay=1e-5)
    for _ in range(3):
        for inputs, targets in data:
            optimizer.zero_grad()
            mse(theirs.train()(inputs), targets).backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
            optimizer.step()
    valid = tiny_loader(4, 2, with_mask=False)
    _, best, _, val = train_model_with_loss(ours, data, valid, mse, "mse", torch.device("cpu"), epochs=3)
    assert best == val[2], "this comparison needs the last epoch to be the best"
    for (name, first), second in zip(ours.state_dict().items(), theirs.state_dict().values()):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6, msg=name)


def test_the_rate_falls_on_a_plateau() -> None:
    """The value leaves its best place, 0, at once: 6 epochs without gain, then half the rate."""
    losses = [
        train_model_with_loss(
            Constant(), loader(uniform(1.0)), loader(uniform(0.0)), nn.MSELoss(), "mse", "cpu", epochs=count
        )[3]
        for count in (7, 9)
    ]
    assert losses[0] == losses[1][:7]
    values = [loss**0.5 for loss in losses[1]]
    steps = [after - before for before, after in pairwise(values)]
    assert steps == pytest.approx([1e-3] * 6 + [5e-4] * 2, rel=1e-2)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_the_model(name: str) -> None:
    model, before = tiny(), tiny()
    model, best, train, val = train_model_with_loss(
        model, tiny_loader(5, 1), tiny_loader(4, 2), build_loss(name, img_size=8), name, "cpu", epochs=1
    )
    assert torch.tensor([best, *train, *val]).isfinite().all()
    assert best == val[0]
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters()))


def test_masked_frames_are_outside_training_and_evaluation() -> None:
    """A loader without mask counts every frame; with one, only the frames it names."""
    targets = uniform(0.0, 4)
    targets[:, 1:] = 3.0
    mask = torch.zeros(4, 3)
    mask[:, 0] = 1
    loss = get_loss_function("mse")
    for others, expected in (((), 6.0), ((mask,), 0.0), ((mask.bool(),), 0.0)):
        data = loader(targets, *others)
        _, best, train, _ = train_model_with_loss(Constant(), data, data, loss, "mse", "cpu", epochs=1)
        assert train[0] == pytest.approx(expected, abs=1e-2)
        assert best == pytest.approx(expected, abs=1e-2)
        assert evaluate_model(Constant(), data, "cpu")["test_loss"] == pytest.approx(expected)


@pytest.mark.parametrize("epochs", [0, -3])
def test_epochs_below_one_raise(epochs: int) -> None:
    data = loader(uniform(0.0))
    with pytest.raises(ValueError, match=f"epochs {epochs}"):
        train_model_with_loss(Constant(), data, data, nn.MSELoss(), "mse", "cpu", epochs=epochs)


def pixels(values: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(values).view(len(values), 1, 1, 1, -1)


class Echo(nn.Module):
    """What comes in goes out."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_evaluation_counts_all_pixels_together(batch_size: int) -> None:
    outputs = pixels([[2, -1, 3, -1], [1, 1, 1, 1], [-2, -2, -2, 4]])
    targets = pixels([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    data = DataLoader(TensorDataset(outputs, targets), batch_size=batch_size)
    found = evaluate_model(Echo(), data, "cpu")
    assert found == pytest.approx(
        {
            "test_loss": (1 + 1 + 9 + 1 + 1 + 0 + 1 + 1 + 4 + 4 + 9 + 16) / 12,
            "white_pixel_recall": 2 / 3, "white_pixel_precision": 2 / 7, "f1_score": 4 / 10,
            "total_target_pixels": 3, "total_correct_pixels": 2,
        },
        rel=1e-9,
    )  # fmt: skip


def test_from_file_to_numbers(tmp_path: Path) -> None:
    """The documented steps one after the other on the documented model type, in small."""
    splits = gaze_splits((6, 4, 4))
    pt.write_folder(tmp_path / "gaze", splits._replace(test=masked(splits.test, (0, 15))), {})
    loaders = []
    for part in load_real_training_data(tmp_path / "gaze"):
        frames = create_sparse_frames(part["coordinates"], part["fixation_mask"])
        loaders.append(DataLoader(TensorDataset(frames[:, :10], frames[:, 10:]), batch_size=4))
    model, *_ = train_model_with_loss(
        create_model("smoke"), loaders[0], loaders[1], get_loss_function("focal"), "focal", "cpu", epochs=1
    )
    found = evaluate_model(model, loaders[2], "cpu")
    assert found["total_target_pixels"] == 39
    assert 0 <= found["white_pixel_recall"] <= 1


def test_one_failing_loss_leaves_the_others(
    tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = ("mse", "softmax_ce", "dice", "bce")

    def broken(name: str, *arguments: Any) -> nn.Module:
        if name == losses[2]:
            raise RuntimeError("injected")
        return build_loss(name, *arguments)

    monkeypatch.setattr(training, "build_loss", broken)
    monkeypatch.setattr(compare, "write_report", lambda files, path: path)
    result = run_real_loss_function_analysis(
        CompareConfig(
            losses=losses,
            data=DataConfig(data_dir=data_folder),
            network=NetworkConfig(hid_S=4, hid_T=8, N_S=2, N_T=2),
            optimization=OptimizationConfig(epochs=1, batch_size=16),
            judging=JudgingConfig(baselines=False, bootstrap=0),
            run=RunConfig(out=tmp_path / "new" / "run", device="cpu"),
        )
    )
    assert set(result["losses"]) == set(losses)
    runs = {name: entry["runs"][0] for name, entry in result["losses"].items()}
    assert {name: run["status"] for name, run in runs.items()} == dict.fromkeys(losses, "ok") | {
        "dice": "failed"
    }
    assert "injected" in runs["dice"]["error"]
    assert all(runs[name]["metrics"]["raw"]["bits"] < 0 for name in losses if name != "dice")
    assert (
        json.loads((tmp_path / "new" / "run" / "loss_comparison.json").read_text())["kind"]
        == "loss_comparison"
    )


def test_the_documented_comparison_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documented, "run_comparison", lambda config: {"config": config})
    assert run_real_loss_function_analysis()["config"] == CompareConfig()
    changed = CompareConfig(seeds=(1, 2))
    assert run_real_loss_function_analysis(changed)["config"] is changed
