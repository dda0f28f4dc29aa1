"""Real photos when there are any, generated scenes, an untrained checkpoint, and short trainings."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from landing_pieces import SHORT
from run_results import RunFiles, real_data_of
from torch import nn

from common.config import to_yaml
from common.engine.checkpoint import Checkpoint, save_checkpoint
from common.engine.logging import Console
from uav_landing.cli import main, train_main
from uav_landing.config import CropConfig, DataConfig, LossConfig, ModelConfig, SplitConfig, TrainConfig
from uav_landing.landing_data import open_data
from uav_landing.models.build import build_model
from uav_landing.rebuild import describe
from uav_landing.synthetic import write_scenes


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the shared photos: $UAV_LANDING_REAL_DATA, else beside the repository; skips when absent."""
    return real_data_of("uav_landing")


@pytest.fixture(scope="session")
def three_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a data set of three generated scenes, cut to 480 x 320: train 000, val 001, test 002."""
    root = tmp_path_factory.mktemp("scenes") / "photos"
    for stem in write_scenes(root, count=3):
        for path in (
            root / "original_images" / f"{stem}.jpg",
            root / "label_images_semantic" / f"{stem}.png",
        ):
            cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[160:480, 240:720])
    (root.parent / "split.yaml").write_text('{train: ["000"], val: ["001"], test: ["002"]}\n')
    return root


@pytest.fixture(scope="session")
def save_run(three_scenes: Path) -> Callable[..., Path]:
    """Write a run folder whose network has random weights and predicts every class somewhere."""

    def save(folder: Path, *, void: str = "ignore", step: int = 7) -> Path:
        config = TrainConfig(
            data=DataConfig(dataset_path=three_scenes),
            split=SplitConfig(split_mode="file", split_file=str(three_scenes.parent / "split.yaml")),
            crops=CropConfig(input_size=(256, 256)),
            model=ModelConfig(width_multiplier=0.25),
            loss=LossConfig(void=void),
        )
        data = open_data(
            config.data, config.split, config.store,
            unknown_labels="error", void=config.loss.void, console=Console(enabled=False),
        )  # fmt: skip
        torch.manual_seed(0)
        model = build_model(config.model, len(data.class_ids), aux=False)
        for name in model.classifiers:
            layer = model.get_submodule(name)
            nn.init.normal_(layer.weight)
        checkpoint = Checkpoint(
            step=step,
            epoch=3,
            headline=None,
            model=model.state_dict(),
            state={},
            config=to_yaml(config),
            metadata=describe(config, data, model),
        )
        save_checkpoint(folder / "checkpoints", checkpoint, best=True)
        return folder

    return save


@pytest.fixture(scope="session")
def run_folder(save_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one checkpoint, three outputs, tiles of 256 px."""
    return save_run(tmp_path_factory.mktemp("runs") / "run-0001")


@pytest.fixture(scope="session")
def twelve_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated data set as `--dataset-format synthetic` writes it."""
    root = tmp_path_factory.mktemp("synthetic") / "photos"
    write_scenes(root)
    return root


@pytest.fixture(scope="session")
def scenes(twelve_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the first six generated scenes, in four groups; its store is shared by the tests."""
    root = tmp_path_factory.mktemp("six") / "photos"
    for folder in ("original_images", "label_images_semantic"):
        (root / folder).mkdir(parents=True)
        for path in sorted((twelve_scenes / folder).iterdir())[:6]:
            shutil.copy(path, root / folder)
    groups = {"a": ["000", "001"], "b": ["002", "003"], "c": ["004"], "d": ["005"]}
    (root / "groups.yaml").write_text(yaml.safe_dump(groups))
    return root


@dataclass(frozen=True)
class Ran(RunFiles):
    """What a training command left behind."""

    code: int
    out: str
    err: str
    output_dir: Path

    @property
    def folder(self) -> Path:
        """The newest run folder."""
        return self.output_dir / (self.output_dir / "latest").read_text().strip()


@pytest.fixture
def train(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Run the documented training command in this process, small and short; flags given win.

    Outputs go to the folder `name`; the report, the slowest part, is left out unless `report` is asked for.
    """

    def run(*words: str, name: str = "outputs", report: bool = False, script: bool = True) -> Ran:
        if not report:
            monkeypatch.setattr("uav_landing.outcome.write_report", lambda folder: folder / "report.html")
        output_dir = tmp_path / name
        argv = [*SHORT, "--dataset-path", str(scenes), "--output-dir", str(output_dir)]
        argv += [part for word in words for part in word.split()]
        capfd.readouterr()
        code = train_main(argv) if script else main(["train", *argv])
        said = capfd.readouterr()
        return Ran(code, said.out, said.err, output_dir)

    return run
