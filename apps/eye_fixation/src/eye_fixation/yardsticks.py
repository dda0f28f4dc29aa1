"""What predictions are compared with: the baselines of a data set, judged on one split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.metrics.sparse_map import cell_index
from common.metrics.sparse_map_frames import LEAST
from eye_fixation.baseline_fit import fit_baselines
from eye_fixation.baselines import Baseline, Human
from eye_fixation.config import DataConfig
from eye_fixation.data.contract import GazeData
from eye_fixation.data.pt import load_oracle
from eye_fixation.frames import cells_of
from eye_fixation.metrics import References, Scores, judge, judge_points
from eye_fixation.study import Sequences, Study

KERNEL, CENTER, HUMAN, ORACLE = "history_kernel", "center_bias", "human", "oracle"
STORED = (KERNEL, CENTER)
"""Baselines whose tables a model file holds."""
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Yardsticks:
    """Baselines by name, their scores on one split, and what the gains of a model refer to."""

    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    scores: Mapping[str, Scores] = field(default_factory=dict)
    references: References = field(default_factory=References)

    @property
    def stored(self) -> tuple[Baseline, ...]:
        """Return the baselines that go into a model file."""
        return tuple(self.baselines[name] for name in STORED if name in self.baselines)


def fit(study: Study, config: DataConfig, split: str = "test") -> dict[str, Baseline]:
    """Return the baselines the data permit, fitted on train, tuned on val; the oracle is that of `split`."""
    oracle = load_oracle(study.folder, split)
    return fit_baselines(
        study.splits.train,
        study.splits.val,
        in_len=config.in_len,
        out_len=config.out_len,
        img_size=study.metadata.img_size,
        groups=study.images_shared,
        transition=None if oracle is None else oracle["transition"],
    )


def measure(study: Study, config: DataConfig, split: str = "test") -> Yardsticks:
    """Return every baseline judged on a split."""
    baselines = fit(study, config, split)
    data: GazeData = getattr(study.splits, split)
    references = refer(study, config, baselines, split)
    scores = {name: score(baseline, data, config, references) for name, baseline in baselines.items()}
    return Yardsticks(baselines, scores, references)


def refer(study: Study, config: DataConfig, baselines: Mapping[str, Baseline], split: str) -> References:
    """Return the training histogram, and the bits of the baselines that gains refer to."""
    sequences = Sequences.of(getattr(study.splits, split), config, CPU)
    bits = {
        short: target_bits(baselines[name], sequences)
        for short, name in (("center", CENTER), ("kernel", KERNEL))
        if name in baselines
    }
    return References(histogram(Sequences.of(study.splits.train, config, CPU)), bits)


def score(baseline: Baseline, data: GazeData, config: DataConfig, references: References) -> Scores:
    """Return the scores of one baseline."""
    sequences = Sequences.of(data, config, CPU)
    future, mask = sequences.future
    geometry = data.metadata.geometry
    if isinstance(baseline, Human):
        assert data.group is not None
        baseline = baseline.bind(future, mask, data.group, data.subject)
    if not baseline.has_density:
        points = baseline.points(*sequences.past)
        return judge_points(points, future, mask, img_size=sequences.img_size, geometry=geometry)
    density = baseline.density(*sequences.past)
    assert density is not None
    return judge(density, future, mask, sequences.last_input, references=references, geometry=geometry)


def target_bits(baseline: Baseline, sequences: Sequences) -> Tensor:
    """Return log2 density of the target cells [N, T_out]."""
    density = baseline.density(*sequences.past)
    assert density is not None
    cell = cell_index(sequences.future[0], (sequences.img_size, sequences.img_size))
    held = density.flatten(2).gather(2, cell[..., None])[..., 0]
    return held.clamp(min=LEAST).double().log2()


def histogram(sequences: Sequences) -> Tensor:
    """Return how often each cell is the target at each horizon, float32 [T_out, S, S]."""
    future, mask = sequences.future
    side, steps = sequences.img_size, future.shape[1]
    cells = cells_of(future, side)
    flat = cells[..., 1] * side + cells[..., 0] + side * side * torch.arange(steps)
    counts = torch.bincount(flat[mask], minlength=steps * side * side)
    return counts.view(steps, side, side).float()
