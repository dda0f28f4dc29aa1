"""The first signal is a request, the second one acts."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from common.engine.signals import listen_for_stop


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_is_noted_and_handlers_come_back(number: signal.Signals, code: int) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with listen_for_stop() as stop:
        assert stop.exit_code == 0
        os.kill(os.getpid(), number)
        assert stop.exit_code == code
        assert {each: signal.getsignal(each) for each in before} == before
    assert {each: signal.getsignal(each) for each in before} == before


def test_second_interrupt_acts_at_once() -> None:
    with listen_for_stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.exit_code == 143
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_outside_the_main_thread_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    codes: list[int] = []

    def listen() -> None:
        with listen_for_stop() as stop:
            codes.append(stop.exit_code)
            assert signal.getsignal(signal.SIGTERM) == before

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join(10)
    assert codes == [0]
