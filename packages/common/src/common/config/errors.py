"""The one exception a user of a command is meant to see."""

from __future__ import annotations


class UserError(ValueError):
    """Input the user can correct; the message names the flag, file or row. Commands print it and exit 2."""
