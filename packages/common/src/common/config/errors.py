"""The one exception a user of a command is meant to see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Input the user can correct; the message names the flag, file or row. Commands print it and exit 2."""


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Raise UserError naming `what`, a flag and its path, when the disk refuses what is done inside.

    >>> with writing("--out results"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    common.config.errors.UserError: --out results: cannot be written: No space left on device
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: cannot be written: {error.strerror or error}") from error
