"""Red flags of a training run, checked after each validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch

from common.engine.task import EpochReport
from uav_landing.labels import LANDING_NAMES

ZERO = 5e-4
PLATEAU_MIOU, PLATEAU_GAIN = 0.4, 0.005
LOSS_FACTOR = 10.0
FALSE_SAFE_STEP = 0.05
FREE_MEMORY, DEVICE_PEAK = 0.05, 0.95
SLOPE_EPOCHS = 2
TERMS = ("loss", "focal", "ce", "logit_adjusted", "dice", "aux")
VOID_ADVICE = "annotation seam, try --void ignore"
COST_ADVICE = "raise the weight of danger with --class-weights"
CLASS_ADVICE = "check its weight and support, train longer"


@dataclass(frozen=True)
class Alarm:
    """One red flag: what was seen, and one thing to do about it; `about` tells flags of one name apart."""

    name: str
    text: str
    suggestion: str
    about: str = ""

    def line(self) -> str:
        """Return the console line."""
        return f"RED FLAG {self.name}: {self.text}: {self.suggestion}"

    def event(self, *, stop: bool) -> dict[str, Any]:
        """Return the alarm as the engine's event; `stop` asks it to end the run."""
        return {
            "kind": "alarm",
            "name": self.name,
            "text": self.line(),
            "suggestion": self.suggestion,
            "stop": stop,
        }


