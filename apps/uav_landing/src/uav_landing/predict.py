"""The verb `predict`: masks, pictures and class shares of photos, folders and videos."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import Finding, Parsed, Range, UserError, check, has_no_effect, out_of_range, writing
from common.engine.command import choose_device
from common.engine.logging import Console
from uav_landing.checks import OVERLAP
from uav_landing.config import PredictConfig
from uav_landing.data.build import scaled
from uav_landing.data.dataset import normalise
from uav_landing.judging import outputs_to_classes
from uav_landing.photo_input import InputPhoto, PhotoInput, find_input
from uav_landing.prediction_files import class_shares, write_description, write_prediction
from uav_landing.predictor import PhotoPredictor
from uav_landing.rebuild import load_trained

RANGES = {
    OVERLAP: ("tile_overlap",),
    Range(1): ("tile_batch", "every"),
    Range(0, 4, above=True): ("scale",),
}

_log = logging.getLogger("uav_landing")

Pixels = NDArray[np.uint8]


def main(parsed: Parsed[PredictConfig]) -> int:
    """Predict everything `--input` names; return 0, or 1 when a photo of a folder could not be read.

    Such a photo is named when it is met and counted at the end; the others are written.
    """
    config, console = parsed.config, Console()
    source = find_input(config.input)
    check(findings(parsed, source), False, _log)
    trained = load_trained(config.checkpoint)
    predictor = trained.predictor(
        device=choose_device(config.device),
        overlap=config.tile_overlap,
        batch=config.tile_batch,
        tta=config.tta,
    )
    scale = trained.metadata["store_scale"] if config.scale == "auto" else config.scale
    _make_folder(config.output)
    for label, text in _header(source, scale, trained.notes):
        console.line(label, text)
    origin = {"checkpoint": trained.summary(), "tile": _tile_settings(predictor), "scale": scale}
    done, failed = 0, 0
    for photo in source.photos(config.every):
        started = time.monotonic()
        try:
            image = photo.load()
        except UserError as error:
            if source.kind != "folder":
                raise
            console.line("error", str(error))
            failed += 1
            continue
        description = predict(photo, image, predictor, trained.class_ids, config, scale=scale)
        write_description(config.output, photo.stem, {**description, **origin})
        console.line("photo", f"{_shares_line(photo, description)}   {time.monotonic() - started:.1f} s")
        done += 1
    console.line("done", f"photos {done}   {config.output}" + (f"   unreadable {failed}" if failed else ""))
    return 1 if failed else 0


def predict(
    photo: InputPhoto,
    image: Pixels,
    predictor: PhotoPredictor,
    class_ids: list[int],
    config: PredictConfig,
    *,
    scale: float,
) -> dict[str, Any]:
    """Predict RGB uint8 [H, W, 3] at `scale`, write the files and return their description.

    The network sees the photo at the scale of training; classes are brought to the photo's size by nearest.
    """
    height, width = image.shape[:2]
    probabilities = predictor(normalise(_resized(image, scale)))
    outputs = probabilities.max(0).indices.to("cpu").numpy()
    classes = outputs_to_classes(outputs, class_ids)
    if classes.shape != (height, width):
        classes = np.asarray(cv2.resize(classes, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
    planes = probabilities.half().cpu().numpy()
    files = write_prediction(config.output, photo.stem, image, classes, planes, class_ids, config.format)
    frame = {} if photo.frame is None else {"frame": photo.frame}
    return {
        "photo": photo.name,
        **frame,
        "height": height,
        "width": width,
        "classes": class_shares(classes),
        "files": files,
    }


def _resized(image: Pixels, scale: float) -> Pixels:
    """Return the photo at `scale`, as the store of training holds it: by area when it shrinks."""
    height, width = scaled((image.shape[0], image.shape[1]), scale)
    if (height, width) == image.shape[:2]:
        return image
    blend = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=blend), dtype=np.uint8)


def findings(parsed: Parsed[PredictConfig], source: PhotoInput) -> Iterator[Finding]:
    """Yield every error and warning about the settings."""
    config = parsed.config
    yield from out_of_range(config, RANGES)
    if "every" in parsed.typed and source.kind != "video":
        yield Finding("warning", has_no_effect("every", "--input is no video"))
    folder = config.input if source.kind == "folder" else config.input.parent
    if source.kind == "folder" and config.output.resolve() == folder.resolve():
        yield Finding("error", "--output: choose another folder than that of the photos")


def _make_folder(path: Path) -> None:
    with writing(f"--output {path}"):
        path.mkdir(parents=True, exist_ok=True)


def _header(source: PhotoInput, scale: float, notes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    yield from (("warning", note) for note in notes)
    count = f"   photos {len(source.files)}" if source.kind == "folder" else ""
    left_out = f"   other files left out {source.left_out}" if source.left_out else ""
    yield "input", f"{source.kind} {source.path}{count}{left_out}   shown to the network at scale {scale:g}"


def _tile_settings(predictor: PhotoPredictor) -> dict[str, Any]:
    return {"size": list(predictor.tile), "overlap": predictor.overlap, "tta": predictor.tta}


def _shares_line(photo: InputPhoto, description: Mapping[str, Any]) -> str:
    shares = "   ".join(
        f"{row['name']} {100 * row['share']:.1f} %" for row in description["classes"] if row["pixels"]
    )
    return f"{photo.name}   {description['width']}x{description['height']}   {shares}"
