import copy
import pickle
import time

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor

from common.metrics import confusion
from common.metrics.confusion import ConfusionMatrix


def random_labels(shape: tuple[int, ...], classes: int, seed: int) -> Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("classes", [2, 5, 15, 16, 40])
@pytest.mark.parametrize("rows", [3, 150])
def test_labels_equal_scikit_learn(dtype: torch.dtype, classes: int, rows: int) -> None:
    target = random_labels((rows, 7, 5), classes, 1)
    prediction = random_labels((rows, 7, 5), classes, 2)
    metric = ConfusionMatrix(classes)
    metric.update(prediction.to(dtype), target.to(dtype))
    expected = confusion_matrix(target.flatten(), prediction.flatten(), labels=range(classes))
    np.testing.assert_array_equal(metric.compute().numpy(), expected)
    assert metric.compute().dtype == torch.int64


def test_one_class_is_allowed() -> None:
    metric = ConfusionMatrix(1)
    metric.update(torch.zeros(2, 1, 3), torch.tensor([[0, 0, -100], [0, -100, 0]]))
    assert metric.compute().tolist() == [[4]]


@pytest.mark.parametrize("trailing", [(), (6,), (4, 5)])
def test_logits_are_decided_by_argmax_over_dimension_1(trailing: tuple[int, ...]) -> None:
    logits = torch.randn(8, 4, *trailing, generator=torch.Generator().manual_seed(0))
    target = random_labels((8, *trailing), 4, 3)
    metric = ConfusionMatrix(4)
    metric.update(logits, target)
    expected = confusion_matrix(target.flatten(), logits.argmax(1).flatten(), labels=range(4))
    np.testing.assert_array_equal(metric.matrix.numpy(), expected)


def test_rows_are_true_and_columns_predicted_and_a_tie_goes_to_the_first_class() -> None:
    metric = ConfusionMatrix(3)
    metric.update(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 5.0]]), torch.tensor([1, 1]))
    assert metric.compute().tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("ignore_index", "dtype"),
    [(-100, torch.int64), (255, torch.int64), (255, torch.uint8), (0, torch.int64), (2, torch.uint8)],
)
def test_ignored_elements_are_as_if_removed(ignore_index: int, dtype: torch.dtype) -> None:
    target = random_labels((500,), 3, 4)
    target[::7] = ignore_index
    prediction = random_labels((500,), 3, 5)
    metric = ConfusionMatrix(3, ignore_index)
    metric.update(prediction, target.to(dtype))
    kept = target != ignore_index
    expected = confusion_matrix(target[kept], prediction[kept], labels=range(3))
    np.testing.assert_array_equal(metric.compute().numpy(), expected)


@pytest.mark.parametrize("wrong", [-1, 3, 300, -(2**40)])
def test_a_target_out_of_range_is_counted_and_raised_at_compute(wrong: int) -> None:
    metric = ConfusionMatrix(3, ignore_index=255)
    metric.update(torch.tensor([0, 1, 2, 0]), torch.tensor([0, wrong, 255, wrong]))
    with pytest.raises(ValueError, match=r"^2 targets are neither in 0\.\.2 nor 255$"):
        metric.compute()
    assert metric.matrix.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_byte_that_wraps_to_the_ignored_label_is_still_wrong() -> None:
    metric = ConfusionMatrix(3, ignore_index=-100)
    metric.update(torch.tensor([0], dtype=torch.uint8), torch.tensor([156], dtype=torch.uint8))
    with pytest.raises(ValueError, match="1 targets"):
        metric.compute()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_a_prediction_out_of_range_is_raised_unless_its_target_is_ignored(dtype: torch.dtype) -> None:
    for ignore_index, wrong in ((255, -1), (255, 9), (0, 9), (0, 256), (0, -256)):
        metric = ConfusionMatrix(3, ignore_index)
        metric.update(torch.tensor([1, wrong]), torch.tensor([1, 2], dtype=dtype))
        with pytest.raises(ValueError, match=r"1 predictions are not in 0\.\.2"):
            metric.compute()
    metric = ConfusionMatrix(3, ignore_index=0)
    metric.update(torch.tensor([1, 9]), torch.tensor([1, 0], dtype=dtype))
    assert metric.compute().sum() == 1


def test_any_split_merge_and_reload_give_the_same_counts() -> None:
    target, prediction = random_labels((90,), 4, 6), random_labels((90,), 4, 7)
    whole, first, second = (ConfusionMatrix(4) for _ in range(3))
    whole.update(prediction, target)
    for start in range(0, 60, 20):
        first.update(prediction[start : start + 20], target[start : start + 20])
    second.update(prediction[60:], target[60:])
    second.update(prediction[:0], target[:0])
    reloaded = ConfusionMatrix(4)
    reloaded.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    reloaded.merge(second)
    assert torch.equal(reloaded.compute(), whole.compute())
    assert not torch.equal(first.compute(), whole.compute())
    reloaded.reset()
    assert reloaded.compute().sum() == 0


