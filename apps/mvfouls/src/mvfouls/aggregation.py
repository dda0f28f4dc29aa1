"""Views of an action to one feature, over the views that exist."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Aggregation = Literal["attention", "mean", "max"]


class Aggregated(NamedTuple):
    """Features [B, D] of actions, and the share [B, V] of each view; absent views have 0."""

    features: Tensor
    attention: Tensor


class Slots(NamedTuple):
    """Where packed views go in a table of B rows and V columns."""

    rows: int
    columns: int
    places: Tensor
    """Place [N] of each view, counted along the rows."""

    def spread(self, packed: Tensor, fill: float = 0.0) -> Tensor:
        """Return `packed` [N, *] as [B, V, *], with `fill` where there is no view."""
        table = packed.new_full((self.rows * self.columns, *packed.shape[1:]), fill)
        table = table.index_copy(0, self.places, packed)
        return table.view(self.rows, self.columns, *packed.shape[1:])


def view_slots(counts: Tensor, views: int, device: torch.device) -> Slots:
    """Return the table for `counts` [B] views per action, which are on the host, packed into `views`.

    Raises ValueError when an action has no view or the counts do not add up.
    """
    numbers: list[int] = counts.tolist()
    if not numbers or min(numbers) < 1:
        raise ValueError(f"counts are {numbers}: every action needs a view")
    if sum(numbers) != views:
        raise ValueError(f"counts add up to {sum(numbers)}, there are {views} views")
    columns = max(numbers)
    places = [row * columns + place for row, number in enumerate(numbers) for place in range(number)]
    return Slots(len(numbers), columns, torch.tensor(places).to(device, non_blocking=True))


class MeanViews(nn.Module):
    """Every view of an action counts the same."""

    def forward(self, features: Tensor, counts: Tensor) -> Aggregated:
        """Return the means of packed `features` [N, D] by action, for `counts` [B]."""
        slots = view_slots(counts, len(features), features.device)
        valid = slots.spread(features.new_ones(len(features)))
        shares = valid / valid.sum(dim=1, keepdim=True)
        return Aggregated(slots.spread(features).sum(dim=1) / valid.sum(dim=1, keepdim=True), shares)


class MaxViews(nn.Module):
    """Each feature is the largest over the views; a view's share is that of the features taken from it."""

    def forward(self, features: Tensor, counts: Tensor) -> Aggregated:
        """Return the maxima of packed `features` [N, D] by action, for `counts` [B]."""
        slots = view_slots(counts, len(features), features.device)
        largest, source = slots.spread(features, -torch.inf).max(dim=1)
        columns = torch.arange(slots.columns, device=features.device).view(1, -1, 1)
        return Aggregated(largest, (source.unsqueeze(1) == columns).to(features.dtype).mean(dim=2))


class AttentionViews(nn.Module):
    """Views weighted by a softmax over their scores / `temperature`, computed in float32 at least.

    Source: Ilse et al., Attention-based Deep Multiple Instance Learning, 2018, eq. 7-8, with a ReLU.
    """

    def __init__(self, dim: int, *, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature
        self.score = nn.Sequential(nn.Linear(dim, dim // 4), nn.ReLU(), nn.Linear(dim // 4, 1))

    def forward(self, features: Tensor, counts: Tensor) -> Aggregated:
        """Return weighted means of packed `features` [N, D] by action, for `counts` [B]."""
        slots = view_slots(counts, len(features), features.device)
        scores = self.score(features).squeeze(1)
        shares = attention_shares(scores, slots, self.temperature).to(features.dtype)
        return Aggregated((shares.unsqueeze(2) * slots.spread(features)).sum(dim=1), shares.detach())


def attention_shares(scores: Tensor, slots: Slots, temperature: float) -> Tensor:
    """Return the softmax [B, V] of packed `scores` [N] / `temperature` over the views of each action."""
    exact = scores.to(torch.promote_types(scores.dtype, torch.float32)) / temperature
    return slots.spread(exact, -torch.inf).softmax(dim=1)


def build_aggregator(kind: Aggregation, dim: int, *, temperature: float = 1.0) -> nn.Module:
    """Return the aggregator of `--clip-pooling-type`; ValueError for an unknown one."""
    if kind == "attention":
        return AttentionViews(dim, temperature=temperature)
    if kind == "mean":
        return MeanViews()
    if kind == "max":
        return MaxViews()
    raise ValueError(f"aggregation {kind!r}: one of attention, mean, max is expected")
