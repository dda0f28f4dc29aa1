"""Settings of the command that writes data files. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Source = Literal["sim", "osie", "irf", "csv", "fixations"]
SplitBy = Literal["image", "subject", "recording", "random"]
EventKind = Literal["none", "column", "ivt", "idt"]


@dataclass(frozen=True, kw_only=True)
class GazeConfig:
    """What the numbers of a recording mean."""

    screen_px: tuple[float, float] | None = None
    """Width and height of the screen or stimulus in pixels; --units px needs them."""
    screen_mm: tuple[float, float] | None = None
    """Width and height in mm; --units deg, errors in degrees, and --events ivt or idt need them."""
    distance_mm: float | None = None
    """Distance of the eye in mm, needed with --screen-mm."""
    units: Literal["px", "deg", "norm"] = "px"
    """Pixels, degrees from the screen's centre, or shares of the screen."""
    origin: Literal["top-left", "bottom-left", "center"] = "top-left"
    """Where (0, 0) is; degrees start at the centre, y upwards with bottom-left only."""
    time_unit: Literal["s", "ms", "us"] = "s"
    """Unit of the column t."""
    missing_value: tuple[float, float] | None = None
    """x and y that a tracker writes when it has lost the eye; `nan nan` for none."""
    offscreen: Literal["invalid", "clip"] = "invalid"
    """Gaze outside the screen: no gaze, or moved to the border."""


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """The simulated data."""

    n_train: int = 500
    """Simulated training sequences."""
    n_val: int = 100
    """Simulated validation sequences."""
    n_test: int = 100
    """Simulated test sequences."""
    sim_kind: Literal["field", "smooth"] = "field"
    """field: short and long steps over a random drift; smooth: one step size, a drift to the centre."""
    sim_seed: int = 0
    """Seed of the field and of the paths."""
    field_per_split: bool = False
    """A field of its own for every split: a shift of distribution to study."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Which gaze is read, and how it becomes sequences of frames."""

    source: Source = "sim"
    """Simulated gaze, the OSIE file, an IRF folder, CSV samples, or CSV lists of fixations."""
    input: tuple[Path, ...] = ()
    """osie: `fixations.mat` or its folder; irf: folder with `db_config.json`; csv, fixations: files."""
    out: Path = Path("data")
    """Folder that receives the three data files and manifest.json."""
    overwrite: bool = False
    """Replace data files that exist."""
    dry_run: bool = False
    """Print the counts and write nothing."""
    img_size: int = 32
    """Cells on each side of the grid."""
    rate_hz: float | None = None
    """Frames per second. Default: osie and fixations 10, irf 20; csv needs it."""
    frames: Literal["time", "fixation"] = "time"
    """Frames of equal time, or one frame per fixation (osie, fixations)."""
    seq_len: int = 20
    """Frames of a sequence."""
    hop: int | None = None
    """Frames between sequences. Default: irf and csv 7; osie and fixations one sequence per scanpath."""
    min_valid: float = 1.0
    """Smallest share of valid frames in a sequence."""
    split: SplitBy | None = None
    """Unit that is never in two splits; csv with one or two recordings: three time blocks of each. Default:
    osie image, others recording."""
    split_sizes: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Shares of train, val and test, of the sorted units."""
    events: EventKind = "none"
    """Event label of every frame: from the file, by velocity (45 deg/s) or by dispersion (1 deg, 100 ms)."""
    exclude: tuple[str, ...] = ()
    """Recordings (osie: images) to leave out; `none` for none. Default: irf S3, others none."""
    gaze: GazeConfig = field(default_factory=GazeConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
