"""The files of predictions: npz with densities, csv without; written beside and renamed into place."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from common.config import UserError
from eye_fixation.prediction import LEVELS, Prediction

SAMPLES = "marginal_samples"

_COLUMNS = (
    "recording", "window", "horizon", "time_s", "argmax_x", "argmax_y", "mean_x", "mean_y", "max_mass",
    "entropy_bits",
)  # fmt: skip


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` that takes its place when the block ends; UserError where it cannot."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def write_npz(
    path: Path, parts: Iterable[Prediction], shape: tuple[int, ...], about: Mapping[str, Any]
) -> None:
    """Write predictions of `shape` (N, T_out, S, S) in all; only a part's densities are held at a time.

    `about` becomes the text `about`, JSON.
    """
    held: dict[str, list[NDArray[Any]]] = {}
    with staged(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        with archive.open("density.npy", "w", force_zip64=True) as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(stream, header)
            for part in parts:
                stream.write(part.density.astype("<f4").tobytes())
                for name, values in _small(part).items():
                    held.setdefault(name, []).append(values)
        arrays = {name: np.concatenate(values) for name, values in held.items()}
        arrays["horizon"] = np.arange(1, shape[1] + 1)
        arrays["about"] = np.array(json.dumps(about))
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                npy.write_array(stream, values, allow_pickle=False)


def write_csv(path: Path, parts: Iterable[Prediction], cells: int, samples: int) -> None:
    """Write a row per window and horizon on a grid of so many cells, with so many draws."""
    areas = [f"area_{level}_{unit}" for level in LEVELS for unit in ("cells", "share")]
    draws = [f"{SAMPLES[:-1]}_{number}_{axis}" for number in range(1, samples + 1) for axis in "xy"]
    with staged(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_COLUMNS, *areas, *draws])
        first = 0
        for part in parts:
            writer.writerows(_rows(part, first, cells))
            first += len(part)


def _small(part: Prediction) -> dict[str, NDArray[Any]]:
    """Return everything but the densities, by name in the file."""
    cells = part.density.shape[-1] ** 2
    areas = {f"area_{level}_cells": part.area[..., index] for index, level in enumerate(LEVELS)}
    shares = {f"area_{level}_share": part.area[..., index] / cells for index, level in enumerate(LEVELS)}
    names = ("recording", "time_s", "argmax", "mean", "max_mass", "entropy_bits")
    samples = {SAMPLES: part.samples} if part.samples.shape[2] else {}
    return {name: getattr(part, name) for name in names} | areas | shares | samples


def _rows(part: Prediction, first: int, cells: int) -> Iterator[list[object]]:
    number: Callable[[float], str] = "{:.6g}".format
    for n, t in np.ndindex(part.time_s.shape):
        yield [
            part.recording[n], first + n, t + 1, f"{part.time_s[n, t]:.6f}",
            *map(number, (*part.argmax[n, t].tolist(), *part.mean[n, t].tolist())),
            number(float(part.max_mass[n, t])), number(float(part.entropy_bits[n, t])),
            *(shown for area in part.area[n, t] for shown in (area, number(area / cells))),
            *map(number, part.samples[n, t].ravel().tolist()),
        ]  # fmt: skip
