"""Judging a network on whole photos: one matrix per photo, numbers with intervals, pictures of the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.engine.logging import EventLog
from common.metrics.bootstrap import Interval, Statistic, bootstrap_ci
from common.metrics.confusion import ConfusionMatrix
from uav_landing.boundaries import away_from_boundaries
from uav_landing.data.dataset import PhotoDataset
from uav_landing.data.masks import apply_lookup
from uav_landing.labels import IGNORE, LANDING_COLORS, LANDING_NAMES, LabelTable
from uav_landing.metrics import DANGER, SAFE, class_metrics, summary_metrics, to_frame
from uav_landing.objects import count_objects
from uav_landing.predictor import PhotoPredictor

WORST = 6
OVERLAY_WIDTH = 900
AIRWORTHINESS = "No number here is evidence of airworthiness."
NOTES = {
    "danger_as_safe": "share of danger pixels called safe; the costly error",
    "danger_missed": "share of danger pixels called safe or caution",
    "false_safe": "share of pixels called safe that are danger",
    "expected_cost": "mean cost per pixel; danger called safe costs 5",
    "miou_landing": "mean IoU of safe, caution, danger; void left out",
    "miou": "mean IoU over classes with pixels",
    "miou_observed": "the same; a class without pixels that was predicted counts as 0",
    "mean_accuracy": "mean recall over classes with pixels",
    "accuracy": "share of pixels called right",
    "miou_tolerant3": "mean IoU of pixels over 3 px (at 1280 px width) from a boundary in the truth",
}
CLASS_COLUMNS = {"IoU": "iou", "Acc": "accuracy", "Precision": "precision"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judged:
    """What was counted on N photos, and the group each photo belongs to.

    `matrices` and `tolerant` are confusion matrices int64 [N, 4, 4], the second over pixels away from
    boundaries. `fine` int64 [N, F, 2, 2] counts per fine id of danger: rows pixels and objects, columns
    predicted as danger and missed. `class_ids` are the landing classes the network can predict.
    `predictions` are the output maps uint8 [H, W] of the photos of `worst`, by place.
    """

    ids: tuple[str, ...]
    matrices: NDArray[np.int64]
    groups: tuple[str, ...]
    tolerant: NDArray[np.int64]
    fine_ids: tuple[int, ...]
    fine: NDArray[np.int64]
    class_ids: tuple[int, ...]
    predictions: Mapping[int, NDArray[np.uint8]]

    @property
    def total(self) -> NDArray[np.int64]:
        """Return the matrix over all photos."""
        return np.asarray(self.matrices.sum(0))

    def by_group(self, counts: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return `counts` [N, ...] (default: the matrices) summed per group, the unit of the bootstrap."""
        chosen = self.matrices if counts is None else counts
        names = sorted(set(self.groups))
        return np.stack([chosen[[group == name for group in self.groups]].sum(0) for name in names])

    def worst(self, count: int = WORST) -> list[int]:
        """Return the places of the photos with the most danger pixels called safe."""
        order = np.argsort(-self.matrices[:, DANGER, SAFE], kind="stable")
        return [int(place) for place in order[:count]]


def judge(
    predictor: PhotoPredictor,
    photos: PhotoDataset,
    class_ids: Sequence[int],
    groups: Sequence[str],
    *,
    progress: Progress | None = None,
) -> Judged:
    """Predict every photo with the sliding window and count its pixels and dangerous objects.

    `class_ids[k]` is the landing class of output k. `progress(done, total)` is called after each photo.
    """
    fine_ids = np.flatnonzero(photos.lookup == class_ids.index(DANGER)).tolist()
    matrices, tolerant, fine = [], [], []
    kept: dict[int, tuple[int, NDArray[np.uint8]]] = {}
    for photo, prediction, target in _predictions(predictor, photos):
        matrices.append(_matrix(prediction, target, class_ids))
        _keep_worst(kept, len(matrices) - 1, int(matrices[-1][DANGER, SAFE]), prediction)
        inner = np.where(away_from_boundaries(target), target, np.uint8(IGNORE))
        tolerant.append(_matrix(prediction, inner, class_ids))
        danger = prediction == class_ids.index(DANGER)
        fine.append(count_objects(photos.store.labels(photo), danger, fine_ids))
        if progress is not None:
            progress(len(matrices), len(photos))
    return Judged(
        ids=tuple(photos.ids),
        matrices=np.stack(matrices),
        groups=tuple(groups),
        tolerant=np.stack(tolerant),
        fine_ids=tuple(fine_ids),
        fine=np.stack(fine),
        class_ids=tuple(class_ids),
        predictions={place: prediction for place, (_, prediction) in kept.items()},
    )


