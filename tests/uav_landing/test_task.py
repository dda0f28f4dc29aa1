import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from uav_landing.balance import build_main_loss
from uav_landing.config import LossConfig
from uav_landing.models.base import Output
from uav_landing.predictor import PhotoPredictor
from uav_landing.task import LandingTask, LossPlan, class_line
from uav_landing.weights import GUIDE_WEIGHTS

PIXELS = torch.tensor([[2, 0, -1, 0.5], [0, 3, 0, 0], [1, 1, 1, 1], [-2, 0, 0, 4], [5, 0, 0, 0]])
TARGETS = torch.tensor([0, 0, 2, 3, 1])
LOGITS, TARGET = PIXELS.double().T[None, :, None], TARGETS[None, None]


class Given(nn.Module):
    """A network whose logits are its input, with auxiliary heads that scale them."""

    def __init__(self, scales: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.scales = scales
        self.has_auxiliary_heads = bool(scales)

    def forward(self, image: torch.Tensor) -> Output:
        return Output(image, tuple(scale * image for scale in self.scales))


def task(
    main=None, *, weight=1.0, dice=0.5, aux=0.4, scales=(), class_ids=(0, 1, 2, 3), monitor="miou"
) -> LandingTask:
    main = main or build_main_loss(LossConfig(), np.array(GUIDE_WEIGHTS), None)
    plan = LossPlan(main=main, main_name="focal", main_weight=weight, dice_weight=dice, aux_weight=aux)
    predictor = PhotoPredictor(
        model=Given(scales), tile=(32, 32), overlap=0.5, batch=4, device=torch.device("cpu")
    )
    return LandingTask(predictor, plan, class_ids=list(class_ids), monitor=monitor, alarms=None)


def means(terms) -> dict[str, float]:
    return {name: float(term.total / term.count) for name, term in terms.items()}


def test_documented_values_of_both_terms():
    values = means(task().training_step({"image": LOGITS, "target": TARGET}))
    assert values == pytest.approx({"focal": 52.682876, "dice": 0.612848}, abs=6e-7)


def test_an_absent_class_adds_nothing_to_dice():
    ignored = TARGET.clone()
    ignored[..., -1] = 255
    values = means(task().training_step({"image": LOGITS, "target": ignored}))
    assert values == pytest.approx({"focal": 65.363157, "dice": 0.443342}, abs=6e-7)


def test_a_crop_of_ignored_pixels_has_no_loss_but_a_graph():
    logits = LOGITS.clone().requires_grad_()
    terms = task().training_step({"image": logits, "target": torch.full_like(TARGET, 255)})
    total = sum(term.total for term in terms.values())
    assert total.item() == 0
    total.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(
    ("weight", "dice", "aux", "scales"),
    [case for case in product((0.0, 1.0), (0.0, 0.5), (0.0, 0.4), ((), (1.0, 0.5))) if any(case[:2])],
)
def test_terms_are_those_with_a_weight_and_have_the_normaliser_of_their_labels(weight, dice, aux, scales):
    landing = task(weight=weight, dice=dice, aux=aux, scales=scales)
    batch = {"image": LOGITS, "target": TARGET}
    terms, norms = landing.training_step(batch), landing.normalizers(batch)
    wanted = {"focal": weight, "dice": dice, "aux": aux if scales else 0.0}
    assert {name: term.weight for name, term in terms.items()} == {k: v for k, v in wanted.items() if v}
    assert {name: float(term.count) for name, term in terms.items()} == {
        name: float(count) for name, count in norms.items()
    }


def test_every_auxiliary_head_has_the_main_loss_with_its_own_weight():
    landing = task(scales=(1.0, 0.0))
    values = means(landing.training_step({"image": LOGITS, "target": TARGET}))
    uniform = 0.5625 * math.log(4) * np.mean([GUIDE_WEIGHTS[t] for t in TARGETS])
    assert values["aux"] == pytest.approx(52.682876 + uniform, abs=1e-5)


@pytest.mark.parametrize("normalize", ["pixels", "alpha"])
def test_three_batches_of_six_have_the_loss_and_gradient_of_one_of_eighteen(normalize):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(18, 4, 8, 8, generator=rng, dtype=torch.float64)
    target = torch.randint(0, 4, (18, 8, 8), generator=rng)
    target[:5] = 255
    target[7, 3:] = 255
    main = build_main_loss(LossConfig(focal_normalize=normalize), np.array(GUIDE_WEIGHTS), None)

    def objective(parts: int) -> tuple[float, torch.Tensor]:
        landing, leaf = task(main, dice=0.0), logits.clone().requires_grad_()
        batches = [
            {"image": image, "target": labels}
            for image, labels in zip(leaf.chunk(parts), target.chunk(parts), strict=True)
        ]
        count = sum(landing.normalizers(batch)["focal"] for batch in batches)
        loss = sum(landing.training_step(batch)["focal"].total for batch in batches) / count
        loss.backward()
        return loss.item(), leaf.grad

    whole, split = objective(1), objective(3)
    assert split[0] == pytest.approx(whole[0], rel=1e-12)
    assert torch.allclose(split[1], whole[1], rtol=1e-12, atol=1e-15)


def oracle(truth: np.ndarray, guess: np.ndarray, index: int) -> tuple[float, float]:
    """IoU and recall of one class, counted with sets."""
    valid = truth != 255
    t, g = (truth == index) & valid, (guess == index) & valid
    return (t & g).sum() / (t | g).sum(), (t & g).sum() / t.sum()


def test_training_metrics_are_those_of_all_pixels_of_the_epoch_however_batched():
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 3, 255], size=(6, 4, 5), p=[0.05, 0.5, 0.2, 0.15, 0.1])
    logits = torch.from_numpy(rng.normal(size=(6, 4, 4, 5)))
    guess = logits.argmax(1).numpy()
    landing = task()
    landing.begin_epoch(0)
    for part in (slice(0, 1), slice(1, 3), slice(3, 6)):
        landing.training_step({"image": logits[part], "target": torch.from_numpy(truth[part])})
    values = landing.train_metrics()
    for index in range(4):
        expected = oracle(truth, guess, index)
        assert (values[f"class_{index}_iou"], values[f"class_{index}_accuracy"]) == pytest.approx(expected)
        assert values[f"share/{index}"] == pytest.approx((truth == index).sum() / (truth != 255).sum())
    assert values["danger_as_safe"] == pytest.approx((guess[truth == 3] == 1).mean())
    landing.begin_epoch(1)
    assert math.isnan(landing.train_metrics()["miou"])


