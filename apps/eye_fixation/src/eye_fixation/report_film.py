"""The film strip: predicted densities of a few test sequences, a row per model and a column per horizon."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.reporting.html import Html, join, node
from common.reporting.plots import MUTED, drawing, to_svg
from eye_fixation.report_data import Evidence, Film, FloatArray, Result
from eye_fixation.report_parts import caption, listed, scrolling
from eye_fixation.yardsticks import KERNEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = (0.5, 0.9)
MOST_TILES = 10
PIXELS = 3
"""Picture elements per cell, so that the outline of a region is thinner than a cell."""
GAP = 4
DARKEST, BRIGHTEST = 1e-4, 1.0
_WIDTH, _NAMES = 10.6, 1.35
_OUTLINES = {0.9: (0.55, 0.78, 0.95, 1.0), 0.5: (1.0, 1.0, 1.0, 1.0)}
_TRUE, _RIM = "#ff5a36", "#ffffff"


def film_strips(evidence: Evidence, result: Result) -> Html:
    """Return a strip per sequence; a sentence in their place where a result file has none."""
    film = result.film
    if film is None:
        text = f"No film strip: {result.path.parent / 'film.npz'} is not there."
        return node("p", text, css="lead")
    names = ordered_names(evidence, result, film)
    strips = [
        node("figure", scrolling(_strip(film, names, sequence), 820), attributes={"style": "margin-top:18px"})
        for sequence in range(len(film.coordinates))
    ]
    return join([*strips, caption(evidence, reading(film, names), _n(film))])


def ordered_names(evidence: Evidence, result: Result, film: Film) -> list[str]:
    """Return the rows: the history kernel, then the models with most bits first."""
    order = [model.name for model in evidence.models if model.label == result.named(model.name)]
    known = [name for name in order if name in film.densities]
    return [KERNEL, *known] if KERNEL in film.densities else known


def reading(film: Film, names: list[str]) -> str:
    """Return what the strips show, with the share of dots inside the regions of the best model."""
    text = (
        "Brightness is the predicted probability of a cell, logarithmic from 0.0001 to 1; white outlines the "
        "50 % region and blue the 90 % region; the dot is the true gaze, the ring the last input gaze."
    )
    models = [name for name in names if name != KERNEL]
    if not models:
        return text
    inside = [inside_share(film, models[0], level) for level in LEVELS]
    shares = listed([f"{share:.0%}".replace("%", " %") for share in inside])
    return f"{text} For {models[0]} {shares} of the dots lie inside."


def inside_share(film: Film, name: str, level: float) -> float:
    """Return the share of true target cells within the region of `level`; NaN without a valid target."""
    densities = film.densities[name]
    held = []
    for sequence in range(len(densities)):
        for step, density in enumerate(densities[sequence]):
            at = film.in_len + step
            if film.mask[sequence, at]:
                column, row = _cell(film.coordinates[sequence, at], density.shape[0])
                held.append(bool(region(density, level)[row, column]))
    return sum(held) / len(held) if held else math.nan


def region(density: NDArray[Any], level: float) -> NDArray[np.bool_]:
    """Return the smallest set of cells [S, S] that holds `level` of the mass, the densest first."""
    flat = density.astype(np.float64).ravel()
    order = np.argsort(-flat, kind="stable")
    before = np.cumsum(flat[order]) - flat[order]
    inside = np.zeros(flat.size, dtype=bool)
    inside[order] = before < level * flat.sum()
    return inside.reshape(density.shape)


def outline(inside: NDArray[np.bool_], pixels: int = PIXELS) -> NDArray[np.bool_]:
    """Return the picture elements of a region that touch its outside, `pixels` to a cell."""
    large = np.kron(inside, np.ones((pixels, pixels), dtype=bool))
    padded = np.pad(large, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return large & ~core


def tile(density: NDArray[Any]) -> FloatArray:
    """Return a density as a picture, RGBA [S * PIXELS, S * PIXELS, 4], with its regions outlined."""
    from matplotlib import colormaps

    mass = density.astype(np.float64) / density.astype(np.float64).sum()
    shade = np.log(np.maximum(mass, DARKEST) / DARKEST) / math.log(BRIGHTEST / DARKEST)
    cells = np.asarray(colormaps["inferno"](0.05 + 0.8 * shade), dtype=np.float64)
    picture = cells.repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
    for level, color in _OUTLINES.items():
        picture[outline(region(density, level))] = color
    return picture


def shown_steps(count: int) -> list[int]:
    """Return the horizons that are drawn, from 0, all or evenly spread ones."""
    if count <= MOST_TILES:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MOST_TILES - 1)) for i in range(MOST_TILES)})


def _strip(film: Film, names: list[str], sequence: int) -> Html:
    steps = shown_steps(film.densities[names[0]].shape[1])
    side = film.densities[names[0]].shape[-1] * PIXELS
    pitch = side + GAP
    picture = np.zeros((len(names) * pitch - GAP, len(steps) * pitch - GAP, 4))
    corners = [
        (step, column * pitch, row * pitch) for row in range(len(names)) for column, step in enumerate(steps)
    ]
    for (step, left, top), name in zip(corners, np.repeat(names, len(steps))):
        picture[top : top + side, left : left + side] = tile(film.densities[name][sequence, step])
    height = (_WIDTH - _NAMES) * picture.shape[0] / picture.shape[1]
    with drawing((_WIDTH, height + 0.3)) as figure:
        bounds = (_NAMES / _WIDTH, 0.0, 1 - _NAMES / _WIDTH, height / (height + 0.3))
        axes = figure.add_axes(bounds)
        extent = (0, picture.shape[1], picture.shape[0], 0)
        axes.imshow(picture, interpolation="none", extent=extent, aspect="auto")
        _mark(axes, film, sequence, corners)
        for row, name in enumerate(names):
            axes.text(-6, row * pitch + side / 2, name, ha="right", va="center_baseline", fontsize=8.5)
        for column, step in enumerate(steps):
            middle = column * pitch + side / 2
            axes.text(middle, -5, f"+{step + 1}", ha="center", color=MUTED, fontsize=8.5)
        axes.set(xlim=extent[:2], ylim=extent[2:])
        axes.axis("off")
        return to_svg(figure, f"predicted densities of test sequence {sequence + 1}: {', '.join(names)}")


def _mark(axes: Axes, film: Film, sequence: int, corners: list[tuple[int, int, int]]) -> None:
    """Draw the last input gaze and the true gaze of every tile, where they are valid."""
    last = film.in_len - 1
    for ahead, color, size in ((False, "none", 20.0), (True, _TRUE, 15.0)):
        frames = [(film.in_len + step if ahead else last, left, top) for step, left, top in corners]
        points = [
            film.coordinates[sequence, at] * PIXELS + np.array((left, top))
            for at, left, top in frames
            if film.mask[sequence, at]
        ]
        if points:
            x, y = np.array(points).T
            axes.scatter(x, y, s=size, c=color, edgecolors=_RIM, linewidths=0.7)


def _cell(point: NDArray[Any], side: int) -> tuple[int, int]:
    column, row = np.minimum(np.floor(point), side - 1).astype(int)
    return int(column), int(row)


def _n(film: Film) -> str:
    valid = int(film.mask[:, film.in_len :].sum())
    return f"{len(film.coordinates)} test sequences, {valid} target frames"
