"""A thread that looks after a live loop that may stop calling."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Watchdog:
    """Calls `check` every `interval_s` seconds from a daemon thread until stopped."""

    def __init__(self, check: Callable[[], None], interval_s: float) -> None:
        self._check = check
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="behaviour watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits a moment for a check that is going on, unless called from it."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._check()
