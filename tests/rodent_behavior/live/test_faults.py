"""What the fault counter keeps and what it lets through."""

import pytest

from rodent_behavior.live.faults import Faults


class Odd(Exception):
    """An error of user code that no list would name."""


def test_errors_are_counted_and_each_kind_is_logged_once(caplog):
    faults = Faults("frame")
    for error in (ValueError("a"), Odd("b"), ValueError("c")):
        with faults:
            raise error
    assert faults.count == 3
    assert str(faults.last) == "c"
    assert [record.message for record in caplog.records] == ["frame: a", "frame: b"]


def test_interrupts_pass():
    faults = Faults("frame")
    with pytest.raises(KeyboardInterrupt), faults:
        raise KeyboardInterrupt
    assert faults.count == 0
