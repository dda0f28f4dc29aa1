"""Predictions that need no network: what a model has to beat, and what it cannot.

A baseline reads gaze coordinates [N, T_in, 2] (x, y) in cells with a mask [N, T_in] and gives the density of
the gaze over the cells of each of the next T_out frames, its point, or both. Where the last input frame is
masked, the last valid one stands for it; without a valid input frame the prediction is the centre bias,
`prior`. Horizons count from 1, and tables hold horizon h at h - 1. `eye_fixation.baseline_fit` fits them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from eye_fixation.frames import cells_of, inside

Array: TypeAlias = "Tensor | NDArray[Any]"
State: TypeAlias = "dict[str, Tensor | int | str]"

HUMAN_SIGMA = 1.2
"""Smoothing, in cells, of where other observers looked."""
HUMAN_SHARE = 0.9
"""Share of the other observers' map; the rest is the centre bias."""


class Inputs(NamedTuple):
    """Input frames as the baselines read them.

    `held` float64 [N, T_in, 2]: each invalid frame holds the valid one before it, those before the first
    valid one hold that one. `cell` int64 [N, 2] (column, row) of the last valid frame, `age` int64 [N] the
    frames after it, `step` float64 [N, 2] cells per frame between the last two valid frames, 0 with one only,
    and `known` bool [N] whether any frame is valid.
    """

    held: Tensor
    cell: Tensor
    age: Tensor
    step: Tensor
    known: Tensor


def read_inputs(coordinates: Array, mask: Array, img_size: int) -> Inputs:
    """Return the inputs of N sequences; frames that are masked, not finite or outside 0 to S are invalid.

    ValueError for shapes other than [N, T_in, 2] and [N, T_in].
    """
    points, valid = valid_points(coordinates, mask, img_size)
    length = valid.shape[1]
    frames = torch.arange(length, device=valid.device)
    latest = torch.where(valid, frames, -1).cummax(1).values
    first = valid.int().argmax(1, keepdim=True)
    held = _pick(points, torch.where(latest < 0, first, latest))
    before = latest.gather(1, (latest[:, -1:] - 1).clamp(min=0))
    gap = (latest[:, -1:] - before).clamp(min=1)
    step = torch.where(before < 0, 0.0, held[:, -1] - _pick(points, before.clamp(min=0))[:, 0]) / gap
    known = valid.any(1)
    age = torch.where(known, length - 1 - latest[:, -1], 0)
    return Inputs(held, cells_of(held[:, -1], img_size), age, step, known)


def valid_points(coordinates: Array, mask: Array, img_size: int) -> tuple[Tensor, Tensor]:
    """Return float64 coordinates [N, T, 2], 0 where invalid, and bool [N, T]; ValueError as `read_inputs`."""
    points, given = torch.as_tensor(coordinates).double(), torch.as_tensor(mask) > 0
    if points.ndim != 3 or points.shape[-1] != 2 or not points.shape[1] or given.shape != points.shape[:2]:
        raise ValueError(
            f"coordinates are {list(points.shape)}, mask {list(given.shape)}: [N, T, 2], [N, T] are expected"
        )
    valid = given & inside(points, img_size)
    return torch.where(valid[..., None], points, 0.0), valid


@dataclass(frozen=True, eq=False)
class Baseline:
    """A prediction from the inputs alone; here `prior` [S, S] (row, column), sum 1, at every horizon."""

    name: ClassVar[str]
    has_density: ClassVar[bool] = True

    prior: Tensor
    out_len: int

    @property
    def img_size(self) -> int:
        """Side S of the grid in cells."""
        return self.prior.shape[-1]

    def density(self, coordinates: Array, mask: Array) -> Tensor | None:
        """Return float32 [N, T_out, S, S], each sum 1, or None for a baseline of points only.

        `coordinates` [N, T_in, 2] (x, y) in cells, `mask` [N, T_in]; the result may share memory between
        frames. ValueError as `read_inputs`.
        """
        if not self.has_density:
            return None
        inputs = read_inputs(coordinates, mask, self.img_size)
        prior = self.prior.to(inputs.held.device)
        density = self._density(inputs, prior)
        if inputs.known.all():
            return density
        return torch.where(inputs.known[:, None, None, None], density, prior.float())

    def points(self, coordinates: Array, mask: Array) -> Tensor:
        """Return float64 [N, T_out, 2] (x, y) in cells: the predicted point, else the mean of the density.

        Arguments and errors as in `density`.
        """
        inputs = read_inputs(coordinates, mask, self.img_size)
        prior = self.prior.to(inputs.held.device)
        return torch.where(inputs.known[:, None, None], self._points(inputs, prior), mean_point(prior))

    def to_state(self) -> State:
        """Return the name and the fields: tensors and whole numbers, as `baseline_from_state` takes them."""
        return {"name": self.name} | {field.name: getattr(self, field.name) for field in fields(self)}

    def _density(self, inputs: Inputs, prior: Tensor) -> Tensor:
        return prior.float().expand(len(inputs.age), self.out_len, -1, -1)

    def _points(self, inputs: Inputs, prior: Tensor) -> Tensor:
        return mean_point(self._density(inputs, prior))

    def _horizons(self, inputs: Inputs) -> Tensor:
        return torch.arange(1, self.out_len + 1, device=inputs.age.device)


