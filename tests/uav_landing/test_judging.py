"""Judging with a stand-in for the network, so that every count is known."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from common.engine.logging import EventLog, read_events
from uav_landing.data.dataset import normalise
from uav_landing.judging import (
    Judged,
    class_rows,
    colored,
    fine_rows,
    judge,
    outputs_to_classes,
    overlay,
    summary_rows,
    write_judgement,
    write_samples,
)
from uav_landing.labels import TABLES, target_lookup
from uav_landing.metrics import summary_metrics

GRASS, ROOF, PERSON, CAR, UNLABELED = 3, 9, 15, 17, 0
TABLE = TABLES["sdd"]
SHAPE = (40, 64)


class Photos:
    """Photos of known fine ids; the predictions to hand out travel in the red channel."""

    def __init__(self, labels: list[np.ndarray], predictions: list[np.ndarray], void: str) -> None:
        self.ids = tuple(f"place{number // 2}_{number}" for number in range(len(labels)))
        self.lookup, self.class_ids = target_lookup(TABLE, void)
        pictures = [np.stack([p * 40, p * 0, p * 0], -1).astype(np.uint8) for p in predictions]
        images, masks = dict(zip(self.ids, pictures)), dict(zip(self.ids, labels))
        self.store = SimpleNamespace(image=images.__getitem__, labels=masks.__getitem__)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        if place >= len(self):
            raise IndexError(place)
        target = torch.from_numpy(self.lookup[self.store.labels(self.ids[place])]).long()
        return {"image": normalise(self.store.image(self.ids[place])), "target": target}


class Told:
    """A predictor that reads the output index from the red channel."""

    def __init__(self, outputs: int) -> None:
        self.model, self.outputs = nn.Identity(), outputs

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        red = ((image[0] * 0.229 + 0.485) * 255 / 40).round().long()
        return nn.functional.one_hot(red, self.outputs).permute(2, 0, 1).float()


def scenes(count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        labels = rng.choice([GRASS, ROOF, PERSON, CAR, UNLABELED], (5, 8)).astype(np.uint8)
        yield labels.repeat(8, 0).repeat(8, 1), rng.integers(0, 3, SHAPE)


def judged_scenes(count: int = 8, void: str = "ignore") -> tuple[Judged, Photos]:
    labels, predictions = zip(*scenes(count))
    photos = Photos(list(labels), list(predictions), void)
    groups = [name.split("_")[0] for name in photos.ids]
    return judge(Told(len(photos.class_ids)), photos, photos.class_ids, groups), photos


def test_counts_equal_a_loop_over_pixels() -> None:
    judged, photos = judged_scenes(3)
    for place, (labels, prediction) in enumerate(scenes(3)):
        counted = np.zeros((4, 4), int)
        landing = TABLE.lookup()[labels]
        for truth, output in zip(landing.reshape(-1), prediction.reshape(-1)):
            if truth != 0:
                counted[truth, output + 1] += 1
        np.testing.assert_array_equal(judged.matrices[place], counted)
    assert judged.ids == photos.ids


def test_void_is_counted_when_it_is_an_output() -> None:
    judged, _ = judged_scenes(3, void="train")
    assert judged.total[0].sum() == sum((labels == UNLABELED).sum() for labels, _ in scenes(3))


def test_boundary_pixels_do_not_count_in_the_tolerant_matrix() -> None:
    labels = np.full((20, 1280), GRASS, np.uint8)
    labels[:, 640:] = CAR
    prediction = np.where(np.arange(1280) < 643, 0, 2)[None].repeat(20, 0)  # three columns of danger as safe
    photos = Photos([labels], [prediction], "ignore")
    judged = judge(Told(3), photos, photos.class_ids, ["a"])
    assert judged.matrices[0, 3, 1] == 60
    assert judged.tolerant[0, 3, 1] == 0
    assert judged.tolerant[0].sum() == 20 * (1280 - 6)
    rows = {row["name"]: row["value"] for row in summary_rows(judged)}
    assert rows["miou_tolerant3"] == 1.0
    assert rows["miou"] < 1.0


def test_fine_classes_of_danger_are_counted() -> None:
    labels = np.full(SHAPE, GRASS, np.uint8)
    labels[0:10, 0:10], labels[20:30, 20:30] = PERSON, PERSON
    labels[0:10, 40:60] = CAR
    prediction = np.zeros(SHAPE, int)
    prediction[0:10, 0:6], prediction[0:10, 40:45] = 2, 2
    photos = Photos([labels], [prediction], "ignore")
    judged = judge(Told(3), photos, photos.class_ids, ["a"])
    assert ROOF not in judged.fine_ids
    assert {PERSON, CAR} <= set(judged.fine_ids)
    rows = {row["name"]: row for row in fine_rows(judged, TABLE)}
    assert set(rows) == {"person", "car"}
    assert (rows["person"]["support"], rows["person"]["objects"]) == (200, 2)
    assert rows["person"]["Pixels"]["value"] == pytest.approx(60 / 200)
    assert rows["person"]["Objects"]["value"] == 0.5
    assert rows["car"]["Pixels"]["value"] == pytest.approx(50 / 200)
    assert rows["car"]["Objects"]["value"] == 0.0


def test_numbers_do_not_depend_on_how_photos_are_grouped_but_intervals_do() -> None:
    judged, _ = judged_scenes(8)
    assert len(judged.by_group()) == 4
    np.testing.assert_array_equal(judged.by_group().sum(0), judged.total)
    alone = Judged(**{**vars(judged), "groups": judged.ids})
    grouped, single = summary_rows(judged, resamples=200), summary_rows(alone, resamples=200)
    assert [row["value"] for row in grouped] == [row["value"] for row in single]
    assert [row["low"] for row in grouped] != [row["low"] for row in single]
    by_hand = [float(summary_metrics(judged.total)[row["name"]]) for row in grouped[:9]]
    assert [row["value"] for row in grouped[:9]] == by_hand
    mean_of_photos = np.mean([summary_metrics(matrix)["miou"] for matrix in judged.matrices])
    assert next(row["value"] for row in grouped if row["name"] == "miou") != mean_of_photos


def test_interval_is_the_spread_of_resampled_groups() -> None:
    judged, _ = judged_scenes(8)
    groups = judged.by_group()
    rng = np.random.default_rng(9)
    picks = rng.integers(0, 4, (2000, 4))
    values = summary_metrics(groups[picks].sum(1))["danger_as_safe"]
    row = next(row for row in summary_rows(judged) if row["name"] == "danger_as_safe")
    assert row["low"] == pytest.approx(np.quantile(values, 0.025), abs=0.01)
    assert row["high"] == pytest.approx(np.quantile(values, 0.975), abs=0.01)


@pytest.mark.parametrize(("count", "resamples"), [(2, 100), (8, 0)])
def test_no_interval_from_one_group_or_without_resamples(
    count: int, resamples: int, caplog: pytest.LogCaptureFixture
) -> None:
    judged, _ = judged_scenes(count)
    with caplog.at_level(logging.WARNING):
        rows = summary_rows(judged, resamples=resamples)
        classes = class_rows(judged, resamples=resamples)
    assert all(np.isnan(row["low"]) and not np.isnan(row["value"]) for row in rows)
    assert all(np.isnan(row["IoU"]["high"]) for row in classes)
    assert not caplog.records


def test_class_rows_hold_each_output_with_its_support() -> None:
    judged, _ = judged_scenes(3)
    rows = class_rows(judged, resamples=50)
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert [row["support"] for row in rows] == judged.total.sum(1)[1:].tolist()
    recall = judged.total[3, 3] / judged.total[3].sum()
    assert rows[2]["Acc"]["value"] == pytest.approx(recall)
    assert rows[2]["Acc"]["low"] <= recall <= rows[2]["Acc"]["high"]


def test_worst_photos_have_their_predictions_kept() -> None:
    judged, photos = judged_scenes(8)
    errors = judged.matrices[:, 3, 1]
    worst = judged.worst()
    assert len(worst) == 6
    assert errors[worst].min() >= max(errors[[place for place in range(8) if place not in worst]])
    assert set(judged.predictions) == set(worst)
    for place, (_, prediction) in enumerate(scenes(8)):
        if place in worst:
            np.testing.assert_array_equal(judged.predictions[place], prediction)
    assert len(photos) == 8


def test_samples_show_photo_truth_and_prediction(tmp_path: Path) -> None:
    judged, photos = judged_scenes(2)
    items = write_samples(tmp_path, photos, judged)
    assert [item["caption"].split(":")[0] for item in items] == [photos.ids[p] for p in judged.worst()]
    picture = cv2.imread(str(tmp_path / items[0]["image"]))
    assert picture.shape == (40, 3 * 64 + 2 * 8, 3)


def test_events_are_those_of_the_report(tmp_path: Path) -> None:
    judged, _ = judged_scenes(4)
    with EventLog(tmp_path / "events.jsonl") as events:
        write_judgement(events, judged, "valid", step=5, epoch=2, resamples=20)
    written = {event["kind"]: event for event in read_events(tmp_path / "events.jsonl")}
    assert set(written) == {"summary", "per_class", "confusion"}
    assert written["confusion"]["matrix"] == judged.total[1:, 1:].tolist()
    assert written["confusion"]["names"] == ["safe landing", "caution", "danger"]
    assert written["per_class"]["colors"] == ["#00aa00", "#f0c800", "#dc0000"]
    assert written["summary"]["rows"][0]["name"] == "danger_as_safe"
    assert json.dumps(written["summary"]["rows"], allow_nan=False)


def test_overlay_tints_classes_and_leaves_ignored_pixels() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    classes = np.array([[1, 3], [255, 2]], np.uint8)
    shown = overlay(image, classes, opacity=0.5)
    assert shown[0, 0].tolist() == [50, 135, 50]
    assert shown[0, 1].tolist() == [160, 50, 50]
    assert shown[1, 0].tolist() == [100, 100, 100]
    assert colored(classes)[1, 1].tolist() == [240, 200, 0]


def test_outputs_become_landing_classes() -> None:
    outputs = np.array([[0, 1, 2, 255]])
    assert outputs_to_classes(outputs, [1, 2, 3]).tolist() == [[1, 2, 3, 255]]
    assert outputs_to_classes(outputs, [0, 1, 2, 3]).tolist() == [[0, 1, 2, 255]]
