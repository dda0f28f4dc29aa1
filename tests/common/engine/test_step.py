"""One step: clipping, what a step that is not finite leaves behind, replay after running out of memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from engine_toy import Faults, ToyTask, same, toy_batch, toy_config, toy_model
from torch import Tensor

from common.engine.distributed import World
from common.engine.settings import FitConfig, OptimizerConfig
from common.engine.step import Optimization, StepMemoryError, StepResult

SGD = OptimizerConfig(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0)


def take(optimization: Optimization, *parts: range, factor: float = 1.0) -> StepResult:
    window = [toy_batch(part, next(optimization.model.parameters()).dtype) for part in parts]
    return optimization.take(window, [factor] * len(optimization.base_lrs), lambda old, new: None)


def build(
    faults: Faults | None = None, *, model: dict[str, Any] | None = None, **changes: Any
) -> Optimization:
    task = ToyTask(toy_model(**{"dtype": torch.float64, **(model or {})}), faults=faults)
    task.model.train()
    return Optimization(task, toy_config(**changes), World())


def moments(optimization: Optimization) -> dict[str, Tensor]:
    state = optimization.state_dict()["optimizer"]
    return {f"{name}/{key}": value.clone() for name, held in state.items() for key, value in held.items()}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_step_is_the_one_torch_makes(name: str) -> None:
    settings = OptimizerConfig(name=name, lr=0.05, weight_decay=0.3, momentum=0.8)  # type: ignore[arg-type]
    optimization = build(optimizer=settings, clip_norm=0.7)
    twin = copy.deepcopy(optimization.task)
    weights = [p for n, p in twin.model.named_parameters() if n.endswith("weight")]
    biases = [p for n, p in twin.model.named_parameters() if n.endswith("bias")]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    torch_optimizer: torch.optim.Optimizer
    if name == "sgd":
        torch_optimizer = torch.optim.SGD(groups, lr=0.05, weight_decay=0.3, momentum=0.8)
    else:
        kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
        torch_optimizer = kind(groups, lr=0.05, weight_decay=0.3)
    for part in (range(6), range(6, 12), range(12, 18)):
        result = take(optimization, part)
        torch_optimizer.zero_grad()
        terms = twin.training_step(toy_batch(part))
        sum(term.weight * term.total / term.count for term in terms.values()).backward()  # type: ignore[union-attr]
        norm = torch.cat([parameter.grad.flatten() for parameter in twin.model.parameters()]).norm()
        for parameter in twin.model.parameters():
            parameter.grad *= 0.7 / norm
        torch_optimizer.step()
        assert result.applied
        assert result.grad_norm == pytest.approx(float(norm), rel=1e-12)
        assert result.grad_norm > 0.7
    for own, expected in zip(optimization.model.parameters(), twin.model.parameters()):
        assert torch.allclose(own, expected, rtol=0, atol=1e-12)


def test_clipping_leaves_short_gradients_alone_and_zero_means_off() -> None:
    free, wide, tight = (build(optimizer=SGD, clip_norm=norm) for norm in (0, 1e6, 1e-3))
    before = {name: value.clone() for name, value in free.model.state_dict().items()}
    results = [take(each, range(6)) for each in (free, wide, tight)]
    assert same(free.model.state_dict(), wide.model.state_dict())
    moved = [
        float(torch.cat([(v - before[n]).flatten() for n, v in each.model.state_dict().items()]).norm())
        for each in (free, tight)
    ]
    assert moved[0] == pytest.approx(0.1 * results[0].grad_norm, rel=1e-9)
    assert moved[1] == pytest.approx(0.1 * 1e-3, rel=1e-9)


def test_rate_used_is_base_times_factor() -> None:
    optimization = build(optimizer=SGD, clip_norm=0)
    before = optimization.model.encoder.weight.detach().clone()
    twin = build(optimizer=SGD, clip_norm=0)
    take(optimization, range(6), factor=0.25)
    take(twin, range(6))
    assert optimization.rates() == {"lr/decay": 0.025, "lr/no_decay": 0.025}
    quarter = (optimization.model.encoder.weight - before) * 4
    assert torch.allclose(quarter, twin.model.encoder.weight - before, atol=1e-14)


@pytest.mark.parametrize("term", ["frames", "value"])
def test_a_loss_that_is_not_finite_moves_nothing(term: str) -> None:
    optimization = build(Faults(nan={2: term}), model={"batch_norm": True, "dropout": 0.2}, ema_decay=0.9)
    take(optimization, range(6))
    weights = {name: value.clone() for name, value in optimization.model.state_dict().items()}
    assert any("running_mean" in name for name in weights)
    held, counted = moments(optimization), optimization.task.counted.clone()
    average = {name: value.clone() for name, value in optimization.ema.shadow.items()}
    result = take(optimization, range(6, 12), range(12, 18))
    assert not result.applied
    assert set(result.bad_terms) == {"gradient", term}
    assert same(optimization.model.state_dict(), weights)
    assert same(moments(optimization), held)
    assert same(optimization.ema.shadow, average)
    assert optimization.ema.updates == 1
    assert torch.equal(optimization.task.counted, counted), "metrics of a skipped step do not count"
    assert all(parameter.grad is None for parameter in optimization.model.parameters())
    assert take(optimization, range(6, 12)).applied
    assert optimization.ema.updates == 2


def test_a_gradient_that_is_not_finite_is_named() -> None:
    optimization = build()
    optimization.model.value.weight.register_hook(lambda gradient: gradient * float("inf"))
    result = take(optimization, range(6))
    assert result.bad_terms == ("gradient",)
    assert not result.applied


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("options", [{"dropout": 0.3}, {"dropout": 0.3, "batch_norm": True}])
def test_out_of_memory_equals_smaller_micro_batches_from_the_start(
    failing: int, options: dict[str, Any]
) -> None:
    shrunk: list[tuple[int, int]] = []
    window = [toy_batch(range(a, a + 8), torch.float32) for a in (0, 8, 16)]
    halves = [toy_batch(range(a, a + 4), torch.float32) for a in range(0, 24, 4)]
    failed = build(Faults(no_memory=[failing]), model={"dtype": torch.float32, **options})
    planned = build(model={"dtype": torch.float32, **options})
    for optimization, batches in ((failed, window), (planned, halves)):
        torch.manual_seed(11)
        result = optimization.take(batches, [1.0, 1.0], lambda old, new: shrunk.append((old, new)))
        assert result.applied
        assert result.sums.counts["value"] == 24
    assert shrunk == [(8, 6)]
    assert [len(keys) for keys in failed.task.seen[failing + 1 :]] == [4] * 6
    assert same(failed.model.state_dict(), planned.model.state_dict())
    assert same(moments(failed), moments(planned))
    assert torch.equal(failed.task.counted, planned.task.counted), "no sample is counted twice"
    torch.manual_seed(12)
    again = failed.take(window, [1.0, 1.0], lambda old, new: shrunk.append((old, new)))
    torch.manual_seed(12)
    planned.take(halves, [1.0, 1.0], lambda old, new: None)
    assert again.applied
    assert shrunk == [(8, 6)], "the smaller size stays in force"
    assert same(failed.model.state_dict(), planned.model.state_dict())


def test_shrinking_goes_on_until_it_fits_and_the_step_is_the_uncut_one() -> None:
    shrunk: list[tuple[int, int]] = []
    failed, planned = build(Faults(no_memory_above=2)), build()
    failed.take([toy_batch(range(8))], [1.0, 1.0], lambda old, new: shrunk.append((old, new)))
    take(planned, range(8))
    assert shrunk == [(8, 6), (6, 4), (4, 3), (3, 2)]
    for own, expected in zip(failed.model.parameters(), planned.model.parameters()):
        assert torch.allclose(own, expected, rtol=0, atol=1e-12)


def test_smallest_micro_batch_that_fails_is_an_error_with_sizes_and_moves_nothing() -> None:
    optimization = build(Faults(no_memory_above=0), model={"batch_norm": True}, min_batch_size=2)
    before = {name: value.clone() for name, value in optimization.model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(StepMemoryError, match="smallest micro-batch: 2 of 8 samples, min_batch_size 2"):
        take(optimization, range(8))
    assert same(optimization.model.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert optimization.task.counted.tolist() == [0, 0]


def test_recovery_can_be_switched_off_and_other_errors_pass() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        take(build(Faults(no_memory=[0]), oom_recovery=False), range(4))

    def fail(call: int) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        take(build(Faults(before_step=fail)), range(4))


def test_parameters_without_gradient_are_left_alone() -> None:
    optimization = build(optimizer=OptimizerConfig(lr=0.1, weight_decay=0.5))
    optimization.model.value.requires_grad_(False)
    before = optimization.model.value.weight.clone()
    take(optimization, range(6))
    assert torch.equal(optimization.model.value.weight, before)
    assert "value.weight" not in optimization.state_dict()["optimizer"]


def test_bf16_runs_the_forward_pass_narrow_and_keeps_weights_wide() -> None:
    kinds: list[torch.dtype] = []
    optimization = build(model={"dtype": torch.float32}, precision="bf16", optimizer=SGD)
    exact = build(model={"dtype": torch.float32}, optimizer=SGD)
    hook = optimization.model.encoder.register_forward_hook(
        lambda module, given, out: kinds.append(out.dtype)
    )
    before = optimization.model.encoder.weight.detach().clone()
    take(optimization, range(8))
    take(exact, range(8))
    hook.remove()
    moved = optimization.model.encoder.weight.detach() - before
    assert kinds == [torch.bfloat16]
    assert optimization.model.encoder.weight.dtype == torch.float32
    expected = exact.model.encoder.weight.detach() - before
    assert torch.allclose(moved, expected, atol=0.02 * float(expected.abs().max()) + 1e-4)
    assert not torch.equal(moved, expected)


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="fp16 needs a CUDA device"):
        build(precision="fp16")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16"),
        ({"nonfinite": "ignore"}, "nonfinite must be one of skip, rollback, abort"),
        ({"max_consecutive_nonfinite": 0}, "max_consecutive_nonfinite"),
        ({"clip_norm": -1.0}, "clip_norm must not be negative"),
        ({"clip_norm": float("nan")}, "clip_norm"),
        ({"early_stopping_patience": -1}, "early_stopping_patience"),
        ({"max_steps": -1}, "max_steps"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"oom_reduction_factor": 1.0}, "oom_reduction_factor"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FitConfig(**{"epochs": 1, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"name": "adagrad"}, "adagrad"), ({"lr": -1.0}, "lr"), ({"momentum": 1.0}, "momentum")],
)
def test_optimizer_settings_out_of_range_are_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        OptimizerConfig(**changes)
