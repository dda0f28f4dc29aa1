"""Percentiles over everything and since the last report."""

import numpy as np
import pytest

from rodent_behavior.live.latency import Latency


def test_summary_is_numpys_percentiles_in_ms():
    latency = Latency()
    seconds = np.random.default_rng(0).uniform(0, 0.02, 500).astype(np.float32)
    for value in seconds.tolist():
        latency.add("behaviour", value)
    found = latency.summary()["behaviour"]
    milliseconds = 1000 * seconds.astype(np.float64)
    for percent in (50, 95, 99):
        assert found[f"p{percent}_ms"] == pytest.approx(np.percentile(milliseconds, percent), rel=1e-6)
    assert found["max_ms"] == pytest.approx(milliseconds.max())
    assert found["count"] == 500


def test_report_covers_the_time_since_the_last_one():
    latency = Latency(period_s=10)
    assert latency.report(100.0) is None
    latency.add("pose", 0.5)
    assert latency.report(109.0) is None
    assert latency.report(110.0)["pose"]["max_ms"] == pytest.approx(500)
    latency.add("pose", 0.25)
    assert latency.report(120.0)["pose"] == {
        "count": 1, "p50_ms": 250, "p95_ms": 250, "p99_ms": 250, "max_ms": 250,
    }  # fmt: skip
    assert latency.report(130.0) == {}
