"""Frames joined to bouts, short ones given to their neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from rodent_behavior.labels import Bout, LabelMap, bouts

Actions = NDArray[np.int64]


def read_min_bout(texts: Sequence[str], labels: LabelMap) -> NDArray[np.int64]:
    """Return the shortest bout of each class [C] for `N` and `NAME=N`; UserError names what is wrong."""
    shortest = np.ones(len(labels.names), dtype=np.int64)
    for text in texts:
        name, sign, number = text.rpartition("=")
        if not number.isdigit() or int(number) < 1:
            raise UserError(f"--min_bout {text}: N or NAME=N with N >= 1 is expected")
        if sign and name not in labels.names:
            raise UserError(f"--min_bout {text}: {name} is none of {', '.join(labels.names)}")
        shortest[labels.names.index(name) if sign else slice(None)] = int(number)
    return shortest


def merge_short(actions: Actions, shortest: NDArray[np.int64]) -> Actions:
    """Return actions [T] in which every run of class c has `shortest[c]` frames or more, where one can.

    The shortest run too short goes first and takes the label of its longer neighbour, the earlier one at a
    tie; a single run is left as it is.
    """
    result = actions.copy()
    while True:
        runs = bouts(result)
        short = [run for run in runs if run.stop - run.start < shortest[run.label]]
        if not short or len(runs) < 2:
            return result
        run = min(short, key=lambda run: (run.stop - run.start, run.start))
        result[run.start : run.stop] = _longer_neighbour(runs, run).label


def _longer_neighbour(runs: Sequence[Bout], run: Bout) -> Bout:
    place = runs.index(run)
    neighbours = [*runs[max(0, place - 1) : place], *runs[place + 1 : place + 2]]
    return max(neighbours, key=lambda near: (near.stop - near.start, -near.start))
