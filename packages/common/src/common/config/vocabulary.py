"""Which flag a spelling means: exact names, `no_` forms and legacy aliases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.config.errors import UserError
from common.config.readers import suggestion, text_of
from common.config.records import record_tokens
from common.config.schema import Flag

Aliases = Mapping[str, str | tuple[str, Any]]

_BOOLS = {"true": "True", "false": "False"}
_SWITCH = {True: "a switch takes no value", False: "expected true or false"}
_OPTION = re.compile(r"--[A-Za-z_]|-h$")


@dataclass(frozen=True)
class Given:
    """Tokens given to a flag, and the spelling (`--lr`, or `run.yaml:3: lr`) that error texts name."""

    flag: Flag
    tokens: tuple[str, ...]
    where: str
    alias: bool = False

    @property
    def spelled(self) -> str:
        """The flag with its value, and what it stands for when it is an alias."""
        meaning = " ".join((self.flag.option, *self.tokens))
        return f"{self.where} ({meaning})" if self.alias else " ".join((self.where, *self.tokens))

    def read(self) -> Any:
        """Return the typed value. Raises UserError naming the flag."""
        try:
            return self.flag.reader.read(self.tokens)
        except ValueError as error:
            raise UserError(f"{self.where}: {error}") from None


Source = dict[str, list[Given]]
"""What one source (file or line) gives: flag name -> its occurrences; an empty list means no items."""


@dataclass(frozen=True)
class Match:
    """The meaning of a spelling. `fixed` holds the tokens when the spelling itself carries the value."""

    flag: Flag
    negated: bool = False
    fixed: tuple[str, ...] | None = None
    alias: str = ""


@dataclass
class Vocabulary:
    """All spellings of one command, and the deprecated ones that were used."""

    flags: dict[str, Flag]
    aliases: dict[str, str | tuple[str, Any]]
    synonyms: dict[str, Flag] = field(default_factory=dict)
    deprecations: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, flags: Sequence[Flag], aliases: Aliases | None) -> Vocabulary:
        """Return the vocabulary of `flags`; raises AssertionError for an alias of nothing or of itself."""
        by_name = {flag.name: flag for flag in flags}
        known = {_plain(old): new for old, new in (aliases or {}).items()}
        for old, new in known.items():
            target = _plain(new if isinstance(new, str) else new[0])
            assert target in by_name, f"alias {old} means {target}, which is no flag"
            assert old not in by_name, f"alias {old} is a flag"
        return cls(by_name, known, {other: flag for flag in flags for other in flag.synonyms})

    def match(self, text: str) -> Match | None:
        """Return the meaning of a flag's spelling without dashes, or None."""
        name = _plain(text)
        positive = self._positive(name)
        if positive is not None or not name.startswith("no_"):
            return positive
        positive = self._positive(name.removeprefix("no_"))
        if (
            positive is None
            or not (positive.flag.switch or positive.flag.nullable)
            or positive.fixed is not None
        ):
            return None
        return Match(positive.flag, negated=True, alias=positive.alias and name)

    def _positive(self, name: str) -> Match | None:
        flag = self.flags.get(name) or self.synonyms.get(name)
        if flag is not None:
            return Match(flag)
        if name not in self.aliases:
            return None
        new = self.aliases[name]
        if isinstance(new, str):
            return Match(self.flags[_plain(new)], alias=name)
        return Match(self.flags[_plain(new[0])], fixed=tokens_of(new[1]), alias=name)

    def spellings(self) -> Iterator[str]:
        """Yield every current spelling without dashes, for suggestions."""
        yield from (flag.name for flag in self.flags.values() if not flag.positional)
        yield from self.synonyms
        yield from (f"no_{flag.name}" for flag in self.flags.values() if flag.switch)

    def unknown(self, option: str) -> UserError:
        """Return the error for a flag that means nothing, in the user's own spelling of words."""
        separator = "_" if "_" in option else "-"
        known = [name.replace("_", separator) for name in (*self.spellings(), "config")]
        return UserError(f"unknown flag {option}{suggestion(option[2:], known, '--')}")

    def give(self, match: Match, tokens: Sequence[str], where: str, *, typed: bool) -> Given | None:
        """Return what `tokens` after a spelling mean; None for a legacy switch that is turned off.

        Raises UserError for a value after a spelling that takes none. `typed` is False for a file, where a
        switch is written as true or false and only aliases are deprecated.
        """
        if match.alias:
            self.deprecations.setdefault(match.alias, f"{where} is deprecated; use {_replacement(match)}")
        words = _as_bools(tokens) if match.fixed is not None or match.flag.switch else tuple(tokens)
        if match.fixed is not None:
            return self._give_fixed(match, words, where)
        if match.negated:
            _refuse_value(words, where)
            return Given(match.flag, ("False",) if match.flag.switch else ("None",), where, bool(match.alias))
        if match.flag.switch and not words:
            words = ("True",)
        elif match.flag.two_state and words not in (("True",), ("False",)):
            raise UserError(f"{where}: {_SWITCH[typed]}; got {' '.join(words)!r}")
        elif typed and match.flag.switch and words[0] in _BOOLS.values():
            self._deprecate_word(match.flag, words[0], where)
        return Given(match.flag, words, where, bool(match.alias))

    def _give_fixed(self, match: Match, words: tuple[str, ...], where: str) -> Given | None:
        """An alias that carries its value: `--old`, `--old True` (the same) or `--old False` (nothing)."""
        if words == ("False",):
            return None
        _refuse_value(() if words == ("True",) else words, where)
        return Given(match.flag, match.fixed or (), where, True)

    def _deprecate_word(self, flag: Flag, word: str, where: str) -> None:
        instead = flag.option if word == "True" else f"--no-{flag.option[2:]}"
        self.deprecations.setdefault(flag.name, f"{where} {word} is deprecated; use {instead}")


def is_option(token: str) -> bool:
    """Return whether a token starts a flag; `-1`, `-inf` and `-` are values."""
    return _OPTION.match(token) is not None


def is_bool_word(token: str) -> bool:
    """Return whether a token is True or False in any case."""
    return token.lower() in _BOOLS


def tokens_of(value: Any) -> tuple[str, ...]:
    """Return the command line tokens of a Python value of any field type."""
    if isinstance(value, Mapping):
        return tuple(token for pair in value.items() for item in pair for token in tokens_of(item))
    if isinstance(value, list | tuple):
        return tuple(token for item in value for token in tokens_of(item))
    if hasattr(value, "__dataclass_fields__"):
        return tuple(record_tokens(value))
    return (text_of(value),)


def _plain(text: str) -> str:
    return text.replace("-", "_")


def _as_bools(tokens: Sequence[str]) -> tuple[str, ...]:
    return tuple(_BOOLS.get(token.lower(), token) for token in tokens)


def _refuse_value(words: Sequence[str], where: str) -> None:
    if words:
        raise UserError(f"{where}: takes no value; got {' '.join(words)!r}")


def _replacement(match: Match) -> str:
    if match.negated:
        return f"--no-{match.flag.option[2:]}"
    return " ".join((match.flag.option, *(match.fixed or ())))
