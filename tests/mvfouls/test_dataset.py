"""Which samples there are, which views they hold, and that only their key decides what they look like."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mv_samples import SMALL, STRONG, MadeClips, made_dataset

from common.balancing.samplers import ShardedEvalSampler
from common.engine.loading import Batches, iterate, make_loader
from common.engine.randomness import SampleKey, generator_for
from common.engine.task import split_batch, to_device
from mvfouls.dataset import FoulDataset, collate, evaluated_views, evenly, training_views
from mvfouls.settings import AugmentSettings, ViewSettings

PLAIN = AugmentSettings()
SHIFT = 67 - 75
FIVE = tuple(range(5))


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def epoch(dataset: FoulDataset, number: int = 0) -> list[torch.Tensor]:
    return [dataset[SampleKey(k, number, k)]["clips"] for k in range(len(dataset))]


def test_a_sample_is_an_action_with_its_views() -> None:
    sample = made_dataset()[1]
    assert sample["clips"].shape == (3, 3, 4, 16, 24)
    assert sample["clips"].dtype == torch.uint8
    assert sample["clips"].is_contiguous()
    assert sample["targets"] == {"action_class": 0, "severity": 4, "offence": 0}
    assert (sample["action"], sample["views"], sample["key"]) == ("1", (0, 1, 2), (1, 0, 1))
    dataset = made_dataset()
    for place, view in enumerate(dataset.split.actions[1].views):
        expected = MadeClips().read(view).transpose(3, 0, 1, 2)
        np.testing.assert_array_equal(sample["clips"][place], expected)
        assert torch.equal(sample["clips"][place], dataset.unchanged(dataset.split.actions[1], place))
    described = dataset.describe(1)
    assert "clips" not in described
    assert described["views"] == (0, 1, 2)


def test_frames_are_fitted_and_their_proportions_kept() -> None:
    wide = MadeClips(size=(32, 64))
    sample = made_dataset((1, "1.0"), clips=wide)[0]["clips"]
    assert sample.shape == (1, 3, 4, 16, 24)
    stretched = made_dataset((1, "1.0"), clips=wide, pixels=replace(SMALL, fit="stretch"))[0]["clips"]
    assert not torch.equal(sample, stretched)


def test_clips_as_samples() -> None:
    single = ViewSettings(bags=False)
    for augment in (None, PLAIN):
        dataset = made_dataset(views=single, augment=augment)
        assert len(dataset) == 5
        assert [dataset[k]["action"] for k in range(5)] == ["0", "0", "1", "1", "1"]
        assert [dataset[k]["views"] for k in range(5)] == [(0,), (1,), (0,), (1,), (2,)]
        assert dataset.action_rows.tolist() == [0, 0, 1, 1, 1]
        assert dataset.presented_labels("severity").tolist() == [0, 0, 4, 4, 4]
    whole = made_dataset()
    assert torch.equal(made_dataset(views=single)[3]["clips"][0], whole[1]["clips"][1])
    assert len(made_dataset(views=ViewSettings(bags=False, max_views=1))) == 2


def test_what_training_leaves_out_evaluation_keeps() -> None:
    actions = ((1, "1.0"), (2, "unlabelled"), (0, "3.0"), (2, "3.0"), (3, ""))
    views = ViewSettings(min_clips=2)
    training = made_dataset(*actions, views=views, augment=PLAIN)
    assert training.left_out == {"no_view": 1, "unlabelled": 1, "few_views": 1}
    assert training.action_rows.tolist() == [3, 4]
    assert training.presented_labels("severity").tolist() == [2, -100]
    evaluation = made_dataset(*actions, views=views)
    assert evaluation.action_rows.tolist() == [0, 1, 3, 4]
    assert evaluation[1]["targets"] == {"action_class": -100, "severity": -100, "offence": -100}


@pytest.mark.parametrize(
    ("settings", "evaluated"),
    [
        (ViewSettings(), FIVE),
        (ViewSettings(max_views=2), (0, 1)),
        (ViewSettings(max_clips=3, sampling="uniform"), (0, 2, 4)),
        (ViewSettings(max_clips=2, sampling="random"), (0, 4)),
        (ViewSettings(max_views=4, max_clips=2, sampling="uniform"), (0, 3)),
        (ViewSettings(max_clips=2, sampling="all"), FIVE),
        (ViewSettings(max_clips=2), (0, 1)),
        (ViewSettings(max_clips=9, sampling="random"), FIVE),
    ],
)
def test_views_that_are_evaluated(settings: ViewSettings, evaluated: tuple[int, ...]) -> None:
    assert evaluated_views(FIVE, settings) == evaluated
    if settings.sampling != "random" or len(evaluated) == 5:
        assert training_views(FIVE, settings, generator_for(1)) == evaluated


def test_random_views_keep_clip_order_and_reach_every_pair() -> None:
    settings = ViewSettings(max_clips=2, sampling="random")
    found = [training_views(FIVE, settings, generator_for(k)) for k in range(1000)]
    assert all(first < second for first, second in found)
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 10
    assert counts.min() > 60
    pool = ViewSettings(max_views=3, max_clips=2, sampling="random")
    assert max(max(training_views(FIVE, pool, generator_for(k))) for k in range(50)) == 2
    assert evenly(FIVE, 1) == (0,)


def test_random_views_change_with_the_epoch_in_training_only() -> None:
    views = ViewSettings(max_clips=1, sampling="random")
    training = made_dataset((4, "1.0"), views=views, augment=PLAIN)
    chosen = {training.describe(SampleKey(0, number, 0))["views"] for number in range(40)}
    assert chosen == {(0,), (1,), (2,), (3,)}
    evaluation = made_dataset((4, "1.0"), views=views)
    assert {evaluation.describe(SampleKey(0, number, 0))["views"] for number in range(9)} == {(0,)}


def test_without_augmentation_two_epochs_are_identical() -> None:
    dataset = made_dataset(augment=PLAIN)
    assert same(epoch(dataset, 0), epoch(dataset, 1))
    assert same(epoch(dataset), epoch(made_dataset()))


def test_augmentation_differs_between_draws_and_repeats_for_the_same() -> None:
    dataset = made_dataset(augment=STRONG)
    first = epoch(dataset)
    assert same(first, epoch(made_dataset(augment=STRONG)))
    assert not same(first, epoch(dataset, 1))
    again = dataset[SampleKey(0, 0, 77)]["clips"]
    assert not torch.equal(first[0], again)


def test_all_views_see_the_same_shifted_window() -> None:
    dataset = made_dataset((2, "1.0"), augment=AugmentSettings(jitter=3))
    shifts = set()
    for number in range(40):
        sample = dataset[SampleKey(0, 0, number)]
        shift = sample["draw"].shift
        for place, view in enumerate(dataset.split.actions[0].views):
            expected = MadeClips().read(view, shift).transpose(3, 0, 1, 2)
            np.testing.assert_array_equal(sample["clips"][place], expected)
        shifts.add(shift)
    assert shifts == set(range(-3, 4))


def test_on_device_leaves_the_pixels_and_draws_the_same() -> None:
    in_loader = made_dataset(augment=replace(STRONG, jitter=0))
    on_device = made_dataset(augment=replace(STRONG, jitter=0, on_device=True))
    key = SampleKey(1, 2, 3)
    assert torch.equal(on_device[key]["clips"], made_dataset()[1]["clips"])
    assert not torch.equal(in_loader[key]["clips"], on_device[key]["clips"])
    assert in_loader[key]["draw"].clips[0].crop == on_device[key]["draw"].clips[0].crop


def test_severity_changes_the_strength_only_if_asked() -> None:
    plain, aware = made_dataset(augment=STRONG), made_dataset(augment=replace(STRONG, severity_aware=True))
    assert plain[0]["strength"] == 1.0
    assert 0.5 <= aware[0]["strength"] <= 1.5 != aware[0]["strength"] != 1.0


def test_batches_split_and_move_like_any_other() -> None:
    dataset = made_dataset(augment=replace(STRONG, multi_scale=True))
    samples = [dataset[SampleKey(k % 2, 0, k)] for k in range(6)]
    batch = collate(samples)
    assert {draw.scale for draw in batch["draws"]} == {samples[0]["draw"].scale}
    assert len({sample["draw"].scale for sample in samples}) > 1
    assert batch["key"].tolist() == [[k % 2, 0, k] for k in range(6)]
    assert batch["targets"]["severity"].tolist() == [0, 4] * 3
    assert (batch["strength"].dtype, batch["strength"].shape) == (torch.float32, (6,))
    halves = [to_device(half, torch.device("cpu")) for half in split_batch(batch, 2)]
    assert [half["action"] for half in halves] == [["0", "1", "0"], ["1", "0", "1"]]
    assert [len(clips) for half in halves for clips in half["clips"]] == [2, 3] * 3
    assert halves[1]["draws"] == batch["draws"][3:]
    assert "clips" not in collate([dataset.describe(0)])


def test_workers_change_no_bit() -> None:
    dataset = made_dataset(augment=replace(STRONG, severity_aware=True, multi_scale=True))
    batches = Batches(ShardedEvalSampler(len(dataset)), 1)
    alone, worked = (
        list(iterate(make_loader(dataset, batches, workers=workers, collate=collate))) for workers in (0, 1)
    )
    for first, second in zip(alone, worked, strict=True):
        assert same(first["clips"], second["clips"])
        assert torch.equal(first["key"], second["key"])
        assert [clip.noise_seed for draw in first["draws"] for clip in draw.clips] == [
            clip.noise_seed for draw in second["draws"] for clip in draw.clips
        ]
