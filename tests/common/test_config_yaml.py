"""YAML files of settings: the same values, errors with file and line, and the round trip."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
import tyro
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import Aliases, UserError, from_yaml, parse, to_yaml


class Mode(StrEnum):
    """Two words, one of which YAML reads as a bool."""

    ON = "on"
    SLOW = "slow-motion"


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A variant with a setting of each scalar type."""

    depth: int = 3
    rate: float = 0.5
    kind: Literal["oak", "fir"] = "oak"


@dataclass(frozen=True, kw_only=True)
class Bush:
    """A variant with a required setting."""

    label: str


@dataclass(frozen=True, kw_only=True)
class Plant:
    """An item of a repeatable flag."""

    bed: str
    plant: Tree | Bush


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Two levels down."""

    depth_limit: int | None = None
    ratio: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A group named like one of its own flags."""

    loss: Literal["ce", "focal", "off"] = "ce"
    loss_types: dict[str, Literal["ce", "focal"]] = field(default_factory=lambda: {"a": "ce"})
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class Config:
    """All kinds of fields."""

    loss: Loss = field(default_factory=Loss)
    count: int = 1
    lr: float = 3e-4
    name: str = "run"
    note: str | None = None
    augment: bool = True
    warm: bool | Literal["auto"] = "auto"
    mode: Mode = Mode.ON
    amp: Literal["auto", "off"] = "auto"
    path: Path = Path("a/b")
    resume: Path | None = None
    size: tuple[int, int] = (1, 2)
    weights: tuple[str, ...] = ("balanced",)
    flags: tuple[bool, ...] = ()
    scale: float | Literal["auto"] = "auto"
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    pairs: tuple[tuple[int, str], ...] = ()
    alias: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    plants: tyro.conf.UseAppendAction[tuple[Plant, ...]] = ()


ALIASES: Aliases = {
    "use_focal": ("loss", "focal"),
    "no_fast": ("mode", "slow-motion"),
    "number": "count",
    "flip": "augment",
}

# "None" and "null" as text cannot be told from no value where a field may be None.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
options = texts.filter(lambda text: text.lower() not in ("none", "null"))
floats = st.floats(allow_nan=False)
numbers = st.integers(-(10**20), 10**20)
trees = st.builds(Tree, depth=numbers, rate=floats, kind=st.sampled_from(["oak", "fir"]))
configs = st.builds(
    Config,
    loss=st.builds(
        Loss,
        loss=st.sampled_from(["ce", "focal", "off"]),
        loss_types=st.dictionaries(texts, st.sampled_from(["ce", "focal"]), max_size=3),
        inner=st.builds(Inner, depth_limit=st.none() | numbers, ratio=floats),
    ),
    count=numbers,
    lr=floats,
    name=texts,
    note=st.none() | options,
    augment=st.booleans(),
    warm=st.booleans() | st.just("auto"),
    mode=st.sampled_from(Mode),
    amp=st.sampled_from(["auto", "off"]),
    path=options.filter(lambda text: "\0" not in text).map(Path),
    resume=st.none() | options.map(Path),
    size=st.tuples(numbers, numbers),
    weights=st.lists(texts, max_size=3).map(tuple),
    flags=st.lists(st.booleans(), max_size=3).map(tuple),
    scale=floats | st.just("auto"),
    limits=st.dictionaries(texts, st.tuples(floats, floats), max_size=2),
    pairs=st.lists(st.tuples(numbers, texts), max_size=2).map(tuple),
    alias=st.lists(texts, max_size=2).map(tuple),
    plants=st.lists(st.builds(Plant, bed=texts, plant=trees | st.builds(Bush, label=texts)), max_size=2).map(
        tuple
    ),
)


