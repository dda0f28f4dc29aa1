import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor

from common.metrics.ranking import Threshold
from common.metrics.sparse_map import to_density
from eye_fixation.geometry import Geometry
from eye_fixation.metrics import (
    CompatSums,
    References,
    Scores,
    converged,
    fit_on_validation,
    judge,
    judge_points,
    seed_compat,
)

SIZE, STEPS = 16, 4
SCREEN = Geometry(screen_mm=(533.0, 301.0), distance_mm=565.0)


def gaze(sequences: int = 24, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Density, coordinates, mask and last input of sequences that stay near where they were."""
    generator = torch.Generator().manual_seed(seed)
    last = torch.rand(sequences, 2, generator=generator) * (SIZE - 1e-3)
    step = 2.5 * torch.randn(sequences, STEPS, 2, generator=generator)
    coordinates = (last.unsqueeze(1) + step).clamp(0, SIZE - 1e-3)
    centres = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy"), -1) + 0.5
    distance = (centres - last[:, None, None]).square().sum(-1).unsqueeze(1).expand(-1, STEPS, -1, -1)
    noise = torch.randn(distance.shape, generator=generator)
    density = to_density(-distance / 12.5 + 0.3 * noise, "categorical")
    return density, coordinates, torch.rand(sequences, STEPS, generator=generator) < 0.8, last


def test_the_names_and_their_horizons() -> None:
    density, coordinates, mask, last = gaze()
    references = References(torch.ones(STEPS, SIZE, SIZE), {"center": mask * -8.0, "kernel": mask * -6.0})
    scores = judge(
        density,
        coordinates,
        mask,
        last,
        references=references,
        threshold=Threshold(0.05, 0.1, "val"),
        geometry=SCREEN,
    )
    single = (
        "bits ig_uniform ig_center ig_kernel ap auc sauc nss top1 energy coverage_50 coverage_90 ece_top1"
    )
    names = single.split() + "ece_mass best_f1 move_auc step_ratio step_w1 hit_1 hit_2 hit_3".split()
    names += [f"recall_at_{k}" for k in (1, 5, 10, 50)]
    for point in ("argmax", "mean"):
        for unit in ("", "_deg"):
            names += [f"mde_{point}{unit}{part}" for part in ("", "_median", "_p90")]
    cumulative = [f"mde_{p}{u}_at_{k}" for p in ("argmax", "mean") for u in ("", "_deg") for k in (1, 3)]
    assert set(scores.values) == {*names, *cumulative, "best_f1_threshold"}
    assert set(scores.per_horizon) == set(names)
    assert all(len(values) == STEPS for values in scores.per_horizon.values())
    assert all(math.isfinite(value) for value in scores.values.values())
    assert scores.values["ig_uniform"] == pytest.approx(scores.values["bits"] + 8)
    assert scores.values["ig_kernel"] == pytest.approx(scores.values["bits"] + 6)
    assert scores.values["top1"] == scores.values["recall_at_1"]
    assert set(scores.sequences) < set(scores.values)


def test_errors_are_pooled_over_the_valid_frames_of_the_first_horizons() -> None:
    density, coordinates, mask, last = gaze()
    scores = judge(density, coordinates, mask, last)
    cell = density.flatten(2).argmax(2)
    points = torch.stack([cell % SIZE, cell // SIZE], -1) + 0.5
    error = np.where(mask, np.linalg.norm(points - coordinates, axis=-1), np.nan)
    assert scores.values["mde_argmax_at_1"] == pytest.approx(np.nanmean(error[:, 0]), abs=1e-6)
    assert scores.values["mde_argmax_at_3"] == pytest.approx(np.nanmean(error[:, :3]), abs=1e-6)
    assert scores.values["mde_argmax"] == pytest.approx(np.nanmean(error), abs=1e-6)
    assert scores.per_horizon["mde_argmax"] == pytest.approx(np.nanmean(error, axis=0).tolist(), abs=1e-6)
    assert scores.values["mde_argmax_median"] == pytest.approx(np.nanmedian(error), abs=1e-6)
    assert scores.per_horizon["mde_argmax_p90"][2] == pytest.approx(
        np.nanquantile(error[:, 2], 0.9), abs=1e-6
    )
    assert "mde_argmax_at_6" not in scores.values
    assert math.isnan(scores.values["mde_argmax_deg"])
    for name, (sums, counts) in scores.sequences.items():
        assert sums.shape == (24, 5 if name == "bits" else 1)
        if not math.isnan(scores.values[name]):
            assert sums[:, 0].sum() / counts[:, 0].sum() == pytest.approx(scores.values[name])


def test_degrees_of_a_screen_that_is_not_square() -> None:
    coordinates = torch.tensor([[[12.0, 8.0], [8.0, 4.0]]])
    points = torch.tensor([[[8.0, 8.0], [8.0, 8.0]]])
    scores = judge_points(points, coordinates, torch.ones(1, 2).bool(), img_size=SIZE, geometry=SCREEN)
    across = math.degrees(math.atan(533 / 4 / 565))
    down = math.degrees(math.atan(301 / 4 / 565))
    assert scores.per_horizon["mde_argmax_deg"] == pytest.approx([across, down])
    assert scores.values["mde_argmax_deg_at_1"] == pytest.approx(across)
    assert scores.per_horizon["mde_mean"] == [4, 4]


def test_points_have_distances_hits_and_cells() -> None:
    coordinates = torch.tensor([[[3.9, 3.9], [5.0, 3.0], [math.nan, math.nan]]])
    points = torch.tensor([[[3.3, 3.3], [3.5, 3.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True, False]])
    scores = judge_points(points, coordinates, mask, img_size=SIZE)
    assert scores.per_horizon["top1"][:2] == [1, 0]
    assert scores.values["top1"] == 0.5
    assert (scores.values["hit_1"], scores.values["hit_2"]) == (0.5, 1)  # 0.85 and 1.5 cells away
    assert scores.values["mde_mean"] == pytest.approx((math.hypot(0.6, 0.6) + 1.5) / 2, abs=1e-6)


def test_hit_radius_is_inclusive_and_in_cells() -> None:
    points, coordinates = torch.tensor([[[3.5, 3.5]]]), torch.tensor([[[5.5, 3.5]]])
    scores = judge_points(points, coordinates, torch.ones(1, 1).bool(), img_size=SIZE)
    assert [scores.values[f"hit_{r}"] for r in (1, 2, 3)] == [0, 1, 1]


def test_uniform_32_is_minus_ten_bits_and_calibration_never_falls_below() -> None:
    coordinates = torch.rand(6, 5, 2, generator=torch.Generator().manual_seed(0)) * 32
    mask, last = torch.ones(6, 5).bool(), torch.full((6, 2), 16.0)
    uniform = judge(torch.full((6, 5, 32, 32), 1 / 1024), coordinates, mask, last)
    assert uniform.values["bits"] == -10
    assert uniform.values["ig_uniform"] == 0
    assert uniform.values["nss"] == 0
    wrong = to_density(
        30 * torch.randn(6, 5, 32, 32, generator=torch.Generator().manual_seed(1)), "bernoulli"
    )
    fitted = fit_on_validation(wrong, coordinates, mask)
    raw = judge(wrong, coordinates, mask, last, threshold=fitted.raw_threshold)
    calibrated = judge(fitted.calibration.apply(wrong), coordinates, mask, last, threshold=fitted.threshold)
    assert raw.values["bits"] < -10 <= calibrated.values["bits"]


def test_thresholds_come_from_validation_and_stay_frozen() -> None:
    density, coordinates, mask, _ = gaze()
    fitted = fit_on_validation(density, coordinates, mask)
    assert fitted.threshold.split == fitted.raw_threshold.split == "val"
    other, there, valid, start = gaze(seed=1)
    scores = judge(other, there, valid, start, threshold=fitted.raw_threshold)
    truth = torch.zeros_like(other)
    cell = there.floor().long()
    rows, columns = torch.arange(24)[:, None], torch.arange(STEPS)
    truth[rows, columns, cell[..., 1], cell[..., 0]] = 1
    expected = f1_score(truth[valid].flatten(), other[valid].flatten() >= fitted.raw_threshold.value)
    assert scores.values["best_f1"] == pytest.approx(expected, abs=1e-12)
    assert scores.values["best_f1_threshold"] == fitted.raw_threshold.value
    assert scores.values["ap"] == pytest.approx(
        average_precision_score(truth[valid].flatten(), other[valid].flatten()), abs=1e-9
    )
    doubled = judge(torch.cat([other, other]), there.repeat(2, 1, 1), valid.repeat(2, 1), start.repeat(2, 1))
    assert math.isnan(doubled.values["best_f1"])
    assert doubled.values["bits"] == pytest.approx(scores.values["bits"], abs=1e-12)


def test_lost_frames_and_lost_last_gaze_are_left_out() -> None:
    density, coordinates, mask, last = gaze()
    whole = judge(density, coordinates, mask, last)
    hidden = torch.where(mask.unsqueeze(-1), coordinates, math.nan)
    same = judge(torch.where(mask[..., None, None], density, math.nan), hidden, mask, last)
    np.testing.assert_equal(same.values, whole.values)
    last[5:] = math.nan
    few = judge(density, coordinates, mask, last)
    part = judge(density[:5], coordinates[:5], mask[:5], last[:5])
    assert few.values["bits"] == whole.values["bits"]
    assert few.values["step_ratio"] == pytest.approx(part.values["step_ratio"])
    assert few.values["move_auc"] == pytest.approx(part.values["move_auc"])


def test_scores_survive_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    scores = judge(*gaze())
    path = tmp_path_factory.mktemp("scores") / "scores.pt"
    torch.save(scores.to_state(), path)
    again = Scores.from_state(torch.load(path, weights_only=True))
    np.testing.assert_equal(again.to_dict(), scores.to_dict())
    for name, parts in scores.sequences.items():
        np.testing.assert_array_equal(again.sequences[name], parts)


def test_reference_bits_of_other_frames_are_refused() -> None:
    density, coordinates, mask, last = gaze()
    with pytest.raises(ValueError, match=r"reference bits 'kernel' are \[24, 3\]"):
        judge(density, coordinates, mask, last, references=References(bits={"kernel": torch.zeros(24, 3)}))


def raw_outputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    outputs = 2 * torch.randn(10, 3, 1, 6, 8, generator=generator) - 2
    targets = torch.zeros(30, 48)
    targets[range(30), torch.randint(48, (30,), generator=generator)] = 1
    return outputs, targets.view(outputs.shape), torch.rand(10, 3, generator=generator) < 0.7


def test_documented_numbers_by_hand() -> None:
    z = torch.tensor([[2.0, -1.0], [0.5, 0.0]]).view(1, 1, 1, 2, 2)
    y = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 1, 1, 2, 2)
    found = seed_compat(z, y)
    assert found == pytest.approx(
        {
            "test_loss": (1 + 4 + 0.25) / 4,
            "white_pixel_recall": 0.5,
            "white_pixel_precision": 0.5,
            "f1_score": 0.5,
            "total_target_pixels": 2,
            "total_correct_pixels": 1,
        }
    )
    black = seed_compat(torch.full_like(z, -9), y)
    assert (black["white_pixel_precision"], black["f1_score"]) == (0, 0)
    assert seed_compat(z, y, torch.zeros(1, 1).bool())["test_loss"] == 0


@pytest.mark.parametrize(("logit", "recall", "precision"), [(0.0009766, 1, 1 / 1024), (-2.9456, 0, 0)])
def test_an_uninformed_network_at_the_documented_threshold(
    logit: float, recall: float, precision: float
) -> None:
    y = torch.zeros(2, 5, 1, 32, 32)
    y[..., 16, 16] = 1
    found = seed_compat(torch.full_like(y, logit), y)
    assert (found["white_pixel_recall"], found["white_pixel_precision"]) == (recall, precision)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_documented_numbers_do_not_depend_on_the_batch_size(batch: int) -> None:
    outputs, targets, mask = raw_outputs()
    parts = zip(outputs.split(batch), targets.split(batch), mask.split(batch))
    summed = sum((CompatSums.of(*part) for part in parts), CompatSums())
    assert summed.metrics() == pytest.approx(seed_compat(outputs, targets, mask), abs=1e-9)
    kept = seed_compat(outputs[mask], targets[mask])
    assert kept == pytest.approx(seed_compat(outputs, targets, mask), abs=1e-12)


def test_outputs_that_do_not_fit_are_refused() -> None:
    outputs, targets, mask = raw_outputs()
    with pytest.raises(ValueError, match="do not fit"):
        seed_compat(outputs[:, :2], targets, mask)
    with pytest.raises(ValueError, match="do not fit"):
        seed_compat(outputs, targets, mask[:, :2])


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([5, 1, 1, 1, 1, 0.995], False),
        ([5, 1, 1, 1, 1, 1, 0.98], False),
        ([1, 2, 2, 2, 2, 2], True),
        ([1, 0.989, 2, 2, 2, 2], False),
        ([1, 0.991, 2, 2, 2, 2], True),
        ([1, 1, 1, 1, 1], False),
        ([1, 1, 1, 1, 1, 1, math.nan], False),
        ([1, 1, 1, 1, 1, 1, math.inf], False),
    ],
)
def test_converged(losses: list[float], expected: bool) -> None:
    assert converged(losses) is expected
