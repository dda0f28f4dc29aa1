"""From command line tokens to typed values, with an error text that says what was expected.

The typed constructors are tyro's (`tyro.constructors`); this module adds what they leave vague: pairs of a
dictionary, `none` for an optional value, and the sentence that describes a type to the user.
"""

from __future__ import annotations

import difflib
import enum
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

Arity = int | tuple[int, ...] | Literal["*"]

_SCALARS = {int: "an integer", float: "a number", str: "text", bool: "True or False", type(None): "None"}
_UNIONS = (Union, types.UnionType)
_MAPPINGS = (dict, Mapping)


@dataclass(frozen=True)
class Reader:
    """How the tokens of one flag become a value. `read` raises ValueError with what was expected."""

    read: Callable[[Sequence[str]], Any]
    arity: Arity
    metavar: str
    expected: str
    choices: tuple[str, ...] | None = None


def bare(annotation: Any) -> Any:
    """Return the annotation without `Annotated` markers."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def has_marker(annotation: Any, marker: Any) -> bool:
    """Return whether a tyro marker such as `tyro.conf.Positional` is attached to the annotation."""
    return marker in PrimitiveTypeInfo.make(annotation, set()).markers


def options_of(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone."""
    annotation = bare(annotation)
    return get_args(annotation) if get_origin(annotation) in _UNIONS else (annotation,)


def is_mapping(annotation: Any) -> bool:
    """Return whether the annotation is a dictionary with typed keys and values."""
    return get_origin(bare(annotation)) in _MAPPINGS


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Return the spellings a `Literal` or enumeration accepts; empty for every other type."""
    annotation = bare(annotation)
    if get_origin(annotation) is Literal:
        return tuple(text_of(value) for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return tuple(str(member.value) for member in annotation)
    return ()


def text_of(value: Any) -> str:
    """Return the command line spelling of a scalar."""
    if isinstance(value, enum.Enum):
        return str(value.value)
    return repr(value) if isinstance(value, float) else str(value)


def describe(annotation: Any) -> str:
    """Return what the user should give, for example `2 values, each an integer` or `auto or a number`."""
    annotation = bare(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if choices := choices_of(annotation):
        return choices[0] if len(choices) == 1 else "one of " + ", ".join(choices)
    if get_origin(annotation) in _UNIONS:
        return " or ".join(describe(option) for option in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return "a path"
    return _describe_sequence(annotation)


def _describe_sequence(annotation: Any) -> str:
    items = [item for item in get_args(annotation) if item is not Ellipsis]
    if get_origin(annotation) is not tuple or Ellipsis in get_args(annotation):
        return f"values, each {describe(items[0])}" if items else str(annotation)
    if len(set(items)) == 1:
        return f"{len(items)} values, each {describe(items[0])}"
    return f"{len(items)} values: " + ", ".join(describe(item) for item in items)


def make_reader(annotation: Any) -> Reader:
    """Return the reader of a scalar, choice, union, tuple or dictionary type.

    Raises AssertionError for a type that no command line can express.
    """
    if is_mapping(annotation):
        return _dict_reader(*get_args(bare(annotation)))
    spec = _spec(annotation)
    expected = describe(annotation)
    nullable = type(None) in options_of(annotation)

    def read(tokens: Sequence[str]) -> Any:
        if nullable and _spells_none(tokens, spec.choices):
            return None
        if not _fits(len(tokens), spec.nargs):
            raise ValueError(f"expected {expected}; got {quoted(tokens)}")
        try:
            _require_choices(tokens, spec.choices)
            return spec.instance_from_str(list(tokens))
        except (ValueError, KeyError):
            hint = suggestion(tokens[0], spec.choices or ()) if len(tokens) == 1 else ""
            raise ValueError(f"expected {expected}; got {quoted(tokens)}{hint}") from None

    return Reader(read, spec.nargs, spec.metavar, expected, _ordered_choices(annotation, spec))


def suggestion(text: str, known: Iterable[str], prefix: str = "") -> str:
    """Return `; did you mean a, b?` with up to three known words that look like `text`, or nothing."""
    close = [prefix + word for word in difflib.get_close_matches(text, list(known), n=3)]
    return f"; did you mean {', '.join(close)}?" if close else ""


def _spec(annotation: Any) -> PrimitiveConstructorSpec[Any]:
    info = PrimitiveTypeInfo.make(annotation, {tyro.conf.EnumChoicesFromValues})
    spec = ConstructorRegistry.get_primitive_spec(info)
    assert not isinstance(spec, UnsupportedTypeAnnotationError), f"no flag can hold a {bare(annotation)}"
    return spec


def _fits(count: int, arity: Arity) -> bool:
    if arity == "*":
        return True
    return count == arity if isinstance(arity, int) else count in arity


def quoted(tokens: Sequence[str]) -> str:
    """Return tokens as an error text shows them."""
    return repr(" ".join(tokens)) if tokens else "nothing"


def _spells_none(tokens: Sequence[str], choices: tuple[str, ...] | None) -> bool:
    return len(tokens) == 1 and tokens[0].lower() in ("none", "null") and tokens[0] not in (choices or ())


def _require_choices(tokens: Sequence[str], choices: tuple[str, ...] | None) -> None:
    for token in tokens:
        if choices is not None and token not in choices:
            raise ValueError(token)


def _ordered_choices(annotation: Any, spec: PrimitiveConstructorSpec[Any]) -> tuple[str, ...] | None:
    """Return the choices in the order they were declared; tyro's own order of a union is a set's."""
    if spec.choices is None or get_origin(bare(annotation)) not in _UNIONS:
        return spec.choices
    return tuple(choice for option in options_of(annotation) for choice in _spec(option).choices or ())


def _dict_reader(key_type: Any, value_type: Any) -> Reader:
    key, value = make_reader(key_type), make_reader(value_type)
    assert key.arity == 1, f"a dictionary flag needs keys of one token, not {key_type}"
    assert isinstance(value.arity, int), f"a dictionary flag needs values of a fixed size, not {value_type}"
    width = 1 + value.arity
    expected = f"pairs of {key.metavar} {value.metavar}"

    def read(tokens: Sequence[str]) -> dict[Any, Any]:
        if len(tokens) % width:
            last = tokens[len(tokens) - len(tokens) % width]
            raise ValueError(f"expected {expected}; got {len(tokens)} tokens, {last!r} has no value")
        result: dict[Any, Any] = {}
        for start in range(0, len(tokens), width):
            name = tokens[start]
            parsed = _read_key(key, name)
            if parsed in result:
                raise ValueError(f"key {name!r} is given twice")
            result[parsed] = _read_value(value, name, tokens[start + 1 : start + width])
        return result

    metavar = f"[{key.metavar} {value.metavar} ...]"
    return Reader(read, "*", metavar, expected)


def _read_key(key: Reader, name: str) -> Any:
    try:
        return key.read([name])
    except ValueError:
        hint = suggestion(name, key.choices or ())
        raise ValueError(f"unknown key {name!r}: expected {key.expected}{hint}") from None


def _read_value(value: Reader, name: str, tokens: Sequence[str]) -> Any:
    try:
        return value.read(tokens)
    except ValueError as error:
        raise ValueError(f"value of {name!r}: {error}") from None