@dataclass
class AlarmBoard:
    """Watches a run. `initial_focal` is the focal loss of uniform predictions (None for other losses)."""

    patience: int
    initial_focal: float | None
    headline: str
    zero_streak: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    miou: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    recoveries: int = 0
    best_danger_as_safe: float | None = None
    fired: dict[str, int] = field(default_factory=dict)

    def check(self, report: EpochReport) -> list[Alarm]:
        """Return the alarms of this validation; one that holds on repeats every `patience` validations."""
        self.miou.append(report.valid["miou"])
        self.loss.append(report.valid["loss"])
        self.rates.append(max(report.lr.values(), default=0.0))
        found = [
            *self._class_zero(report),
            *self._miou_plateau(),
            *self._loss_high(report),
            *self._memory(report),
            *self._loss_not_falling(),
            *self._false_safe_up(report),
        ]
        return [alarm for alarm in found if self._due(f"{alarm.name} {alarm.about}")]

    def _due(self, name: str) -> bool:
        now = len(self.miou)
        if name in self.fired and now - self.fired[name] < self.patience:
            return False
        self.fired[name] = now
        return True

    def _class_zero(self, report: EpochReport) -> list[Alarm]:
        alarms = []
        for index, name in enumerate(LANDING_NAMES):
            support = report.valid[f"class_{index}_support"]
            iou, accuracy = report.valid[f"class_{index}_iou"], report.valid[f"class_{index}_accuracy"]
            zero = support > 0 and (iou < ZERO or accuracy < ZERO)
            self.zero_streak[index] = self.zero_streak[index] + 1 if zero else 0
            if self.zero_streak[index] < self.patience or report.epoch < self.patience:
                continue
            label, advice = (f"{name}, void", VOID_ADVICE) if index == 0 else (name, CLASS_ADVICE)
            streak = self.zero_streak[index]
            text = f"class {index} ({label}) IoU={iou:.3f} with {support:.0f} px, {streak} epochs"
            alarms.append(Alarm("class_zero", text, advice, about=str(index)))
        return alarms

    def _miou_plateau(self) -> list[Alarm]:
        if len(self.miou) <= self.patience:
            return []
        best, before = max(self.miou), max(self.miou[: -self.patience])
        if not (best < PLATEAU_MIOU and best - before < PLATEAU_GAIN):
            return []
        text = f"best miou {best:.3f}, gained {best - before:.3f} in {self.patience} validations"
        return [Alarm("miou_plateau", text, "raise --learning-rate or train longer")]

    def _loss_high(self, report: EpochReport) -> list[Alarm]:
        bad = [
            f"{part} {name}"
            for part, values in (("training", report.train), ("validation", report.valid))
            for name in TERMS
            if name in values and not math.isfinite(values[name])
        ]
        if bad:
            advice = "lower --learning-rate or set --grad-clip 1"
            return [Alarm("loss_high", f"{', '.join(bad)} not finite", advice)]
        focal = report.train.get("focal")
        if focal is None or self.initial_focal is None or focal <= LOSS_FACTOR * self.initial_focal:
            return []
        text = (
            f"focal {focal:.3g}, over {LOSS_FACTOR:.0f} times the {self.initial_focal:.3g} of a uniform guess"
        )
        return [Alarm("loss_high", text, "lower --learning-rate or cap the weights with --weight-cap")]

    def _memory(self, report: EpochReport) -> list[Alarm]:
        news = report.recoveries - self.recoveries
        self.recoveries = report.recoveries
        if news > 0:
            return [Alarm("memory", f"{news} out-of-memory recoveries", "lower --batch-size")]
        free = free_memory_share()
        if free < FREE_MEMORY:
            return [Alarm("memory", f"{free:.1%} of host memory free", "lower --max-memory-gb or --workers")]
        peak = device_peak_share()
        if peak > DEVICE_PEAK:
            advice = "lower --batch-size and raise --accumulation-steps"
            return [Alarm("memory", f"device peak {peak:.0%}", advice)]
        return []

    def _loss_not_falling(self) -> list[Alarm]:
        length = max(self.patience, SLOPE_EPOCHS)
        recent, rates = self.loss[-length:], self.rates[-length:]
        if len(recent) < length:
            return []
        restarted = any(later > earlier for earlier, later in pairwise(rates))
        rise = slope(recent)
        if restarted or not rise >= 0:
            return []
        text = f"validation loss slope {rise:+.3g} per epoch over {length} epochs"
        return [Alarm("loss_not_falling", text, "lower --learning-rate or stop with --patience")]

    def _false_safe_up(self, report: EpochReport) -> list[Alarm]:
        now, before = report.valid["danger_as_safe"], self.best_danger_as_safe
        if not report.improved or math.isnan(now):
            return []
        self.best_danger_as_safe = now
        if before is None or now - before <= FALSE_SAFE_STEP:
            return []
        text = f"danger_as_safe {before:.3f} -> {now:.3f} while {self.headline} improved"
        advice = COST_ADVICE if self.headline == "expected_cost" else "use --monitor expected_cost"
        return [Alarm("false_safe_up", text, advice)]

    def state_dict(self) -> dict[str, Any]:
        """Return the history as plain types."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the history; patience and headline stay as constructed."""
        for name in state.keys() - {"patience", "initial_focal", "headline"}:
            setattr(self, name, state[name])


def slope(values: list[float]) -> float:
    """Return the least-squares slope of `values` over 0, 1, 2, ..."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((index - middle) ** 2 for index in range(len(values)))
    return sum((index - middle) * (value - mean) for index, value in enumerate(values)) / spread


def initial_focal_loss(shares: list[float], weights: list[float], gamma: float) -> float:
    """Return L0 = sum_c f_c alpha_c (1 - 1/K)^gamma ln K, the focal loss of a uniform prediction."""
    classes = len(shares)
    weight = sum(share * alpha for share, alpha in zip(shares, weights, strict=True))
    return float(weight * (1 - 1 / classes) ** gamma * math.log(classes))


def free_memory_share() -> float:
    """Return the share of host memory that is available; 1 where the system does not say."""
    try:
        with open("/proc/meminfo") as lines:
            fields = dict(line.split(":", 1) for line in lines)
    except FileNotFoundError:
        return 1.0
    return int(fields["MemAvailable"].split()[0]) / int(fields["MemTotal"].split()[0])


def device_peak_share() -> float:
    """Return the peak share of CUDA memory this process reserved; 0 without CUDA."""
    if not torch.cuda.is_available():
        return 0.0
    return float(torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(0).total_memory)
