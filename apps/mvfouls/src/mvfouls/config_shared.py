"""Settings that both training command lines have beyond their documents. Each field is a flag; its docstring
is the flag's help."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common.config import Also
from mvfouls.labels import ALIASES as TASK_ALIASES
from mvfouls.settings import LossKind

FurtherTask = Literal[
    "offence",
    "offence_severity",
    "contact",
    "bodypart",
    "upper_body_part",
    "multiple_fouls",
    "try_to_play",
    "touch_ball",
    "handball",
    "handball_offence",
]
TaskName = Literal["action_class", "action_type", "severity", FurtherTask]
SoftTask = Literal["severity", "offence"]
AuxiliaryTask = Literal[FurtherTask, "none"]
BackboneName = Literal[
    "resnet3d_18",
    "mc3_18",
    "r2plus1d_18",
    "resnet3d_50",
    "s3d",
    "mvit_v1_b",
    "mvit_v2_s",
    "mvitv2_b",
    "swin3d_t",
    "swin3d_s",
    "swin3d_b",
    "small3d",
]


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Dropout and one linear layer."""


@dataclass(frozen=True, kw_only=True)
class DeepMlp:
    """Several hidden layers."""

    hidden: int = 1024
    depth: int = 3
    dropout: float = 0.3


@dataclass(frozen=True, kw_only=True)
class SeMlp:
    """A gate on the features, then several hidden layers."""

    reduction: int = 4
    hidden: int = 1024
    depth: int = 3
    dropout: float = 0.3


@dataclass(frozen=True, kw_only=True)
class Ordinal:
    """One score against ordered thresholds, behind hidden layers if `depth` is not 0."""

    hidden: int = 1024
    depth: int = 0
    dropout: float = 0.3


@dataclass(frozen=True, kw_only=True)
class TaskHead:
    """The head of one task."""

    task: TaskName
    head: Linear | DeepMlp | SeMlp | Ordinal


@dataclass(frozen=True, kw_only=True)
class TaskLossConfig:
    """Losses of single tasks."""

    loss_types: dict[TaskName, LossKind] = field(default_factory=dict)
    """Loss of single tasks, such as `offence ldam severity focal`; beats the loss of all tasks."""
    ldam_max_m: float = 0.5
    """ldam: margin of the rarest class."""
    ldam_s: float = 30.0
    """ldam: scale of the cosines."""
    ldam_drw_start: float | None = None
    """ldam: share of the epochs after which classes are also weighted. Default: never."""
    logit_adjustment: bool = False
    """ce: train with the logarithm of the class shares added to the logits."""
    logit_adjustment_temperature: float = 1.0
    """ce: factor of that logarithm."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Heads of single tasks."""

    task_head: Annotated[tuple[TaskHead, ...], tyro.conf.UseAppendAction] = ()
    """Head of one task: TASK TYPE KEY=VALUE ..., such as `offence deep_mlp depth=3`. Types: linear; deep_mlp
    with hidden, depth, dropout; se_mlp with reduction and those; ordinal, for severity, with those of
    deep_mlp and depth=0."""
    head_dropout: float = 0.5
    """Dropout before linear heads."""


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Where the backbone's weights come from."""

    weights: str = "none"
    """none: random numbers; auto: torchvision's file in --weights-dir or the local torch cache; or a file.
    Nothing is downloaded."""
    weights_dir: Path = Path("weights")
    """Folder of weights files for auto."""


@dataclass(frozen=True, kw_only=True)
class TasksConfig:
    """What else is learned."""

    auxiliary_tasks: tuple[AuxiliaryTask, ...] = ("offence",)
    """Tasks learned besides severity and action_class; targets only, never inputs. none: no others."""


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """How sampler and class weights go together."""

    balance_tasks: tuple[TaskName, ...] = ("severity", "action_class")
    """Tasks that the sampler balances."""
    max_repeat: float = 20.0
    """No sample is expected more often than this in an epoch."""
    weight_basis: Literal["presented", "natural"] = "presented"
    """Counts behind class weights: what the sampler presents, or what the files hold."""
    allow_overcorrection: Annotated[bool, Also("allow_stacking")] = False
    """Balancing that prefers rare classes beyond equality is a warning, not an error; ldam may have class
    weights beside its margins."""


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """What happens to labels and clips that are not as they should be."""

    keep_junk_classes: bool = False
    """Empty labels and Dont know are classes, with the ids this script once gave them."""
    soft_labels: tuple[SoftTask, ...] = ()
    """Tasks whose labels between two classes are learned as halves of both and not judged: severity (2.0,
    4.0), offence (Between)."""
    unknown_labels: Literal["error", "ignore"] = "error"
    """A label that no class has: stop, or count and ignore it."""
    missing_clip: Literal["skip", "error"] = "skip"
    """A clip that is listed but not there."""
    short_clip: Literal["pad", "skip", "error"] = "pad"
    """A clip that ends inside the window: repeat its last frame, leave it out, or stop."""


@dataclass(frozen=True, kw_only=True)
class ProjectionConfig:
    """How predictions become official labels."""

    between_policy: Literal["drop", "half"] = "drop"
    """Probability of Between: dropped, or half of it given to No offence."""
    borderline_policy: Literal["split", "drop"] = "split"
    """Probability of severities 2.0 and 4.0: half to each neighbour, or dropped."""
    os_decision: Literal["joint", "cascade"] = "joint"
    """Most probable of all four classes, or first whether it is an offence."""


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """How clips are fitted, chosen and kept."""

    fit: Literal["crop", "letterbox", "stretch"] = "crop"
    """Cover the input and cut the centre, fit inside and pad, or distort."""
    view_sampling: Literal["first", "random"] = "first"
    """Views of a training action under --max-views: the first, or others each epoch."""
    cache_dir: Path | None = None
    """Folder of decoded windows. Default: `mvfouls_cache` in the data set's root."""
    cache_format: Literal["uint8", "jpeg"] = "uint8"
    """How they are stored."""


@dataclass(frozen=True, kw_only=True)
class JudgingConfig:
    """How validation chooses the best model."""

    selection_metric: str = "leaderboard"
    """leaderboard, os_ba, action_ba, TASK_macro_f1, TASK_ba, TASK_acc, mean_ba or val_loss."""
    tta: bool = False
    """Judge the mean over each clip and its mirror image."""


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """How the network is computed."""

    probe_batches: int = 4
    """Batches that measure the importance of frozen blocks."""
    activation_checkpointing: bool = False
    """Less memory, more time, equal gradients."""
    channels_last: bool | Literal["auto"] = "auto"
    """Memory order of convolutions on GPUs; auto: on for convolutional networks."""
    compile: bool = False
    """Compile the network; a failure is an error."""
    ema_decay: float = 0.0
    """Decay of averaged weights, which validation then uses; 0 = off."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run itself."""

    deterministic: bool = False
    """Deterministic kernels; an operator without one is an error."""
    overwrite: bool = False
    """Replace the run in --save-dir."""
    allow_config_change: bool = False
    """Let --resume go on with other settings."""
    wandb: bool = False
    """Copy the metrics to Weights & Biases."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def task_name(word: str) -> str:
    """Return the name of a task that a word on the command line means."""
    return TASK_ALIASES.get(word, word)


def repeated(words: Iterable[str]) -> list[str]:
    """Return the tasks that `words` name more than once, each once."""
    names = [task_name(word) for word in words]
    return sorted({name for name in names if names.count(name) > 1})
