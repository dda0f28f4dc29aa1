"""Reading lists of fixations from MATLAB files, and the counts of the real one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eye_files import write_osie
from scipy.io import savemat

from common.config import UserError
from eye_fixation.data.osie import fixed_split, read_osie
from eye_fixation.data.pt import load_folder
from eye_fixation.geometry import Geometry

PATH = (np.array([400.0, 80.0]), np.array([150.0, 600.0]), np.array([200, 255], np.uint8))
ONE = (12.5, 30.0, 300)


@pytest.fixture(scope="session")
def fixations(real_data: Path) -> Path:
    """The real file."""
    return real_data / "osie" / "fixations.mat"


def test_scanpaths_are_shares_of_the_image(tmp_path: Path) -> None:
    write_osie(tmp_path / "fixations.mat", [("1001.jpg", [PATH, ONE]), ("1002.jpg", [ONE, ONE])])
    scanpaths, images = read_osie(tmp_path)
    assert images == ["1001", "1002"]
    assert [path.name for path in scanpaths] == ["1001/00", "1001/01", "1002/00", "1002/01"]
    first = scanpaths[0]
    assert (first.stimulus, first.subject) == ("1001", "00")
    assert first.x == pytest.approx([0.5, 0.1])
    assert first.y == pytest.approx([0.25, 1 - 1e-6])
    assert first.duration_ms.sum() == 455
    assert scanpaths[1].x.tolist() == [12.5 / 800]


@pytest.mark.parametrize(
    ("x", "y", "duration", "said"),
    [
        ([1.0, 2.0], [1.0], [100.0, 100.0], "2 fix_x, 1 fix_y, 2 fix_duration"),
        ([1.0, 2.0], [1.0, 2.0], [100.0, 0.0], "fixation 1: duration not above 0: 0"),
        ([1.0, 801.0], [1.0, 2.0], [100.0, 90.0], "fixation 1: x outside 0 to 800: 801"),
        ([1.0, 2.0], [-1.0, 2.0], [100.0, 90.0], "fixation 0: y outside 0 to 600: -1"),
        ([1.0, np.nan], [1.0, 2.0], [100.0, 90.0], "fixation 1: x outside"),
    ],
)
def test_bad_scanpaths_are_named(tmp_path: Path, x: Any, y: Any, duration: Any, said: str) -> None:
    file = write_osie(tmp_path / "f.mat", [("1001.jpg", [PATH, ONE]), ("1002.jpg", [ONE, (x, y, duration)])])
    with pytest.raises(UserError) as error:
        read_osie(file)
    assert f"{file}: image 1002, subject 1" in str(error.value)
    assert said in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"gaze": np.zeros(3)})
    (tmp_path / "b.mat").write_bytes(b"no matlab" * 50)
    savemat(tmp_path / "c.mat", {"fixations": np.zeros(3)})
    refusals = {
        "a": "no 'fixations'; variables found: gaze",
        "b": "no MATLAB",
        "c": "image 0",
        "d": "not found",
    }
    for name, said in refusals.items():
        with pytest.raises(UserError, match=said):
            read_osie(tmp_path / f"{name}.mat")


def test_published_split_belongs_to_700_images() -> None:
    assert fixed_split(["a", "b"]) is None
    split = fixed_split([str(1001 + index) for index in range(700)])
    assert split is not None
    assert [split[name] for name in ("1001", "1490", "1491", "1560", "1561", "1700")] == [0, 0, 1, 1, 2, 2]


def test_real_file_gives_the_documented_sequences(
    fixations: Path, tmp_path: Path, prepare: Callable[..., Any]
) -> None:
    said = prepare("--source osie --input", fixations, "--out", tmp_path / "data")
    assert said.code == 0
    assert "10,500 scanpaths  98,321 fixations" in said.out
    splits = load_folder(tmp_path / "data")
    assert [len(part) for part in splits] == [4367, 603, 1154]
    assert [len(part.group.unique()) for part in splits if part.group is not None] == [490, 70, 140]
    cells = splits.test.coordinates[:, 1:].floor()
    before = splits.test.coordinates[:, :-1].floor()
    assert (cells == before).all(-1).double().mean().item() == pytest.approx(0.6106, abs=5e-5)
    moved = (splits.test.coordinates[:, 1:] - splits.test.coordinates[:, :-1]).norm(dim=-1) > 1
    assert moved.double().mean().item() == pytest.approx(0.3515, abs=5e-4)
    occupied = splits.train.coordinates.floor().long()
    share = torch.bincount((occupied[..., 1] * 32 + occupied[..., 0]).flatten(), minlength=1024).double()
    share = share[share > 0] / share.sum()
    assert -(share * share.log2()).sum().item() == pytest.approx(9.361, abs=5e-4)
    gaze = splits.test
    for horizons, expected in ((1, 2.286), (3, 4.553), (6, 6.897), (10, 8.685)):
        error = (gaze.coordinates[:, 10 : 10 + horizons] - gaze.coordinates[:, 9:10]).norm(dim=-1)
        assert error.mean().item() == pytest.approx(expected, abs=0.002)
    metadata = gaze.metadata
    assert (metadata.source, metadata.rate_hz, metadata.split_by) == ("real", 10.0, "image")
    assert metadata.geometry == Geometry(screen_px=(800.0, 600.0))


def test_real_scanpaths(fixations: Path) -> None:
    scanpaths, _ = read_osie(fixations)
    lengths = [len(path.x) for path in scanpaths]
    assert (min(lengths), max(lengths), float(np.median(lengths)), sum(lengths)) == (1, 22, 9.0, 98321)
    assert sum(path.duration_ms.sum() >= 2000 for path in scanpaths) == 6124