@dataclass(frozen=True, eq=False)
class Uniform(Baseline):
    """1 / (H W) in every cell, which is its `prior`."""

    name = "uniform"


@dataclass(frozen=True, eq=False)
class Center(Baseline):
    """The middle of the grid, the mean of a uniform `prior`."""

    name = "center"
    has_density = False


@dataclass(frozen=True, eq=False)
class CenterBias(Baseline):
    """Where people look whatever they look at: the smoothed histogram of all training frames."""

    name = "center_bias"


@dataclass(frozen=True, eq=False)
class Persistence(Baseline):
    """The gaze stays: w delta + (1 - w) prior, and the last point; `weight` float64 [T_out] holds w."""

    name = "persistence"
    weight: Tensor

    def _density(self, inputs: Inputs, prior: Tensor) -> Tensor:
        weight = self.weight.to(prior.device)
        density = ((1 - weight)[:, None, None] * prior).float().repeat(len(inputs.age), 1, 1, 1)
        column, row = inputs.cell.T
        density[torch.arange(len(row), device=row.device), :, row, column] += weight.float()
        return density

    def _points(self, inputs: Inputs, prior: Tensor) -> Tensor:
        return inputs.held[:, -1:].expand(-1, self.out_len, -1)


@dataclass(frozen=True, eq=False)
class ConstantVelocity(Baseline):
    """The last point moves on by the last step per frame, and stops at the border."""

    name = "constant_velocity"
    has_density = False

    def _points(self, inputs: Inputs, prior: Tensor) -> Tensor:
        frames = self._horizons(inputs) + inputs.age[:, None]
        points = inputs.held[:, -1:] + frames[..., None] * inputs.step[:, None]
        return points.clamp(0, self.img_size)


@dataclass(frozen=True, eq=False)
class LinearAR(Baseline):
    """Linear regression of each target coordinate on all input coordinates.

    `slope` float64 [T_out, 2 T_in, 2] for inputs x1 y1 x2 ..., `intercept` float64 [T_out, 2]. ValueError for
    inputs of another length.
    """

    name = "linear_ar"
    has_density = False
    slope: Tensor
    intercept: Tensor

    def _points(self, inputs: Inputs, prior: Tensor) -> Tensor:
        held, slope = inputs.held.flatten(1), self.slope.to(prior.device)
        if held.shape[1] != slope.shape[1]:
            raise ValueError(f"coordinates hold {held.shape[1] // 2} frames, linear_ar {slope.shape[1] // 2}")
        return torch.einsum("ni,hic->nhc", held, slope) + self.intercept.to(prior.device)


@dataclass(frozen=True, eq=False)
class HistoryKernel(Baseline):
    """How far the gaze moves from its last cell, and where people look: w k + (1 - w) prior.

    `kernel` float64 [T_out, 2 S - 1, 2 S - 1] over the displacement (row, column), 0 in the middle; k is the
    kernel centred at the last cell times prior^.5, sum 1. `weight` float64 [T_out] holds w, `sigma` float64
    [T_out] the smoothing of the kernel in cells.
    """

    name = "history_kernel"
    kernel: Tensor
    weight: Tensor
    sigma: Tensor

    def _density(self, inputs: Inputs, prior: Tensor) -> Tensor:
        cells, places = torch.unique(inputs.cell, dim=0, return_inverse=True)
        side, kernels, weights = self.img_size, self.kernel.to(prior.device), self.weight.to(prior.device)
        density = torch.empty(len(places), self.out_len, side, side, device=prior.device)
        column, row = (side - 1 - cells).T
        for horizon, (kernel, weight) in enumerate(zip(kernels, weights)):
            moved = kernel.unfold(0, side, 1).unfold(1, side, 1)[row, column] * prior.sqrt()
            moved = moved / moved.sum((1, 2), keepdim=True)
            density[:, horizon] = (weight * moved + (1 - weight) * prior).float()[places]
        return density


@dataclass(frozen=True, eq=False)
class Oracle(Baseline):
    """The law of simulated gaze: the row of the last cell in the h-th power of `transition`.

    `transition` [S*S, S*S] by row * S + column, float32 or float64. After masked input frames the power grows
    by their number, so it stays the best prediction.
    """

    name = "oracle"
    transition: Tensor

    def _density(self, inputs: Inputs, prior: Tensor) -> Tensor:
        side = self.img_size
        transition = self.transition.to(prior.device, torch.float64)
        transition = transition / transition.sum(1, keepdim=True)
        column, row = inputs.cell.T
        cells, places = torch.unique(row * side + column, return_inverse=True)
        density = torch.zeros(len(places), self.out_len, side * side, device=prior.device)
        law = transition[cells]
        age = inputs.age
        for step in range(1, self.out_len + int(age.max()) + 1):
            reached = ((step > age) & (step <= age + self.out_len)).nonzero()[:, 0]
            density[reached, step - age[reached] - 1] = law[places[reached]].float()
            law = law @ transition
        return density.reshape(-1, self.out_len, side, side)


