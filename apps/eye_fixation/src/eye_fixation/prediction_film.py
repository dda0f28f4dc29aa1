"""Predicted densities as an animation: a picture per window, a panel per horizon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from eye_fixation.metrics import HORIZONS
from eye_fixation.prediction import Array, Prediction
from eye_fixation.prediction_files import staged

MOST_WINDOWS = 300
PANEL = 160
"""Pixels of a panel's longer side."""
CAPTION = 14
GAP = 4
DOT = 3
NAME = 14
INK, LAST, TRUE = 253, 254, 255
"""Palette entries of text, last gaze and true gaze; those below are the density."""
SHORTEST_MS = 20
"""Faster animations are shown slowly."""

Pixels = NDArray[np.uint8]


class Film:
    """The pictures of the first windows; `aspect` is the screen's width over its height."""

    def __init__(self, *, aspect: float, out_len: int, seconds_per_window: float) -> None:
        self.horizons = sorted({h for h in HORIZONS if h < out_len} | {out_len})
        longer = max(aspect, 1.0)
        self.width, self.height = round(PANEL * aspect / longer), max(1, round(PANEL / longer))
        self.duration_ms = max(SHORTEST_MS, round(1000 * seconds_per_window))
        self.pictures: list[Image.Image] = []

    def record(self, parts: Iterable[Prediction]) -> Iterator[Prediction]:
        """Yield `parts` as they come and draw their windows until there are enough."""
        for part in parts:
            for index in range(min(len(part), MOST_WINDOWS - len(self.pictures))):
                self.pictures.append(self._picture(part, index))
            yield part

    def write(self, path: Path) -> None:
        """Write the animation; UserError when it cannot be written."""
        first, *others = self.pictures
        with staged(path) as partial:
            first.save(
                partial, format="GIF", save_all=True, append_images=others, duration=self.duration_ms, loop=0
            )

    def _picture(self, part: Prediction, index: int) -> Image.Image:
        step = self.width + GAP
        canvas = np.zeros((CAPTION + self.height, step * len(self.horizons) - GAP), np.uint8)
        for column, horizon in enumerate(self.horizons):
            panel = self._panel(part, index, horizon - 1)
            canvas[CAPTION:, column * step : column * step + self.width] = panel
            canvas[:, column * step + self.width : (column + 1) * step] = INK
        picture = Image.frombytes("P", (canvas.shape[1], canvas.shape[0]), canvas.tobytes())
        picture.putpalette(_palette())
        pen = ImageDraw.Draw(picture)
        for column, horizon in enumerate(self.horizons):
            caption = f"{part.time_s[index, horizon - 1]:.2f} s"
            name = str(part.recording[index]).encode("ascii", "replace").decode()
            text = caption if column else f"{caption}  {name[:NAME]}"
            pen.text((column * step + 2, 1), text, fill=INK)
        return picture

    def _panel(self, part: Prediction, index: int, horizon: int) -> Pixels:
        density = part.density[index, horizon]
        size = len(density)
        levels = (np.sqrt(density / density.max()) * (INK - 1)).astype(np.uint8)
        rows, columns = (np.arange(side) * size // side for side in (self.height, self.width))
        panel: Pixels = levels[rows][:, columns]
        self._dot(panel, part.last[index] / size, LAST)
        self._dot(panel, part.true[index, horizon] / size, TRUE)
        return panel

    def _dot(self, panel: Pixels, place: Array, colour: int) -> None:
        """Mark a place in shares of the panel, unless it is NaN."""
        if np.isnan(place).any():
            return
        y, x = np.ogrid[: self.height, : self.width]
        panel[np.hypot(x + 0.5 - place[0] * self.width, y + 0.5 - place[1] * self.height) <= DOT] = colour


def _palette() -> list[int]:
    """Return 256 colours: black over purple and orange to pale yellow, then white, blue and green."""
    anchors = np.array([[0, 0, 0], [90, 20, 110], [220, 80, 50], [250, 180, 60], [255, 250, 190]], float)
    places = np.linspace(0, len(anchors) - 1, INK)
    ramp = np.stack([np.interp(places, np.arange(len(anchors)), anchors[:, c]) for c in range(3)], 1)
    named = [[255, 255, 255], [70, 150, 255], [60, 230, 90]]
    return [int(value) for value in np.concatenate([np.round(ramp), named]).ravel()]
