"""A trained model in one file, and its calibrated densities: gaze to prediction in three lines of Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.config import UserError
from common.losses.sparse_map import OutputKind
from common.metrics.sparse_map import Calibration, to_density
from common.weights_file import read_dictionary, write_dictionary
from eye_fixation.baselines import Baseline, baseline_from_state, mean_point
from eye_fixation.data.contract import Metadata
from eye_fixation.fitting import EVALUATION_BATCH
from eye_fixation.simvp import SimVP, SimVPConfig
from eye_fixation.study import draw_inputs

SCHEMA = 1
FILE_NAME = "model.pt"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What a model file says besides its weights.

    `metadata` is that of the training data, `sha256` the sums of its files; `thresholds` are densities by
    name. `baselines` holds the tables fitted on the same data that predictions are compared with.
    """

    model: SimVPConfig
    loss: str
    kind: OutputKind
    metadata: Metadata
    sha256: dict[str, str]
    input_sigma: float = 0.0
    calibration: Calibration = field(default_factory=Calibration)
    thresholds: dict[str, dict[str, Any]] = field(default_factory=dict)
    baselines: tuple[Baseline, ...] = ()
    seed: int = 0
    best_epoch: int = 0

    def contents(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return everything as plain types and tensors, loadable with weights_only=True."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {
            **plain,
            "schema": SCHEMA,
            "application": "eye_fixation",
            "model": {**asdict(self.model), "in_shape": list(self.model.in_shape)},
            "metadata": self.metadata.to_dict(),
            "calibration": self.calibration.to_dict(),
            "baselines": [baseline.to_state() for baseline in self.baselines],
            "state_dict": {name: value.detach().cpu() for name, value in state.items()},
        }


_PLAIN = ("loss", "kind", "sha256", "input_sigma", "thresholds", "seed", "best_epoch")


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model read from a file, in evaluation mode."""

    file: ModelFile
    network: SimVP
    path: Path
    device: torch.device

    @classmethod
    def load(cls, path: Path | str, *, device: str | torch.device = "cpu") -> Predictor:
        """Return the model of `model.pt`, or of the folder that holds it. UserError names what is wrong."""
        found = Path(path)
        found = found / FILE_NAME if found.is_dir() else found
        contents = _read(found)
        target = torch.device(device)
        try:
            file = _model_file(contents)
            network = SimVP(file.model)
            network.load_state_dict(contents["state_dict"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{found}: an entry is missing or does not fit: {reason}") from error
        return cls(file, network.to(target).eval(), found, target)

    @property
    def in_len(self) -> int:
        """Input frames."""
        return self.file.model.in_len

    @property
    def out_len(self) -> int:
        """Output frames."""
        return self.file.model.out_len

    @property
    def img_size(self) -> int:
        """Side S of the grid."""
        return self.file.metadata.img_size

    def predict(self, coordinates: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return calibrated densities float32 [N, T_out, S, S], each sum 1, on the CPU.

        `coordinates` [N, T_in, 2] (x, y) in cells, `mask` [N, T_in] says which are valid. ValueError for
        other shapes.
        """
        return self.file.calibration.apply(self.density(coordinates, mask))

    def density(self, coordinates: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the densities before calibration; see `predict`."""
        return to_density(self.outputs(coordinates, mask), self.file.kind)

    def points(self, coordinates: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean points [N, T_out, 2] (x, y) in cells of the calibrated densities."""
        return mean_point(self.predict(coordinates, mask))

    def outputs(self, coordinates: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return what the network says, float32 [N, T_out, S, S]; see `predict`."""
        points = torch.as_tensor(coordinates, dtype=torch.float32)
        valid = torch.ones(points.shape[:2], dtype=torch.bool) if mask is None else torch.as_tensor(mask) > 0
        expected = (len(points), self.in_len, 2)
        if points.shape != expected or valid.shape != expected[:2]:
            raise ValueError(
                f"coordinates are {list(points.shape)}, mask {list(valid.shape)}: "
                f"[N, {self.in_len}, 2] and [N, {self.in_len}] are expected"
            )
        return network_outputs(
            self.network, points, valid, img_size=self.img_size, input_sigma=self.file.input_sigma
        )


@torch.no_grad()
def network_outputs(
    network: SimVP, coordinates: Tensor, mask: Tensor, *, img_size: int, input_sigma: float
) -> Tensor:
    """Return outputs float32 [N, T_out, S, S] on the CPU for inputs [N, T_in, 2] and [N, T_in]."""
    network.eval()
    device = next(network.parameters()).device
    found = []
    for start in range(0, len(coordinates), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        frames = draw_inputs(coordinates[part].to(device), mask[part].to(device), img_size, input_sigma)
        found.append(network(frames).float().cpu()[:, :, 0])
    if not found:
        return torch.zeros(0, network.config.out_len, img_size, img_size)
    return torch.cat(found)


def write_model(path: Path, file: ModelFile, state: Mapping[str, Tensor]) -> None:
    """Write a model file beside and rename it into place; UserError when it cannot be written."""
    write_dictionary(path, file.contents(state))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"--checkpoint {path}: no model file")
    contents = read_dictionary(path)
    if contents.get("application") != "eye_fixation":
        raise UserError(f"{path}: is no model file of eye_fixation")
    if contents["schema"] != SCHEMA:
        raise UserError(f"{path}: schema {contents['schema']}, this version reads {SCHEMA}")
    return contents


def _model_file(contents: Mapping[str, Any]) -> ModelFile:
    return ModelFile(
        model=SimVPConfig(**contents["model"]),
        metadata=Metadata.from_dict(contents["metadata"]),
        calibration=Calibration.from_dict(contents["calibration"]),
        baselines=tuple(map(baseline_from_state, contents["baselines"])),
        **{name: contents[name] for name in _PLAIN},
    )
