"""From argv, YAML and presets to one frozen configuration object."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from common.config.errors import UserError
from common.config.help import help_text
from common.config.line import read_line, wants_help
from common.config.readers import bare
from common.config.schema import REQUIRED, Flag, flags
from common.config.vocabulary import Aliases, Given, Source, Vocabulary, tokens_of
from common.config.yaml_file import File, read_yaml

C = TypeVar("C")
Presets = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Parsed(Generic[C]):
    """A configuration and where it came from.

    `typed` names the fields given on the line or in the YAML file; `preset_fields` holds the fields that the
    preset set and nobody overrode, with their values.
    """

    config: C
    typed: frozenset[str] = frozenset()
    preset_fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Interface(Generic[C]):
    """Everything that defines one command's line: its class, its name and what changes its defaults.

    `presets` are values by preset name and field, chosen by the class's own field `preset`; `default_preset`
    takes the place of that field's default. `aliases` map a legacy spelling to a flag, or to a flag with a
    value: `{"early_stop": "patience", "use_focal_loss": ("loss", "focal")}`.
    """

    config_class: type[C]
    prog: str
    description: str = ""
    presets: Presets | None = None
    default_preset: str | None = None
    aliases: Aliases | None = None

    def help(self) -> str:
        """Return the text of `--help`."""
        found = flags(self.config_class)
        preset = self._default_preset({flag.name: flag for flag in found})
        shown = {**(self.presets or {}).get(preset or "", {}), **({"preset": preset} if preset else {})}
        return help_text(found, prog=self.prog, description=self.description, overrides=shown)

    def resolve(self, argv: Sequence[str]) -> tuple[Parsed[C], list[str]]:
        """Return the configuration and the text of each deprecation. Raises UserError for bad input."""
        vocabulary = Vocabulary.make(flags(self.config_class), self.aliases)
        line = read_line(argv, vocabulary)
        file = read_yaml(line.file, self.config_class, vocabulary) if line.file else File()
        values = _values(line.source, file.source)
        typed = frozenset(line.source) | (file.source.keys() if file.typed is None else file.typed)
        preset = self._preset_values(vocabulary.flags, values)
        values = {**preset, **values}
        config = build(self.config_class, vocabulary.flags, values)
        kept = {name: values[name] for name in preset if name not in typed and name != "preset"}
        return Parsed(config, typed, kept), list(vocabulary.deprecations.values())

    def _default_preset(self, known: Mapping[str, Flag]) -> str | None:
        if self.presets is None:
            return None
        assert "preset" in known, f"{self.config_class.__name__} has presets but no field preset"
        default = self.default_preset or known["preset"].default
        return None if default is REQUIRED or default is None else str(default)

    def _preset_values(self, known: Mapping[str, Flag], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the chosen preset, that of the field `preset` included."""
        chosen = values.get("preset", self._default_preset(known)) if self.presets is not None else None
        if self.presets is None or chosen is None:
            return {}
        assert chosen in self.presets, f"there is no preset {chosen}"
        given = {"preset": chosen, **self.presets[chosen]}
        for name in given:
            assert name in known, f"preset {chosen} sets {name}, which is no field"
        return {name: _read_preset(known[name], value, chosen) for name, value in given.items()}


def parse(
    config_class: type[C],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
    presets: Presets | None = None,
    default_preset: str | None = None,
    aliases: Aliases | None = None,
) -> Parsed[C]:
    """Return the configuration that a command line describes.

    Later sources replace earlier ones, field by field and lists whole: defaults, preset, `--config`, line.
    `argv` defaults to the process's own. Prints the help and raises SystemExit(0) for `--help`; warns with
    DeprecationWarning once per deprecated spelling; raises UserError naming the flag, or the file and line,
    for everything the user can correct.
    """
    interface = Interface(config_class, prog, description, presets, default_preset, aliases)
    words = sys.argv[1:] if argv is None else argv
    if wants_help(words):
        sys.stdout.write(interface.help())
        raise SystemExit(0)
    parsed, deprecations = interface.resolve(words)
    for text in deprecations:
        warnings.warn(text, DeprecationWarning, stacklevel=2)
    return parsed


def cli(
    config_class: type[C],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
    presets: Presets | None = None,
    default_preset: str | None = None,
    aliases: Aliases | None = None,
) -> C:
    """Return `parse(...).config`."""
    return parse(
        config_class,
        argv,
        prog=prog,
        description=description,
        presets=presets,
        default_preset=default_preset,
        aliases=aliases,
    ).config


def from_yaml(config_class: type[C], path: Path) -> C:
    """Return the configuration a YAML file describes. Raises UserError naming file and line."""
    vocabulary = Vocabulary.make(flags(config_class), None)
    file = read_yaml(path, config_class, vocabulary)
    return build(config_class, vocabulary.flags, _values({}, file.source))


def build(config_class: type[C], known: Mapping[str, Flag], values: Mapping[str, Any]) -> C:
    """Return an instance of `config_class` from leaf values, defaults where there is none.

    Raises UserError for a required flag that is missing, and for a ValueError of a class's `__post_init__`.
    """
    missing = [flag.option for flag in known.values() if flag.required and flag.name not in values]
    if missing:
        raise UserError(f"missing required {', '.join(missing)}")
    complete = {name: values.get(name, flag.default) for name, flag in known.items()}
    try:
        return _construct(config_class, complete)
    except ValueError as error:
        raise UserError(str(error)) from error


def _construct(config_class: type[C], values: Mapping[str, Any]) -> C:
    hints = get_type_hints(config_class)
    arguments = {}
    for item in dataclasses.fields(config_class):  # type: ignore[arg-type]
        annotation = bare(hints[item.name])
        if not item.init:
            continue
        nested = isinstance(annotation, type) and dataclasses.is_dataclass(annotation)
        arguments[item.name] = _construct(annotation, values) if nested else values[item.name]
    return config_class(**arguments)


def _values(line: Source, file: Source) -> dict[str, Any]:
    """Return the typed values of both sources; what the line gives replaces the file's value whole."""
    return {
        **{name: _value(given) for name, given in file.items()},
        **{name: _value(given) for name, given in line.items()},
    }


def _value(occurrences: list[Given]) -> Any:
    """Return the value of one flag in one source: the items of a repeatable flag, else the last one given."""
    read = [given.read() for given in occurrences]
    if not occurrences or occurrences[0].flag.repeated:
        return tuple(read)
    for given, value in zip(occurrences, read, strict=True):
        for other, other_value in zip(occurrences, read, strict=True):
            if given.alias and given.where != other.where and value != other_value:
                raise UserError(f"{given.spelled} contradicts {other.spelled}; give one of them")
    return read[-1]


def _read_preset(flag: Flag, value: Any, preset: str) -> Any:
    """Return a preset's value read as if it were typed: lists become tuples, numbers are checked."""
    if flag.repeated:
        return tuple(Given(flag, tokens_of(item), f"preset {preset}: {flag.name}").read() for item in value)
    return Given(flag, tokens_of(value), f"preset {preset}: {flag.name}").read()
