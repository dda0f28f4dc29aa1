"""YAML files of settings: keys become the same tokens that would be typed on the line."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import yaml

from common.config.errors import UserError
from common.config.readers import suggestion
from common.config.records import record_tokens
from common.config.schema import Flag, accepts_bool_words, flags, group_fields
from common.config.vocabulary import Given, Match, Source, Vocabulary

TYPED_KEY = "_typed"

_TAG = "tag:yaml.org,2002:"
_FLOAT_WORDS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


@dataclasses.dataclass
class File:
    """What a YAML file says; `typed` names the fields its writer had typed, None when it does not tell."""

    source: Source = dataclasses.field(default_factory=dict)
    typed: frozenset[str] | None = None


def read_yaml(path: Path, config_class: type, vocabulary: Vocabulary) -> File:
    """Return the settings of a YAML file, which may be flat or nested by the groups of `config_class`.

    Scalars keep the text they were written with, so that `5e-5` is a number to a float field and `off` a word
    to a choice. Raises UserError naming file and line for a missing or unreadable file, bad YAML, an unknown
    or doubled key, and a value of the wrong shape.
    """
    reader = _FileReader(path, vocabulary)
    root = _compose(path)
    if root is not None:
        reader.read_mapping(root, config_class)
    return reader.file


def _compose(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UserError(f"--config: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--config: {path} is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {error}") from None


class _FileReader:
    """Walks the nodes of one file and collects what they give."""

    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        self.path = path
        self.vocabulary = vocabulary
        self.file = File()
        self._lines: dict[str, int] = {}

    def read_mapping(self, node: yaml.Node, config_class: type) -> None:
        """Read the keys of one level: groups of `config_class`, or flags of the whole tree."""
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{self._at(node)}: expected a mapping of flag names to values")
        groups = group_fields(config_class)
        for key, value in node.value:
            name = self._key(key)
            if name in groups and isinstance(value, yaml.MappingNode):
                self._once(f"{name}:", name, key)
                self.read_mapping(value, groups[name])
            elif name == TYPED_KEY:
                self.file.typed = frozenset(self._flatten(value, name))
            else:
                self._read_flag(name, key, value)

    def _read_flag(self, name: str, key: yaml.Node, value: yaml.Node) -> None:
        match = self.vocabulary.match(name)
        if match is None:
            hint = suggestion(name, self.vocabulary.spellings())
            raise UserError(f"{self._at(key)}: unknown key {name!r}{hint}")
        self._once(name, name, key)
        where = f"{self._at(key)}: {name}"
        given = self.file.source.setdefault(match.flag.name, [])
        for tokens in self._items(match, value, name):
            item = self._give(match, tokens, where)
            if item is not None:
                given.append(item)
        if not given and not match.flag.repeated:
            del self.file.source[match.flag.name]

    def _give(self, match: Match, tokens: list[str], where: str) -> Given | None:
        if match.negated and tokens == ["True"]:
            tokens = []
        elif match.negated and tokens == ["False"] and match.flag.switch:
            match, tokens = dataclasses.replace(match, negated=False), ["True"]
        return self.vocabulary.give(match, tokens, where, typed=False)

    def _items(self, match: Match, value: yaml.Node, name: str) -> Iterator[list[str]]:
        """Yield the tokens of each occurrence: one, or for a repeatable flag one per item of the list."""
        flag = match.flag
        if not flag.repeated or match.fixed is not None:
            yield self._tokens(match, value, name)
            return
        for item in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if flag.record is not None and isinstance(item, yaml.ScalarNode):
                yield self._shell_words(item, name)
            else:
                yield self._flatten(item, name, flag)

    def _shell_words(self, node: yaml.ScalarNode, name: str) -> list[str]:
        try:
            return shlex.split(node.value)
        except ValueError as error:
            raise UserError(f"{self._at(node)}: {name}: {str(error).lower()}") from None

    def _tokens(self, match: Match, value: yaml.Node, name: str) -> list[str]:
        if isinstance(value, yaml.MappingNode):
            return self._pairs(value, name, match.flag)
        if match.negated or match.fixed is not None:
            return [self._bool(value, name)]
        if value.tag == f"{_TAG}null" and not match.flag.nullable:
            raise UserError(f"{self._at(value)}: {name}: expected {match.flag.reader.expected}; got nothing")
        return self._flatten(value, name, match.flag)

    def _pairs(self, node: yaml.MappingNode, name: str, flag: Flag) -> list[str]:
        if not flag.mapping:
            raise UserError(f"{self._at(node)}: {name}: expected {flag.reader.expected}; got a mapping")
        lines: dict[str, int] = {}
        tokens = []
        for key, value in node.value:
            (word,) = self._flatten(key, name, flag) if isinstance(key, yaml.ScalarNode) else ("",)
            if word in lines:
                raise UserError(f"{self._at(key)}: {name}: key {word!r} is given twice (line {lines[word]})")
            lines[word] = key.start_mark.line + 1
            tokens += [word, *self._flatten(value, name, flag)]
        return tokens

    def _flatten(self, node: yaml.Node, name: str, flag: Flag | None = None, depth: int = 0) -> list[str]:
        if isinstance(node, yaml.ScalarNode):
            return [self._word(node, name, flag)]
        if isinstance(node, yaml.SequenceNode) and depth < 2:
            return [token for item in node.value for token in self._flatten(item, name, flag, depth + 1)]
        raise UserError(f"{self._at(node)}: {name}: expected a value or a list of values")

    def _word(self, node: yaml.ScalarNode, name: str, flag: Flag | None) -> str:
        text = str(node.value)
        kind = node.tag.removeprefix(_TAG)
        if kind == "null":
            return "None"
        if (
            kind == "bool"
            and flag is not None
            and accepts_bool_words(flag)
            and text not in (flag.choices or ())
        ):
            return self._bool(node, name)
        return _FLOAT_WORDS.get(text.lower(), text) if kind == "float" else text

    def _bool(self, node: yaml.Node, name: str) -> str:
        if node.tag != f"{_TAG}bool":
            got = repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list"
            raise UserError(f"{self._at(node)}: {name}: expected true or false; got {got}")
        return str(node.value.lower() in ("true", "yes", "on"))

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise UserError(f"{self._at(node)}: a key must be the name of a flag")
        return str(node.value).replace("-", "_")

    def _once(self, identity: str, name: str, key: yaml.Node) -> None:
        if identity in self._lines:
            raise UserError(f"{self._at(key)}: key {name!r} is given twice (line {self._lines[identity]})")
        self._lines[identity] = key.start_mark.line + 1

    def _at(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"


def to_yaml(config: Any, *, typed: Collection[str] | None = None) -> str:
    """Return the whole configuration as YAML text that `from_yaml` and `--config` turn into an equal object.

    `typed`, if given, records which fields the user had typed, so that a later `--config` of this text warns
    about the same ones.
    """
    plain: dict[str, Any] = {}
    for flag in flags(type(config)):
        level, owner = plain, config
        for group in flag.groups:
            level, owner = level.setdefault(group, {}), getattr(owner, group)
        level[flag.name] = _plain(getattr(owner, flag.name))
    if typed is not None:
        plain[TYPED_KEY] = sorted(typed)
    return yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=110)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return record_tokens(value) if dataclasses.is_dataclass(value) else value
