"""Metrics of points in images: mean absolute error and the share of points that are close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.metrics._sums import SummedMetric
from common.metrics.report import FloatArray, divide


@dataclass(frozen=True, eq=False)
class KeypointReport:
    """Errors of K keypoints over the points that were visible; NaN where none was.

    `mae` is in shares of width and height, `mae_px` in pixels, both averaged over x and y; `pck` [R] is the
    share of points within each radius. `keypoint_*` are the same per keypoint, [K] and [R, K], and `visible`
    int64 [K] the number of points behind them.
    """

    radii: tuple[float, ...]
    mae: float
    mae_px: float
    pck: FloatArray
    keypoint_mae: FloatArray
    keypoint_mae_px: FloatArray
    keypoint_pck: FloatArray
    visible: NDArray[np.int64]


class KeypointError(SummedMetric):
    """Mean absolute error of K points, normalised and in pixels, and PCK at some radii.

    A radius is a share of the longer side of the image; a point is close when its Euclidean distance in
    pixels is at most radius x longer side. ValueError for K < 1 and a radius that is not positive.
    """

    def __init__(self, num_keypoints: int, *, radii: Sequence[float] = (0.01, 0.02, 0.05)) -> None:
        if num_keypoints < 1:
            raise ValueError(f"num_keypoints must be at least 1, not {num_keypoints}")
        for radius in radii:
            if not radius > 0:
                raise ValueError(f"radius is {radius}: radius > 0 is expected")
        self.num_keypoints = num_keypoints
        self.radii = tuple(radii)
        sums = {
            "errors": torch.zeros(2, num_keypoints, dtype=torch.float64),
            "counts": torch.zeros(1 + len(self.radii), num_keypoints, dtype=torch.int64),
        }
        super().__init__({"num_keypoints": num_keypoints, "radii": list(radii)}, sums)

    def update(
        self, prediction: Tensor, target: Tensor, visible: Tensor, size: Tensor | tuple[float, float]
    ) -> None:
        """Add points [*, K, 2] in shares of width and height; `visible` bool [*, K] says which are known.

        `size` is (width, height) in pixels, or a tensor [*, 2] of them. What stands at other points is never
        read. ValueError for other shapes or a `visible` that is not bool.
        """
        self._check(prediction, target, visible)
        self._follow(target.device)
        sides = torch.as_tensor(size, dtype=torch.float64, device=target.device).unsqueeze(-2)
        error = (prediction.detach().double() - target.double()).abs()
        error = torch.where(visible.unsqueeze(-1), error, 0)
        pixels = error * sides
        distance = torch.linalg.vector_norm(pixels, dim=-1) / sides.amax(dim=-1)
        close = [(distance <= radius) & visible for radius in self.radii]
        for state, parts in (
            ("errors", [error.sum(-1), pixels.sum(-1)]),
            ("counts", [visible, *close]),
        ):
            rows = torch.stack([part.reshape(-1, self.num_keypoints).sum(0) for part in parts])
            self._sums[state] += rows

    def compute(self) -> KeypointReport:
        """Return all errors, over all points and per keypoint."""
        errors, counts = (state.cpu().numpy() for state in self._sums.values())
        visible, close = counts[0], counts[1:]
        overall = divide(errors.sum(-1), 2 * visible.sum())
        each = divide(errors, 2 * visible)
        return KeypointReport(
            radii=self.radii,
            mae=float(overall[0]),
            mae_px=float(overall[1]),
            pck=divide(close.sum(-1), visible.sum()),
            keypoint_mae=each[0],
            keypoint_mae_px=each[1],
            keypoint_pck=divide(close, visible),
            visible=visible.copy(),
        )

    def _check(self, prediction: Tensor, target: Tensor, visible: Tensor) -> None:
        if target.shape[-2:] != (self.num_keypoints, 2) or prediction.shape != target.shape:
            raise ValueError(
                f"prediction is {list(prediction.shape)} and target {list(target.shape)}: "
                f"both are [*, {self.num_keypoints}, 2]"
            )
        if visible.dtype != torch.bool or visible.shape != target.shape[:-1]:
            raise ValueError(
                f"visible is {visible.dtype} {list(visible.shape)}: "
                f"bool {list(target.shape[:-1])} is expected"
            )