@dataclass(frozen=True, eq=False)
class Human(Baseline):
    """Where other observers of the same image look, whatever the history: `bind` it to what is scored."""

    name = "human"

    def bind(self, future: Array, mask: Array, group: Array, observer: Array | None = None) -> BoundHuman:
        """Return the baseline for N sequences with target frames `future` [N, T_out, 2], `mask` [N, T_out].

        `group` [N] is the image, `observer` [N] who looked; without it each sequence has its own. The map of
        a sequence counts all target frames of the other observers of its image, smoothed with sigma 1.2 cells
        (nearest border); .9 of it and .1 of the prior. Without other observers it is the prior. ValueError
        for other shapes.
        """
        points, valid = valid_points(future, mask, self.img_size)
        images = _ids(group, len(valid), "group").to(valid.device)
        people = torch.arange(len(valid)) if observer is None else _ids(observer, len(valid), "observer")
        prior = self.prior.to(valid.device)
        return BoundHuman(prior, self.out_len, _others(points, valid, images, people.to(valid.device), prior))

    def _density(self, inputs: Inputs, prior: Tensor) -> Tensor:
        raise ValueError("human depends on the other observers: bind it to the sequences to score first")


@dataclass(frozen=True, eq=False)
class BoundHuman(Baseline):
    """The maps [N, S, S] of the other observers, for the N sequences `Human.bind` was given; not stored."""

    name = "human"
    maps: Tensor

    def density(self, coordinates: Array, mask: Array) -> Tensor:
        """Return the maps, float32 [N, T_out, S, S]; the inputs only have to be N. ValueError otherwise."""
        if len(coordinates) != len(self.maps):
            raise ValueError(f"coordinates hold {len(coordinates)} sequences, bound were {len(self.maps)}")
        return self.maps[:, None].expand(-1, self.out_len, -1, -1)

    def points(self, coordinates: Array, mask: Array) -> Tensor:
        """Return the means of the maps, float64 [N, T_out, 2]; arguments and errors as in `density`."""
        return mean_point(self.density(coordinates, mask))


BASELINES: Mapping[str, type[Baseline]] = {
    kind.name: kind
    for kind in (
        Uniform, Center, Persistence, ConstantVelocity, LinearAR, CenterBias, HistoryKernel, Human, Oracle
    )
}  # fmt: skip
"""Class of each baseline by its name."""


def baseline_from_state(state: Mapping[str, Any]) -> Baseline:
    """Return the baseline whose `to_state` is `state`; ValueError for a name that is none."""
    fields_of_it = dict(state)
    name = fields_of_it.pop("name", None)
    if name not in BASELINES:
        raise ValueError(f"{name!r} is no baseline: one of {', '.join(BASELINES)} is expected")
    return BASELINES[name](**fields_of_it)


def mean_point(density: Tensor) -> Tensor:
    """Return the mean (x, y) of densities [*, S, S] (row, column) in cells, float64 [*, 2]."""
    middles = torch.arange(density.shape[-1], device=density.device, dtype=torch.float64) + 0.5
    return torch.stack([density.sum(-2).double() @ middles, density.sum(-1).double() @ middles], dim=-1)


def _pick(points: Tensor, frames: Tensor) -> Tensor:
    """Return the points [N, T, 2] of frames [N, K], [N, K, 2]."""
    return points.gather(1, frames[..., None].expand(-1, -1, 2))


def _ids(ids: Array, count: int, name: str) -> Tensor:
    given = torch.as_tensor(ids).long()
    if given.shape != (count,):
        raise ValueError(f"{name} is {list(given.shape)}: [{count}] is expected")
    return given


def _others(points: Tensor, valid: Tensor, images: Tensor, people: Tensor, prior: Tensor) -> Tensor:
    """Return the map of the other observers of each sequence's image, float32 [N, S, S]."""
    side = prior.shape[-1]
    pairs, pair = torch.unique(torch.stack([images, people], dim=1), dim=0, return_inverse=True)
    image = torch.unique(pairs[:, 0], return_inverse=True)[1]
    column, row = cells_of(points, side).unbind(-1)
    looks = (pair[:, None].expand_as(valid)[valid], row[valid], column[valid])
    own = prior.new_zeros(len(pairs), side, side).index_put_(looks, prior.new_ones(()), accumulate=True)
    others = torch.zeros_like(own).index_add_(0, image, own)[image] - own
    smooth = _smoothing(side, HUMAN_SIGMA).to(prior)
    seen = smooth @ others @ smooth.T
    mass = seen.sum((1, 2), keepdim=True)
    shared = HUMAN_SHARE * seen / mass + (1 - HUMAN_SHARE) * prior
    return torch.where(mass > 0, shared, prior).float()[pair]


def _smoothing(side: int, sigma: float) -> Tensor:
    """Return the matrix [S, S] that smooths columns by a Gaussian cut at 4 sigma, border cells repeated."""
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-offsets.double().square() / (2 * sigma**2))
    sources = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, sources, (weights / weights.sum()).expand(side, -1))
