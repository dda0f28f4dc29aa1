"""Reader of OSIE's `fixations.mat`: 15 people looked at 700 images for three seconds each.

Source: Xu et al., Predicting human gaze beyond pixels (2014). Neither saccades nor start times nor the
viewing distance are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from common.config import UserError
from eye_fixation.data.recordings import LAST, Scanpath
from eye_fixation.geometry import Geometry

FILE = "fixations.mat"
GEOMETRY = Geometry(screen_px=(800.0, 600.0))
IMAGES = 700
BOUNDS = (490, 560)
"""First image of val and of test in the file's order."""

_FIELDS = ("fix_x", "fix_y", "fix_duration")


def read_osie(path: Path) -> tuple[list[Scanpath], list[str]]:
    """Return the scanpaths in the file's order, and the names of the images.

    `path` is the file or its folder. A scanpath's stimulus is the image without suffix, its subject the
    two-digit number from 00, its name both. UserError names the file, and image, subject and fixation index
    of fields of unequal length, a duration that is not positive, and a point outside the image.
    """
    path = path / FILE if path.is_dir() else path
    images = _images(path)
    names = [Path(str(image.img)).stem for image in images]
    return [
        scanpath for image, name in zip(images, names) for scanpath in _scanpaths(path, image, name)
    ], names


def fixed_split(images: Sequence[str]) -> dict[str, int] | None:
    """Return 0, 1 or 2 for train, val and test by image, or None unless these are the 700 images."""
    if len(images) != IMAGES:
        return None
    return {name: sum(index >= bound for bound in BOUNDS) for index, name in enumerate(images)}


def _images(path: Path) -> list[Any]:
    if not path.is_file():
        raise UserError(f"--input {path}: not found")
    try:
        contents = loadmat(path, squeeze_me=True, struct_as_record=False)
    except OSError as error:
        raise UserError(f"--input {path}: {error.strerror or error}") from None
    except NotImplementedError:
        raise UserError(f"--input {path}: a MATLAB v7.3 file; OSIE's is version 5") from None
    except (MatReadError, ValueError, TypeError) as error:
        raise UserError(f"--input {path}: no MATLAB file: {error}") from None
    if "fixations" not in contents:
        found = ", ".join(name for name in contents if not name.startswith("__"))
        raise UserError(f"--input {path}: no 'fixations'; variables found: {found or 'none'}")
    images = list(np.atleast_1d(contents["fixations"]))
    for index, image in enumerate(images):
        if not (hasattr(image, "img") and hasattr(image, "subjects")):
            raise UserError(f"{path}: image {index}: the fields img and subjects are expected")
    return images


def _scanpaths(path: Path, image: Any, name: str) -> Iterator[Scanpath]:
    for number, subject in enumerate(np.atleast_1d(image.subjects)):
        where = f"{path}: image {name}, subject {number}"
        if missing := [field for field in _FIELDS if not hasattr(subject, field)]:
            raise UserError(f"{where}: no {', '.join(missing)}")
        # Durations are stored as uint8 or uint16 and a single fixation as a scalar.
        x, y, duration = (
            np.atleast_1d(np.asarray(getattr(subject, field))).astype(np.float64) for field in _FIELDS
        )
        _check(where, x, y, duration)
        width, height = GEOMETRY.screen_px or (1.0, 1.0)
        yield Scanpath(
            f"{name}/{number:02d}",
            np.clip(x / width, 0, LAST),
            np.clip(y / height, 0, LAST),
            duration,
            np.ones(len(x), bool),
            f"{number:02d}",
            name,
        )


def _check(where: str, x: Any, y: Any, duration: Any) -> None:
    if not len(x) == len(y) == len(duration):
        raise UserError(f"{where}: {len(x)} fix_x, {len(y)} fix_y, {len(duration)} fix_duration")
    width, height = GEOMETRY.screen_px or (1.0, 1.0)
    for problem, bad, shown in (
        ("duration not above 0", ~(duration > 0), duration),
        (f"x outside 0 to {width:g}", ~((x >= 0) & (x <= width)), x),
        (f"y outside 0 to {height:g}", ~((y >= 0) & (y <= height)), y),
    ):
        if bad.any():
            index = int(np.flatnonzero(bad)[0])
            raise UserError(f"{where}, fixation {index}: {problem}: {shown[index]:g}")
