"""Errors that must not reach the caller of a live loop."""

from __future__ import annotations

import logging
from types import TracebackType

_log = logging.getLogger(__name__)


class Faults:
    """Context that counts and logs an error instead of raising it; interrupts and exits pass.

    The loop of a running experiment calls into user code (sinks, image functions) that may raise anything.
    The first error of each kind is logged with its trace.
    """

    def __init__(self, what: str) -> None:
        self.count = 0
        self.last: Exception | None = None
        self._what = what
        self._logged: set[type[BaseException]] = set()

    def __enter__(self) -> Faults:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.count += 1
        self.last = error.with_traceback(None)
        if type(error) not in self._logged:
            self._logged.add(type(error))
            _log.error("%s: %s", self._what, error, exc_info=(type(error), error, trace))
        return True
