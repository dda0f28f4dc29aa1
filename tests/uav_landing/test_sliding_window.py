import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from uav_landing.models.base import Output
from uav_landing.sliding_window import predict_photo, tile_starts

CPU = torch.device("cpu")


def network(kernel: int, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, classes, kernel, padding=kernel // 2).eval()


def photo(height: int, width: int) -> Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(1))


def predict(model: nn.Module, image: Tensor, tile: tuple[int, int], *, tta: bool = False) -> Tensor:
    return predict_photo(model, image, tile, 0.5, 4, 3, CPU, tta=tta)


def whole(model: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(image[None])[0]
    return logits.softmax(dim=0)


class TileMean(nn.Module):
    """Two classes whose odds are the mean of the tile: constant over a tile, different between tiles."""

    def forward(self, tiles: Tensor) -> Output:
        mean = tiles.mean(dim=(1, 2, 3))[:, None, None].expand(-1, *tiles.shape[-2:])
        return Output(torch.stack([mean, torch.zeros_like(mean)], dim=1))


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [(1280, 853, 12), (1280, 720, 8), (3000, 2000, 77), (6000, 4000, 345)],
)
def test_number_of_tiles(width: int, height: int, tiles: int) -> None:
    assert len(tile_starts(width, 512, 0.5)) * len(tile_starts(height, 512, 0.5)) == tiles


def test_starts_cover_the_axis_and_end_at_the_border() -> None:
    assert tile_starts(1280, 512, 0.5) == [0, 256, 512, 768]
    assert tile_starts(853, 512, 0.5) == [0, 256, 341]
    assert tile_starts(512, 512, 0.5) == [0]
    assert tile_starts(100, 512, 0.5) == [0]
    assert tile_starts(100, 32, 0.0) == [0, 32, 64, 68]
    assert tile_starts(352, 320, 0.9) == [0, 32]  # a stride of exactly 32
    for overlap in (1.0, -0.1):
        with pytest.raises(ValueError, match="overlap"):
            tile_starts(100, 32, overlap)


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (70, 101), (20, 90), (9, 5), (1, 1)])
def test_a_network_without_context_gives_the_map_of_one_pass(size: tuple[int, int], tta: bool) -> None:
    model, image = network(1), photo(*size)
    blended = predict(model, image, (32, 48), tta=tta)
    assert blended.dtype == torch.float32
    torch.testing.assert_close(blended, whole(model, image), rtol=0, atol=1e-6)


def test_tiles_blend_by_raised_cosines() -> None:
    """Two tiles of 8 on 12 pixels, the left one all 1 and the right one partly 3, by hand."""
    image = torch.ones(3, 8, 12)
    image[:, :, 8:] = 3.0
    left, right = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))  # means 1 and 2
    row = predict_photo(TileMean().eval(), image, (8, 8), 0.5, 1, 2, CPU)[0, 3]

    weight = [0.5 * (1 - math.cos(2 * math.pi * (i + 0.5) / 8)) for i in range(8)]
    expected = [left] * 4
    for i in range(4):
        expected.append((left * weight[4 + i] + right * weight[i]) / (weight[4 + i] + weight[i]))
    expected += [right] * 4
    torch.testing.assert_close(row, torch.tensor(expected))


def test_small_photos_are_continued_by_reflection() -> None:
    model, image = network(5), photo(7, 20)
    padded = np.pad(image.numpy(), ((0, 0), (0, 25), (0, 12)), mode="reflect")
    expected = whole(model, torch.from_numpy(padded))[:, :7, :20]
    torch.testing.assert_close(predict(model, image, (32, 32)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(50, 83), (12, 60)])
def test_the_eight_symmetries_commute_with_the_average_over_them(size: tuple[int, int]) -> None:
    model, image = network(5), photo(*size)
    expected = predict(model, image, (24, 32), tta=True)
    for turns in range(4):
        for flip in (False, True):
            turned = image.flip(-1) if flip else image
            result = predict(model, turned.rot90(turns, (1, 2)), (24, 32), tta=True)
            result = result.rot90(-turns, (1, 2))
            result = result.flip(-1) if flip else result
            torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(expected, predict(model, image, (24, 32)), atol=1e-3)


def test_the_average_is_over_eight_undone_predictions() -> None:
    model, image = network(5), photo(32, 32)
    half = image.rot90(2, (1, 2))
    maps = [whole(model, image.rot90(k, (1, 2))).rot90(-k, (1, 2)) for k in range(4)]
    maps += [whole(model, image.flip(axis)).flip(axis) for axis in (1, 2)]
    maps.append(whole(model, image.transpose(1, 2)).transpose(1, 2))
    maps.append(whole(model, half.transpose(1, 2)).transpose(1, 2).rot90(2, (1, 2)))
    expected = torch.stack(maps).mean(dim=0)
    torch.testing.assert_close(predict(model, image, (32, 32), tta=True), expected, rtol=0, atol=1e-6)


def test_the_batch_does_not_change_the_result() -> None:
    model, image = network(3), photo(60, 90)
    one, many = (predict_photo(model, image, (32, 32), 0.25, batch, 3, CPU) for batch in (1, 7))
    torch.testing.assert_close(one, many, rtol=0, atol=1e-6)


def test_probabilities_add_up_to_one_in_half_precision_too() -> None:
    result = predict_photo(network(3), photo(60, 90), (32, 32), 0.5, 4, 3, CPU, autocast=torch.bfloat16)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.sum(dim=0), torch.ones(60, 90), rtol=0, atol=1e-5)
    exact = predict_photo(network(3), photo(60, 90), (32, 32), 0.5, 4, 3, CPU)
    assert 0 < (result - exact).abs().max() < 0.02


def test_a_network_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="eval"):
        predict(network(1).train(), photo(32, 32), (32, 32))
    with pytest.raises(ValueError, match="batch"):
        predict_photo(network(1), photo(32, 32), (32, 32), 0.5, 0, 3, CPU)
