"""Splitting a command line into flags with their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.config.errors import UserError
from common.config.readers import quoted
from common.config.schema import Flag, choice_words
from common.config.vocabulary import Given, Match, Source, Vocabulary, is_bool_word, is_option


@dataclass
class Line:
    """What a command line says."""

    source: Source = field(default_factory=dict)
    file: Path | None = None
    loose: list[str] = field(default_factory=list)


def wants_help(argv: Sequence[str]) -> bool:
    """Return whether `-h` or `--help` occurs."""
    return any(token in ("-h", "--help") for token in argv)


def read_line(argv: Sequence[str], vocabulary: Vocabulary) -> Line:
    """Return the flags, the `--config` file and the positional values of `argv`.

    Raises UserError naming an unknown flag (with suggestions), a token that belongs to nothing, or a value
    given to a switch.
    """
    line = Line()
    has_positional = any(flag.positional for flag in vocabulary.flags.values())
    for option, tokens in _segments(argv):
        if option is None:
            line.loose += tokens
        elif option == "--config":
            line.file = _config_path(line.file, tokens)
        else:
            line.loose += _take(option, tokens, vocabulary, line.source, keep_all=not has_positional)
    _place_positionals(line, vocabulary)
    return line


def _segments(argv: Sequence[str]) -> list[tuple[str | None, list[str]]]:
    """Return (option, tokens up to the next option); the tokens before the first option have None."""
    segments: list[tuple[str | None, list[str]]] = [(None, [])]
    for token in argv:
        if is_option(token):
            option, equals, attached = token.partition("=")
            segments.append((option, [attached] if equals else []))
        else:
            segments[-1][1].append(token)
    return segments


def _config_path(earlier: Path | None, tokens: list[str]) -> Path:
    if len(tokens) != 1:
        raise UserError(f"--config: expected one YAML file; got {quoted(tokens)}")
    if earlier is not None:
        raise UserError(f"--config is given twice: {earlier} and {tokens[0]}")
    return Path(tokens[0])


def _take(
    option: str, tokens: list[str], vocabulary: Vocabulary, source: Source, *, keep_all: bool
) -> list[str]:
    """Add the flag's tokens to `source` and return those that belong to positional fields."""
    match = vocabulary.match(option[2:]) if option.startswith("--") else None
    if match is None or match.flag.positional:
        raise vocabulary.unknown(option)
    count = len(tokens) if keep_all else _appetite(match, tokens)
    given = vocabulary.give(match, tokens[:count], option, typed=True)
    if given is not None:
        source.setdefault(match.flag.name, []).append(given)
    return tokens[count:]


def _appetite(match: Match, tokens: list[str]) -> int:
    """Return how many of the tokens after a flag are its own where positional values may follow."""
    if match.negated or not tokens:
        return 0
    if match.flag.switch or match.fixed is not None:
        return int(is_bool_word(tokens[0]) or _is_switch_word(match.flag, tokens[0]))
    arity = match.flag.reader.arity
    if arity == "*":
        return len(tokens)
    return min(len(tokens), arity if isinstance(arity, int) else max(arity))


def _is_switch_word(flag: Flag, token: str) -> bool:
    return token in choice_words(flag) or (flag.nullable and token == "None")


def _place_positionals(line: Line, vocabulary: Vocabulary) -> None:
    """Give the loose tokens to the positional fields in their order. Raises UserError for one too many."""
    for flag in (flag for flag in vocabulary.flags.values() if flag.positional):
        arity = flag.reader.arity
        assert arity == "*" or isinstance(arity, int), f"positional {flag.name} must have one size"
        count = len(line.loose) if arity == "*" else arity
        if line.loose:
            line.source[flag.name] = [Given(flag, tuple(line.loose[:count]), flag.option)]
            del line.loose[:count]
    if line.loose:
        raise UserError(f"unexpected argument {line.loose[0]!r}")
