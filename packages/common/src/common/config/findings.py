"""What a configuration check has to say: contradictions and flags that cannot act."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from common.config.errors import UserError


@dataclass(frozen=True)
class Finding:
    """One remark about a configuration: an error always stops, a warning only where checks are strict."""

    level: Literal["warning", "error"]
    text: str


def has_no_effect(flag: str, reason: str) -> str:
    """Return the text for a typed flag that cannot act.

    >>> has_no_effect("momentum", "--optimizer is adamw")
    '--momentum has no effect because --optimizer is adamw'
    """
    name = flag.removeprefix("--").replace("_", "-")
    return f"--{name} has no effect because {reason}"


def check(findings: Iterable[Finding], strict: bool, logger: logging.Logger) -> None:
    """Log the warnings and raise one UserError that lists every error; `strict` makes warnings errors."""
    found = list(findings)
    errors = [finding.text for finding in found if strict or finding.level == "error"]
    for finding in found:
        if finding.level == "warning" and not strict:
            logger.warning("%s", finding.text)
    if errors:
        raise UserError("\n       ".join(errors))
