"""The command that predicts where the gaze of a user's own recordings goes next."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.config import NOT_NEGATIVE, Finding, Parsed, Range, UserError, check, has_no_effect, out_of_range
from common.engine.command import choose_device
from common.engine.logging import Console
from eye_fixation.baselines import mean_point
from eye_fixation.data.contract import GazeData
from eye_fixation.data.csv_file import geometry_of, read_samples
from eye_fixation.data.recordings import Recording, check_rate
from eye_fixation.predict_config import PredictConfig
from eye_fixation.prediction import (
    LEVELS,
    Array,
    Ints,
    Prediction,
    Screen,
    argmax_point,
    draw,
    entropy_bits,
    region_area,
)
from eye_fixation.prediction_files import write_csv, write_npz
from eye_fixation.predictor import Predictor
from eye_fixation.prepare_checks import check_settings
from eye_fixation.prepare_config import GazeConfig, PrepareConfig
from eye_fixation.sequences import Track, Windows, build, cut, recording_track

CHUNK = 128
"""Windows predicted at a time."""
SAMPLE_SEED = 0

_GAZE = frozenset(item.name for item in fields(GazeConfig))
_log = logging.getLogger("eye_fixation")


@dataclass(frozen=True, eq=False)
class Cuts:
    """The recordings of a file as frames of a model's rate, and where its windows begin."""

    tracks: list[Track]
    windows: Windows
    rate_hz: float


def main(parsed: Parsed[PredictConfig]) -> int:
    """Read, cut, predict and write; return exit code 0."""
    config, console = parsed.config, Console()
    check(findings(parsed), False, _log)
    predictor = Predictor.load(config.checkpoint, device=choose_device(config.device))
    cuts = read_cuts(config, predictor)
    for label, text in _lines(config, predictor, cuts):
        console.line(label, text)
    screen = Screen(geometry_of(config.gaze), config.gaze.units, config.gaze.origin, predictor.img_size)
    parts = predictions(predictor, cuts, screen, samples=config.samples)
    for path in write(config, predictor, cuts, parts):
        console.line("written", str(path))
    return 0


def findings(parsed: Parsed[PredictConfig]) -> Iterator[Finding]:
    """Yield every error and warning about the settings; no file is read."""
    config = parsed.config
    yield from out_of_range(config, {Range(1): ("every",), NOT_NEGATIVE: ("samples",)})
    if config.out.suffix.lower() not in ("", f".{config.format}"):
        yield Finding("error", f"--out {config.out} with --format {config.format}: the file's ending differs")
    if any(path.resolve() == config.input.resolve() for path in _targets(config)):
        yield Finding("error", f"--out {config.out} would replace --input {config.input}")
    as_prepared = PrepareConfig(source="csv", input=(config.input,), rate_hz=1.0, gaze=config.gaze)
    yield from check_settings(Parsed(as_prepared, parsed.typed & _GAZE))
    units = config.gaze.units
    idle = dict.fromkeys(("screen_mm", "distance_mm"), units != "deg")
    idle["screen_px"] = units == "deg" or (units == "norm" and not config.gif)
    for name in sorted(name for name in parsed.typed if idle.get(name)):
        yield Finding("warning", has_no_effect(name, f"--units is {units}"))


def read_cuts(config: PredictConfig, predictor: Predictor) -> Cuts:
    """Read a CSV and cut it into windows of the model's input frames.

    UserError where the model knows no rate, a recording has fewer samples than it needs frames, or no window
    is left.
    """
    metadata, rate = predictor.file.metadata, predictor.file.metadata.rate_hz
    if rate is None:
        raise UserError(
            f"--checkpoint {predictor.path}: trained on frames without a rate ({metadata.source_name}, "
            f"{metadata.source}), so samples in time cannot be cut into such frames"
        )
    recordings = read_samples(config.input, config.gaze)
    for recording in recordings:
        _check_rate(recording, rate, predictor.path, config.input)
    tracks = [recording_track(recording, rate) for recording in recordings]
    windows = cut(tracks, length=predictor.in_len, hop=config.every, min_valid=0.0)
    if not len(windows):
        raise UserError(
            f"{config.input}: no window to predict from: {len(tracks)} recordings, "
            f"{sum(len(track.mask) for track in tracks)} frames at {rate:g} Hz, "
            f"{sum(int(track.mask.sum()) for track in tracks)} of them valid, {len(windows.too_short)} "
            f"recordings shorter than {predictor.in_len} frames, {windows.dropped} windows without gaze"
        )
    return Cuts(tracks, windows, rate)


def predictions(
    predictor: Predictor, cuts: Cuts, screen: Screen, *, samples: int = 0
) -> Iterator[Prediction]:
    """Yield the predictions of all windows in their order, a few at a time."""
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    for first in range(0, len(cuts.windows), CHUNK):
        chosen = np.arange(first, min(first + CHUNK, len(cuts.windows)))
        data = build(cuts.tracks, cuts.windows, chosen, {}, predictor.file.metadata, predictor.in_len)
        density = predictor.predict(data.coordinates, data.mask)
        yield Prediction(
            recording=np.array([cuts.tracks[track].recording for track in cuts.windows.track[chosen]]),
            time_s=_times(data, predictor, cuts.rate_hz),
            argmax=screen.positions(argmax_point(density)),
            mean=screen.positions(mean_point(density)),
            max_mass=density.flatten(2).amax(2).double().numpy(),
            entropy_bits=entropy_bits(density).numpy(),
            area=torch.stack([region_area(density, level / 100) for level in LEVELS], -1).numpy(),
            samples=screen.positions(draw(density, samples, generator)),
            density=density.numpy(),
            last=_last(data),
            true=_true(cuts, chosen, predictor),
        )


