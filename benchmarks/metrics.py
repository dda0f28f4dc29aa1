"""One update of the confusion matrix against scikit-learn and torchmetrics."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from timing import Entry, Row, Settings, at_least, interleave, missing, ratio
from torch import Tensor

from common.metrics.confusion import ConfusionMatrix


def labels(shape: tuple[int, ...], num_classes: int) -> tuple[Tensor, Tensor]:
    """Return predicted and true labels of one shape."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(num_classes, shape, generator=generator) for _ in range(2))
    return first, second


def against_scikit_learn(settings: Settings) -> Iterator[Row]:
    """A batch of masks; four classes."""
    shape = (1, 64, 64) if settings.small else (6, 512, 512)
    what, budget = f"scikit-learn / matrix update, {_text(shape)}", at_least(20)
    if reason := missing("sklearn"):
        yield Row(what=what, unit="x", budget=budget, skipped=reason)
        return
    from sklearn.metrics import confusion_matrix

    predicted, true = labels(shape, 4)
    matrix = ConfusionMatrix(4)
    matrix.update(predicted, true)
    flat = true.numpy().ravel(), predicted.numpy().ravel()
    np.testing.assert_array_equal(matrix.compute().numpy(), confusion_matrix(*flat))
    actions = {
        "scikit-learn": lambda: confusion_matrix(*flat, labels=range(4)),
        "ours": lambda: matrix.update(predicted, true),
    }
    yield ratio(what, interleave(actions, settings), "scikit-learn", "ours", budget)


def against_torchmetrics(settings: Settings) -> Iterator[Row]:
    """F1, IoU, accuracy and matrix of torchmetrics in one collection, which all come from our one matrix."""
    cases = (((16,), 10, 20.0), ((1, 512, 512), 4, 2.5), ((6, 512, 512), 4, 2.5))
    for shape, num_classes, limit in cases[:1] if settings.small else cases:
        what, budget = f"torchmetrics / matrix update, {_text(shape)}", at_least(limit)
        if reason := missing("torchmetrics"):
            yield Row(what=what, unit="x", budget=budget, skipped=reason)
            continue
        predicted, true = labels(shape, num_classes)
        collection, matrix = _collection(num_classes), ConfusionMatrix(num_classes)
        matrix.update(predicted, true)
        collection.update(predicted, true)
        torch.testing.assert_close(collection.compute()["MulticlassConfusionMatrix"], matrix.compute())
        actions = {
            "torchmetrics": partial(collection.update, predicted, true),
            "ours": partial(matrix.update, predicted, true),
        }
        yield ratio(what, interleave(actions, settings), "torchmetrics", "ours", budget)


def _collection(num_classes: int) -> Any:
    from torchmetrics import MetricCollection
    from torchmetrics.classification import (
        MulticlassAccuracy,
        MulticlassConfusionMatrix,
        MulticlassF1Score,
        MulticlassJaccardIndex,
    )

    kinds = (MulticlassF1Score, MulticlassJaccardIndex, MulticlassAccuracy, MulticlassConfusionMatrix)
    return MetricCollection([kind(num_classes) for kind in kinds])


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


ENTRIES: dict[str, Entry] = {"scikit_learn": against_scikit_learn, "torchmetrics": against_torchmetrics}
