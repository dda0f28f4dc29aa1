"""Real clips when there are any, a small generated data set, and short trainings."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mv_runs import Remembered, Trainings, put_tiny_network_in_place, write_small

from mvfouls.settings import SplitSource

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the shared clips: $MVFOULS_REAL_DATA, else beside the repository; or skips."""
    named = os.environ.get("MVFOULS_REAL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "mvfouls"
    if not folder.is_dir():
        pytest.skip(f"no clips at {folder}")
    return folder


@pytest.fixture(scope="session")
def real_split(real_data: Path) -> SplitSource:
    """The five real actions; action 4 lists a clip that is missing."""
    folder = real_data / "dataset"
    return SplitSource(name="test", folder=folder, annotations=folder / "annotations.json")


@pytest.fixture(scope="session")
def football(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set of 16 training and 8 validation actions."""
    return write_small(tmp_path_factory.mktemp("football"))


@pytest.fixture(scope="session")
def remembered() -> Remembered:
    """The clips that any training has read."""
    return Remembered()


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tiny network in place of r2plus1d_18, on one thread."""
    put_tiny_network_in_place(monkeypatch)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(
    football: Path,
    tmp_path: Path,
    _tiny: None,
    remembered: Remembered,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Trainings:
    """Run the documented training command, small and short, without the report, its slowest part."""
    remembered.install(monkeypatch)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr("mvfouls.outcome.write_report", lambda folder: folder / "report.html")
    return Trainings(football, tmp_path, capfd)
