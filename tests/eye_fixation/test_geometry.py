"""Units, origins and visual angles of a screen that is not square."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from common.config import UserError
from eye_fixation.geometry import Geometry, Origin, Units, combine

SCREEN = Geometry((1920.0, 1080.0), (533.0, 301.0), 565.0)


@pytest.mark.parametrize(
    ("units", "origin", "point", "expected"),
    [
        ("px", "top-left", (480, 810), (0.25, 0.75)),
        ("px", "bottom-left", (480, 810), (0.25, 0.25)),
        ("px", "center", (480, 270), (0.75, 0.75)),
        ("norm", "top-left", (0.3, 0.9), (0.3, 0.9)),
        ("norm", "bottom-left", (0.3, 0.9), (0.3, 0.1)),
        ("norm", "center", (-0.2, 0.1), (0.3, 0.6)),
        ("deg", "top-left", (10, 5), (0.5 + 565 * math.tan(math.pi / 18) / 533, 0.664222)),
        ("deg", "center", (10, 5), (0.686914, 0.5 + 565 * math.tan(math.pi / 36) / 301)),
        ("deg", "bottom-left", (10, 5), (0.686914, 0.335778)),
    ],
)
def test_positions_become_shares_of_the_screen(
    units: Units, origin: Origin, point: tuple[float, float], expected: tuple[float, float]
) -> None:
    x, y = (np.array([value], float) for value in point)
    shares = SCREEN.normalised(x, y, units, origin)
    assert np.concatenate(shares) == pytest.approx(expected, abs=1e-6)
    assert np.concatenate(SCREEN.restored(*shares, units, origin)) == pytest.approx(point)


def test_cells_become_degrees() -> None:
    cells = torch.tensor([[16.0, 16.0], [32.0, 8.0]], dtype=torch.float64)
    expected = [[0, 0], [math.degrees(math.atan(266.5 / 565)), -math.degrees(math.atan(75.25 / 565))]]
    assert SCREEN.degrees(cells, 32).tolist() == [pytest.approx(row) for row in expected]
    x, y = SCREEN.angles(np.array([1.0]), np.array([0.25]))
    assert [x[0], y[0]] == pytest.approx(expected[1])


@pytest.mark.parametrize(("units", "named"), [("px", "--screen-px"), ("deg", "--screen-mm")])
def test_units_need_their_geometry(units: Units, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Geometry().normalised(np.zeros(1), np.zeros(1), units, "top-left")
    assert not Geometry(screen_mm=(1.0, 1.0)).has_degrees


def test_dictionary_round_trip() -> None:
    assert Geometry.from_dict(SCREEN.to_dict()) == SCREEN
    assert Geometry.from_dict({}) == Geometry()


@pytest.mark.parametrize(
    "values",
    [{"screen_px": [0, 5]}, {"screen_px": 5}, {"distance_mm": -1}, {"distance_mm": "far"}, {"width": 3}],
)
def test_bad_geometry(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Geometry.from_dict(values)


def test_flags_complete_a_file_but_do_not_contradict_it() -> None:
    merged = combine(Geometry((800.0, 600.0)), Geometry((800.0, 600.0), (400.0, 300.0), 600.0), "a.mat")
    assert merged == Geometry((800.0, 600.0), (400.0, 300.0), 600.0)
    with pytest.raises(UserError, match=r"--screen-px 1920 1080 contradicts a\.mat, which says 800 600"):
        combine(Geometry((800.0, 600.0)), Geometry((1920.0, 1080.0)), "a.mat")
