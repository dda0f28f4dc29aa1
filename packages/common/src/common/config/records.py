"""Items of a repeatable flag that are dataclasses: `--task-head offence deep_mlp depth=3 hidden=1024`.

The required fields of the item are read by position; a field whose type is a union of dataclasses is read as
the name of one of them in lower case with underscores. What follows is `key=value` for the fields with
defaults, of the chosen dataclass first and of the item itself after it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, get_type_hints

from common.config.readers import Reader, make_reader, options_of, quoted, suggestion, text_of


@dataclasses.dataclass(frozen=True)
class _Field:
    name: str
    reader: Reader | None
    variants: dict[str, type]


def record_reader(record: type) -> Reader:
    """Return the reader of one item of the dataclass `record`."""
    leading = _leading(record)
    metavar = " ".join(_metavar(item) for item in leading) + " [KEY=VALUE ...]"

    def read(tokens: Sequence[str]) -> Any:
        if len(tokens) < len(leading):
            raise ValueError(f"expected {metavar}; got {quoted(tokens)}")
        given: dict[str, Any] = {}
        chosen: dict[str, type] = {}
        for item, token in zip(leading, tokens, strict=False):
            if item.reader is not None:
                given[item.name] = _read(item.reader, item.name, token)
            else:
                chosen[item.name] = _variant(item, token)
        return _build(record, given, chosen, tokens[len(leading) :])

    return Reader(read, "*", metavar, metavar)


def record_tokens(item: Any) -> list[str]:
    """Return the tokens that `record_reader` turns into an equal item."""
    words: list[str] = []
    options: list[str] = []
    for described in _leading(type(item)):
        value = getattr(item, described.name)
        if described.reader is not None:
            words.append(text_of(value))
        else:
            words.append(variant_name(type(value)))
            options += _assignments(value)
    return words + options + _assignments(item, defaults_only=True)


def variant_name(variant: type) -> str:
    """Return the spelling of a dataclass on the command line.

    >>> variant_name(type("DeepMlp", (), {}))
    'deep_mlp'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", variant.__name__).lower()


def _leading(record: type) -> list[_Field]:
    hints = get_type_hints(record, include_extras=True)
    return [_field(item.name, hints[item.name]) for item in dataclasses.fields(record) if _required(item)]


def _field(name: str, annotation: Any) -> _Field:
    options = options_of(annotation)
    if all(dataclasses.is_dataclass(option) for option in options):
        return _Field(name, None, {variant_name(option): option for option in options})
    reader = make_reader(annotation)
    assert reader.arity == 1, f"field {name} of a repeatable item must take one token"
    return _Field(name, reader, {})


def _required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _metavar(item: _Field) -> str:
    return item.reader.metavar if item.reader is not None else "{" + ",".join(item.variants) + "}"


def _read(reader: Reader, name: str, token: str) -> Any:
    try:
        return reader.read([token])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _variant(item: _Field, token: str) -> type:
    if token not in item.variants:
        known = ", ".join(item.variants)
        hint = suggestion(token, item.variants)
        raise ValueError(f"{item.name}: expected one of {known}; got {token!r}{hint}")
    return item.variants[token]


def _build(record: type, given: dict[str, Any], chosen: dict[str, type], options: Sequence[str]) -> Any:
    """Construct the item; `options` are its `key=value` tokens, looked up in the chosen variants first."""
    readers = [_option_readers(variant) for variant in chosen.values()]
    readers.append(_option_readers(record, defaults_only=True))
    values: list[dict[str, Any]] = [{} for _ in readers]
    for token in options:
        name, equals, text = token.partition("=")
        if not equals:
            raise ValueError(f"expected key=value; got {token!r}")
        owner = next((index for index, known in enumerate(readers) if name in known), None)
        if owner is None:
            known = [key for group in readers for key in group]
            listed = ", ".join(known) or "none"
            raise ValueError(f"unknown key {name!r}; keys are {listed}{suggestion(name, known)}")
        if name in values[owner]:
            raise ValueError(f"key {name!r} is given twice")
        values[owner][name] = _read(readers[owner][name], name, text)
    for index, (name, variant) in enumerate(chosen.items()):
        given[name] = _construct(variant, values[index])
    return record(**given, **values[-1])


def _construct(variant: type, values: dict[str, Any]) -> Any:
    missing = [
        item.name for item in dataclasses.fields(variant) if _required(item) and item.name not in values
    ]
    if missing:
        raise ValueError(f"{variant_name(variant)} needs {', '.join(f'{name}=VALUE' for name in missing)}")
    return variant(**values)


def _option_readers(owner: type, *, defaults_only: bool = False) -> dict[str, Reader]:
    hints = get_type_hints(owner, include_extras=True)
    items = [item for item in dataclasses.fields(owner) if not (defaults_only and _required(item))]
    readers = {item.name: make_reader(hints[item.name]) for item in items}
    for name, reader in readers.items():
        assert reader.arity == 1, f"{owner.__name__}.{name} must take one token to be given as key=value"
    return readers


def _assignments(value: Any, *, defaults_only: bool = False) -> list[str]:
    return [
        f"{item.name}={text_of(getattr(value, item.name))}"
        for item in dataclasses.fields(value)
        if not (defaults_only and _required(item))
    ]
