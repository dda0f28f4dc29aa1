"""Sizes and choices of a SimVP network, checked before any of it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from common.config import UserError

ModelType = Literal["gSTA", "IncepU", "TAU", "ConvMixer"]
Skip = Literal["aligned", "last", "gated"]
Norm = Literal["batch", "group"]

ENCODER_GROUPS = 2
"""Groups of channels that every layer of encoder and decoder normalises."""
NORM_GROUPS = 8
"""Groups of channels of the translator's group norm."""
INERT: dict[ModelType, tuple[str, ...]] = {
    "gSTA": (),
    "IncepU": ("norm", "mlp_ratio", "drop", "drop_path"),
    "TAU": (),
    "ConvMixer": ("mlp_ratio", "drop", "drop_path"),
}
"""Fields of `SimVPConfig` that a model type has no use for."""


class SimVPSizes(NamedTuple):
    """Channels and depths of a preset."""

    hid_S: int
    hid_T: int
    N_S: int
    N_T: int


PRESETS: dict[str, SimVPSizes] = {
    "full": SimVPSizes(64, 256, 4, 8),
    "small": SimVPSizes(16, 64, 4, 4),
    "smoke": SimVPSizes(8, 32, 4, 2),
}


@dataclass(frozen=True, kw_only=True)
class SimVPOptions:
    """What a user chooses about a `SimVP`; the data decide the rest."""

    hid_S: int = 64
    """Channels of encoder and decoder."""
    hid_T: int = 256
    """Channels of the translator."""
    N_S: int = 4
    """Layers of encoder and decoder; even: every second one halves (doubles) rows and columns."""
    N_T: int = 8
    """Blocks of the translator; IncepU has twice as many."""
    model_type: str = "gSTA"
    """gSTA, IncepU, TAU or ConvMixer, in any letter case."""
    skip: Skip = "aligned"
    """Input frame whose first features an output frame receives: its own, the last, or a learned mean."""
    norm: Norm = "batch"
    """Normalisation in the translator; group: 8 groups."""
    mlp_ratio: float = 8.0
    """Width of a translator block's second half, in units of its channels."""
    drop: float = 0.0
    """Dropout of a translator block's second half."""
    drop_path: float = 0.0
    """Stochastic depth of the last translator block, rising from 0 at the first; 0 = off."""


@dataclass(frozen=True, kw_only=True)
class SimVPConfig(SimVPOptions):
    """What a `SimVP` is built from. UserError names the flag of a value that does not fit."""

    in_shape: tuple[int, int, int, int] = (10, 1, 32, 32)
    """Input frames, channels, rows and columns."""
    out_len: int = 10
    """Output frames."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "in_shape", tuple(self.in_shape))
        object.__setattr__(self, "model_type", canonical_model_type(self.model_type))
        _check_choice("--skip", self.skip, get_args(Skip))
        _check_choice("--norm", self.norm, get_args(Norm))
        self._check_sizes()
        self._check_side()
        self._check_rates()
        self._check_groups()
        if self.skip == "aligned" and self.in_len != self.out_len:
            raise UserError(
                f"--skip aligned feeds input frame t to output frame t, which --in-len {self.in_len} "
                f"--out-len {self.out_len} does not permit: --skip last or --skip gated does"
            )

    @property
    def in_len(self) -> int:
        """Input frames."""
        return self.in_shape[0]

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels that enter the translator, that it works with, and that leave it."""
        return self.in_len * self.hid_S, self.hid_T, self.out_len * self.hid_S

    @property
    def inert(self) -> tuple[str, ...]:
        """Fields that have no effect on this model type."""
        return INERT[canonical_model_type(self.model_type)]

    def _check_sizes(self) -> None:
        if len(self.in_shape) != 4 or min(self.in_shape) < 1:
            raise UserError(f"in_shape is {self.in_shape}: four positive sizes (T, C, H, W) are expected")
        for flag, value, least, even in (
            ("--out-len", self.out_len, 1, False),
            ("--hid-S", self.hid_S, ENCODER_GROUPS, True),
            ("--hid-T", self.hid_T, 2, False),
            ("--N-S", self.N_S, 2, True),
            ("--N-T", self.N_T, 2, False),
        ):
            if value < least or (even and value % 2):
                kind = "an even number" if even else "a number"
                raise UserError(f"{flag} {value}: {kind} of at least {least} is expected")

    def _check_side(self) -> None:
        factor: int = 2 ** (self.N_S // 2)
        if self.in_shape[2] % factor or self.in_shape[3] % factor:
            raise UserError(
                f"--N-S {self.N_S} halves the frames {self.N_S // 2} times, so their sides must be divisible "
                f"by 2^(N_S/2) = {factor}, not {self.in_shape[2]} x {self.in_shape[3]}"
            )

    def _check_rates(self) -> None:
        for flag, value in (("--drop", self.drop), ("--drop-path", self.drop_path)):
            if not 0 <= value < 1:
                raise UserError(f"{flag} {value}: 0 <= value < 1 is expected")
        if not 1 <= self.mlp_ratio * min(self.widths[:2]) < float("inf"):
            raise UserError(
                f"--mlp-ratio {self.mlp_ratio}: a number that leaves at least one channel is expected"
            )

    def _check_groups(self) -> None:
        uneven = [width for width in self.widths[:2] if width % NORM_GROUPS]
        if self.norm == "group" and "norm" not in self.inert and uneven:
            raise UserError(
                f"--norm group needs channels divisible by {NORM_GROUPS}, not {uneven[0]}: change --hid-T, "
                "or --in-len or --hid-S, whose product is the first block's width"
            )


def canonical_model_type(name: str) -> ModelType:
    """Return the model type that `name` spells in any letter case. Raises UserError."""
    for known in get_args(ModelType):
        if known.lower() == name.lower():
            canonical: ModelType = known
            return canonical
    raise UserError(f"--model-type {name}: one of {', '.join(get_args(ModelType))} is expected")


def _check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{flag} {value}: one of {', '.join(choices)} is expected")
