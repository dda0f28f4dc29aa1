"""Recorded gaze when there is any, and small data sets."""

from collections.abc import Callable
from pathlib import Path

import pytest
from eye_files import gaze_splits
from eye_runs import Bench
from run_results import Said, real_data_of

from common.config import run_main
from eye_fixation.data.contract import GazeSplits
from eye_fixation.data.pt import write_folder
from eye_fixation.prepare_config import PrepareConfig


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of recorded gaze: $EYE_FIXATION_REAL_DATA, else beside the repository; skips when absent."""
    return real_data_of("eye_fixation")


@pytest.fixture
def splits() -> GazeSplits:
    """24, 12 and 12 random walks of 20 frames, called simulated."""
    return gaze_splits()


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the three files of `splits`; not to be changed."""
    folder = tmp_path_factory.mktemp("gaze") / "data"
    write_folder(folder, gaze_splits(), {"command": "test"})
    return folder


@pytest.fixture
def prepare(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run `eye-fixation prepare WORDS` in this process; a string may hold several words."""

    def run(*words: object) -> Said:
        argv = [part for word in words for part in (word.split() if isinstance(word, str) else [str(word)])]
        capfd.readouterr()
        code = run_main("eye_fixation.prepare:main", PrepareConfig, argv, prog="eye-fixation prepare")
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Bench:
    """Command lines of one test file, each run once."""
    return Bench(tmp_path_factory.mktemp("bench"), data_folder)


@pytest.fixture
def run(bench: Bench, capfd: pytest.CaptureFixture[str]) -> Bench:
    """The same lines, with the console."""
    bench.capfd = capfd
    return bench
