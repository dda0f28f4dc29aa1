"""The verb `doctor`: what is wrong with a data set, a weights file and this machine."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

import cv2
import torch

from common.config import Finding, Parsed, UserError, check, has_no_effect
from common.engine.distributed import pick_device
from common.engine.logging import Console
from common.engine.manifest import library_versions
from mvfouls.architectures import architecture
from mvfouls.cache import RESERVE, WINDOW
from mvfouls.config_verbs import DoctorConfig
from mvfouls.doctor_checks import Report, check_shared, decode_clips, examine_split, find_sources, some
from mvfouls.frames import frame_at
from mvfouls.parts_shared import CACHE_FOLDER
from mvfouls.survey import View

JPEG_SHARE = 0.1
"""Size of a stored picture as JPEG, of that of its pixels."""
PACKAGES = ("torchvision", "mvfouls")
GIGABYTE = 10**9

_log = logging.getLogger("mvfouls")


def main(parsed: Parsed[DoctorConfig]) -> int:
    """Look at everything, tell what is found, and return 1 when there are errors, else 0."""
    config, console = parsed.config, Console()
    check(findings(parsed), False, _log)
    report = Report(console.line)
    views = examine_data(config, report)
    check_cache(config, views, report)
    check_weights(config, report)
    check_machine(config.device, report)
    console.raw(report.verdict)
    return int(report.errors > 0)


def findings(parsed: Parsed[DoctorConfig]) -> Iterator[Finding]:
    """Yield every error and warning about the settings themselves; files are not looked at."""
    config, typed = parsed.config, parsed.typed
    if config.num_workers < 1:
        yield Finding("error", f"--num-workers {config.num_workers}: at least 1 is expected")
    rules = {
        "num_workers": ("--no-decode-clips decodes nothing", not config.decode_clips),
        "backbone_name": ("--weights is none", config.weights == "none"),
        "weights_dir": (f"--weights is {config.weights}, not auto", config.weights != "auto"),
    }
    for name, (reason, idle) in rules.items():
        if idle and name in typed:
            yield Finding("warning", has_no_effect(name, reason))


def examine_data(config: DoctorConfig, report: Report) -> list[View]:
    """Examine layout, annotations and clips of every split; return the clips that can be read."""
    sources = find_sources(config.dataset_root, report)
    found = (examine_split(source, report) for source in sources)
    splits = [split for split in found if split is not None]
    if config.decode_clips:
        decode_clips(splits, config.num_workers, report)
    check_shared(splits, report)
    return [view for split in splits for view in split.views]


def check_cache(config: DoctorConfig, views: Iterable[View], report: Report) -> None:
    """Compare the size of the store with the space on its disk; nothing is written."""
    share = JPEG_SHARE if config.cache_format == "jpeg" else 1.0
    needed = share * sum(map(window_bytes, views))
    if not needed:
        return
    folder = config.cache_dir or config.dataset_root / CACHE_FOLDER
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    stored = sum(path.stat().st_size for path in folder.glob("*.npy"))
    free = shutil.disk_usage(place).free
    report.tell(
        "cache",
        f"{folder}   {_gb(needed)} as {config.cache_format} for all clips   {_gb(stored)} in it   "
        f"{_gb(free)} free",
    )
    if not place.is_dir() or not os.access(place, os.W_OK):
        report.warning(f"cache {folder}: {place} cannot be written to; clips are decoded each time")
    elif needed - stored > free - RESERVE:
        smaller = "; --cache-format jpeg takes a tenth" if config.cache_format == "uint8" else ""
        report.warning(
            f"cache {folder}: the disk has no room for all clips, besides {_gb(RESERVE)} that stay free; "
            f"those left over are decoded each time{smaller}"
        )


def window_bytes(view: View) -> int:
    """Return the size of a clip's stored window as pixels."""
    first, last = (frame_at(number, view.fps) for number in WINDOW)
    return 3 * view.size[0] * view.size[1] * max(min(last, view.frames - 1) - first + 1, 0)


def check_weights(config: DoctorConfig, report: Report) -> None:
    """Read the weights file and compare its names and shapes with those of the network."""
    if config.weights == "none":
        report.tell("weights", "none: a network would start from random numbers")
        return
    from mvfouls.backbones import build_backbone  # slow to import, and most runs look at no weights
    from mvfouls.weights import find_weights, fit_tensors, head_classes, read_weights

    name = config.backbone_name
    known = architecture(name)
    try:
        path = find_weights(name, config.weights, config.weights_dir)
        assert path is not None
        tensors = read_weights(path)
        with torch.device("meta"):
            backbone = build_backbone(name, frames=known.frames)
        fitted = fit_tensors(tensors, backbone, name)
    except UserError as error:
        report.error(str(error))
        return
    classes = head_classes(tensors, known)
    head = "without a classifier" if classes is None else f"its classifier of {classes} classes is not used"
    report.tell("weights", f"{path}   {len(fitted)} tensors, all of {name}   {head}")
    broken = [key for key in fitted if key in tensors and not torch.isfinite(tensors[key]).all()]
    if broken:
        report.error(f"--weights {path}: NaN or infinite numbers in {some(broken)}")


def check_machine(device: str, report: Report) -> None:
    """Tell the device that would be used, its memory, and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine = f"{os.cpu_count()} cores   {_gb(memory)} memory"
    try:
        chosen = pick_device(device)
    except ValueError as error:
        report.error(f"--device {device}: {error}")
    else:
        if chosen.type == "cuda":
            card = torch.cuda.get_device_properties(chosen)
            machine = f"{card.name}   {_gb(card.total_memory)} of its own   {machine}"
        report.tell("device", f"{chosen}   {machine}")
    found = library_versions() | {"opencv": cv2.__version__}
    found |= {name: number for name in PACKAGES if (number := _version(name))}
    report.tell("versions", "   ".join(f"{name} {number}" for name, number in found.items()))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gb(size: float) -> str:
    return f"{size / GIGABYTE:.3g} GB"