@given(config=configs)
@settings(max_examples=30)
def test_round_trip(config: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    text = to_yaml(config)
    path.write_text(text, encoding="utf-8")
    assert text.isascii()
    assert from_yaml(Config, path) == config
    assert parse(Config, ["--config", str(path)], prog="p").config == config


def test_the_file_is_plain_yaml_by_group() -> None:
    config = Config(lr=5e-5, plants=(Plant(bed="n", plant=Tree(depth=2)),), mode=Mode.SLOW)
    plain = yaml.safe_load(to_yaml(config))
    assert plain["loss"]["inner"] == {"depth_limit": None, "ratio": 1.0}
    assert (plain["lr"], plain["mode"], plain["path"], plain["size"]) == (5e-5, "slow-motion", "a/b", [1, 2])
    assert plain["plants"] == [["n", "tree", "depth=2", "rate=0.5", "kind=oak"]]
    assert list(plain)[:3] == ["loss", "count", "lr"]


def load(tmp_path: Path, text: str, line: str = "") -> Any:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return parse(Config, ["--config", str(path), *line.split()], prog="p", aliases=ALIASES)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("lr: 5e-5", "lr", 5e-5),
        ("lr: 1", "lr", 1.0),
        ("lr: .inf", "lr", math.inf),
        ("lr: -.INF", "lr", -math.inf),
        ("name: 1.10", "name", "1.10"),
        ("name: 010", "name", "010"),
        ("name: no", "name", "no"),
        ("name: '--lr'", "name", "--lr"),
        ("name: 2026-01-02", "name", "2026-01-02"),
        ("amp: off", "amp", "off"),
        ("mode: on", "mode", Mode.ON),
        ("augment: false", "augment", False),
        ("augment: off", "augment", False),
        ("augment: yes", "augment", True),
        ("no-augment: true", "augment", False),
        ("no_augment: false", "augment", True),
        ("warm: yes", "warm", True),
        ("warm: auto", "warm", "auto"),
        ("note: null", "note", None),
        ("note:", "note", None),
        ("note: ~", "note", None),
        ("resume: none", "resume", None),
        ("size: [3, 4]", "size", (3, 4)),
        ("weights: guide", "weights", ("guide",)),
        ("weights: []", "weights", ()),
        ("weights: [1.0, 2]", "weights", ("1.0", "2")),
        ("flags: [true, off]", "flags", (True, False)),
        ("pairs: [[1, a], [2, b]]", "pairs", ((1, "a"), (2, "b"))),
        ("limits: {a: [1, 2]}", "limits", {"a": (1.0, 2.0)}),
        ("alias: [x=1, y=2]", "alias", ("x=1", "y=2")),
        ("alias: x=1", "alias", ("x=1",)),
        ("plants: [bed tree depth=4, [b, bush, label=x y]]", "plants", None),
    ],
)
def test_value(tmp_path: Path, text: str, name: str, value: Any) -> None:
    if name == "plants":
        value = (Plant(bed="bed", plant=Tree(depth=4)), Plant(bed="b", plant=Bush(label="x y")))
    parsed = load(tmp_path, text)
    assert parsed.config == replace(Config(), **{name: value})
    assert parsed.typed == {name}


@pytest.mark.parametrize(
    "text",
    [
        "loss: {loss: focal, inner: {ratio: 2}}",
        "loss: focal\nratio: 2",
        "loss:\n  loss: focal\nratio: 2",
        "loss: focal\ninner:\n  ratio: 2\n".replace("inner:\n  ", ""),
    ],
)
def test_flat_and_nested_keys(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text).config.loss == Loss(loss="focal", inner=Inner(ratio=2.0))


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing\n").config == Config()