def test_outputs_without_void_are_counted_as_the_landing_classes_they_stand_for():
    landing = task(class_ids=(1, 2, 3), main=build_main_loss(LossConfig(), np.ones(3), None))
    logits = torch.full((1, 3, 1, 4), -5.0).scatter(1, torch.tensor([[[[0, 0, 1, 2]]]]), 5.0)
    landing.training_step({"image": logits, "target": torch.tensor([[[0, 2, 1, 255]]])})
    values = landing.train_metrics()
    assert [values[f"class_{index}_support"] for index in range(4)] == [0, 1, 1, 1]
    assert values["danger_as_safe"] == 1
    assert math.isnan(values["class_0_iou"])
    assert [values[f"share/{index}"] for index in range(4)] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("monitor", "mode"), [("miou", "max"), ("miou_landing", "max"), ("expected_cost", "min")]
)
def test_the_headline_knows_which_way_is_better(monitor, mode):
    headline = task(monitor=monitor).headline
    assert (headline.metric, headline.mode) == (monitor, mode)


METRICS = {"class_1_iou": 0.8034, "class_1_accuracy": 0.87051, "class_1_support": 12.0}


def test_class_lines_are_the_documented_ones():
    assert class_line(1, METRICS, ignored=False) == "Class 1: IoU=0.803, Acc=0.871"
    assert class_line(0, METRICS, ignored=True) == "Class 0: IoU=n/a, Acc=n/a (void, ignored)"
    empty = METRICS | {"class_1_support": 0.0, "class_1_iou": math.nan}
    assert class_line(1, empty, ignored=False) == "Class 1: IoU=n/a, Acc=n/a (no pixels)"


def test_a_metric_that_is_not_there_is_no_zero():
    with pytest.raises(KeyError):
        class_line(2, METRICS, ignored=False)


def test_counts_of_a_half_done_epoch_survive_a_resume():
    first, second = task(), task()
    batch = {"image": LOGITS, "target": TARGET}
    first.training_step(batch)
    second.load_state_dict(first.state_dict())
    for landing in (first, second):
        landing.training_step(batch)
    assert second.train_metrics() == pytest.approx(first.train_metrics(), nan_ok=True)
    assert second.train_metrics()["class_0_support"] == 4
