import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.engine.logging import Console
from common.statistics import ClassStatistics
from uav_landing.balance import RareCrops, build_main_loss, plan_balance, plan_rare_crops
from uav_landing.config import CropConfig, DataConfig, LossConfig, SplitConfig, StoreConfig
from uav_landing.labels import TABLES
from uav_landing.landing_data import open_data
from uav_landing.weights import GUIDE_COUNTS, GUIDE_WEIGHTS

PIXELS = [[2, 0, -1, 0.5], [0, 3, 0, 0], [1, 1, 1, 1], [-2, 0, 0, 4], [5, 0, 0, 0]]
TARGETS = [0, 0, 2, 3, 1]
GUIDE = np.array(GUIDE_WEIGHTS)
NATURAL = RareCrops(sampler=None, exposure=None, presented=None)
DOCUMENTED = ClassStatistics.from_counts(list(GUIDE_COUNTS), unit="pixel", split="train")


def images(pixels: list[list[float]], targets: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits [1, 4, 1, N] and target [1, 1, N]."""
    logits = torch.tensor(pixels, dtype=torch.float64).T[None, :, None]
    return logits, torch.tensor(targets)[None, None]


LOGITS, TARGET = images(PIXELS, TARGETS)


def plan(config: LossConfig, statistics=DOCUMENTED, rare=NATURAL, fraction=0.0):
    return plan_balance(config, statistics, [0, 1, 2, 3], rare, rare_fraction=fraction)


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({}, 52.682876),
        ({"gamma": 0.0}, 63.263576),
        ({"gamma": 0.5}, 59.134247),
        ({"gamma": 1.0}, 56.354683),
        ({"gamma": 5.0}, 45.636464),
        ({"focal_normalize": "alpha"}, 1.442458),
    ],
)
def test_documented_focal_loss(settings, value):
    loss = build_main_loss(LossConfig(**settings), GUIDE, None)
    assert float(loss(LOGITS, TARGET)) == pytest.approx(value, abs=6e-7)


def test_ignored_pixels_carry_no_focal_loss():
    loss = build_main_loss(LossConfig(), GUIDE, None)
    ignored = TARGET.clone()
    ignored[..., -1] = 255
    assert float(loss(LOGITS, ignored)) == pytest.approx(65.363157, abs=6e-7)


@pytest.mark.parametrize(("normalize", "value"), [("pixels", 18.105762), ("alpha", 0.779791)])
def test_focal_loss_of_a_uniform_guess(normalize, value):
    loss = build_main_loss(LossConfig(focal_normalize=normalize), GUIDE, None)
    logits, target = images([[0, 0, 0, 0]] * 4, [0, 1, 2, 3])
    assert float(loss(logits, target)) == pytest.approx(value, abs=6e-7)


@pytest.mark.parametrize("words", [("none",), ("1", "2", "3", "4")])
def test_cross_entropy_is_that_of_torch(words):
    balance = plan(LossConfig(loss="ce", class_weights=words, focal_normalize="alpha"))
    weight = None if words == ("none",) else torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    expected = F.cross_entropy(LOGITS, TARGET, weight=weight)
    assert float(balance.losses.main(LOGITS, TARGET)) == pytest.approx(float(expected))
    assert balance.losses.main_name == "ce"


def test_logit_adjustment_adds_the_log_prior_of_what_the_loss_sees():
    prior = torch.tensor(GUIDE_COUNTS, dtype=torch.float64) / sum(GUIDE_COUNTS)
    shifted = LOGITS + prior.log().view(1, 4, 1, 1)
    balance = plan(LossConfig(loss="logit_adjusted", class_weights=("none",)))
    expected = float(F.cross_entropy(shifted, TARGET))
    assert float(balance.losses.main(LOGITS, TARGET)) == pytest.approx(expected, rel=1e-5)


def test_logit_adjustment_leaves_nothing_to_do_where_weights_have_done_it():
    statistics = ClassStatistics.from_counts([10, 20, 30, 40], unit="pixel", split="train")
    alone = plan(LossConfig(loss="ce", class_weights=("balanced",)), statistics)
    both = plan(LossConfig(loss="logit_adjusted", class_weights=("balanced",)), statistics)
    assert float(both.losses.main(LOGITS, TARGET)) == pytest.approx(float(alone.losses.main(LOGITS, TARGET)))
    np.testing.assert_allclose(both.budget.effective, 0.25)


def test_budget_states_weights_and_effective_prior():
    budget = plan(LossConfig(class_weights=("balanced",))).budget
    np.testing.assert_allclose(budget.effective, 0.25)
    assert budget.lines()[0].startswith("balance  focal(gamma=2) x weights(balanced)   sampler none")


def test_budget_names_no_correction_that_does_not_act():
    budget = plan(LossConfig(focal_weight=0.0)).budget
    assert budget.lines()[0].startswith("balance  dice alone   sampler none")
    np.testing.assert_allclose(budget.effective, budget.statistics.prior)


def test_weights_make_up_for_what_rare_crops_leave():
    presented = np.array([0.01, 0.39, 0.3, 0.3])
    rare = RareCrops(sampler=object(), exposure=None, presented=presented)
    balance = plan(LossConfig(class_weights=("balanced",)), rare=rare, fraction=0.25)
    np.testing.assert_allclose(balance.weights.values * presented, 0.25)
    np.testing.assert_allclose(balance.budget.effective, 0.25)
    assert "sampler rare crops(0.25)" in balance.budget.lines()[0]


def test_too_much_of_a_correction_is_a_warning_of_the_budget():
    presented = np.array([0.4, 0.2, 0.2, 0.2])
    rare = RareCrops(sampler=object(), exposure=None, presented=presented)
    findings = plan(LossConfig(class_weights=("guide",)), rare=rare, fraction=0.5).budget.findings
    assert [level for level, text in findings if "overcorrection" in text] == ["warning"]


def opened(root, part="random"):
    return open_data(
        DataConfig(dataset_path=root),
        SplitConfig(split_mode=part),
        StoreConfig(),
        unknown_labels="error",
        void="train",
        console=Console(enabled=False),
    )


def test_weights_come_from_the_masks_of_the_training_photos_alone(scenes):
    data = opened(scenes)
    counts = np.zeros(256, np.int64)
    for photo in data.split.train:
        mask = cv2.imread(str(scenes / "label_images_semantic" / f"{photo}.png"), cv2.IMREAD_UNCHANGED)
        counts += np.bincount(mask.ravel(), minlength=256)
    landing = [[i.id for i in TABLES["sdd"].classes if i.landing == c] for c in range(4)]
    expected = np.array([counts[ids].sum() for ids in landing])
    statistics = data.statistics()
    np.testing.assert_array_equal(statistics.counts, expected)
    values = plan(LossConfig(class_weights=("balanced",)), statistics).weights.values
    np.testing.assert_allclose(values, expected.sum() / (4 * expected))
    assert (data.statistics("val").counts != expected).any()


def test_rare_crops_show_more_danger_than_random_ones(scenes):
    data = opened(scenes)
    rare = plan_rare_crops(data, CropConfig(input_size=(128, 128), rare_crop_fraction=0.5), 0)
    assert rare.presented.sum() == pytest.approx(1)
    assert rare.presented[3] > 1.1 * data.statistics().prior[3]
    off = plan_rare_crops(data, CropConfig(rare_crop_fraction=0.0), 0)
    assert (off.sampler, off.exposure, off.presented) == (None, None, None)
