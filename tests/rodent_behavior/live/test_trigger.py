"""Trigger edges on scripted probabilities."""

import pytest

from rodent_behavior.live.trigger import Trigger

FRAME = 1 / 30


def play(trigger, script, start=0):
    """Return (frame, on, reason) of every edge; frames arrive on time."""
    edges = []
    for frame, p in enumerate(script, start):
        at = frame * FRAME
        edges += [(frame, edge.on, edge.reason) for edge in trigger.update(p, at=at, now=10 + at)]
    return edges


def test_on_after_two_frames_and_off_below_half():
    script = [0.9, 0.1, 0.8, 0.79, 0.8, 0.8, 0.5, 0.41, 0.4, 0.39, 0.9]
    assert play(Trigger("lick", 0.8), script) == [(5, True, "level"), (9, False, "level")]


def test_min_on_and_off_at():
    script = [0.6, 0.6, 0.6, 0.54, 0.6]
    trigger = Trigger("lick", 0.6, min_on=3, off_at=0.55)
    assert play(trigger, script) == [(2, True, "level"), (3, False, "level")]
    assert play(Trigger("lick", 0.6, min_on=1), script) == [(0, True, "level")]


def test_stays_off_during_the_refractory_time():
    """500 ms are 15 frames: off at frame 3, on again at frame 18, though p is high from frame 4."""
    script = [0.9, 0.9, 0.9, 0.1, *[0.9] * 20]
    assert play(Trigger("lick", 0.8), script) == [
        (1, True, "level"),
        (3, False, "level"),
        (18, True, "level"),
    ]
    edges = play(Trigger("lick", 0.8, refractory_ms=0), script)
    assert edges == [(1, True, "level"), (3, False, "level"), (5, True, "level")]


def test_no_answer_switches_off_and_starts_the_count_again():
    script = [0.9, None, 0.9, 0.9, None, 0.9]
    trigger = Trigger("lick", 0.8, refractory_ms=0)
    assert play(trigger, script) == [(3, True, "level"), (4, False, "abstain")]
    assert trigger.update(None, at=6 * FRAME, now=10.3, why="fault") == []


def test_watchdog_switches_off_when_frames_stop():
    trigger = Trigger("lick", 0.8)
    play(trigger, [0.9, 0.9])
    last = 10 + FRAME
    assert trigger.expire(last + 0.19) == []
    edges = trigger.expire(last + 0.21)
    assert [(edge.on, edge.reason, edge.p) for edge in edges] == [(False, "watchdog", None)]
    assert trigger.expire(last + 5) == []


def test_watchdog_acts_at_the_next_frame_at_the_latest():
    """A stall gives the same state whether it was noticed in between or not."""
    after = [(0.9, 1 + frame) for frame in range(20)]
    played = []
    for polled in (False, True):
        trigger = Trigger("lick", 0.8)
        play(trigger, [0.9, 0.9])
        if polled:
            trigger.expire(15.0)
        edges = []
        for p, frame in after:
            edges += [
                (frame, edge.on) for edge in trigger.update(p, at=frame * FRAME, now=20 + frame * FRAME)
            ]
        played.append([edge for edge in edges if edge[1]])
    assert played[0] == played[1] == [(16, True)]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"level": 0}, "level"),
        ({"level": 1.1}, "level"),
        ({"level": 0.5, "off_at": 0.6}, "off_at"),
        ({"level": 0.5, "min_on": 0}, "min_on"),
        ({"level": 0.5, "refractory_ms": -1}, "refractory_ms"),
        ({"level": 0.5, "watchdog_ms": 0}, "watchdog_ms"),
    ],
)
def test_a_bad_setting_is_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        Trigger("lick", **arguments)
