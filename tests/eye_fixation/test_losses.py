import ast
import math
import runpy
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.config import UserError
from common.engine.task import LossTerm
from common.losses.sparse_map import SparseMapLoss
from eye_fixation import documented_losses
from eye_fixation.documented_losses import (
    CompositeLoss,
    ConcentrationLoss,
    DiceLoss,
    FocalLoss,
    SparsityLoss,
    WeightedMSE,
    get_loss_function,
)
from eye_fixation.losses import (
    DOCUMENTED,
    LOSSES,
    LossOptions,
    blanking_rule,
    build_loss,
    hyperparameters,
    loss_names,
    positive_share,
    readout_bias,
)
from eye_fixation.simvp import SimVP
from eye_fixation.simvp_config import SimVPConfig

GOLDENS = {
    "mse": 2.51627604,
    "weighted_mse": 9.21940104,
    "focal": 0.42722898,
    "dice": 0.96084097,
    "sparsity": 0.38831278,
    "concentration": 0.32299776,
    "composite": 1.22237585,
    "sparsity_literal": 3.88216146,
    "concentration_literal": 10.35655233,
    "composite_literal": 19.06778664,
    "bce": 0.96069259,
    "weighted_bce": 1.92957106,
    "logit_adjusted_bce": 0.10427324,
    "softmax_ce": 5.02472401,
    "smooth_ce": 5.11024384,
    "ce_w2": 5.34728765,
    "centernet_focal": 26.53602760,
}
MARKED = {"focal", "bce", "centernet_focal"}
KINDS = {
    "regression": {"mse", "weighted_mse", "sparsity_literal"},
    "categorical": {"softmax_ce", "smooth_ce", "ce_w2"},
}
DOOR = Path(__file__).parents[2] / (
    "apps/eye_fixation/experiments/phase1_loss_function_analysis/enhanced_loss_functions.py"
)
names = pytest.mark.parametrize("name", LOSSES)


def pattern() -> tuple[Tensor, Tensor]:
    """Pattern P: outputs and targets (2, 3, 1, 8, 8)."""
    z, y = torch.zeros(2, 2, 3, 1, 8, 8, dtype=torch.float64)
    for b in range(2):
        for t in range(3):
            y[b, t, 0, (3 * b + 2 * t + 1) % 8, (5 * b + t + 2) % 8] = 1
            for r in range(8):
                for c in range(8):
                    z[b, t, 0, r, c] = ((7 * b + 5 * t + 3 * r + 2 * c) % 11 - 5) / 2
    return z, y


Z, Y = pattern()


def value(name: str, pred: Tensor = Z, target: Tensor = Y, mask: Tensor | None = None) -> float:
    return build_loss(name, img_size=pred.shape[-1])(pred, target, mask).item()


def test_every_loss_has_a_golden_value() -> None:
    assert GOLDENS.keys() == LOSSES.keys()
    assert tuple(LOSSES)[: len(DOCUMENTED)] == DOCUMENTED
    assert tuple(name for name, info in LOSSES.items() if info.documented) == DOCUMENTED


@names
def test_goldens_of_pattern_p(name: str) -> None:
    assert value(name) == pytest.approx(GOLDENS[name], abs=1e-7)
    assert value(name, Z.view(6, 1, 8, 8), Y.view(6, 1, 8, 8)) == pytest.approx(GOLDENS[name], abs=1e-7)


@names
def test_masking_is_removal(name: str) -> None:
    loss = build_loss(name, img_size=8)
    mask = torch.tensor([[True, False, True], [True, False, True]])
    torch.testing.assert_close(loss(Z, Y, mask), loss(Z[:, ::2], Y[:, ::2]))
    frames = mask.flatten()
    flat_z, flat_y = Z.view(6, 1, 8, 8), Y.view(6, 1, 8, 8)
    torch.testing.assert_close(loss(flat_z, flat_y, frames), loss(flat_z[frames], flat_y[frames]))
    pred = Z.clone().requires_grad_()
    empty = loss(pred, Y, torch.zeros(2, 3, dtype=torch.bool))
    empty.backward()
    assert empty == 0
    assert pred.grad is not None
    assert not pred.grad.any()
    with pytest.raises(ValueError, match=r"\[2, 3, 1, 8, 8\] and target is \[2, 2"):
        loss(Z, Y[:, :2])


