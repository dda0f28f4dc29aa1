"""The flags of a configuration class: one per leaf field, nested groups flattened."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import inspect
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

import tyro

from common.config.readers import Reader, bare, choices_of, has_marker, is_mapping, make_reader, options_of
from common.config.records import record_reader

REQUIRED = dataclasses.MISSING
RESERVED = ("config", "help")


@dataclass(frozen=True)
class Also:
    """A second spelling of a flag, as good as its name: `Annotated[bool, Also("allow_stacking")]`."""

    name: str


@dataclass(frozen=True)
class Flag:
    """One leaf field of a configuration class.

    `name` is the field, `option` its spelling on the line, `groups` the fields that lead to it, `type` the
    annotation without markers, `default` the value when it is not given (`REQUIRED` when it must be), `owner`
    the class that holds the field, `synonyms` its further spellings, see `Also`.
    """

    name: str
    groups: tuple[str, ...]
    type: Any
    default: Any
    owner: type
    reader: Reader
    positional: bool = False
    repeated: bool = False
    synonyms: tuple[str, ...] = ()

    @property
    def help(self) -> str:
        """The string literal under the field."""
        return field_docs(self.owner).get(self.name, "")

    @property
    def option(self) -> str:
        """The flag as the help shows it, `--batch-size`; a positional field's is its name in capitals."""
        return self.name.upper() if self.positional else "--" + self.name.replace("_", "-")

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The accepted spellings, or None when any value of the type is accepted."""
        return self.reader.choices

    @property
    def required(self) -> bool:
        """Whether the flag has no default."""
        return self.default is REQUIRED

    @property
    def switch(self) -> bool:
        """Whether the bare flag means True; also true for `bool | None` and the like."""
        return bool in options_of(self.type)

    @property
    def two_state(self) -> bool:
        """Whether the flag is a plain bool and takes no value."""
        return bool(self.type is bool)

    @property
    def nullable(self) -> bool:
        """Whether the flag accepts None."""
        return type(None) in options_of(self.type)

    @property
    def mapping(self) -> bool:
        """Whether the value is a dictionary."""
        return is_mapping(self.type)

    @property
    def record(self) -> type | None:
        """The dataclass of a repeatable flag's items, if they are dataclasses."""
        item = get_args(self.type)[0] if self.repeated else None
        return item if isinstance(item, type) and dataclasses.is_dataclass(item) else None


def flags(config_class: type) -> list[Flag]:
    """Return the flags of `config_class` in the order of its fields.

    Raises AssertionError for a class that is not a frozen keyword-only dataclass, for a leaf name that occurs
    twice in the tree, and for a field whose type no flag can hold.
    """
    return [_with_own_default(flag) for flag in _flags(config_class)]


def _with_own_default(flag: Flag) -> Flag:
    """Return `flag` with a default that nobody else changes."""
    if not isinstance(flag.default, dict | list | set):
        return flag
    return dataclasses.replace(flag, default=copy.deepcopy(flag.default))


@functools.cache
def _flags(config_class: type) -> tuple[Flag, ...]:
    result = _walk(config_class, (), None)
    _assert_distinct(result, config_class)
    return tuple(result)


def group_fields(config_class: type) -> dict[str, type]:
    """Return the fields of `config_class` that are nested dataclasses."""
    hints = get_type_hints(config_class)
    return {
        item.name: hints[item.name]
        for item in dataclasses.fields(config_class)
        if _is_group(hints[item.name])
    }


@functools.cache
def field_docs(config_class: type) -> dict[str, str]:
    """Return the string literal under each field, of base classes too, line breaks joined."""
    docs: dict[str, str] = {}
    for owner in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(owner):
            docs.update(_module_docs(owner.__module__).get(owner.__qualname__, {}))
    return docs


@functools.cache
def _module_docs(module: str) -> dict[str, dict[str, str]]:
    """Return the field docs of every class of a module, by qualified name; empty without source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    return dict(_class_docs(tree, ""))


def _class_docs(node: ast.AST, prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, _literals_under_fields(child.body)
            yield from _class_docs(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            yield from _class_docs(child, f"{prefix}{child.name}.<locals>.")


def _literals_under_fields(body: list[ast.stmt]) -> dict[str, str]:
    docs = {}
    for above, below in itertools.pairwise(body):
        if not (isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docs[above.target.id] = " ".join(str(below.value.value).split())
    return docs


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def _walk(config_class: type, groups: tuple[str, ...], default: Any) -> list[Flag]:
    """Return the flags of one level; `default` is the instance the parent holds, if any."""
    _assert_frozen(config_class)
    hints = get_type_hints(config_class, include_extras=True)
    result = []
    for item in dataclasses.fields(config_class):
        if not item.init:
            continue
        assert item.kw_only, f"{config_class.__name__}.{item.name} must be keyword-only"
        value = _default(item) if default is None else getattr(default, item.name)
        if _is_group(bare(hints[item.name])):
            nested = None if value is REQUIRED else value
            result += _walk(bare(hints[item.name]), (*groups, item.name), nested)
        else:
            result.append(_leaf(item.name, groups, hints[item.name], value, config_class))
    return result


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def _leaf(name: str, groups: tuple[str, ...], annotation: Any, default: Any, owner: type) -> Flag:
    repeated = has_marker(annotation, tyro.conf.UseAppendAction)
    stripped = bare(annotation)
    if repeated:
        assert get_origin(stripped) is tuple, f"{name}: a repeatable flag is a tuple[ITEM, ...]"
    reader = _item_reader(get_args(stripped)[0]) if repeated else make_reader(stripped)
    positional = has_marker(annotation, tyro.conf.Positional)
    synonyms = tuple(item.name for item in getattr(annotation, "__metadata__", ()) if isinstance(item, Also))
    return Flag(name, groups, stripped, default, owner, reader, positional, repeated, synonyms)


def _item_reader(item: Any) -> Reader:
    return record_reader(item) if _is_group(item) else make_reader(item)


def _assert_frozen(config_class: type) -> None:
    parameters = getattr(config_class, "__dataclass_params__", None)
    frozen = getattr(parameters, "frozen", False)
    assert frozen, f"{config_class.__name__} must be a frozen dataclass"


def _assert_distinct(found: list[Flag], config_class: type) -> None:
    where: dict[str, str] = {}
    for flag in found:
        path = ".".join((*flag.groups, flag.name))
        other = where.setdefault(flag.name, path)
        assert other == path, f"{config_class.__name__}: the flag {flag.option} is both {other} and {path}"
        assert flag.name not in RESERVED, f"{config_class.__name__}: {flag.option} is reserved"
    spellings = [*where, *(other for flag in found for other in flag.synonyms)]
    assert len(set(spellings)) == len(spellings), f"{config_class.__name__}: a second spelling is taken"
    grouped = {name for flag in found for name in flag.groups}
    for flag in found:
        assert not (flag.mapping and flag.name in grouped), f"{flag.name} is a group and a dictionary flag"
        negated = where.get(f"no_{flag.name}")
        assert negated is None or not (flag.switch or flag.nullable), (
            f"{config_class.__name__}: --no-{flag.name} turns {flag.option} off and is the field {negated}"
        )


def accepts_bool_words(flag: Flag) -> bool:
    """Return whether True or False occurs in the flag's value, alone or as an item of a tuple."""
    return flag.switch or any(bool in options_of(item) for item in get_args(flag.type))


def choice_words(flag: Flag) -> tuple[str, ...]:
    """Return the words that belong to a flag's value although it is a switch, such as `auto`."""
    return tuple(word for option in options_of(flag.type) for word in choices_of(option))
