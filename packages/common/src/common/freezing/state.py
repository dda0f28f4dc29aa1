"""What a freezing strategy remembers, sees and says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Event = Literal["analysing", "hold", "unfreeze", "rollback", "emergency"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An opening that is still to be judged."""

    epoch: int
    metric: float
    """The metric just before the opening."""
    pieces: tuple[str, ...]
    blocks: tuple[str, ...]
    """The blocks that hold `pieces`."""
    best: float = -math.inf
    """The best metric since."""


@dataclass(frozen=True, kw_only=True)
class FreezingState:
    """The memory of a strategy. Epochs are completed epochs, metrics higher is better."""

    opened: Mapping[str, int | None]
    """Smallest pieces that train, and the epoch after which they opened; None: from the start."""
    changed: int | None = None
    """The epoch of the last opening or rollback."""
    metrics: tuple[float, ...] = ()
    """The last validations, the newest at the end; -inf where there was no finite value."""
    importance: Mapping[str, float] = field(default_factory=dict)
    """Moving sums of the blocks' importance, not yet divided by the weight they have seen."""
    probes: int = 0
    best: float = -math.inf
    stale: int = 0
    """Validations since a new best."""
    reference: float | None = None
    """adaptive: what the next metric is compared to."""
    waited: int = 0
    """adaptive: validations without improvement on the reference."""
    emergency: bool = False
    """Whether the moment of the emergency has passed."""
    rollbacks: int = 0
    barred: Mapping[str, int] = field(default_factory=dict)
    """Blocks that were rolled back, and the epoch from which on they may open again."""
    trial: Trial | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> FreezingState:
        """Return what `to_dict` described."""
        trial = state["trial"]
        return cls(**{**state, "trial": None if trial is None else Trial(**trial)})


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What was seen at the end of an epoch.

    `epoch` of `epochs` are completed. `metric` is None when nothing was validated, NaN when the validation
    had no value. `importance` holds each block's gradient norm over weight norm, None without a probe.
    """

    epoch: int
    epochs: int
    metric: float | None = None
    importance: Mapping[str, float] | None = None

    @property
    def value(self) -> float | None:
        """The metric with -inf for what is not finite."""
        if self.metric is None or math.isfinite(self.metric):
            return self.metric
        return -math.inf


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided at the end of an epoch, and from what."""

    event: Event
    epoch: int
    strategy: str
    pieces: tuple[str, ...] = ()
    """Smallest pieces that open or close."""
    blocks: tuple[str, ...] = ()
    """The same by their shortest names."""
    open: tuple[str, ...] = ()
    """What trains afterwards."""
    metric: float | None = None
    gain: float | None = None
    importance: Mapping[str, float] = field(default_factory=dict)
    threshold: float | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the event line."""
        fields = asdict(self)
        del fields["pieces"]
        return fields

    def line(self) -> str:
        """Return the console line."""
        start = f"epoch {self.epoch} {self.event}"
        if self.event in ("unfreeze", "emergency"):
            return f"{start} open {' '.join(self.blocks)}"
        if self.event == "rollback":
            return f"{start} close {' '.join(self.blocks)}: {self.reason}"
        return f"{start}: {self.reason}"
