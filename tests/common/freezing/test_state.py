"""The memory of a strategy as plain types, and its console lines."""

from __future__ import annotations

from freezing_toy import NAMES, simulate

from common.freezing.state import FreezingState
from common.freezing.strategies import FreezingConfig


def test_states_survive_as_plain_types() -> None:
    found = simulate(
        FreezingConfig(strategy="advanced"), [0.4, 0.4, 0.3], importance=dict.fromkeys(NAMES, 1.0), epochs=7
    )
    assert found.at("rollback")
    assert any(state.trial for state in found.states)
    for state in found.states:
        assert FreezingState.from_dict(state.to_dict()) == state


def test_console_lines_and_event_fields() -> None:
    found = simulate(
        FreezingConfig(strategy="advanced"), [0.4, 0.4, 0.3], importance=dict.fromkeys(NAMES, 1.0), epochs=5
    )
    assert [each.line() for each in found.decisions] == [
        "epoch 1 analysing: a trend takes 2 epochs",
        "epoch 2 unfreeze open layer4",
        "epoch 3 analysing: 1 of 2 epochs since the last event",
        "epoch 4 rollback close layer4: best 0.3000 since epoch 2, 0.4000 before",
    ]
    fields = found.decisions[1].to_dict()
    assert list(fields) == [
        "event",
        "epoch",
        "strategy",
        "blocks",
        "open",
        "metric",
        "gain",
        "importance",
        "threshold",
        "reason",
    ]
    assert fields["open"] == ("layer4",)