def test_a_deep_copy_counts_on_its_own() -> None:
    metric = ConfusionMatrix(2)
    metric.update(torch.tensor([0]), torch.tensor([0]))
    other = copy.deepcopy(metric)
    other.update(torch.tensor([1]), torch.tensor([1]))
    assert metric.compute().tolist() == [[1, 0], [0, 0]]
    assert other.compute().tolist() == [[1, 0], [0, 1]]


def test_summing_the_states_in_place_is_what_ranks_do() -> None:
    ranks = [ConfusionMatrix(3, 255) for _ in range(2)]
    for seed, metric in enumerate(ranks):
        metric.update(random_labels((10,), 3, seed), torch.tensor([255] * 5 + [1] * 5))
    total = sum(metric.compute() for metric in ranks)
    ranks[0].states()[0].add_(ranks[1].states()[0])
    ranks[0].all_reduce()
    assert torch.equal(ranks[0].compute(), total)


def test_counts_beyond_32_bits_are_exact() -> None:
    metric = ConfusionMatrix(2)
    metric.update(torch.tensor([1]), torch.tensor([0]))
    for _ in range(40):
        metric.merge(metric)
    assert metric.compute()[0, 1] == 2**40


def test_other_classes_or_another_ignored_label_cannot_be_merged() -> None:
    metric = ConfusionMatrix(3)
    for other in (ConfusionMatrix(4), ConfusionMatrix(3, 255)):
        with pytest.raises(ValueError, match="differ"):
            metric.merge(other)
        with pytest.raises(ValueError, match="differ"):
            metric.load_state_dict(other.state_dict())


def test_wrong_shapes_and_types_are_named() -> None:
    metric = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"\(2, 4, 5\) is neither labels \(2, 5\) nor logits \(2, 3, 5\)"):
        metric.update(torch.zeros(2, 4, 5), torch.zeros(2, 5, dtype=torch.int64))
    with pytest.raises(TypeError, match="target must hold integer labels"):
        metric.update(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(TypeError, match="predicted labels must be integers"):
        metric.update(torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="num_classes"):
        ConfusionMatrix(0)


def test_the_graph_and_the_inputs_are_left_alone() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    target = torch.tensor([0, 1, 2, -100])
    before = target.clone()
    metric = ConfusionMatrix(3)
    metric.update(logits, target)
    assert torch.equal(target, before)
    assert torch.is_grad_enabled()
    assert not metric.matrix.requires_grad


def test_an_update_of_a_photo_batch_is_many_times_faster_than_scikit_learn() -> None:
    target, prediction = random_labels((6, 128, 512), 4, 8), random_labels((6, 128, 512), 4, 9)
    metric = ConfusionMatrix(4, 255)

    def seconds(repeats: int, use_ours: bool) -> float:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            if use_ours:
                metric.update(prediction, target)
            else:
                confusion_matrix(target.flatten().numpy(), prediction.flatten().numpy(), labels=range(4))
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(3, False) > 10 * seconds(5, True)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64])
@pytest.mark.parametrize("repeats", [1, 1000])
def test_the_way_taken_on_a_device_counts_the_same(dtype: torch.dtype, repeats: int) -> None:
    target = torch.tensor([[0, 2, 1, -100], [5, -7, 1, 2]], dtype=dtype).repeat(repeats, 1)
    labels = torch.tensor([[0, 1, 1, 9], [0, 2, -3, 1]]).repeat(repeats, 1)
    host, device = np.zeros(17, dtype=np.int64), torch.zeros(17, dtype=torch.int64)
    confusion._count_on_host(host, labels.numpy(), target.numpy(), 4, -100)
    confusion._count_on_device(device, labels, target, 4, -100)
    once = np.array([1, 0, 0, 0, 0, 1, 0, 1, 0, 2, 0, 0, 1, 0, 1, 1, 1])
    assert host.tolist() == device.tolist() == (once * repeats).tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_an_update_never_waits_for_the_device() -> None:
    logits = torch.randn(2, 4, 64, 64, device="cuda")
    target = random_labels((2, 64, 64), 4, 10)
    target[0, 0] = 255
    expected = ConfusionMatrix(4, 255)
    expected.update(logits.cpu(), target)
    metric = ConfusionMatrix(4, 255).to("cuda")
    on_device = target.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(logits, on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(metric.compute().cpu(), expected.compute())
