"""The files that `predict` writes for a photo."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from uav_landing.judging import colored, overlay
from uav_landing.labels import LANDING_NAMES

JPEG_QUALITY = 90

Pixels = NDArray[np.uint8]


def write_prediction(
    folder: Path,
    stem: str,
    image: Pixels,
    classes: Pixels,
    probabilities: NDArray[np.float16],
    class_ids: list[int],
    formats: Collection[str],
) -> list[str]:
    """Write the formats asked for and return the names of the files.

    `image` RGB [H, W, 3] and `classes` landing classes [H, W] are of the photo's size; `probabilities`
    [K, h, w] are of the size the network saw. UserError when a file cannot be written.

    ids: `<stem>_mask.png`, one channel of landing classes. color: `<stem>_color.png`, the same in plot
    colours. overlay: `<stem>_overlay.jpg`, the tinted photo. probs: `<stem>_probs.npz` with `probabilities`
    float16 and `class_ids`, the landing class of each plane.
    """
    written = []
    if "ids" in formats:
        written.append(_write_image(folder / f"{stem}_mask.png", classes))
    if "color" in formats:
        written.append(_write_image(folder / f"{stem}_color.png", colored(classes)))
    if "overlay" in formats:
        written.append(_write_image(folder / f"{stem}_overlay.jpg", overlay(image, classes)))
    if "probs" in formats:
        path = folder / f"{stem}_probs.npz"
        try:
            np.savez(path, probabilities=probabilities, class_ids=np.array(class_ids, np.uint8))
        except OSError as error:
            raise _unwritable(path, error) from error
        written.append(path.name)
    return written


def class_shares(classes: Pixels) -> list[dict[str, Any]]:
    """Return pixels and share of each of the four landing classes."""
    counts = np.bincount(classes.reshape(-1), minlength=len(LANDING_NAMES))
    return [
        {"id": index, "name": name, "pixels": int(counts[index]), "share": int(counts[index]) / classes.size}
        for index, name in enumerate(LANDING_NAMES)
    ]


def write_description(folder: Path, stem: str, content: Mapping[str, Any]) -> None:
    """Write `<stem>.json`; UserError when it cannot be written."""
    path = folder / f"{stem}.json"
    try:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def _write_image(path: Path, image: Pixels) -> str:
    """Write RGB [H, W, 3] or one channel [H, W] and return the file's name."""
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    done, content = cv2.imencode(path.suffix, pixels, options)
    assert done
    try:
        path.write_bytes(content.data)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path.name


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"--output {path}: cannot be written: {error.strerror or error}")