def write(
    config: PredictConfig, predictor: Predictor, cuts: Cuts, parts: Iterator[Prediction]
) -> Iterator[Path]:
    """Write the files that were asked for and yield their paths."""
    path, *animation = _targets(config)
    film = None
    if animation:
        from eye_fixation.prediction_film import Film  # opens Pillow, which tables do not need

        seconds = config.every / cuts.rate_hz
        film = Film(aspect=_aspect(config), out_len=predictor.out_len, seconds_per_window=seconds)
        parts = film.record(parts)
    size = predictor.img_size
    if config.format == "npz":
        shape = (len(cuts.windows), predictor.out_len, size, size)
        write_npz(path, parts, shape, about(config, predictor, cuts))
    else:
        write_csv(path, parts, size * size, config.samples)
    yield path
    if film is not None:
        film.write(animation[0])
        yield animation[0]


def about(config: PredictConfig, predictor: Predictor, cuts: Cuts) -> dict[str, Any]:
    """Return what a file says of itself, as plain types."""
    file = predictor.file
    return {
        "kind": "eye_fixation predictions",
        "checkpoint": str(predictor.path),
        "loss": file.loss,
        "trained_on": {"source": file.metadata.source, "source_name": file.metadata.source_name},
        "calibration": file.calibration.to_dict(),
        "input": str(config.input),
        "units": config.gaze.units,
        "origin": "center" if config.gaze.units == "deg" else config.gaze.origin,
        "rate_hz": cuts.rate_hz,
        "img_size": predictor.img_size,
        "in_len": predictor.in_len,
        "out_len": predictor.out_len,
        "every": config.every,
        "time_s": "middle of the predicted frame, seconds on the input's clock",
        "density": "[window, horizon, row, column], rows downwards, sum 1",
        "marginal_samples": "each horizon drawn from its own density; not joint paths",
    }


def _targets(config: PredictConfig) -> list[Path]:
    """Return the files that will be written."""
    path = config.out.with_name(config.out.name + ("" if config.out.suffix else f".{config.format}"))
    return [path, path.with_suffix(".gif")] if config.gif else [path]


def _check_rate(recording: Recording, rate_hz: float, checkpoint: Path, file: Path) -> None:
    try:
        check_rate(recording, rate_hz)
    except UserError:
        raise UserError(
            f"--checkpoint {checkpoint} needs {rate_hz:g} frames per second; recording {recording.name} of "
            f"{file} has {recording.sampling_hz:.4g} samples per second"
        ) from None


def _lines(config: PredictConfig, predictor: Predictor, cuts: Cuts) -> Iterator[tuple[str, str]]:
    file, windows = predictor.file, cuts.windows
    yield "model", f"{file.loss}  trained on {file.metadata.source_name}  {file.metadata.source}"
    yield (
        "data",
        (
            f"{config.input}  {len(cuts.tracks)} recordings  {len(windows)} windows  "
            f"{predictor.in_len} -> {predictor.out_len} frames at {cuts.rate_hz:g} Hz"
        ),
    )
    if windows.dropped:
        yield "skipped", f"{windows.dropped} windows without a valid frame"
    if windows.too_short:
        names = ", ".join(windows.too_short)
        yield "skipped", f"recordings shorter than {predictor.in_len} frames: {names}"


def _times(data: GazeData, predictor: Predictor, rate_hz: float) -> Array:
    """Return the middle of each predicted frame in seconds, [N, T_out]."""
    assert data.start_s is not None, "recordings have times"
    frames = predictor.in_len + 0.5 + np.arange(predictor.out_len)
    times: Array = data.start_s.numpy()[:, None] + frames / rate_hz
    return times


def _last(data: GazeData) -> Array:
    """Return the last valid gaze of each window in cells, [N, 2]."""
    frames = torch.arange(data.mask.shape[1])
    latest = torch.where(data.mask, frames, -1).amax(1)
    return data.coordinates[torch.arange(len(data)), latest].double().numpy()


def _true(cuts: Cuts, chosen: Ints, predictor: Predictor) -> Array:
    """Return the gaze of the predicted frames in cells, NaN where it is not known, [N, T_out, 2]."""
    found = np.full((len(chosen), predictor.out_len, 2), np.nan)
    for row, (index, start) in enumerate(zip(cuts.windows.track[chosen], cuts.windows.start[chosen])):
        track, first = cuts.tracks[index], start + predictor.in_len
        mask = track.mask[first : first + predictor.out_len]
        positions = track.positions[first : first + predictor.out_len] * predictor.img_size
        found[row, : len(mask)] = np.where(mask[:, None], positions, np.nan)
    return found


def _aspect(config: PredictConfig) -> float:
    """Return the screen's width over its height, 1 where it is not known."""
    size = config.gaze.screen_mm if config.gaze.units == "deg" else config.gaze.screen_px
    return 1.0 if size is None else size[0] / size[1]
