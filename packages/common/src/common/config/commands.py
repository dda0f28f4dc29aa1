"""Running a command: verbs, exit codes and errors without a traceback."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.config.errors import UserError
from common.config.line import wants_help
from common.config.parsing import Interface, Parsed, Presets
from common.config.readers import suggestion
from common.config.vocabulary import Aliases

DONE = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130

Function = Callable[[Parsed[Any]], object]


class LevelFormatter(logging.Formatter):
    """`warning: text`, as deprecations and errors are printed."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the level in small letters before the message."""
        return f"{record.levelname.lower()}: {super().format(record)}"


@dataclass(frozen=True)
class Verb:
    """One subcommand: its configuration class, a line of help, and the function to import when it runs.

    `target` is `"module:function"`; the function takes the `Parsed` configuration.
    """

    config_class: type
    help: str
    target: str
    presets: Presets | None = None
    default_preset: str | None = None
    aliases: Aliases | None = None


def run_verbs(prog: str, verbs: Mapping[str, Verb], argv: Sequence[str] | None = None) -> int:
    """Run the verb that `argv` names first and return the process's exit code, see `run_main`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help"):
        sys.stdout.write(_verbs_text(prog, verbs))
        return DONE
    if not words:
        sys.stderr.write(_verbs_text(prog, verbs))
        return USAGE
    name = words[0].replace("_", "-")
    verb = verbs.get(name) or verbs.get(words[0])
    if verb is None:
        known = ", ".join(verbs)
        return _refuse(f"unknown command {words[0]!r}{suggestion(name, verbs)}; commands are {known}")
    return run_main(
        verb.target,
        verb.config_class,
        words[1:],
        prog=f"{prog} {words[0]}",
        description=verb.help,
        presets=verb.presets,
        default_preset=verb.default_preset,
        aliases=verb.aliases,
    )


def run_main(
    function: Function | str,
    config_class: type,
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
    presets: Presets | None = None,
    default_preset: str | None = None,
    aliases: Aliases | None = None,
) -> int:
    """Parse `argv`, call `function(parsed)` and return the process's exit code.

    `function` may be `"module:function"`, imported only after the line was accepted. Its int is the exit
    code; anything else it returns means 0. A UserError is printed as `error: ...` and gives 2, an interrupt
    gives 130. Any other exception leaves with its traceback, which the interpreter turns into 1; SystemExit
    passes. Warnings that are logged are printed as `warning: ...` where nobody has set up logging.
    """
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(LevelFormatter())
    interface: Interface[Any] = Interface(config_class, prog, description, presets, default_preset, aliases)
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if wants_help(words):
            sys.stdout.write(interface.help())
            return DONE
        parsed, deprecations = interface.resolve(words)
        for text in deprecations:
            sys.stderr.write(f"warning: {text}\n")
        result = _load(function)(parsed)
    except UserError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    return result if isinstance(result, int) and not isinstance(result, bool) else DONE


def _load(function: Function | str) -> Function:
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    loaded: Function = getattr(importlib.import_module(module), name)
    return loaded


def _refuse(text: str) -> int:
    sys.stderr.write(f"error: {text}\n")
    return USAGE


def _verbs_text(prog: str, verbs: Mapping[str, Verb]) -> str:
    width = max(len(name) for name in verbs)
    lines = [f"  {name.ljust(width)}  {verb.help}" for name, verb in verbs.items()]
    return "\n".join([f"usage: {prog} COMMAND [--flag VALUE ...]", "", "commands:", *lines, ""]) + (
        f"\n{prog} COMMAND --help lists the flags of a command\n"
    )
