"""Spellings, values and error texts of the command line."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from common.config import Aliases, Also, Parsed, UserError, cli, parse

Task = Literal["action_class", "severity", "offence"]
LossName = Literal["ce", "focal", "bce", "ldam"]


class Pooling(StrEnum):
    """Has values that differ from the member names."""

    MEAN = "mean"
    ATTENTION = "soft-attention"


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A head without settings."""


@dataclass(frozen=True, kw_only=True)
class DeepMlp:
    """A head with settings of three types."""

    hidden: int = 1024
    depth: int = 3
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, got {self.depth}")


@dataclass(frozen=True, kw_only=True)
class SeMlp:
    """A head with a required setting."""

    reduction: int
    act: Literal["relu", "gelu"] = "relu"


@dataclass(frozen=True, kw_only=True)
class TaskHead:
    """An item of a repeatable flag."""

    task: Task
    head: Linear | DeepMlp | SeMlp
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """A group whose own name is also a flag."""

    loss: LossName = "ce"
    gamma: float = 2.0
    loss_types: dict[Task, LossName] = field(default_factory=lambda: {"action_class": "ce"})
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every kind of flag."""

    loss: LossConfig = field(default_factory=LossConfig)
    batch_size: int = 6
    lr: float = 3e-4
    train_T: int = 180
    name: str = "run"
    pin_memory: Annotated[bool, Also("page_lock")] = False
    augment: bool = True
    lr_warmup: bool | Literal["auto"] = "auto"
    nesterov: bool | None = None
    max_views: Annotated[int | None, Also("view_limit")] = None
    json: Path | None = Path("out.json")
    void: Literal["train", "ignore"] = "train"
    pooling: Pooling = Pooling.MEAN
    input_size: tuple[int, int] = (512, 512)
    scale_range: tuple[float, float] = (1.0, 1.0)
    class_weights: tuple[str, ...] = ("balanced",)
    main_task_weights: tuple[float, ...] = (3.0, 3.0)
    store_scale: float | Literal["auto"] = "auto"
    crop: tuple[int, int] | Literal["auto"] | None = "auto"
    kp_alias: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    task_head: tyro.conf.UseAppendAction[tuple[TaskHead, ...]] = ()


ALIASES: Aliases = {
    "balance-size": "batch_size",
    "use_focal_loss": ("loss", "focal"),
    "use_ce_loss": ("loss", "ce"),
    "no_square": ("input_size", (512, 256)),
    "flip": "augment",
}


def run(line: str) -> Config:
    return cli(Config, line.split(), prog="prog", aliases=ALIASES)


def error(line: str) -> str:
    with pytest.raises(UserError) as caught:
        run(line)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--batch_size 4", "batch_size", 4),
        ("--batch-size 4", "batch_size", 4),
        ("--batch-size=4", "batch_size", 4),
        ("--batch_size=4 --batch-size 5", "batch_size", 5),
        ("--main_task-weights 3 3", "main_task_weights", (3.0, 3.0)),
        ("--main-task_weights 3 -1.5 1e-3", "main_task_weights", (3.0, -1.5, 1e-3)),
        ("--main-task-weights 1 2 --main-task-weights 9", "main_task_weights", (9.0,)),
        ("--train_T 60", "train_T", 60),
        ("--train-T 60", "train_T", 60),
        ("--lr 5e-5", "lr", 5e-5),
        ("--lr -1", "lr", -1.0),
        ("--name --", "name", "--"),
        ("--name=--lr", "name", "--lr"),
        ("--name=a=b", "name", "a=b"),
        ("--name=", "name", ""),
        ("--pin_memory", "pin_memory", True),
        ("--no-pin-memory", "pin_memory", False),
        ("--no_augment", "augment", False),
        ("--no-augment --augment", "augment", True),
        ("--lr-warmup", "lr_warmup", True),
        ("--no-lr_warmup", "lr_warmup", False),
        ("--lr-warmup auto", "lr_warmup", "auto"),
        ("--nesterov", "nesterov", True),
        ("--nesterov None", "nesterov", None),
        ("--max-views 3", "max_views", 3),
        ("--max-views None", "max_views", None),
        ("--max-views none", "max_views", None),
        ("--no-max-views", "max_views", None),
        ("--no-json", "json", None),
        ("--json null", "json", None),
        ("--json a/b.json", "json", Path("a/b.json")),
        ("--void ignore", "void", "ignore"),
        ("--pooling soft-attention", "pooling", Pooling.ATTENTION),
        ("--input-size 512 256", "input_size", (512, 256)),
        ("--input-size=512 256", "input_size", (512, 256)),
        ("--scale-range 0.5 2", "scale_range", (0.5, 2.0)),
        ("--class-weights 1.0 2.0 1.5 3.0", "class_weights", ("1.0", "2.0", "1.5", "3.0")),
        ("--class-weights none", "class_weights", ("none",)),
        ("--store-scale 0.25", "store_scale", 0.25),
        ("--store-scale auto", "store_scale", "auto"),
        ("--crop 3 4", "crop", (3, 4)),
        ("--crop auto", "crop", "auto"),
        ("--crop none", "crop", None),
        ("--kp-alias Nose=mouth --kp_alias Tail=tail", "kp_alias", ("Nose=mouth", "Tail=tail")),
        ("--task-head offence linear", "task_head", (TaskHead(task="offence", head=Linear()),)),
        (
            "--task-head offence deep_mlp depth=5 dropout=0.2"
            " --task_head severity se_mlp reduction=4 scale=2",
            "task_head",
            (
                TaskHead(task="offence", head=DeepMlp(depth=5, dropout=0.2)),
                TaskHead(task="severity", head=SeMlp(reduction=4), scale=2.0),
            ),
        ),
    ],
)
def test_value(line: str, name: str, value: object) -> None:
    result = getattr(run(line), name)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--loss focal", "loss", "focal"),
        ("--gamma 5", "gamma", 5.0),
        (
            "--loss-types action_class ce offence ldam",
            "loss_types",
            {"action_class": "ce", "offence": "ldam"},
        ),
        ("--loss-types", "loss_types", {}),
        ("--ranges a 1 2 b 3 4", "ranges", {"a": (1.0, 2.0), "b": (3.0, 4.0)}),
    ],
)
def test_value_of_a_group(line: str, name: str, value: object) -> None:
    assert getattr(run(line).loss, name) == value


def test_nothing_given_equals_the_defaults() -> None:
    assert run("") == Config()


@pytest.mark.parametrize(
    "line",
    [
        "--batch-size 4 --lr 1e-5 --no-augment --void ignore",
        "--input-size 1 2 --class-weights a b --store-scale 0.5 --crop 3 4 --max-views None",
        "--gamma 3 --loss bce --kp-alias a --kp-alias b --pooling soft-attention --scale-range 1 2",
    ],
)
def test_agrees_with_tyro(line: str) -> None:
    # tyro alone cannot take a dictionary with a default or dataclass items, so those fields are held fixed.
    @dataclass(frozen=True, kw_only=True)
    class Plain(Config):
        loss: tyro.conf.OmitArgPrefixes[LossConfig] = field(default_factory=LossConfig)
        task_head: tyro.conf.Fixed[tuple[TaskHead, ...]] = ()

    words = line.split()
    expected = tyro.cli(Plain, args=words, config=(tyro.conf.EnumChoicesFromValues,))
    assert vars(run(line)) == vars(expected)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("--augment True", True),
        ("--augment False", False),
        ("--augment=false", False),
        ("--augment=TRUE", True),
        ("--augment False --augment False", False),
    ],
)
def test_a_switch_with_a_value_is_deprecated_once(line: str, value: bool) -> None:
    with pytest.warns(DeprecationWarning, match="--augment") as caught:
        assert run(line).augment is value
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("line", "name", "value", "message"),
    [
        ("--balance_size 3", "batch_size", 3, "--balance_size is deprecated; use --batch-size"),
        ("--no-square", "input_size", (512, 256), "--no-square is deprecated; use --input-size 512 256"),
        ("--no_flip", "augment", False, "--no_flip is deprecated; use --no-augment"),
        ("--flip", "augment", True, "--flip is deprecated; use --augment"),
    ],
)
def test_alias(line: str, name: str, value: object, message: str) -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated") as caught:
        assert getattr(run(line), name) == value
    assert [str(item.message) for item in caught] == [message]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--page-lock", "pin_memory", True),
        ("--page_lock --no-page_lock", "pin_memory", False),
        ("--page-lock --no-pin-memory", "pin_memory", False),
        ("--view-limit 3", "max_views", 3),
        ("--view_limit 3 --max-views 2", "max_views", 2),
        ("--view_limit 3 --no-view-limit", "max_views", None),
    ],
)
def test_a_second_spelling_is_as_good_as_the_first(line: str, name: str, value: object) -> None:
    parsed = parse(Config, line.split(), prog="prog")
    assert getattr(parsed.config, name) == value
    assert parsed.typed == {name}


@pytest.mark.parametrize(
    ("line", "loss"),
    [("--use-focal-loss", "focal"), ("--use_focal_loss True", "focal"), ("--use-focal-loss=false", "ce")],
)
def test_alias_with_a_value(line: str, loss: str) -> None:
    with pytest.warns(DeprecationWarning, match="use --loss focal"):
        assert run(line).loss.loss == loss


def test_alias_and_flag_with_the_same_value() -> None:
    with pytest.warns(DeprecationWarning, match="use_focal_loss"):
        assert run("--use_focal_loss --loss focal").loss.loss == "focal"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--use_focal_loss --loss ldam",
            "--use_focal_loss (--loss focal) contradicts --loss ldam; give one of them",
        ),
        (
            "--use-focal-loss --use-ce-loss",
            "--use-focal-loss (--loss focal) contradicts --use-ce-loss (--loss ce); give one of them",
        ),
        ("--use-focal-loss 3", "--use-focal-loss: takes no value; got '3'"),
        # unknown flags and stray words
        ("--gama 2", "unknown flag --gama; did you mean --gamma?"),
        ("--bach_size 2", "unknown flag --bach_size; did you mean --batch_size?"),
        ("--no-batch-size", "unknown flag --no-batch-size; did you mean --batch-size, --input-size?"),
        ("--view-limt 3", "unknown flag --view-limt; did you mean --view-limit?"),
        ("--page-lock 3", "--page-lock: a switch takes no value; got '3'"),
        ("--confg x.yaml", "unknown flag --confg; did you mean --config?"),
        ("--zzzzzz", "unknown flag --zzzzzz"),
        ("--TRAIN_T 3", "unknown flag --TRAIN_T"),
        ("oops --lr 1", "unexpected argument 'oops'"),
        ("-x", "unexpected argument '-x'"),
        # scalars
        ("--batch-size 1.5", "--batch-size: expected an integer; got '1.5'"),
        ("--batch_size", "--batch_size: expected an integer; got nothing"),
        ("--batch-size 1 2", "--batch-size: expected an integer; got '1 2'"),
        ("--lr fast", "--lr: expected a number; got 'fast'"),
        ("--lr none", "--lr: expected a number; got 'none'"),
        ("--max-views many", "--max-views: expected an integer or None; got 'many'"),
        ("--store-scale half", "--store-scale: expected a number or auto; got 'half'"),
        ("--void ignroe", "--void: expected one of train, ignore; got 'ignroe'; did you mean ignore?"),
        ("--pooling ATTENTION", "--pooling: expected one of mean, soft-attention; got 'ATTENTION'"),
        # switches
        ("--augment 3", "--augment: a switch takes no value; got '3'"),
        ("--augment True True", "--augment: a switch takes no value; got 'True True'"),
        ("--no-augment False", "--no-augment: takes no value; got 'False'"),
        ("--lr-warmup maybe", "--lr-warmup: expected True or False or auto; got 'maybe'"),
        # lists
        ("--input-size 512", "--input-size: expected 2 values, each an integer; got '512'"),
        ("--input-size 1 2 3", "--input-size: expected 2 values, each an integer; got '1 2 3'"),
        ("--main-task-weights 3 x", "--main-task-weights: expected values, each a number; got '3 x'"),
        # dictionaries
        (
            "--loss-types action_class ce offence",
            "--loss-types: expected pairs of {action_class,severity,offence} {ce,focal,bce,ldam}; got 3 "
            "tokens, 'offence' has no value",
        ),
        ("--loss-types offence ce offence focal", "--loss-types: key 'offence' is given twice"),
        (
            "--loss-types ofence ce",
            "--loss-types: unknown key 'ofence': expected one of action_class, severity, offence; did you "
            "mean offence?",
        ),
        (
            "--loss_types offence lsam",
            "--loss_types: value of 'offence': expected one of ce, focal, bce, ldam; got 'lsam'; did you "
            "mean ldam?",
        ),
        ("--ranges a 1 b", "--ranges: value of 'a': expected 2 values, each a number; got '1 b'"),
        # repeatable records
        (
            "--task-head offence",
            "--task-head: expected {action_class,severity,offence} {linear,deep_mlp,se_mlp} [KEY=VALUE ...]; "
            "got 'offence'",
        ),
        (
            "--task-head ofence linear",
            "--task-head: task: expected one of action_class, severity, offence; got 'ofence'; did you "
            "mean offence?",
        ),
        (
            "--task-head offence dep_mlp",
            "--task-head: head: expected one of linear, deep_mlp, se_mlp; got 'dep_mlp'; did you "
            "mean deep_mlp, se_mlp?",
        ),
        (
            "--task-head offence deep_mlp dept=3",
            "--task-head: unknown key 'dept'; keys are hidden, depth, dropout, scale; did you mean depth?",
        ),
        ("--task-head offence linear hidden=3", "--task-head: unknown key 'hidden'; keys are scale"),
        ("--task-head offence deep_mlp depth=x", "--task-head: depth: expected an integer; got 'x'"),
        ("--task-head offence deep_mlp depth=0", "--task-head: depth must be at least 1, got 0"),
        ("--task-head offence deep_mlp depth", "--task-head: expected key=value; got 'depth'"),
        ("--task-head offence deep_mlp depth=1 depth=2", "--task-head: key 'depth' is given twice"),
        ("--task-head offence se_mlp", "--task-head: se_mlp needs reduction=VALUE"),
        (
            "--task-head",
            "--task-head: expected {action_class,severity,offence} {linear,deep_mlp,se_mlp} "
            "[KEY=VALUE ...]; got nothing",
        ),
        # the settings file
        ("--config", "--config: expected one YAML file; got nothing"),
        ("--config a.yaml --config b.yaml", "--config is given twice: a.yaml and b.yaml"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_error_text(line: str, message: str) -> None:
    assert error(line) == message


def test_at_most_three_suggestions() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Similar:
        alpha_1: int = 0
        alpha_2: int = 0
        alpha_3: int = 0
        alpha_4: int = 0

    with pytest.raises(UserError) as caught:
        cli(Similar, ["--alpha"], prog="p")
    assert str(caught.value).count("--alpha_") + str(caught.value).count("--alpha-") == 3


@dataclass(frozen=True, kw_only=True)
class Positional:
    """A file, then flags."""

    path: tyro.conf.Positional[Path]
    """What to read."""
    strategy: Literal["sqrt", "log"] = "sqrt"
    size: tuple[int, int] = (1, 1)
    verbose: bool = False
    quiet: bool | Literal["auto"] = "auto"
    limit: int | None = None


@pytest.mark.parametrize(
    "line",
    [
        "counts.json --strategy log",
        "--strategy log counts.json",
        "--strategy=log counts.json",
        "--verbose counts.json --strategy log --no-verbose",
        "--no-limit counts.json --strategy log",
        "--quiet auto counts.json --strategy log",
        "--strategy log --size 1 1 counts.json",
    ],
)
def test_positional(line: str) -> None:
    assert cli(Positional, line.split(), prog="p") == Positional(path=Path("counts.json"), strategy="log")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "missing required PATH"),
        ("a b", "unexpected argument 'b'"),
        ("--path a", "unknown flag --path"),
        ("--strategy", "--strategy: expected one of sqrt, log; got nothing"),
    ],
)
def test_positional_errors(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        cli(Positional, line.split(), prog="p")
    assert str(caught.value) == message


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Has a required flag, a required group field and a check."""

    dataset_root: Path
    epochs: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"--epochs must be at least 1, got {self.epochs}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "missing required --dataset-root"),
        ("--dataset-root . --epochs 0", "--epochs must be at least 1, got 0"),
    ],
)
def test_errors_of_the_class(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        cli(Checked, line.split(), prog="p")
    assert str(caught.value) == message


@dataclass(frozen=True, kw_only=True)
class Group:
    """Set by presets and by the parent's default."""

    gamma: float = 2.0
    weights: tuple[str, ...] = ("none",)


@dataclass(frozen=True, kw_only=True)
class WithPreset:
    """Chosen bundles of values."""

    preset: Literal["guide", "safe"] = "guide"
    loss: Group = field(default_factory=lambda: Group(gamma=7.0))
    void: str = "train"
    sizes: tuple[float, float] = (0.0, 0.0)


PRESETS = {
    "guide": {"void": "train", "sizes": [1, 1], "weights": ["guide"]},
    "safe": {"void": "ignore", "sizes": (0.5, 2.0), "weights": ["balanced"]},
}


def preset(line: str, default: str | None = None) -> Parsed[WithPreset]:
    return parse(WithPreset, line.split(), prog="p", presets=PRESETS, default_preset=default)


def test_preset_of_the_field_default() -> None:
    parsed = preset("")
    assert parsed.config == WithPreset(loss=Group(gamma=7.0, weights=("guide",)), sizes=(1.0, 1.0))
    assert parsed.typed == frozenset()
    assert parsed.preset_fields == {"void": "train", "sizes": (1.0, 1.0), "weights": ("guide",)}


@pytest.mark.parametrize(
    ("line", "default"), [("", "safe"), ("--preset safe", None), ("--preset safe", "guide")]
)
def test_preset_chosen(line: str, default: str | None) -> None:
    parsed = preset(line, default)
    assert parsed.config.preset == "safe"
    assert (parsed.config.void, parsed.config.sizes) == ("ignore", (0.5, 2.0))
    assert parsed.config.loss.weights == ("balanced",)


def test_a_typed_flag_replaces_the_preset_value_whole() -> None:
    parsed = preset("--weights a b c --gamma 1 --preset safe")
    assert parsed.config.loss == Group(gamma=1.0, weights=("a", "b", "c"))
    assert parsed.config.void == "ignore"
    assert parsed.typed == {"weights", "gamma", "preset"}
    assert parsed.preset_fields == {"void": "ignore", "sizes": (0.5, 2.0)}


def test_a_preset_that_does_not_exist() -> None:
    with pytest.raises(
        UserError, match=r"--preset: expected one of guide, safe; got 'saef'; did you mean safe"
    ):
        preset("--preset saef")


def test_a_preset_of_a_field_that_does_not_exist() -> None:
    with pytest.raises(AssertionError, match="preset guide sets voids"):
        parse(WithPreset, [], prog="p", presets={"guide": {"voids": 1}})


def test_defaults_of_the_parent_reach_a_group() -> None:
    assert cli(WithPreset, ["--void", "x"], prog="p").loss == Group(gamma=7.0)


def test_two_parses_share_no_mutable_default() -> None:
    with warnings.catch_warnings():
        first, second = run(""), run("")
    first.loss.loss_types["offence"] = "ldam"
    assert second.loss.loss_types == {"action_class": "ce"}
