"""Real recordings when there are any, folders for generated files, and short trainings."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rodent_files import DataFolders
from rodent_pieces import SMALL, write_recordings, write_variants
from run_results import RunFiles, Said, real_data_of

from rodent_behavior.cli import main, train_main
from rodent_behavior.settings import IndexSettings
from rodent_behavior.synth import generate


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the shared recordings: $RODENT_BEHAVIOR_REAL_DATA, else beside the repository; or skips."""
    return real_data_of("rodent_behavior")


@pytest.fixture(scope="session")
def pain_assay(real_data: Path) -> IndexSettings:
    """Settings that read the recording without a video."""
    folder = real_data / "pain_assay"
    return IndexSettings(
        annotations=folder / "Annotations", videos=folder / "Videos", need_video=False, min_frames=345
    )


@pytest.fixture
def folders(tmp_path: Path) -> DataFolders:
    """Two empty folders."""
    return DataFolders.make(tmp_path)


@dataclass(frozen=True)
class Ran(RunFiles):
    """What a training command left behind in the folder `home`."""

    code: int
    out: str
    err: str
    home: Path
    folder: Path

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.home / "best_model_multitask.pt"

    @property
    def contents(self) -> dict[str, Any]:
        """What the exported model says."""
        contents: dict[str, Any] = torch.load(self.model, weights_only=True)
        return contents


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the small recordings that `write_recordings` makes."""
    return write_recordings(tmp_path_factory.mktemp("recordings") / "data")


@pytest.fixture
def train(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Run the documented training command in this process, small and short; flags given win.

    It sees the data (by default the small recordings) in a folder of its own under `tmp_path`, called `name`
    if that is given, and writes there. Report and pictures, the slowest part, are left out unless `report` is
    asked for.
    """
    homes = (f"home-{number}" for number in itertools.count())

    def run(
        *words: str, data: Path | None = None, name: str = "", report: bool = False, small: bool = True
    ) -> Ran:
        if not report:
            monkeypatch.setattr("rodent_behavior.outcome.write_report", lambda folder: folder / "report.html")
            monkeypatch.setattr("rodent_behavior.outcome.plot_ethogram", lambda *given, **named: None)
        home, source = tmp_path / (name or next(homes)), data or recordings
        home.mkdir(exist_ok=True)
        for folder in ("Annotations", "Videos"):
            if not (home / folder).exists():
                (home / folder).symlink_to(source / folder)
        argv = [*(SMALL.split() if small else ()), *(part for word in words for part in word.split())]
        argv += [f"--annotations={home / 'Annotations'}", f"--videos={home / 'Videos'}"]
        if not {"--run_dir", "--resume"} & set(argv):
            argv.append(f"--run_dir={home / 'run'}")
        capfd.readouterr()
        code = train_main(argv)
        said = capfd.readouterr()
        named = argv[argv.index("--run_dir") + 1] if "--run_dir" in argv else home / "run"
        return Ran(code, said.out, said.err, home, Path(named))

    return run


@pytest.fixture(scope="session")
def files(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of `write_variants`, which words name with {tmp}."""
    return write_variants(tmp_path_factory.mktemp("files"), recordings)


@pytest.fixture
def base(recordings: Path) -> str:
    """Small settings on the small recordings."""
    return f"{SMALL} --annotations {recordings / 'Annotations'} --videos {recordings / 'Videos'}"


@pytest.fixture(scope="session")
def assay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three generated videos of one trial of 360 frames each, 48 x 48 px."""
    root = tmp_path_factory.mktemp("assay") / "data"
    generate(root, videos=3, trials=1, size=48)
    return root


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run `rodent-behavior WORDS` in this process, without the pictures."""
    monkeypatch.setattr("rodent_behavior.evaluate.plot_ethogram", lambda *given, **named: None)

    def run(*words: object) -> Said:
        argv = [part for word in words for part in str(word).split()]
        capfd.readouterr()
        code = main(argv)
        return Said(code, *capfd.readouterr())

    return run