def test_neutral_settings() -> None:
    bce = F.binary_cross_entropy_with_logits(Z, Y)
    for found, expected in (
        (FocalLoss(0.5, 0)(Z, Y), bce / 2),
        (WeightedMSE(1)(Z, Y), F.mse_loss(Z, Y)),
        (SparsityLoss(0)(Z, Y), (Z.sigmoid() - Y).square().mean()),
        (CompositeLoss(1, 0, 0)(Z, Y), FocalLoss()(Z, Y)),
        (ConcentrationLoss(2)(Z, Y), 2 * ConcentrationLoss()(Z, Y)),
        (build_loss("bce")(Z, Y), bce),
        (build_loss("mse")(Z, Y), F.mse_loss(Z, Y)),
        (build_loss("logit_adjusted_bce", img_size=8)(Z + math.log(63), Y), bce),
    ):
        torch.testing.assert_close(found, expected)
    per_frame = torch.stack(
        [DiceLoss()(Z[b, t : t + 1], Y[b, t : t + 1]) for b in range(2) for t in range(3)]
    )
    torch.testing.assert_close(DiceLoss(per_frame=True)(Z, Y), per_frame.mean())


def test_components_of_the_composite() -> None:
    pred = Z.clone().requires_grad_()
    total, parts = CompositeLoss(0.5, 2, 0)(pred, Y, return_components=True)
    assert list(parts) == ["focal", "sparsity", "concentration", "total"]
    for name in list(parts)[:3]:
        assert parts[name].item() == pytest.approx(GOLDENS[name], abs=1e-7)
    assert all(part.dim() == 0 and not part.requires_grad for part in parts.values())
    assert total.requires_grad
    assert parts["total"] == total == 0.5 * parts["focal"] + 2 * parts["sparsity"]


