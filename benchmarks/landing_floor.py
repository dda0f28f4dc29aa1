"""The floor a landing network must beat: boosted trees on the colour and blur of single pixels.

Photos of split sdd32 at half scale (640 x 426), 24 features per pixel: LAB and HSV, and the local mean and
deviation of LAB in squares of 5, 15 and 41 px. 2400 pixels of each training photo, 120 rounds. Judged on
whole photos with the code and the intervals of `uav-landing evaluate`, also on frames of a foreign flight.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from common.config import Parsed, UserError, run_main
from common.engine.manifest import library_versions
from common.metrics.confusion import ConfusionMatrix
from uav_landing.boundaries import away_from_boundaries
from uav_landing.config import DataConfig, SplitConfig, StoreConfig
from uav_landing.data.masks import apply_lookup
from uav_landing.data.photos import PhotoSet
from uav_landing.data.readers import find_photos
from uav_landing.data.splits import Split, groups_of, make_split
from uav_landing.data.store import Store, open_store
from uav_landing.judging import Judged, class_rows, fine_rows, summary_rows
from uav_landing.labels import IGNORE, target_lookup
from uav_landing.metrics import DANGER, to_frame
from uav_landing.objects import count_objects

RESULTS = Path(__file__).parent / "results"
SCALE = 0.5
PIXELS_PER_PHOTO = 2400
ROUNDS = 120
WINDOWS = (5, 15, 41)
COLUMNS = ("miou_landing", "miou", "danger_as_safe", "false_safe")

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]
Void = Literal["ignore", "train"]


@dataclass(frozen=True, kw_only=True)
class FloorConfig:
    """Train and judge the colour and texture floor."""

    data: Path
    """Folder that holds `sdd` (the 32 photos of split sdd32) and, if there, `aeroscapes`."""
    json: Path | None = None
    """Result file. Default: benchmarks/results/landing_floor-<date>.json."""
    rounds: int = ROUNDS
    """Boosting rounds, the most of them with early stopping."""
    early_stopping: bool = False
    """End each fit when the loss of a tenth of its pixels no longer falls, scikit-learn's own default. With
    the few void pixels weighted up that can be after a dozen rounds."""
    pixels: int = PIXELS_PER_PHOTO
    """Pixels drawn from each training photo."""
    bootstrap: int = 2000
    """Resamples of the groups for the 95 % intervals."""
    seed: int = 0
    """Seed of the drawn pixels and of the trees."""


@dataclass(frozen=True, kw_only=True)
class Photos:
    """Photos of one data set at half scale."""

    found: PhotoSet
    store: Store

    @classmethod
    def open(cls, root: Path, cache: Path) -> Photos:
        """Decode the photos under `root` into `cache`."""
        found = find_photos(DataConfig(dataset_path=root))
        store = open_store(found, StoreConfig(store_scale=SCALE, cache_dir=cache), "error")
        return cls(found=found, store=store)

    def targets(self, photo: str, void: Void) -> Pixels:
        """Return target outputs [H, W], 255 where ignored."""
        lookup, _ = target_lookup(self.found.table, void)
        return apply_lookup(self.store.labels(photo), lookup)

    def class_ids(self, void: Void) -> list[int]:
        """Return the landing class of each output."""
        return target_lookup(self.found.table, void)[1]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One row of the table."""

    name: str
    void: Void
    balanced: bool = False
    majority: bool = False


RECIPES = (
    Recipe(name="majority class", void="ignore", majority=True),
    Recipe(name="void ignored, unweighted", void="ignore"),
    Recipe(name="void ignored, balanced", void="ignore", balanced=True),
    Recipe(name="void trained, unweighted", void="train"),
    Recipe(name="void trained, balanced", void="train", balanced=True),
)


