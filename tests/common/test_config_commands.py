"""Verbs, exit codes, findings, help and the list of flags."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro

from common.config import (
    REQUIRED,
    Also,
    Finding,
    Parsed,
    UserError,
    Verb,
    check,
    cli,
    flags,
    has_no_effect,
    run_main,
    run_verbs,
    writing,
)


@dataclass(frozen=True, kw_only=True)
class Base:
    """Fields of a parent class come first."""

    seed: int = 42
    """Seed of everything."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A group."""

    strategy: Literal["sqrt", "log"] = "log"
    """How counts become
    weights."""
    cap: float | Literal["auto"] = "auto"
    loss_types: dict[str, str] = field(default_factory=lambda: {"a": "ce"})
    """Loss of each task."""


@dataclass(frozen=True, kw_only=True)
class Config(Base):
    """A command."""

    path: tyro.conf.Positional[Path]
    """What to read."""
    preset: Literal["small", "large"] = "small"
    """A bundle."""
    weights: Weights = field(default_factory=lambda: Weights(strategy="sqrt"))
    verbose: Annotated[bool, Also("chatty")] = False
    """Say more."""
    epochs: int
    """How long."""
    names: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to keep."""
    fails: Literal["no", "user", "run", "interrupt", "exit", "code"] = "no"


PRESETS = {"small": {"seed": 1}, "large": {"seed": 2}}


def act(parsed: Parsed[Config]) -> object:
    failure = parsed.config.fails
    if failure == "user":
        raise UserError("labels.csv:7: no such class 'x'")
    if failure == "run":
        raise RuntimeError("out of luck")
    if failure == "interrupt":
        raise KeyboardInterrupt
    if failure == "exit":
        raise SystemExit(143)
    if failure == "code":
        return 3
    return parsed.config.verbose


def main(line: str, **options: Any) -> int:
    return run_main(
        act, Config, line.split(), prog="prog", description="Does things.", presets=PRESETS, **options
    )


@pytest.mark.parametrize(
    ("line", "code", "stderr"),
    [
        ("a --epochs 1", 0, ""),
        ("a --epochs 1 --verbose", 0, ""),
        ("a --epochs 1 --fails code", 3, ""),
        ("a --epochs 1 --fails user", 2, "error: labels.csv:7: no such class 'x'\n"),
        ("a --epochs 1 --fails interrupt", 130, "interrupted\n"),
        ("a --epohcs 1", 2, "error: unknown flag --epohcs; did you mean --epochs?\n"),
        ("--verbose", 2, "error: missing required PATH, --epochs\n"),
        ("a --epochs 1 --verbose=False", 0, "warning: --verbose False is deprecated; use --no-verbose\n"),
    ],
)
def test_exit_code(line: str, code: int, stderr: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == code
    assert capsys.readouterr() == ("", stderr)


def test_other_exceptions_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        main("a --epochs 1 --fails run")


def test_an_exit_passes() -> None:
    with pytest.raises(SystemExit) as caught:
        main("a --epochs 1 --fails exit")
    assert caught.value.code == 143


def test_an_interpreter_reports_the_same_codes(tmp_path: Path) -> None:
    (tmp_path / "story.py").write_text(
        textwrap.dedent(
            """
            from dataclasses import dataclass
            from common.config import UserError, Verb, run_verbs

            @dataclass(frozen=True, kw_only=True)
            class Config:
                kind: str = ""

            def go(parsed):
                raise {"user": UserError, "run": RuntimeError}[parsed.config.kind]("told you")

            if __name__ == "__main__":
                raise SystemExit(run_verbs("story", {"go": Verb(Config, "Go.", "story:go")}))
            """
        )
    )
    codes = {}
    for kind in ("user", "run"):
        words = [sys.executable, "story.py", "go", "--kind", kind]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        codes[kind] = (done.returncode, "Traceback" in done.stderr, done.stderr.endswith("told you\n"))
    assert codes == {"user": (2, False, True), "run": (1, True, True)}


def test_what_is_logged_is_printed_as_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(parsed: Parsed[Base]) -> None:
        check([Finding("warning", f"--seed {parsed.config.seed} is even")], False, logging.getLogger("story"))

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert run_main(warn, Base, ["--seed", "2"], prog="prog") == 0
    assert capsys.readouterr() == ("", "warning: --seed 2 is even\n")


HELP = """\
usage: prog PATH [--flag VALUE ...]

Does things.

arguments:
  PATH                    What to read. (required)

options:
  -h, --help              print this text
  --config FILE           YAML file of flags; flags given on the line replace its values
  --seed INT              Seed of everything. (default: 2)
  --preset {small,large}  A bundle. (default: large)
  --verbose, --no-verbose, --chatty
                          Say more. (default: False)
  --epochs INT            How long. (required)
  --names STR             What to keep. (repeatable, default: empty)
  --fails {no,user,run,interrupt,exit,code}
                          (default: no)

weights:
  --strategy {sqrt,log}   How counts become weights. (default: sqrt)
  --cap FLOAT|{auto}      (default: auto)
  --loss-types [STR STR ...]
                          Loss of each task. (default: a ce)
