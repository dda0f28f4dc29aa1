"""What `prepare` reads: recordings and scanpaths of any source as frames, with counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from common.config import Parsed, UserError
from common.config.readers import suggestion
from eye_fixation.data import irf, osie
from eye_fixation.data.csv_file import geometry_of, read_fixations, read_samples
from eye_fixation.data.recordings import Recording, Scanpath, check_rate
from eye_fixation.geometry import Geometry, combine
from eye_fixation.prepare_checks import rate_of, split_of
from eye_fixation.prepare_config import PrepareConfig
from eye_fixation.sequences import Track, label_samples, recording_track, scanpath_track, stimulus_parts

R = TypeVar("R", Recording, Scanpath)


@dataclass(frozen=True)
class Loaded:
    """Frames of everything read, the screen, and the published split by unit where there is one."""

    tracks: list[Track]
    geometry: Geometry
    fixed: dict[str, int] | None
    excluded: tuple[str, ...]
    counts: dict[str, int]
    sha256: dict[str, str]


def load(parsed: Parsed[PrepareConfig]) -> Loaded:
    """Read the inputs of a source other than sim. Raises UserError naming what is wrong with them."""
    source = parsed.config.source
    if source == "osie":
        return _load_osie(parsed)
    if source == "fixations":
        return _load_fixations(parsed)
    return _load_samples(parsed)


def _load_osie(parsed: Parsed[PrepareConfig]) -> Loaded:
    config = parsed.config
    (path,) = config.input
    geometry = combine(osie.GEOMETRY, geometry_of(config.gaze), path)
    scanpaths, images = osie.read_osie(path)
    excluded = _excluded(parsed, images, default=())
    kept = [scanpath for scanpath in scanpaths if scanpath.stimulus not in excluded]
    fixed = osie.fixed_split(images) if split_of(config) == "image" else None
    files = [path / osie.FILE if path.is_dir() else path]
    return _scanpaths(parsed, kept, geometry, fixed, excluded, files)


def _load_fixations(parsed: Parsed[PrepareConfig]) -> Loaded:
    config = parsed.config
    scanpaths = _read_files(config.input, lambda path: read_fixations(path, config.gaze))
    excluded = _excluded(parsed, [scanpath.name for scanpath in scanpaths], default=())
    kept = [scanpath for scanpath in scanpaths if scanpath.name not in excluded]
    return _scanpaths(parsed, kept, geometry_of(config.gaze), None, excluded, config.input)


def _scanpaths(
    parsed: Parsed[PrepareConfig], kept: Sequence[Scanpath], geometry: Geometry, fixed: dict[str, int] | None,
    excluded: tuple[str, ...], files: Sequence[Path],
) -> Loaded:  # fmt: skip
    rate = rate_of(parsed.config)
    tracks = [scanpath_track(scanpath, rate, parsed.config.events) for scanpath in kept]
    counts = {
        "scanpaths": len(kept),
        "fixations": sum(len(scanpath.x) for scanpath in kept),
        "invalid": sum(int((~scanpath.valid).sum()) for scanpath in kept),
        "off_screen": sum(scanpath.off_screen for scanpath in kept),
    }
    return Loaded(tracks, geometry, fixed, excluded, counts, _sums(files))


def _load_samples(parsed: Parsed[PrepareConfig]) -> Loaded:
    config = parsed.config
    recordings, geometry, files = _read_samples(config)
    fixed = None
    if config.source == "irf":
        fixed = irf.fixed_split([recording.name for recording in recordings])
    names = [recording.name for recording in recordings]
    rough = (irf.ROUGH,) if config.source == "irf" else ()
    excluded = _excluded(parsed, names, default=tuple(name for name in rough if name in names))
    kept = [recording for recording in recordings if recording.name not in excluded]
    counts = {
        "recordings": len(kept),
        "samples": sum(len(recording.t) for recording in kept),
        "invalid": sum(int((~recording.valid).sum()) for recording in kept),
        "off_screen": sum(recording.off_screen for recording in kept),
    }
    tracks = _sample_tracks(config, kept, geometry)
    return Loaded(tracks, geometry, fixed, excluded, counts, _sums(files))


def _read_samples(config: PrepareConfig) -> tuple[list[Recording], Geometry, list[Path]]:
    if config.source == "irf":
        (folder,) = config.input
        recordings, geometry = irf.read_irf(folder, config.gaze)
        return recordings, geometry, [folder / irf.CONFIG, *sorted(folder.glob("*.npy"))]
    recordings = _read_files(config.input, lambda path: read_samples(path, config.gaze))
    return recordings, geometry_of(config.gaze), list(config.input)


def _sample_tracks(config: PrepareConfig, recordings: Sequence[Recording], geometry: Geometry) -> list[Track]:
    rate = rate_of(config)
    assert rate is not None, "sources of samples have a rate"
    tracks = []
    for recording in recordings:
        check_rate(recording, rate)
        labelled = label_samples(recording, config.events, geometry)
        parts = stimulus_parts(labelled) if split_of(config) == "image" else [labelled]
        tracks += [recording_track(part, rate) for part in parts]
    return tracks


def _read_files(paths: Sequence[Path], read: Callable[[Path], list[R]]) -> list[R]:
    """Return what all files hold; names that occur in two files get the file's stem in front."""
    contents = [(path, read(path)) for path in paths]
    names = [name for _, found in contents for name in {item.name for item in found}]
    if len(set(names)) == len(names):
        return [item for _, found in contents for item in found]
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        raise UserError(f"--input: two files are called {max(stems, key=stems.count)} and share recordings")
    return [replace(item, name=f"{path.stem}/{item.name}") for path, found in contents for item in found]


def _excluded(
    parsed: Parsed[PrepareConfig], known: Collection[str], *, default: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the names to leave out. Raises UserError for one that does not occur."""
    if "exclude" not in parsed.typed:
        return default
    words = parsed.config.exclude
    if words == ("none",):
        return ()
    names = tuple(word if word in known else word.removesuffix(".jpg") for word in words)
    for name in names:
        if name not in known:
            close = suggestion(name, known) or f"; the first are {', '.join(sorted(set(known))[:5])}"
            raise UserError(f"--exclude {name}: no such recording{close}")
    return names


def _sums(paths: Sequence[Path]) -> dict[str, str]:
    """Return the sha256 of every file by its name, with its folder's where two have the same name."""
    names = [path.name for path in paths]
    sums = {}
    for path in paths:
        name = path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}"
        with path.open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
