"""A batch of actions as the network's input: the views that exist, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pack(clips: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the views of all actions as float [N, 3, T, H, W] in [0, 1], and how many each action has [B].

    `clips` holds uint8 [V_i, 3, T, H, W] per action. The counts stay on the host: they shape what follows,
    and reading them from a device would make every step wait for it.
    """
    views, counts = join(clips)
    return views.float().div_(255), counts


def join(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return what is held per view [V_i, ...] of all actions as one tensor [N, ...], and the counts [B]."""
    return torch.cat(list(features)), torch.tensor([len(views) for views in features])
