"""Recorded gaze when there is any, and small data sets."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from eye_files import gaze_splits

from common.config import run_main
from eye_fixation.data.contract import GazeSplits
from eye_fixation.data.pt import write_folder
from eye_fixation.prepare_config import PrepareConfig

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of recorded gaze: $EYE_FIXATION_REAL_DATA, else beside the repository; skips when absent."""
    named = os.environ.get("EYE_FIXATION_REAL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "eye_fixation"
    if not folder.is_dir():
        pytest.skip(f"no gaze at {folder}")
    return folder


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


class Said(NamedTuple):
    """Exit code of a command and what it wrote to the console."""

    code: int
    out: str
    err: str


@pytest.fixture
def prepare(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run `eye-fixation prepare WORDS` in this process; a string may hold several words."""

    def run(*words: object) -> Said:
        argv = [part for word in words for part in (word.split() if isinstance(word, str) else [str(word)])]
        capfd.readouterr()
        code = run_main("eye_fixation.prepare:main", PrepareConfig, argv, prog="eye-fixation prepare")
        return Said(code, *capfd.readouterr())

    return run