@pytest.mark.parametrize(
    ("text", "line", "name", "value"),
    [
        ("lr: 1", "--lr 2", "lr", 2.0),
        ("augment: false", "--augment", "augment", True),
        ("augment: true", "--no-augment", "augment", False),
        ("weights: [a, b, c]", "--weights d", "weights", ("d",)),
        ("limits: {a: [1, 2], b: [3, 4]}", "--limits c 5 6", "limits", {"c": (5.0, 6.0)}),
        ("alias: [a, b]", "--alias c", "alias", ("c",)),
        ("note: x", "--note None", "note", None),
    ],
)
def test_the_line_replaces_the_file_whole(
    tmp_path: Path, text: str, line: str, name: str, value: object
) -> None:
    parsed = load(tmp_path, text + "\ncount: 9", line)
    assert getattr(parsed.config, name) == value
    assert parsed.config.count == 9
    assert parsed.typed == {name, "count"}


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("use_focal: true", "loss", Loss(loss="focal")),
        ("use-focal: false", "loss", Loss()),
        ("no_fast: true", "mode", Mode.SLOW),
        ("number: 4", "count", 4),
        ("no_flip: true", "augment", False),
    ],
)
def test_alias(tmp_path: Path, text: str, name: str, value: object) -> None:
    with pytest.warns(DeprecationWarning, match=r"c\.yaml:1: .* is deprecated; use --"):
        assert getattr(load(tmp_path, text).config, name) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1\nfocal_gama: 2", "2: unknown key 'focal_gama'"),
        ("count: 1\n\nweihgts: 2", "3: unknown key 'weihgts'; did you mean weights?"),
        ("loss:\n  inner:\n    rato: 1", "3: unknown key 'rato'; did you mean ratio?"),
        ("lr: 1\ncount: 2\nlr: 3", "3: key 'lr' is given twice (line 1)"),
        ("no-augment: true\nno_augment: true", "2: key 'no_augment' is given twice (line 1)"),
        ("loss: {loss: ce}\nloss: {inner: {}}", "2: key 'loss' is given twice (line 1)"),
        ("loss:\n  inner: {ratio: 1}\nratio: 2", "3: key 'ratio' is given twice (line 2)"),
        ("limits: {a: [1, 2], a: [1, 2]}", "1: limits: key 'a' is given twice (line 1)"),
        ("count: many", "1: count: expected an integer; got 'many'"),
        ("\ncount: 5.0", "2: count: expected an integer; got '5.0'"),
        ("count:", "1: count: expected an integer; got nothing"),
        ("name: null", "1: name: expected text; got nothing"),
        ("weights: ~", "1: weights: expected values, each text; got nothing"),
        ("count: [1, 2]", "1: count: expected an integer; got '1 2'"),
        ("count: {a: 1}", "1: count: expected an integer; got a mapping"),
        ("augment: maybe", "1: augment: expected true or false; got 'maybe'"),
        ("no_augment: maybe", "1: no_augment: expected true or false; got 'maybe'"),
        ("use_focal: maybe", "1: use_focal: expected true or false; got 'maybe'"),
        ("size: [1]", "1: size: expected 2 values, each an integer; got '1'"),
        ("size: [[[[1]]]]", "1: size: expected a value or a list of values"),
        ("weights: &a [*a]", "1: weights: expected a value or a list of values"),
        ("plants: [b tree 'x]", "1: plants: no closing quotation"),
        ("no_augment: [true]", "1: no_augment: expected true or false; got a list"),
        ("plants: [bed]", "1: plants: expected STR {tree,bush} [KEY=VALUE ...]; got 'bed'"),
        (
            "plants: [b tree dept=1]",
            "1: plants: unknown key 'dept'; keys are depth, rate, kind; did you mean depth?",
        ),
        ("loss: maybe", "1: loss: expected one of ce, focal, off; got 'maybe'"),
        ("amp: on", "1: amp: expected one of auto, off; got 'on'"),
        ("- lr", "1: expected a mapping of flag names to values"),
        ("[a]: 1", "1: a key must be the name of a flag"),
        ("lr: 1\n  count: 2", "2: mapping values are not allowed here"),
        ("lr: [1", "1: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2", "2: but found another document"),
        ("name: !!python/object:os.system x", None),
        ("config: other.yaml", "1: unknown key 'config'"),
    ],
)
def test_error_text(tmp_path: Path, text: str, message: str | None) -> None:
    if message is None:
        assert load(tmp_path, text).config.name == "x"
        return
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'c.yaml'}:{message}"


def test_both_alias_and_flag(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"c\.yaml:1: use_focal \(--loss focal\) contradicts .*c\.yaml:2: loss off"
    ):
        load(tmp_path, "use_focal: true\nloss: off")


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError) as caught:
            parse(Config, ["--config", str(path)], prog="p")
        assert str(caught.value) == f"--config: cannot read {path}: {reason}"
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff")
    with pytest.raises(UserError, match=r"latin\.yaml is not UTF-8 text"):
        from_yaml(Config, tmp_path / "latin.yaml")
    (tmp_path / "bell.yaml").write_bytes(b"name: \x07")
    with pytest.raises(UserError, match=r"bell\.yaml: unacceptable character"):
        from_yaml(Config, tmp_path / "bell.yaml")


def test_the_line_number_of_a_long_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"c\.yaml:202: unknown key 'zzz'"):
        load(tmp_path, "# line\n" * 200 + "lr: 1\nzzz: 2\n")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Has a preset and a required flag."""

    preset: Literal["a", "b"] = "a"
    root: Path
    x: int = 0
    y: int = 0


PRESETS = {"a": {"x": 1, "y": 1}, "b": {"x": 2, "y": 2}}


def choose(*words: object) -> Any:
    return parse(Chosen, [str(word) for word in words], prog="p", presets=PRESETS)


def test_file_stands_between_preset_and_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("preset: b\nroot: here\nx: 5\n")
    parsed = choose("--config", path, "--y", 7)
    assert parsed.config == Chosen(preset="b", root=Path("here"), x=5, y=7)
    assert parsed.preset_fields == {}
    assert choose("--config", path, "--preset", "a").config == Chosen(preset="a", root=Path("here"), x=5, y=1)


def test_a_written_configuration_remembers_what_was_typed(tmp_path: Path) -> None:
    first = choose("--preset", "b", "--root", "r", "--y", 9)
    assert (first.typed, first.preset_fields) == ({"preset", "root", "y"}, {"x": 2})
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(first.config, typed=first.typed))
    assert choose("--config", path) == first
    assert choose("--config", path, "--x", 3).typed == {"preset", "root", "x", "y"}
    assert from_yaml(Chosen, path) == first.config
    path.write_text(to_yaml(first.config))
    assert choose("--config", path).typed == {"preset", "root", "x", "y"}


def test_a_file_without_a_required_value(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("x: 1\n")
    with pytest.raises(UserError, match="missing required --root"):
        from_yaml(Chosen, path)
