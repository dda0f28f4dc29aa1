"""Stopping politely: the first signal asks for a checkpoint, the second ends the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Which signal, if any, asked the run to stop."""

    def __init__(self) -> None:
        self.signal = 0

    @property
    def exit_code(self) -> int:
        """128 + signal number: 130 for SIGINT, 143 for SIGTERM; 0 when nothing was asked."""
        return 128 + self.signal if self.signal else 0


@contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request inside the block; a second one acts as usual."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    usual = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = number
        for each, handler in usual.items():
            signal.signal(each, handler)

    for number in usual:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
