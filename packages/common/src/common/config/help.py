"""The text of `--help`: every flag with its type, its meaning and its default, in plain ASCII."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from common.config.schema import Flag
from common.config.vocabulary import tokens_of

_INDENT = 26
_CONFIG = "YAML file of flags; flags given on the line replace its values"


def help_text(found: Iterable[Flag], *, prog: str, description: str, overrides: Mapping[str, Any]) -> str:
    """Return the help of a command; `overrides` are defaults that a preset changes."""
    found = list(found)
    positional = [flag for flag in found if flag.positional]
    usage = " ".join(["usage:", prog, *(flag.option for flag in positional), "[--flag VALUE ...]"])
    parts = [usage, "", *_wrap(description, 0), ""] if description else [usage, ""]
    parts += _section("arguments", positional, overrides)
    parts += ["options:", *_entry("-h, --help", "print this text"), *_entry("--config FILE", _CONFIG)]
    groups: dict[str, list[Flag]] = {}
    for flag in found:
        if not flag.positional:
            groups.setdefault(" ".join(flag.groups), []).append(flag)
    parts += [line for flag in groups.pop("", []) for line in _flag_lines(flag, overrides)]
    for title, members in groups.items():
        parts += ["", *_section(title, members, overrides)]
    return "\n".join(line.rstrip() for line in parts).rstrip() + "\n"


def _section(title: str, members: list[Flag], overrides: Mapping[str, Any]) -> list[str]:
    if not members:
        return []
    lines = [line for flag in members for line in _flag_lines(flag, overrides)]
    return [f"{title}:", *lines] + ([""] if title == "arguments" else [])


def _flag_lines(flag: Flag, overrides: Mapping[str, Any]) -> list[str]:
    default = overrides.get(flag.name, flag.default)
    note = "required" if flag.required and flag.name not in overrides else f"default: {_shown(default)}"
    if flag.repeated:
        note = f"repeatable, {note}"
    return _entry(_invocation(flag), f"{flag.help} ({note})".strip())


def _invocation(flag: Flag) -> str:
    if flag.positional:
        return flag.option
    others = "".join(f", --{name.replace('_', '-')}" for name in flag.synonyms)
    if flag.two_state:
        return f"{flag.option}, --no-{flag.option[2:]}{others}"
    return f"{flag.option}{others} {flag.reader.metavar}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple) and value and hasattr(value[0], "__dataclass_fields__"):
        return "; ".join(" ".join(tokens_of(item)) for item in value)
    return " ".join(tokens_of(value)) or "empty"


def _entry(invocation: str, text: str) -> list[str]:
    lines = _wrap(text, _INDENT)
    if len(invocation) + 4 > _INDENT:
        return [f"  {invocation}", *lines]
    return [f"  {invocation}".ljust(_INDENT) + lines[0].lstrip(), *lines[1:]]


def _wrap(text: str, indent: int) -> list[str]:
    width = max(60, min(shutil.get_terminal_size().columns, 110))
    space = " " * indent
    return textwrap.wrap(text, width, initial_indent=space, subsequent_indent=space, break_on_hyphens=False)
