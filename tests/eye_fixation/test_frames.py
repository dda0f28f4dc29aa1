"""Frames of one pixel and of a Gaussian, against loops over frames."""

import math

import pytest
import torch
from torch import Tensor

from eye_fixation.frames import cells_of, create_sparse_frames, gaussian_frames, inside

SIZE = 8


def random_gaze(count: int = 5, length: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    coordinates = torch.rand(count, length, 2, generator=generator) * SIZE
    coordinates[0, 0], coordinates[0, 1], coordinates[1, 0] = 0.0, SIZE, torch.tensor([SIZE, 3.0])
    mask = torch.rand(count, length, generator=generator) < 0.7
    mask[0, :2] = mask[1, 0] = True
    return coordinates, mask


def looped_frames(coordinates: Tensor, mask: Tensor, order: str) -> Tensor:
    """The documented loop over batch and time."""
    frames = torch.zeros(*mask.shape, 1, SIZE, SIZE)
    for n in range(len(mask)):
        for t in range(mask.shape[1]):
            if mask[n, t]:
                first, second = (min(math.floor(c), SIZE - 1) for c in coordinates[n, t].tolist())
                column, row = (first, second) if order == "xy" else (second, first)
                frames[n, t, 0, row, column] = 1.0
    return frames


@pytest.mark.parametrize("order", ["xy", "yx"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_sparse_frames_equal_the_loop(order: str, dtype: torch.dtype) -> None:
    coordinates, mask = random_gaze()
    frames = create_sparse_frames(coordinates, mask.to(dtype), SIZE, order)
    assert frames.dtype == torch.float32
    assert torch.equal(frames, looped_frames(coordinates, mask, order))
    assert torch.equal(frames.sum((2, 3, 4)), mask.float())


@pytest.mark.parametrize(
    ("point", "row", "column"),
    [
        ((5.2, 1.7), 1, 5),
        ((0.0, 0.0), 0, 0),
        ((31.9999, 0.0), 0, 31),
        ((32.0, 31.99999), 31, 31),
        ((0.0, 32.0), 31, 0),
    ],
)
def test_pixel_is_at_row_y_and_column_x(point: tuple[float, float], row: int, column: int) -> None:
    frames = create_sparse_frames(torch.tensor([[point]]), torch.ones(1, 1))
    assert frames.shape == (1, 1, 1, 32, 32)
    assert frames.nonzero().tolist() == [[0, 0, 0, row, column]]


@pytest.mark.parametrize("point", [(float("nan"), 1.0), (1.0, float("inf")), (-0.01, 3.0), (3.0, 8.01)])
def test_frames_outside_the_grid_are_empty(point: tuple[float, float]) -> None:
    gaze, mask = torch.tensor([[point]]), torch.ones(1, 1, dtype=torch.bool)
    assert not inside(gaze, SIZE).any()
    assert create_sparse_frames(gaze, mask, SIZE).sum() == 0
    assert gaussian_frames(gaze, mask, SIZE, 1.0).abs().sum() == 0


def test_cells_are_floored_and_kept_inside() -> None:
    points = torch.tensor([[0.0, 7.999], [8.0, 0.999], [3.5, -2.0]])
    assert cells_of(points, SIZE).tolist() == [[0, 7], [7, 0], [3, 0]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_frames_stay_on_the_device_of_the_coordinates() -> None:
    coordinates, mask = random_gaze()
    frames = create_sparse_frames(coordinates.cuda(), mask.cuda(), SIZE)
    wide = gaussian_frames(coordinates.cuda(), mask.cuda(), SIZE, 1.0)
    assert (frames.device.type, wide.device.type) == ("cuda", "cuda")
    assert torch.equal(frames.cpu(), create_sparse_frames(coordinates, mask, SIZE))


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_gaussian_frames_equal_the_formula(sigma: float) -> None:
    coordinates, mask = random_gaze()
    frames = gaussian_frames(coordinates, mask, SIZE, sigma)
    for n, t in mask.nonzero().tolist():
        column, row = cells_of(coordinates[n, t], SIZE).tolist()
        for r, c in ((row, column), (0, 3), (6, 1)):
            expected = math.exp(-((r - row) ** 2 + (c - column) ** 2) / (2 * sigma**2))
            assert frames[n, t, 0, r, c].item() == pytest.approx(expected, abs=1e-6)
        assert frames[n, t].max() == 1
    assert frames[~mask].abs().sum() == 0


def test_narrow_gaussian_is_the_pixel() -> None:
    coordinates, mask = random_gaze()
    assert torch.equal(
        gaussian_frames(coordinates, mask, SIZE, 0.05), create_sparse_frames(coordinates, mask, SIZE)
    )


@pytest.mark.parametrize(
    ("shape", "mask", "order", "size", "named"),
    [
        ((2, 3), (2, 3), "xy", 8, "coordinates"),
        ((2, 3, 3), (2, 3), "xy", 8, "coordinates"),
        ((2, 3, 2), (3, 2), "xy", 8, "fixation_mask"),
        ((2, 3, 2), (2, 3), "ij", 8, "coord_order"),
        ((2, 3, 2), (2, 3), "xy", 0, "img_size"),
    ],
)
def test_bad_arguments(
    shape: tuple[int, ...], mask: tuple[int, ...], order: str, size: int, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        create_sparse_frames(torch.zeros(shape), torch.zeros(mask), size, order)


def test_whole_number_coordinates_and_zero_sigma_are_refused() -> None:
    with pytest.raises(ValueError, match="floating"):
        create_sparse_frames(torch.zeros(1, 1, 2, dtype=torch.int64), torch.ones(1, 1))
    with pytest.raises(ValueError, match="sigma"):
        gaussian_frames(torch.zeros(1, 1, 2), torch.ones(1, 1), SIZE, 0.0)