"""


@pytest.mark.parametrize("line", ["--help", "-h", "--nonsense 3 --help"])
def test_help(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(line, default_preset="large") == 0
    assert capsys.readouterr() == (HELP, "")


def test_flags() -> None:
    found = {flag.name: flag for flag in flags(Config)}
    assert list(found) == [
        "seed", "path", "preset", "strategy", "cap", "loss_types", "verbose", "epochs", "names", "fails"
    ]  # fmt: skip
    strategy = found["strategy"]
    assert (strategy.option, strategy.default, strategy.choices) == ("--strategy", "sqrt", ("sqrt", "log"))
    assert (strategy.groups, strategy.help) == (("weights",), "How counts become weights.")
    assert found["seed"].help == "Seed of everything."
    assert found["loss_types"].option == "--loss-types"
    assert found["epochs"].default is REQUIRED
    assert (found["epochs"].type, found["epochs"].required, found["epochs"].choices) == (int, True, None)
    assert (found["path"].positional, found["names"].repeated, found["verbose"].switch) == (True, True, True)
    assert found["cap"].choices is None


def test_every_flag_can_be_driven_by_its_description() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Flat:
        kind: Literal["a", "b"] = "a"
        on: bool = True
        off: bool = False

    for flag in flags(Flat):
        words = [f"--no-{flag.name}" if flag.default else flag.option] if flag.switch else [flag.option, "b"]
        assert getattr(cli(Flat, words, prog="p"), flag.name) != flag.default


@dataclass(frozen=True, kw_only=True)
class Twice:
    """Holds a leaf name that its group holds too."""

    weights: Weights = field(default_factory=Weights)
    cap: int = 0


@dataclass(kw_only=True)
class Thawed:
    """Not frozen."""

    x: int = 0


@dataclass(frozen=True)
class ByPosition:
    """Not keyword-only."""

    x: int = 0


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """Uses the name of the settings file."""

    config: str = ""


@dataclass(frozen=True, kw_only=True)
class Negation:
    """A switch whose off spelling is another field."""

    cache: bool = True
    no_cache: bool = False


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A second spelling that is another field."""

    cache: bool = True
    store: Annotated[bool, Also("cache")] = False


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """Holds what no flag can."""

    x: Any = None


@pytest.mark.parametrize(
    ("config_class", "message"),
    [
        (Twice, r"the flag --cap is both weights\.cap and cap"),
        (Thawed, "Thawed must be a frozen dataclass"),
        (ByPosition, r"ByPosition\.x must be keyword-only"),
        (Reserved, "--config is reserved"),
        (Negation, "--no-cache turns --cache off and is the field no_cache"),
        (Taken, "Taken: a second spelling is taken"),
        (Unsupported, r"no flag can hold a typing\.Any"),
    ],
)
def test_a_class_that_is_no_command_line(config_class: type, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        flags(config_class)


VERBS = {
    "count-up": Verb(Base, "Counts.", "config_verb_target:count"),
    "train": Verb(Config, "Trains.", "config_verb_target:absent", PRESETS, "large", {"rounds": "epochs"}),
}
VERBS_TEXT = """\
usage: tool COMMAND [--flag VALUE ...]

commands:
  count-up  Counts.
  train     Trains.

tool COMMAND --help lists the flags of a command
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config_verb_target.py").write_text("def count(parsed):\n    return parsed.config.seed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "config_verb_target", raising=False)


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize(("line", "code"), [("count-up --seed 7", 7), ("count_up", 42)])
def test_verb(line: str, code: int) -> None:
    assert run_verbs("tool", VERBS, line.split()) == code


@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("--help", 0, VERBS_TEXT, ""),
        ("", 2, "", VERBS_TEXT),
        (
            "trian",
            2,
            "",
            "error: unknown command 'trian'; did you mean train?; commands are count-up, train\n",
        ),
        ("train --seed x", 2, "", "error: --seed: expected an integer; got 'x'\n"),
        ("count-up x", 2, "", "error: unexpected argument 'x'\n"),
    ],
)
def test_verb_usage(line: str, code: int, out: str, err: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verbs("tool", VERBS, line.split()) == code
    assert capsys.readouterr() == (out, err)


@pytest.mark.usefixtures("target")
def test_help_of_a_verb_imports_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verbs("tool", VERBS, ["train", "--help"]) == 0
    assert "usage: tool train PATH" in capsys.readouterr().out
    assert "config_verb_target" not in sys.modules


def test_check_logs_warnings(caplog: pytest.LogCaptureFixture) -> None:
    text = has_no_effect("--t_0", "--scheduler is cosine")
    check([Finding("warning", text)], False, logging.getLogger("config"))
    assert caplog.messages == ["--t-0 has no effect because --scheduler is cosine"]


def test_check_lists_every_error(caplog: pytest.LogCaptureFixture) -> None:
    found = [
        Finding("error", "--a excludes --b"),
        Finding("warning", "--c is odd"),
        Finding("error", "--d is 0"),
    ]
    with pytest.raises(UserError) as caught:
        check(found, False, logging.getLogger("config"))
    assert str(caught.value).split("\n") == ["--a excludes --b", "       --d is 0"]
    assert caplog.messages == ["--c is odd"]
    with pytest.raises(UserError) as caught:
        check(found, True, logging.getLogger("config"))
    assert "--c is odd" in str(caught.value)


def test_check_of_nothing() -> None:
    check([], True, logging.getLogger("config"))


def test_neither_torch_nor_numpy_is_imported() -> None:
    code = (
        "import sys, common.config; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_help_is_fast(tmp_path: Path) -> None:
    fields = "\n".join(f"    field_{index}: int | None = {index}\n    'Text.'" for index in range(150))
    (tmp_path / "wide.py").write_text(
        "from dataclasses import dataclass\nfrom common.config import cli\n"
        f"@dataclass(frozen=True, kw_only=True)\nclass Wide:\n{fields}\ncli(Wide, ['--help'], prog='wide')\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "wide.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.count("(default:") == 150
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


def test_what_the_disk_refuses_is_an_error_that_names_the_flag(tmp_path: Path) -> None:
    expected = r"^--out results: cannot be written: Is a directory$"
    with pytest.raises(UserError, match=expected), writing("--out results"):
        tmp_path.write_text("")
    with pytest.raises(KeyError), writing("--out results"):
        {}["anything else passes through"]
