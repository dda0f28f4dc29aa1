"""The demo, on fewer videos and for one epoch."""

import json
import re

import yaml

from rodent_behavior import demo
from rodent_behavior.live.recording import Recording


def test_the_demo_ends_with_a_replay_of_what_it_streamed(use, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "VIDEOS", 3)
    monkeypatch.setattr(demo, "TRIALS", 1)
    monkeypatch.setattr("rodent_behavior.outcome.write_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("rodent_behavior.outcome.plot_ethogram", lambda *given, **named: None)
    said = use("demo --epochs 1 --out", tmp_path / "demo")
    assert said.code == 0, said.err
    session = Recording.read(tmp_path / "demo" / "session")
    assert len(session.index) == 360
    assert [trigger["label"] for trigger in session.config["triggers"]] == ["paw_withdraw"]
    found = re.search(r"replay: 360 frames, max abs dp = (\S+), events identical: yes", said.out)
    assert found is not None
    assert float(found[1]) <= 1e-5
    assert re.search(r"latency +behaviour p50 .* p99 .* ms", said.out)
    latency = json.loads((tmp_path / "demo" / "session" / "latency.json").read_text())
    assert latency["behaviour"]["count"] == 360
    settings = yaml.safe_load((tmp_path / "demo" / "runs" / "demo" / "config.yaml").read_text())
    assert settings["model"]["causal"]