@names
def test_runs_on_the_models_own_output(name: str) -> None:
    config = SimVPConfig(in_shape=(3, 1, 8, 8), out_len=4, hid_S=4, hid_T=8, N_S=2, N_T=2, skip="last")
    torch.manual_seed(0)
    model = SimVP(config)
    pred = model(torch.rand(2, 3, 1, 8, 8))
    target = torch.zeros_like(pred)
    target[..., 3, 5] = 1
    loss = build_loss(name, img_size=8)(pred, target)
    loss.backward()
    assert loss.dim() == 0
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@names
def test_terms_feed_the_engine(name: str) -> None:
    """Sums over micro-batches of one sequence give the loss of the batch; Dice couples a batch's frames."""
    loss = build_loss(name, img_size=8)
    mask = torch.tensor([[True, True, True], [False, True, False]])
    parts = [loss.terms(Z[b : b + 1], Y[b : b + 1], mask[b : b + 1]) for b in range(2)]
    terms = [
        {key: LossTerm(term.total, term.count, term.weight) for key, term in part.items()} for part in parts
    ]
    found = sum(
        terms[0][key].weight * sum(t[key].total for t in terms) / sum(t[key].count for t in terms)
        for key in terms[0]
    )
    if name == "dice":
        expected = (value(name, Z[:1], Y[:1]) + value(name, Z[1:], Y[1:], mask[1:])) / 2
    else:
        expected = value(name, mask=mask)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_softmax_runs_over_the_cells_of_each_frame() -> None:
    """Not over channel and row: one channel, two frames, more columns than rows."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 2, 1, 3, 5, generator=generator, dtype=torch.float64)
    cell = torch.randint(15, (4, 1), generator=generator)
    y = torch.zeros(4, 15, dtype=torch.float64).scatter_(1, cell, 1).view_as(z)
    expected = F.cross_entropy(z.view(4, 15), cell.flatten())
    torch.testing.assert_close(build_loss("softmax_ce")(z, y), expected)
    q = z.view(4, 15).softmax(1).view(4, 3, 5)
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(5), indexing="ij")
    cost = 0.0
    for i, place in enumerate(cell.flatten().tolist()):
        away = (rows - place // 5) ** 2 + (columns - place % 5) ** 2
        cost += float((q[i] * away).sum()) / 25 / 4
    assert build_loss("ce_w2")(z, y).item() == pytest.approx(float(expected) + cost)


@pytest.mark.parametrize("name", ["concentration", "composite", "ce_w2"])
def test_location_aware_losses_see_how_far_the_blob_is(name: str) -> None:
    z, y = torch.full((5, 1, 16, 16), -6.0), torch.zeros(5, 1, 16, 16)
    y[:, 0, 8, 8] = 1
    for i, column in enumerate((8, 9, 11, 13, 15)):
        z[i, 0, 8, column] = 4
    values = [value(name, z[i : i + 1], y[i : i + 1]) for i in range(5)]
    assert all(near < far for near, far in pairwise(values))


def test_weights_fall_on_hard_targets_only() -> None:
    cells = build_loss("weighted_mse").reduced(Z + 1, Z + Y, None, "none")  # type: ignore[attr-defined]
    assert set(cells.unique().tolist()) <= {0.0, 1.0, 100.0}
    z, y = torch.full((1, 1, 32, 32), 1.0), torch.zeros(1, 1, 32, 32)
    y[..., 16, 16] = 1
    weighted = build_loss("weighted_mse", LossOptions(pos_weight="balanced"))
    assert weighted(z - 1, y).item() == pytest.approx(1023 / 1024)
    assert weighted(z, y).item() == pytest.approx(1023 / 1024)


def test_alpha_at_an_end_silences_a_side_and_warns() -> None:
    pred = Z.clone().requires_grad_()
    with pytest.warns(UserWarning, match="unlit cells get no gradient"):
        loss = build_loss("focal", LossOptions(focal_alpha=1))
    loss(pred, Y).backward()
    assert pred.grad is not None
    assert pred.grad[Y == 0].abs().max() == 0
    with pytest.warns(UserWarning, match="lit cells get no gradient"):
        build_loss("composite", LossOptions(focal_alpha=0))


def test_balanced_settings() -> None:
    options = LossOptions(focal_alpha="balanced", pos_weight="balanced")
    assert hyperparameters(build_loss("focal", options)) == {"alpha": 1 - 1 / 1024, "gamma": 2.0}
    assert hyperparameters(build_loss("composite", options, 8))["focal"]["alpha"] == 1 - 1 / 64
    assert hyperparameters(build_loss("weighted_mse", options))["pos_weight"] == 1023
    assert hyperparameters(build_loss("weighted_bce"))["pos_weight"] == 1023
    assert positive_share("focal", options) == pytest.approx(0.5)
    assert hyperparameters(build_loss("composite"))["weights"] == {
        "focal": 1.0, "sparsity": 0.8, "concentration": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LossOptions(focal_alpha=1.1), "--focal-alpha is 1.1"),
        (LossOptions(focal_gamma=-1), "--focal-gamma is -1"),
        (LossOptions(focal_weight=-1), "--focal-weight"),
        (LossOptions(sparsity_weight=math.inf), "--sparsity-weight"),
        (LossOptions(concentration_weight=math.nan), "--concentration-weight"),
        (LossOptions(sparsity_penalty=2), "--sparsity-penalty is 2"),
        (LossOptions(sparsity_penalty=-0.1), "--sparsity-penalty"),
        (LossOptions(pos_weight=0), "--pos-weight is 0"),
        (LossOptions(dice_smooth=-1), "--dice-smooth"),
        (
            LossOptions(focal_weight=0, sparsity_weight=0, concentration_weight=0),
            "--focal-weight, --sparsity-weight and --concentration-weight",
        ),
    ],
)
def test_bad_options_name_their_flag(options: LossOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_loss("composite", options)


def test_every_option_acts_on_the_losses_that_say_they_read_it() -> None:
    changed = {
        "focal_alpha": 0.5, "focal_gamma": 1.0, "focal_weight": 2.0, "sparsity_weight": 2.0,
        "concentration_weight": 2.0, "sparsity_penalty": 0.5, "pos_weight": 7.0, "dice_smooth": 2.0,
    }  # fmt: skip
    for name, info in LOSSES.items():
        for option, setting in changed.items():
            other = build_loss(name, LossOptions(**{option: setting}), 8)(Z, Y).item()  # type: ignore[arg-type]
            assert (other != build_loss(name, None, 8)(Z, Y).item()) == (option in info.options), (
                name,
                option,
            )


def test_blanking_rule() -> None:
    """The best constant p of a cell lit with probability pi is max(0, pi - w / 2)."""
    p = torch.linspace(1e-6, 1 - 1e-6, 2001, dtype=torch.float64)
    for penalty, share in ((0.1, 0.3), (0.1, 0.04), (1.5, 0.9), (1.5, 0.7), (0.5, 0.9)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss = SparsityLoss(penalty)
        z = p.logit().view(-1, 1, 1)
        lit, unlit = (loss.reduced(z, torch.full_like(z, on), None, "none") for on in (1.0, 0.0))
        costs = share * lit + (1 - share) * unlit
        best = float(p[costs.argmin()])
        assert best == pytest.approx(max(0, share - penalty / 2), abs=1e-3)
    assert "max(0, pi - 0.05)" in blanking_rule(0.1)
    with pytest.warns(UserWarning, match=r"below 0.5"):
        build_loss("sparsity", LossOptions(sparsity_penalty=1))


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'focl'.*focal"):
        build_loss("focl")
    with pytest.raises(UserError, match=r"'documentd'.*documented"):
        loss_names(["documentd"])
    with pytest.raises(UserError, match="mse is listed 2 times"):
        loss_names(["documented", "mse"])
    assert loss_names(["bce", "documented"]) == ("bce", *DOCUMENTED)
    assert loss_names(["all"]) == tuple(LOSSES)


def test_documented_choice_falls_back_to_mse() -> None:
    with pytest.warns(UserWarning, match=r"'focall'.*focal.*mse is used"):
        loss = get_loss_function("focall")
    assert loss(Z, Y).item() == pytest.approx(GOLDENS["mse"], abs=1e-7)
    with pytest.raises(ValueError, match="focal"):
        get_loss_function("focall", strict=True)
    with pytest.raises(ValueError, match=r"'dice' has no option 'alpha': it has smooth, per_frame"):
        get_loss_function("dice", {"alpha": 1})
    for name in (*DOCUMENTED, "sparsity", "concentration"):
        assert get_loss_function(name)(Z, Y).item() == pytest.approx(GOLDENS[name], abs=1e-7)
    assert get_loss_function()(Z, Y) == F.mse_loss(Z, Y)
    assert get_loss_function("weighted_mse", {"pos_weight": 1})(Z, Y).isclose(F.mse_loss(Z, Y))


def test_kinds_and_prior_bias() -> None:
    for name, info in LOSSES.items():
        kind = next((kind for kind, members in KINDS.items() if name in members), "bernoulli")
        assert info.kind == build_loss(name).output_kind == kind
        assert info.literal == name.endswith("_literal")
        assert (readout_bias(name, "auto", 32) is not None) == info.prior_bias == (name in MARKED)
        assert readout_bias(name, "off", 32) is None
        if name != "dice":
            assert (readout_bias(name, "all", 32) is not None) == (kind == "bernoulli")
    assert readout_bias("focal", "auto", 32) == pytest.approx(-6.930495, abs=5e-7)
    with pytest.warns(UserWarning, match="dice stalls"):
        assert readout_bias("dice", "all", 8) == pytest.approx(-math.log(63))


def test_positives_share_of_the_initial_loss() -> None:
    bias = readout_bias("bce", "auto", 32)
    assert bias is not None
    assert positive_share("focal") == pytest.approx(0.25 / (0.25 + 0.75 * 1023))
    assert positive_share("bce") == pytest.approx(1 / 1024)
    lit, unlit = math.log(1024), -1023 * math.log(1023 / 1024)
    assert positive_share("bce", logit=bias) == pytest.approx(lit / (lit + unlit))
    assert positive_share("weighted_bce") == pytest.approx(0.5)
    assert positive_share("softmax_ce") == positive_share("mse") == 1
    assert positive_share("concentration") == 0
    assert positive_share("dice") is None
    focal, sparsity, concentration = 0.25**2 * math.log(2), 0.25 + 0.05, 1.5 * 0.166992
    total = focal * (1 + 3 * 1023) / 1024 + 0.8 * (0.25 + 0.05) + concentration
    share = (focal + 0.8 * sparsity) / 1024 / total
    assert positive_share("composite") == pytest.approx(share, rel=1e-5)


def test_the_door_exports_the_documented_names_and_prints_values(tmp_path: Path) -> None:
    code = [node for node in ast.parse(DOOR.read_text()).body if not isinstance(node, ast.Expr)]
    assert sum(node.end_lineno - node.lineno + 1 for node in code if node.end_lineno) <= 10
    assert set(documented_losses.__all__) <= set(runpy.run_path(str(DOOR)))
    assert len(documented_losses.__all__) == 7
    printed = subprocess.run(
        [sys.executable, str(DOOR)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    shown = dict(line.split() for line in printed.stdout.splitlines())
    assert [*shown] == [*DOCUMENTED, "sparsity", "concentration", "total"]
    assert float(shown["total"]) == float(shown["composite"]) > 0


def test_losses_share_one_interface() -> None:
    assert all(isinstance(build_loss(name), SparseMapLoss) for name in LOSSES)