def _keep_worst(
    kept: dict[int, tuple[int, NDArray[np.uint8]]],
    place: int,
    errors: int,
    prediction: NDArray[np.uint8],
) -> None:
    """Add a prediction and drop the one with the fewest errors, the last of equal ones, beyond `WORST`."""
    kept[place] = (errors, prediction)
    if len(kept) > WORST:
        del kept[max(kept, key=lambda item: (-kept[item][0], item))]


def _predictions(
    predictor: PhotoPredictor, photos: PhotoDataset
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield (id, predicted output, target output) of each photo; targets 255 where ignored."""
    predictor.model.eval()
    for place, photo in enumerate(photos.ids):
        sample = photos[place]
        prediction = predictor(sample["image"]).max(0).indices.to("cpu").numpy().astype(np.uint8)
        yield photo, prediction, sample["target"].numpy().astype(np.uint8)


def _matrix(
    prediction: NDArray[np.uint8], target: NDArray[np.uint8], class_ids: Sequence[int]
) -> NDArray[np.int64]:
    import torch

    counts = ConfusionMatrix(len(class_ids), ignore_index=IGNORE)
    counts.update(torch.from_numpy(prediction), torch.from_numpy(target))
    return to_frame(counts.compute().numpy(), class_ids)


def summary_rows(judged: Judged, *, resamples: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
    """Return {name, value, low, high, note} of each whole-split metric, 95 % interval over groups.

    No interval (NaN) with 0 resamples or a single group.
    """
    names = [name for name in NOTES if name != "miou_tolerant3"]
    whole = _bootstrap(judged.by_group(), lambda m: _stacked(summary_metrics(m), names), resamples, seed)
    inner = _bootstrap(
        judged.by_group(judged.tolerant), lambda m: summary_metrics(m)["miou"], resamples, seed
    )
    rows = [(name, _interval(whole, index)) for index, name in enumerate(names)]
    rows.append(("miou_tolerant3", _interval(inner, ())))
    return [{"name": name, "note": NOTES[name], **values} for name, values in rows]


def class_rows(judged: Judged, *, resamples: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per predictable class: id, name, support and IoU, Acc, Precision with intervals."""
    support = class_metrics(judged.total)["support"]
    keys = list(CLASS_COLUMNS.values())
    values = _bootstrap(judged.by_group(), lambda m: _stacked(class_metrics(m), keys), resamples, seed)
    return [
        {
            "id": index,
            "name": LANDING_NAMES[index],
            "support": int(support[index]),
            **{title: _interval(values, (index, place)) for place, title in enumerate(CLASS_COLUMNS)},
        }
        for index in judged.class_ids
    ]


def fine_rows(
    judged: Judged, table: LabelTable, *, resamples: int = 2000, seed: int = 0
) -> list[dict[str, Any]]:
    """Return one row per dangerous class of the data set that occurs: how much of it is called danger.

    `Pixels` is the share of its pixels predicted as danger, `Objects` the share of its objects found; each
    with its interval, `support` and `objects` say of how many.
    """
    totals = judged.fine.sum(0)
    rows = []
    for place, fine_id in enumerate(judged.fine_ids):
        pixels, objects = (int(count) for count in totals[place].sum(-1))
        if not pixels:
            continue
        groups = judged.by_group(judged.fine[:, place])
        recalls = _bootstrap(groups, _found_share, resamples, seed)
        rows.append(
            {
                "id": fine_id,
                "name": table.name_of(fine_id),
                "support": pixels,
                "objects": objects,
                "Pixels": _interval(recalls, 0),
                "Objects": _interval(recalls, 1),
            }
        )
    return rows


def _found_share(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return found / (found + missed) of [..., 2, 2] by row; NaN where there is nothing to find."""
    whole = counts.sum(-1).astype(float)
    return np.asarray(np.divide(counts[..., 0], whole, out=np.full(whole.shape, np.nan), where=whole > 0))


def _stacked(metrics: dict[str, NDArray[Any]], names: Sequence[str]) -> NDArray[np.float64]:
    return np.stack([np.asarray(metrics[name], dtype=np.float64) for name in names], axis=-1)


def _bootstrap(groups: NDArray[np.int64], fn: Statistic, resamples: int, seed: int) -> Interval:
    if resamples and len(groups) > 1:
        return bootstrap_ci(groups, fn, n=resamples, seed=seed)
    value = np.asarray(fn(groups.sum(0)), dtype=np.float64)
    unknown = np.full_like(value, np.nan)
    return Interval(value, unknown, unknown)


def _interval(values: Interval, place: int | tuple[int, ...]) -> dict[str, float]:
    return {name: float(part[place]) for name, part in values._asdict().items()}


def hex_colors() -> list[str]:
    """Return the plot colour of each landing class."""
    return ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in LANDING_COLORS]


def write_judgement(
    events: EventLog, judged: Judged, split: str, *, step: int, epoch: int, resamples: int = 2000
) -> None:
    """Write the split's numbers, classes and matrix as events of the report."""
    rows, colors = class_rows(judged, resamples=resamples), hex_colors()
    events.write("summary", step, epoch, {"split": split, "rows": summary_rows(judged, resamples=resamples)})
    events.write(
        "per_class",
        step,
        epoch,
        {
            "split": split,
            "columns": list(CLASS_COLUMNS),
            "rows": rows,
            "colors": [colors[row["id"]] for row in rows],
        },
    )
    shown = list(judged.class_ids)
    matrix = judged.total[np.ix_(shown, shown)]
    names = [LANDING_NAMES[index] for index in shown]
    confusion = {"split": split, "names": names, "ids": shown, "matrix": matrix.tolist()}
    events.write("confusion", step, epoch, confusion)


def write_samples(folder: Path, photos: PhotoDataset, judged: Judged) -> list[dict[str, str]]:
    """Write photo, truth and prediction side by side for the photos with most danger called safe.

    Returns {image: path relative to `folder`, caption} for each, the worst first.
    """
    (folder / "samples").mkdir(exist_ok=True)
    return [_write_panels(folder, photos, judged, place) for place in judged.worst()]


def _write_panels(folder: Path, photos: PhotoDataset, judged: Judged, place: int) -> dict[str, str]:
    photo, image = judged.ids[place], photos.store.image(judged.ids[place])
    maps = (photos[place]["target"].numpy(), judged.predictions[place])
    tinted = [overlay(image, outputs_to_classes(outputs, judged.class_ids)) for outputs in maps]
    path = folder / "samples" / f"{photo.replace('/', '_')}.jpg"
    panels = cv2.cvtColor(_side_by_side([image, *tinted]), cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(path), panels, [cv2.IMWRITE_JPEG_QUALITY, 85]):
        raise OSError(f"{path}: cannot be written")
    numbers = summary_metrics(judged.matrices[place])
    caption = (
        f"{photo}: photo, truth, prediction. danger_as_safe {float(numbers['danger_as_safe']):.3f}, "
        f"miou_landing {float(numbers['miou_landing']):.3f}"
    )
    return {"image": f"samples/{path.name}", "caption": caption}


def outputs_to_classes(outputs: NDArray[Any], class_ids: Sequence[int]) -> NDArray[np.uint8]:
    """Return the landing class of each output index, IGNORE where it is ignored."""
    table = np.full(256, IGNORE, np.uint8)
    table[: len(class_ids)] = class_ids
    return apply_lookup(outputs.astype(np.uint8), table)


def colored(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return landing classes [H, W] in their plot colours, RGB uint8 [H, W, 3]; black where ignored."""
    table = np.zeros((1, 256, 3), np.uint8)
    table[0, : len(LANDING_COLORS)] = LANDING_COLORS
    return np.asarray(cv2.LUT(cv2.merge([classes] * 3), table), dtype=np.uint8)


def overlay(
    image: NDArray[np.uint8], classes: NDArray[np.uint8], *, opacity: float = 0.45
) -> NDArray[np.uint8]:
    """Return the photo tinted by landing class; ignored pixels keep their colour."""
    tinted = cv2.addWeighted(image, 1 - opacity, colored(classes), opacity, 0)
    ignored = (classes == IGNORE).view(np.uint8)
    return np.asarray(cv2.copyTo(image, ignored, tinted), dtype=np.uint8)


def _side_by_side(panels: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height, width = panels[0].shape[:2]
    scale = min(1.0, OVERLAY_WIDTH / width)
    size = (round(width * scale), round(height * scale))
    gap = np.full((size[1], 8, 3), 255, np.uint8)
    small = [cv2.resize(panel, size, interpolation=cv2.INTER_AREA) for panel in panels]
    return np.hstack([small[0], gap, small[1], gap, small[2]])