def features(image: Pixels) -> Features:
    """Return 24 numbers per pixel of RGB uint8 [H, W, 3], float32 [H * W, 24]."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    planes: list[NDArray[Any]] = [lab, cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)]
    for side in WINDOWS:
        mean = cv2.blur(lab, (side, side))
        variance = cv2.blur(lab * lab, (side, side)) - mean * mean
        planes += [mean, np.sqrt(np.maximum(variance, 0))]
    return np.concatenate(planes, axis=2).reshape(-1, 6 + 6 * len(WINDOWS))


def draw_pixels(
    photos: Photos, ids: Sequence[str], void: Void, count: int, seed: int
) -> tuple[Features, NDArray[np.int64]]:
    """Return features and target outputs of `count` valid pixels of each photo."""
    rng = np.random.default_rng(seed)
    drawn, labels = [], []
    for photo in ids:
        target = photos.targets(photo, void).reshape(-1)
        valid = np.flatnonzero(target != IGNORE)
        chosen = rng.choice(valid, min(count, len(valid)), replace=False)
        drawn.append(features(photos.store.image(photo))[chosen])
        labels.append(target[chosen].astype(np.int64))
    return np.concatenate(drawn), np.concatenate(labels)


def train(recipe: Recipe, photos: Photos, ids: Sequence[str], config: FloorConfig) -> Any:
    """Return a fitted classifier of pixels."""
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier

    pixels, labels = draw_pixels(photos, ids, recipe.void, config.pixels, config.seed)
    if recipe.majority:
        return DummyClassifier(strategy="most_frequent").fit(pixels, labels)
    trees = HistGradientBoostingClassifier(
        max_iter=config.rounds,
        class_weight="balanced" if recipe.balanced else None,
        early_stopping=config.early_stopping,
        random_state=config.seed,
    )
    return trees.fit(pixels, labels)


def judge(model: Any, photos: Photos, ids: Sequence[str], void: Void) -> Judged:
    """Predict every pixel of the photos and count them as `evaluate` does."""
    class_ids = photos.class_ids(void)
    lookup, _ = target_lookup(photos.found.table, void)
    fine_ids = np.flatnonzero(lookup == class_ids.index(DANGER)).tolist()
    counts = [_count(model, photos, photo, void, class_ids, fine_ids) for photo in ids]
    matrices, tolerant, fine = (np.stack(part) for part in zip(*counts))
    return Judged(
        ids=tuple(ids),
        matrices=matrices,
        groups=groups_of(ids, photos.found),
        tolerant=tolerant,
        fine_ids=tuple(fine_ids),
        fine=fine,
        class_ids=tuple(class_ids),
        predictions={},
    )


def _count(
    model: Any, photos: Photos, photo: str, void: Void, class_ids: list[int], fine_ids: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    target = photos.targets(photo, void)
    predicted = model.predict(features(photos.store.image(photo))).astype(np.uint8).reshape(target.shape)
    inner = np.where(away_from_boundaries(target), target, np.uint8(IGNORE))
    danger = predicted == class_ids.index(DANGER)
    objects = count_objects(photos.store.labels(photo), danger, fine_ids)
    return _matrix(predicted, target, class_ids), _matrix(predicted, inner, class_ids), objects


def _matrix(predicted: Pixels, target: Pixels, class_ids: list[int]) -> NDArray[np.int64]:
    counts = ConfusionMatrix(len(class_ids), ignore_index=IGNORE)
    counts.update(torch.from_numpy(predicted), torch.from_numpy(target))
    return to_frame(counts.compute().numpy(), class_ids)


def run(parsed: Parsed[FloorConfig]) -> int:
    """Train every recipe, judge it on val, test and the foreign frames, print and write the numbers."""
    config = parsed.config
    with tempfile.TemporaryDirectory() as cache:
        sdd = Photos.open(config.data / "sdd", Path(cache))
        split = make_split(sdd.found, SplitConfig(split_mode="file", split_file="sdd32"))
        parts = list(_parts(config.data, sdd, split, Path(cache)))
        rows = [
            row
            for recipe in RECIPES
            for row in _judge_recipe(recipe, train(recipe, sdd, split.train, config), parts, config)
        ]
    _write(config, rows)
    return 0


def _parts(data: Path, sdd: Photos, split: Split, cache: Path) -> Iterator[tuple[str, Photos, Sequence[str]]]:
    yield "val", sdd, split.val
    yield "test", sdd, split.test
    if (data / "aeroscapes").is_dir():
        foreign = Photos.open(data / "aeroscapes", cache)
        yield "aeroscapes", foreign, foreign.found.ids


def _judge_recipe(
    recipe: Recipe, model: Any, parts: list[tuple[str, Photos, Sequence[str]]], config: FloorConfig
) -> Iterator[dict[str, Any]]:
    for name, photos, ids in parts:
        started = time.perf_counter()
        judged = judge(model, photos, ids, recipe.void)
        row = {
            **dataclasses.asdict(recipe),
            "rounds": getattr(model, "n_iter_", 0),
            "split": name,
            "photos": len(ids),
            "groups": len(set(judged.groups)),
            "summary": summary_rows(judged, resamples=config.bootstrap),
            "classes": class_rows(judged, resamples=config.bootstrap),
            "fine": fine_rows(judged, photos.found.table, resamples=config.bootstrap),
            "matrix": judged.total.tolist(),
            "seconds": round(time.perf_counter() - started, 1),
        }
        sys.stdout.write("\n".join(_lines(row)) + "\n")
        sys.stdout.flush()
        yield row


def _lines(row: dict[str, Any]) -> Iterator[str]:
    trees = f", {row['rounds']} rounds" if row["rounds"] else ""
    yield f"{row['name']}{trees}: {row['split']}, {row['photos']} photos in {row['groups']} groups"
    numbers = {number["name"]: number for number in row["summary"]}
    yield "  " + "   ".join(f"{name} {_interval(numbers[name])}" for name in COLUMNS)
    for item in row["classes"]:
        accuracy = f"Acc {item['Acc']['value']:.3f}"
        yield f"  {item['name']:13} IoU {_interval(item['IoU'])}   {accuracy}   {item['support']} px"


def _interval(number: dict[str, float]) -> str:
    if np.isnan(number["low"]):
        return f"{number['value']:.3f}"
    return f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"


def _write(config: FloorConfig, rows: list[dict[str, Any]]) -> None:
    now = datetime.now(UTC)
    path = config.json or RESULTS / f"landing_floor-{now.date()}.json"
    settings = {
        name: getattr(config, name) for name in ("rounds", "early_stopping", "pixels", "bootstrap", "seed")
    }
    result = {
        "date": now.isoformat(timespec="seconds"),
        "versions": library_versions(),
        "settings": settings,
        "rows": _plain(rows),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"written {path}\n")


def _plain(value: Any) -> Any:
    """Return JSON types, NaN as None."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_main(_checked, FloorConfig, argv, prog="python benchmarks/landing_floor.py")


def _checked(parsed: Parsed[FloorConfig]) -> int:
    if not (parsed.config.data / "sdd").is_dir():
        raise UserError(f"--data {parsed.config.data}: holds no folder sdd")
    return run(parsed)


if __name__ == "__main__":
    sys.exit(main())
