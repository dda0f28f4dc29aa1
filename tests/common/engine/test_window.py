"""A window of micro-batches must be one large batch, whatever is ignored in which of them."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from engine_toy import IGNORED, ToyTask, toy_batch, toy_config, toy_model
from torch import Tensor

from common.engine.distributed import World
from common.engine.precision import MixedPrecision
from common.engine.settings import OptimizerConfig
from common.engine.step import Optimization
from common.engine.task import LossTerm
from common.engine.window import LossSums, TermSums, accumulate, window_normalizers

CPU = torch.device("cpu")


def gradients(task: ToyTask, window: list[dict[str, Tensor]]) -> list[Tensor]:
    task.model.zero_grad()
    norms = window_normalizers(task, window, World())
    accumulate(task, window, norms, MixedPrecision("fp32", CPU))
    return [parameter.grad.clone() for parameter in task.model.parameters()]


def direct_gradients(task: ToyTask, batch: dict[str, Tensor]) -> list[Tensor]:
    """Differentiate the mean losses of one batch the way a plain script would."""
    task.model.zero_grad()
    logits, value = task.model(batch["views"])
    frames = F.cross_entropy(logits.permute(0, 2, 1), batch["labels"], ignore_index=IGNORED)
    (frames + 0.5 * F.mse_loss(value, batch["value"])).backward()
    return [parameter.grad.clone() for parameter in task.model.parameters()]


def largest_gap(first: list[Tensor], second: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("cuts", [[12], [4, 8], [3, 6, 9], [5, 10], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])
def test_any_cut_of_the_samples_gives_the_gradient_of_one_batch(cuts: list[int]) -> None:
    task = ToyTask(toy_model(dtype=torch.float64))
    edges = [0, *[cut for cut in cuts if cut < 12], 12]
    window = [toy_batch(range(a, b)) for a, b in itertools.pairwise(edges)]
    shares = [float((batch["labels"] != IGNORED).double().mean()) for batch in window]
    assert len(window) == 1 or max(shares) - min(shares) > 0.05, "ignored shares must differ"
    expected = direct_gradients(task, toy_batch(range(12)))
    assert largest_gap(gradients(task, window), expected) < 1e-12


def test_averaging_micro_batch_means_would_be_another_gradient() -> None:
    task = ToyTask(toy_model(dtype=torch.float64))
    halves = [direct_gradients(task, toy_batch(range(a, b))) for a, b in ((0, 4), (4, 12))]
    naive = [(first + second) / 2 for first, second in zip(*halves)]
    assert largest_gap(naive, direct_gradients(task, toy_batch(range(12)))) > 1e-3


class FramesOnly(ToyTask):
    """The term whose labels may all be ignored, alone; the other head gets a gradient of zero."""

    def _terms(self, batch: dict[str, Tensor]) -> dict[str, LossTerm]:
        terms = super()._terms(batch)
        total = terms["frames"].total + 0 * terms["value"].total
        return {"frames": LossTerm(total, terms["frames"].count)}

    def normalizers(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"frames": super().normalizers(batch)["frames"]}


def test_micro_batch_of_ignored_labels_changes_nothing() -> None:
    task = FramesOnly(toy_model(dtype=torch.float64))
    ignored = toy_batch([0, 3, 6])
    assert int((ignored["labels"] != IGNORED).sum()) == 0
    alone = gradients(task, [toy_batch([1, 2])])
    assert largest_gap(gradients(task, [toy_batch([1, 2]), ignored]), alone) < 1e-15
    assert largest_gap(gradients(task, [ignored]), [torch.zeros_like(each) for each in alone]) == 0


def test_remainder_window_is_divided_by_its_own_totals() -> None:
    sizes = ([range(3), range(3, 6), range(6, 9)], [range(9, 11)])
    config = toy_config(
        optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0), clip_norm=0
    )
    task = ToyTask(toy_model(dtype=torch.float64))
    by_hand = ToyTask(copy.deepcopy(task.model))
    optimization = Optimization(task, config, World())
    for window in sizes:
        optimization.take([toy_batch(part) for part in window], [1.0] * 2, lambda old, new: None)
        whole = toy_batch([index for part in window for index in part])
        for parameter, gradient in zip(by_hand.model.parameters(), direct_gradients(by_hand, whole)):
            parameter.data -= 0.1 * gradient
    for own, expected in zip(task.model.parameters(), by_hand.model.parameters()):
        assert torch.allclose(own, expected, rtol=0, atol=1e-12)


def test_a_term_that_normalizers_do_not_know_is_an_error() -> None:
    task = ToyTask(toy_model(dtype=torch.float64))
    task.normalizers = lambda batch: {"frames": torch.tensor(1)}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"\['frames', 'value'\].*\['frames'\]"):
        gradients(task, [toy_batch([1])])


def test_a_term_without_a_graph_is_left_out_and_nothing_but_such_terms_is_an_error() -> None:
    task = ToyTask(toy_model(dtype=torch.float64))
    batch = toy_batch(range(4))
    whole = task._terms

    def detached(batch: dict[str, Tensor], names: set[str]) -> dict[str, LossTerm]:
        return {
            name: LossTerm(term.total.detach() if name in names else term.total, term.count, term.weight)
            for name, term in whole(batch).items()
        }

    task._terms = lambda batch: detached(batch, {"value"})  # type: ignore[method-assign]
    task.model.zero_grad()
    accumulate(task, [batch], window_normalizers(task, [batch], World()), MixedPrecision("fp32", CPU))
    assert task.model.frames.weight.grad is not None
    assert task.model.value.weight.grad is None
    task._terms = lambda batch: detached(batch, {"value", "frames"})  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradients(task, [batch])


def test_normalizers_do_not_write_into_the_tasks_own_tensors() -> None:
    held = torch.tensor(2.0, dtype=torch.float64)
    task = ToyTask(toy_model())
    task.normalizers = lambda batch: {"frames": held}  # type: ignore[method-assign]
    batch = toy_batch([1])
    assert float(window_normalizers(task, [batch, batch, batch], World())["frames"]) == 6
    assert float(held) == 2


def test_means_are_weighted_by_counts_and_loss_is_the_objective() -> None:
    sums = LossSums()
    sums.merge(LossSums({"a": 6.0, "b": 1.0}, {"a": 3.0, "b": 4.0}, {"a": 1.0, "b": 0.5}))
    sums.merge(LossSums({"a": 4.0, "b": 3.0}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.5}))
    assert sums.means() == {"a": 2.5, "b": 1.0, "loss": 3.0}
    assert math.isnan(LossSums().means()["loss"])
    named_loss = LossSums({"loss": 4.0}, {"loss": 2.0}, {"loss": 3.0})
    assert named_loss.means() == {"loss": 6.0}


def test_device_sums_keep_large_counts_exact() -> None:
    sums = TermSums()
    for _ in range(3):
        sums.add({"a": LossTerm(torch.tensor(0.5), torch.tensor(2**24 + 1), 2.0)})
    read = sums.read(World())
    assert read.counts == {"a": 3 * 2**24 + 3.0}
    assert read.totals == {"a": 1.5}
    assert read.weights == {"a": 2.0}
