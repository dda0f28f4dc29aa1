import math

import pytest
import torch

from common.config import UserError
from eye_fixation.loss_audit import COLUMNS, LossAudit, constant_table
from eye_fixation.losses import LOSSES, DiceLoss, LossOptions, build_loss

# best constant, its tolerance, loss there, sigmoid, documented recall and precision
BEST = {
    "mse": (0.0009766, 5e-8, 0.00097561, 0.5002, 1.0, 0.00098),
    "weighted_mse": (0.0890472, 5e-8, 0.0889602, 0.5222, 1.0, 0.00098),
    "focal": (-2.9456, 5e-5, 0.00075615, 0.04995, 0.0, 0.0),
    "bce": (-6.930495, 1e-6, 0.00774510, 0.00098, 0.0, 0.0),
    "dice": (-math.inf, 0, 0.987654, 0.0, 0.0, 0.0),
    "composite": (-5.80, 5e-3, 0.25292181, 0.003, 0.0, 0.0),
}
FLAT = {"softmax_ce": 6.931472, "smooth_ce": 6.931472, "ce_w2": 7.098464, "concentration": 0.166992}
# z = 0, -2, -4, -6, near-perfect, wrong place
FRAMES = {
    "composite": (0.620369, 0.273741, 0.253890, 0.252927, 0.180894, 0.304403),
    "composite_literal": (128.380662, 35.381210, 20.621445, 34.245842, 34.211572, 34.644737),
    "concentration": (0.166992, 0.166992, 0.166992, 0.166992, 0.120409, 0.198865),
    "centernet_focal": (172.515280, 3.443808, 3.880747, 5.972844, 0.000021, 9.847751),
    "ce_w2": (7.098464, 7.098464, 7.098464, 7.098464, 0.052817, 10.321572),
}


@pytest.fixture(scope="module")
def table() -> dict[str, LossAudit]:
    return {audit.name: audit for audit in constant_table()}


def test_the_table_holds_every_loss_in_order(table: dict[str, LossAudit]) -> None:
    assert list(table) == list(LOSSES)
    for name, audit in table.items():
        assert (audit.kind, audit.literal) == (LOSSES[name].kind, LOSSES[name].literal)
        logits = [logit for logit, _ in audit.curve]
        assert logits == pytest.approx([-14 + i / 10 for i in range(221)])
        # no constant of the curve is better than the best one
        assert audit.best.loss <= min(loss for _, loss in audit.curve) + 1e-9
        assert dict(audit.curve)[logits[140]] == pytest.approx(audit.constants[0.0], abs=1e-6)


@pytest.mark.parametrize("name", BEST)
def test_best_constants(table: dict[str, LossAudit], name: str) -> None:
    """8.2."""
    best = table[name].best
    logit, near, loss, sigmoid, recall, precision = BEST[name]
    assert best.logit == pytest.approx(logit, abs=near)
    assert best.loss == pytest.approx(loss, rel=6e-6 if name != "dice" else 1e-6)
    assert best.sigmoid == pytest.approx(sigmoid, abs=5e-5)
    assert (best.recall, best.precision) == (recall, pytest.approx(precision, abs=5e-6))


@pytest.mark.parametrize("name", FLAT)
def test_shift_invariant_losses_have_no_best_constant(table: dict[str, LossAudit], name: str) -> None:
    best = table[name].best
    assert best.loss == pytest.approx(FLAT[name], abs=5e-7)
    assert (best.logit, best.sigmoid, best.recall, best.precision) == (None,) * 4


def test_dice_of_pooled_frames(table: dict[str, LossAudit]) -> None:
    assert table["dice"].best.loss == pytest.approx(1 - 1 / 81)
    assert table["dice"].constants[0.0] == pytest.approx(0.998026, abs=5e-7)


@pytest.mark.parametrize("name", FRAMES)
def test_columns(table: dict[str, LossAudit], name: str) -> None:
    """8.3."""
    audit = table[name]
    found = (*(audit.constants[z] for z in COLUMNS), audit.near_perfect, audit.wrong_place)
    assert found == pytest.approx(FRAMES[name], abs=6e-7)


@pytest.mark.parametrize("name", [name for name, info in LOSSES.items() if not info.literal])
def test_the_ideal_beats_every_constant_and_itself_moved(table: dict[str, LossAudit], name: str) -> None:
    audit = table[name]
    assert audit.ideal < min(loss for _, loss in audit.curve)
    assert audit.ideal < audit.best.loss
    assert audit.ideal < audit.ideal_moved
    assert audit.teaches_place()


@pytest.mark.parametrize("name", [name for name, info in LOSSES.items() if info.literal])
def test_the_literal_forms_prefer_a_constant(table: dict[str, LossAudit], name: str) -> None:
    audit = table[name]
    assert not audit.teaches_place()
    assert audit.best.loss <= audit.ideal
    if name == "composite_literal":
        assert audit.near_perfect > audit.constants[-4.0]
    if name == "concentration_literal":
        assert audit.best.logit == -math.inf
    if name == "sparsity_literal":
        assert audit.best.sigmoid == 0.5


def test_best_constant_of_one_dice_frame() -> None:
    target = torch.zeros(1, 1, 32, 32)
    target[..., 16, 16] = 1
    sure = 24 * target - 12
    black = DiceLoss()(torch.full_like(target, -14), target)
    assert DiceLoss()(sure, target) < black < DiceLoss()(torch.zeros_like(target), target)


def test_options_and_size_are_used() -> None:
    (audit,) = constant_table(LossOptions(pos_weight="balanced"), 8, ["weighted_mse"])
    assert audit.best.logit == pytest.approx(0.5)
    assert audit.best.precision == pytest.approx(1 / 64)
    assert audit.near_perfect == pytest.approx(
        build_loss("weighted_mse", LossOptions(pos_weight=63), 8)(
            torch.full((1, 8, 8), -6.0).index_put(
                (torch.tensor(0), torch.tensor(4), torch.tensor(4)), torch.tensor(4.0)
            ),
            torch.zeros(1, 8, 8).index_put(
                (torch.tensor(0), torch.tensor(4), torch.tensor(4)), torch.tensor(1.0)
            ),
        ).item()
    )
    with pytest.raises(UserError, match="focal"):
        constant_table(names=["focel"])
    with pytest.raises(ValueError, match="img_size"):
        constant_table(img_size=4)
