"""A model file: what is stored is what is read, and what it predicts are densities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.config import UserError
from common.losses.sparse_map import OutputKind
from common.metrics.sparse_map import Calibration
from eye_fixation.baselines import CenterBias
from eye_fixation.data.contract import Metadata
from eye_fixation.frames import create_sparse_frames, gaussian_frames
from eye_fixation.geometry import Geometry
from eye_fixation.predictor import ModelFile, Predictor, write_model
from eye_fixation.simvp import SimVP, SimVPConfig


def written(
    path: Path, in_len: int = 4, out_len: int = 4, kind: OutputKind = "categorical", **settings: Any
) -> SimVP:
    """Write a network of random weights for 8 x 8 cells and return it, in evaluation mode."""
    torch.manual_seed(0)
    config = SimVPConfig(
        in_shape=(in_len, 1, 8, 8), out_len=out_len, hid_S=4, hid_T=8, N_S=2, N_T=2, skip="last"
    )
    network = SimVP(config).eval()
    given: dict[str, Any] = {
        "metadata": Metadata(img_size=8, rate_hz=10.0),
        "loss": "softmax_ce",
        "sha256": {},
    }
    write_model(path, ModelFile(model=config, kind=kind, **(given | settings)), network.state_dict())
    return network


def gaze(count: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 8 * torch.rand(count, length, 2, generator=generator), torch.rand(count, length) > 0.3


def test_what_is_written_is_read(tmp_path: Path) -> None:
    baseline = CenterBias(prior=torch.full((8, 8), 1 / 64, dtype=torch.float64), out_len=4)
    known: dict[str, Any] = {
        "loss": "bce",
        "metadata": Metadata(img_size=8, rate_hz=20.0, geometry=Geometry((1920.0, 1080.0)), source="real"),
        "sha256": {"train": "1f"},
        "input_sigma": 1.5,
        "calibration": Calibration(0.7, 0.03),
        "thresholds": {"raw": {"value": 0.25}},
        "seed": 7,
        "best_epoch": 3,
    }
    network = written(tmp_path / "new" / "model.pt", kind="bernoulli", baselines=(baseline,), **known)
    predictor = Predictor.load(tmp_path / "new")
    for name, value in known.items():
        assert getattr(predictor.file, name) == value, name
    assert predictor.file.kind == "bernoulli"
    assert predictor.file.model == network.config
    assert (predictor.in_len, predictor.out_len, predictor.img_size) == (4, 4, 8)
    (read,) = predictor.file.baselines
    assert isinstance(read, CenterBias)
    assert torch.equal(read.prior, baseline.prior)
    assert not predictor.network.training
    states = zip(network.state_dict().values(), predictor.network.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in states)
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "model.pt"]


@pytest.mark.parametrize(("in_len", "out_len"), [(4, 4), (10, 5), (4, 12)])
def test_densities_of_the_networks_own_horizons(tmp_path: Path, in_len: int, out_len: int) -> None:
    """Each horizon is an output of one pass: none is cropped, none comes from feeding predictions back."""
    calibration = Calibration(2.0, 0.1)
    network = written(tmp_path / "model.pt", in_len, out_len, calibration=calibration)
    predictor = Predictor.load(tmp_path / "model.pt")
    points, mask = gaze(70, in_len)
    density = predictor.predict(points, mask)
    with torch.no_grad():
        logits = network(create_sparse_frames(points, mask, 8))[:, :, 0]
    raw = logits.flatten(2).softmax(-1)
    sharp = raw**2 / (raw**2).sum(-1, keepdim=True)
    assert density.shape == (70, out_len, 8, 8)
    torch.testing.assert_close(density.flatten(2), 0.9 * sharp + 0.1 / 64)
    torch.testing.assert_close(predictor.density(points, mask).flatten(2), raw)
    torch.testing.assert_close(predictor.predict(points[65:], mask[65:]), density[65:])
    centres = torch.arange(8) + 0.5
    expected = torch.stack([density.sum(2) @ centres, density.sum(3) @ centres], -1)
    torch.testing.assert_close(predictor.points(points, mask).float(), expected)


def test_regression_and_spread_inputs(tmp_path: Path) -> None:
    network = written(tmp_path / "model.pt", kind="regression", input_sigma=1.2)
    points, mask = gaze(3, 4)
    with torch.no_grad():
        values = network(gaussian_frames(points, mask, 8, 1.2))[:, :, 0].clamp(min=0) + 1e-6
    expected = values / values.sum((-2, -1), keepdim=True)
    torch.testing.assert_close(Predictor.load(tmp_path / "model.pt").predict(points, mask), expected)


def test_inputs_of_other_kinds(tmp_path: Path) -> None:
    written(tmp_path / "model.pt")
    predictor = Predictor.load(str(tmp_path / "model.pt"))
    points, _ = gaze(2, 4)
    everything = predictor.predict(points)
    assert torch.equal(everything, predictor.predict(points.double().numpy(), torch.ones(2, 4)))  # type: ignore[arg-type]
    assert predictor.predict(points[:0]).shape == (0, 4, 8, 8)
    for wrong in (points[:, :3], points[0], points[..., :1]):
        with pytest.raises(ValueError, match=r"\[N, 4, 2\]"):
            predictor.predict(wrong)
    with pytest.raises(ValueError, match=r"mask \[2, 3\]"):
        predictor.predict(points, torch.ones(2, 3))


def put(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda contents: contents.update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(application="uav_landing"), "is no model file of eye_fixation"),
        (put(schema=2), "schema 2, this version reads 1"),
        (lambda contents: contents.pop("kind"), "kind"),
        (lambda contents: contents["state_dict"].pop("dec.readout.bias"), "does not fit"),
        (lambda contents: contents["model"].update(hid_S=6), "does not fit"),
        (lambda contents: contents["model"].update(depth=6), "depth"),
        (lambda contents: contents["metadata"].update(img_size=0), "img_size"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    path = tmp_path / "model.pt"
    written(path)
    contents = torch.load(path, weights_only=True)
    change(contents)
    torch.save(contents, path)
    with pytest.raises(UserError, match=said) as error:
        Predictor.load(path)
    assert str(path) in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--checkpoint .*model\.pt: no model file"):
        Predictor.load(tmp_path)
    for content in (b"", b"PK\x03\x04 cut off", b"text"):
        (tmp_path / "model.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"model\.pt: (cannot be read|damaged)"):
            Predictor.load(tmp_path)
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(UserError, match="a dictionary is expected, not a list"):
        Predictor.load(tmp_path / "list.pt")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"model\.pt: cannot be written"):
        written(tmp_path / "file" / "model.pt")
