import json
import math

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as oracle

from common.schedulers import learning_rate as rates
from common.schedulers.learning_rate import Schedule, ScheduleConfig

BASE = 3e-4


def schedule(
    name: str, total: int = 1000, per_epoch: int = 1, base: float = BASE, mode: str = "max", **fields
) -> Schedule:
    config = ScheduleConfig(name=name, **fields)
    return Schedule(config=config, base_lr=base, total_steps=total, steps_per_epoch=per_epoch, mode=mode)


def optimizer(base: float = BASE) -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)


def torch_rates(build, positions: int = 1000, base: float = BASE) -> list[float]:
    target = optimizer(base)
    scheduler = build(target)
    used = [target.param_groups[0]["lr"]]
    for _ in range(positions - 1):
        target.step()
        scheduler.step()
        used.append(target.param_groups[0]["lr"])
    return used


CASES = {
    "none": (schedule("none"), lambda o: oracle.ConstantLR(o, factor=1)),
    "cosine": (schedule("cosine", min_lr=1e-6), lambda o: oracle.CosineAnnealingLR(o, 1000, eta_min=1e-6)),
    "restarts": (
        schedule("cosine_warm_restarts", min_lr=1e-6),
        lambda o: oracle.CosineAnnealingWarmRestarts(o, 10, 2, eta_min=1e-6),
    ),
    "restarts of equal length": (
        schedule("cosine_warm_restarts", t_0=7, t_mult=1),
        lambda o: oracle.CosineAnnealingWarmRestarts(o, 7, 1),
    ),
    "tripling restarts by step": (
        schedule("cosine_warm_restarts", t_0=3, t_mult=3, interval="step"),
        lambda o: oracle.CosineAnnealingWarmRestarts(o, 3, 3),
    ),
    "onecycle": (schedule("onecycle"), lambda o: oracle.OneCycleLR(o, BASE, total_steps=1000)),
    "onecycle that only falls": (
        schedule("onecycle", pct_start=0.0, div_factor=5.0, final_div_factor=7.0),
        lambda o: oracle.OneCycleLR(
            o, BASE, total_steps=1000, pct_start=0.0, div_factor=5.0, final_div_factor=7.0
        ),
    ),
    "onecycle that only rises": (
        schedule("onecycle", pct_start=1.0),
        lambda o: oracle.OneCycleLR(o, BASE, total_steps=1000, pct_start=1.0),
    ),
    "step": (schedule("step", gamma=0.9), lambda o: oracle.StepLR(o, 10, 0.9)),
    "exponential": (schedule("exponential", gamma=0.99), lambda o: oracle.ExponentialLR(o, 0.99)),
    "polynomial": (schedule("polynomial"), lambda o: oracle.PolynomialLR(o, 1000, 0.9)),
    "warm-up and cosine": (
        schedule("cosine", warmup_epochs=50, min_lr=1e-6),
        lambda o: oracle.SequentialLR(
            o,
            [oracle.LinearLR(o, 0.01, total_iters=50), oracle.CosineAnnealingLR(o, 950, eta_min=1e-6)],
            [50],
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")
def test_a_thousand_positions_equal_torch(case: str) -> None:
    ours, build = CASES[case]
    expected = torch_rates(build)
    got = [ours.lr(step, step) for step in range(1000)]
    assert max(abs(a - b) for a, b in zip(got, expected)) <= 1e-12 * BASE
    assert got[0] > 0


@pytest.mark.parametrize("case", CASES)
def test_the_factor_does_not_depend_on_what_was_asked_before(case: str) -> None:
    ours, _ = CASES[case]
    forward = [ours.factor(step, step) for step in range(200)]
    assert [ours.factor(step, step) for step in reversed(range(200))] == forward[::-1]


def test_golden_restarts() -> None:
    ours = schedule("cosine_warm_restarts", total=70, min_lr=1e-6)
    golden = {
        0: 3e-4, 1: 2.926829e-4, 5: 1.505e-4, 9: 8.317051e-6, 10: 3e-4, 11: 2.981594e-4, 15: 2.562125e-4,
        20: 1.505e-4, 25: 4.478754e-5, 29: 2.840593e-6, 30: 3e-4, 49: 1.622296e-4, 69: 1.460859e-6,
    }  # fmt: skip
    for epoch, lr in golden.items():
        assert ours.lr(epoch, epoch) == pytest.approx(lr, rel=5e-7)


def test_golden_warm_up_and_cosine() -> None:
    ours = schedule("cosine", total=50, base=2e-4, warmup_epochs=5, min_lr=1e-6)
    golden = {0: 2e-6, 1: 4.16e-5, 5: 2e-4, 27: 1.039725e-4, 49: 1.242377e-6}
    for step, lr in golden.items():
        assert ours.lr(step, step) == pytest.approx(lr, rel=5e-7)


def test_golden_onecycle() -> None:
    ours = schedule("onecycle", total=100, base=2e-4)
    assert [ours.lr(step, 0) for step in (0, 29, 99)] == pytest.approx([8e-6, 2e-4, 8e-10], rel=1e-9)


def test_golden_plateau() -> None:
    ours = schedule("plateau", total=12, base=1e-3, plateau_patience=2)
    values = [0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7]
    history = [(epoch + 1, value) for epoch, value in enumerate(values)]
    used = [ours.lr(epoch, epoch, history[:epoch]) for epoch in range(12)]
    assert used == pytest.approx([1e-3] * 5 + [5e-4] * 6 + [2.5e-4])


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("cooldown", [0, 3])
def test_plateau_equals_torch_over_a_noisy_history(mode: str, cooldown: int) -> None:
    target = optimizer()
    torch_plateau = oracle.ReduceLROnPlateau(
        target, mode=mode, factor=0.7, patience=4, cooldown=cooldown, min_lr=1e-5, eps=0
    )
    ours = schedule(
        "reduce_on_plateau", mode=mode, plateau_factor=0.7, plateau_patience=4, plateau_cooldown=cooldown,
        min_lr=1e-5,
    )  # fmt: skip
    noise = torch.rand(200, generator=torch.Generator().manual_seed(0)).tolist()
    history: list[tuple[int, float]] = []
    for epoch, value in enumerate(noise):
        value = math.nan if epoch % 17 == 3 else value + (epoch if epoch < 40 and mode == "max" else 0)
        assert ours.lr(epoch, epoch, history) == pytest.approx(target.param_groups[0]["lr"], rel=1e-12)
        history.append((epoch + 1, value))
        torch_plateau.step(value)
    stored = [[step, None if math.isnan(value) else value] for step, value in history]  # as JSON returns it
    assert ours.factor(200, 200, json.loads(json.dumps(stored))) == ours.factor(200, 200, history)
    assert ours.lr(200, 200, history) == pytest.approx(1e-5)


def test_plateau_of_a_negative_metric_needs_a_real_gain() -> None:
    assert rates.plateau([-1.0, -1.00005, -1.00009], mode="max", patience=1) == 0.5
    assert rates.plateau([-1.0, -1.0002, -1.0004], mode="min", patience=1) == 1.0


def test_plateau_leaves_out_validations_of_the_warm_up() -> None:
    ours = schedule("plateau", total=100, per_epoch=10, warmup_epochs=3, plateau_patience=1)
    flat = [(10 * epoch, 0.5) for epoch in range(1, 9)]
    assert ours.factor(29, 2, flat[:2]) < 1.0
    used = [ours.factor(10 * epoch, epoch, flat[:epoch]) for epoch in range(3, 9)]
    assert used == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]


def test_epoch_schedules_are_constant_within_an_epoch_and_start_after_the_warm_up() -> None:
    ours = schedule("cosine_warm_restarts", total=120, per_epoch=10, warmup_epochs=2, min_lr=1e-6)
    plain = schedule("cosine_warm_restarts", total=100, per_epoch=10, min_lr=1e-6)
    assert ours.factor(0, 0) == pytest.approx(0.01)
    assert ours.factor(10, 1) == pytest.approx(0.01 + 0.99 / 2)
    for step in range(20, 120):
        assert ours.factor(step, step // 10) == plain.factor(step - 20, step // 10 - 2)
    assert len({ours.factor(step, 3) for step in range(30, 40)}) == 1


def test_a_begun_warm_up_epoch_counts_whole_for_epoch_schedules() -> None:
    ours = schedule("step", total=100, per_epoch=10, warmup_epochs=0.5, step_size=1)
    used = [ours.factor(step, step // 10) for step in (4, 5, 15, 25)]
    assert used == pytest.approx([0.01 + 0.99 * 4 / 5, 1.0, 1.0, 0.5])


@pytest.mark.parametrize(
    "name", ["cosine", "cosine_warm_restarts", "onecycle", "step", "exponential", "polynomial", "plateau"]
)
def test_no_decay_goes_below_min_lr(name: str) -> None:
    ours = schedule(name, total=200, min_lr=1e-4, plateau_patience=0)
    flat = [(step, 0.1) for step in range(1, 200)]
    used = [ours.lr(step, step, flat[:step]) for step in range(30 if name == "onecycle" else 0, 200)]
    assert min(used) >= 1e-4 * (1 - 1e-12)
    assert min(used) < 1.1e-4


def test_a_floor_above_the_base_rate_leaves_the_base_rate() -> None:
    ours = schedule("cosine", total=10, min_lr=1.0)
    assert {ours.lr(step, 0) for step in range(12)} == {BASE}


@pytest.mark.parametrize("name", ["cosine", "polynomial"])
def test_beyond_the_end_the_rate_stays_at_the_floor(name: str) -> None:
    ours = schedule(name, total=10, min_lr=1e-6)
    assert [ours.lr(step, 0) for step in (10, 11, 25)] == pytest.approx([1e-6] * 3)


def test_onecycle_ends_where_torch_ends_and_stays_there() -> None:
    ours = schedule("onecycle", total=10)
    assert ours.factor(9, 0) == ours.factor(50, 0) == pytest.approx(1 / 25e4)


def test_clean_lengths_and_the_warning_of_a_cut_cycle() -> None:
    assert rates.clean_epoch_lengths(10, 2) == [10, 30, 70, 150, 310]
    assert rates.clean_epoch_lengths(5, 1, count=3) == [5, 10, 15]
    assert schedule("cosine_warm_restarts", total=30).warnings() == []
    assert schedule("cosine_warm_restarts", total=32, warmup_epochs=2).warnings() == []
    assert schedule("cosine", total=25).warnings() == []
    texts = {
        6: "ends mid-cycle at lr 1.5e-04; clean lengths: 10, 30",
        12: "ends mid-cycle at lr 3.0e-04; clean lengths: 10, 30",
        26: "ends mid-cycle at lr 4.5e-05; clean lengths: 10, 30",
        400: "ends mid-cycle at lr 2.5e-04; clean lengths: 310, 630",
    }
    for epochs, text in texts.items():
        ours = schedule("cosine_warm_restarts", total=epochs * 7, per_epoch=7, min_lr=1e-6)
        assert ours.warnings() == [text]
    late = schedule("cosine_warm_restarts", total=48, warmup_epochs=2, t_0=5, t_mult=1)
    assert late.warnings()[0].endswith("clean lengths: 47, 52")


def test_contradictions_and_typing_errors_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean cosine"):
        ScheduleConfig(name="cosin")
    with pytest.raises(ValueError, match="warmup_epochs: onecycle"):
        ScheduleConfig(name="onecycle", warmup_epochs=1)
    with pytest.raises(ValueError, match="interval"):
        ScheduleConfig(interval="batch")
    with pytest.raises(ValueError, match=r"warmup_epochs 10 \(10 steps\) never ends in 10 steps"):
        schedule("cosine", total=10, warmup_epochs=10)
    with pytest.raises(ValueError, match="base_lr"):
        schedule("cosine", base=0.0)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        schedule("cosine", per_epoch=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("t_0", 0), ("t_mult", 0), ("step_size", 0), ("gamma", 0.0), ("gamma", 1.5), ("warmup_start", 0.0),
        ("plateau_factor", 1.0), ("pct_start", 1.5), ("div_factor", 0.0), ("power", -1.0), ("min_lr", -1e-6),
        ("plateau_patience", -1), ("warmup_epochs", -1.0),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be"):
        ScheduleConfig(**{field: value})
