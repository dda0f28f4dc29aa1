"""The benchmark tool: its arithmetic, its verdict, and one cheap entry run for real."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import timing

    return timing


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    return run


@pytest.fixture
def balance(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import mvfouls_balance

    return mvfouls_balance


def test_a_ratio_is_that_of_the_medians_within_its_interval(timing: ModuleType) -> None:
    seconds = {"slow": np.array([6.0, 7, 8, 9, 600]), "fast": np.array([2.0, 2, 2, 2, 2])}
    row = timing.ratio("slow / fast", seconds, "slow", "fast")
    assert row.value == 4.0
    assert 3.0 <= row.low < 4.0 < row.high <= 300.0
    assert row.seconds == {"slow": 8.0, "fast": 2.0}


def test_repeats_are_paired(timing: ModuleType) -> None:
    drift = np.array([1.0, 5, 2, 9, 4, 7, 3])
    row = timing.ratio("a / b", {"a": 3 * drift, "b": drift}, "a", "b")
    assert (row.low, row.value, row.high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("sign", "value", "status"),
    [
        ("<=", 2.0, "ok"),
        ("<=", 2.9, "over"),
        ("<=", 3.1, "BREACH"),
        (">=", 2.0, "ok"),
        (">=", 1.4, "over"),
        (">=", 1.3, "BREACH"),
        ("<=", float("nan"), "BREACH"),
    ],
)
def test_a_value_breaches_beyond_one_and_a_half_times(
    timing: ModuleType, run: ModuleType, sign: str, value: float, status: str
) -> None:
    row = timing.Row(what="x", unit="x", value=value, budget=timing.Budget(sign, 2.0))
    assert row.status == status
    assert run.verdict([row]) == (1 if status == "BREACH" else 0)


def test_actions_take_turns(timing: ModuleType) -> None:
    order: list[str] = []
    actions = {name: lambda name=name: order.append(name) for name in "ab"}
    settings = timing.Settings(repeats=3)
    seconds = timing.interleave(actions, settings, prepare=lambda: None)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert [len(values) for values in seconds.values()] == [3, 3]


def test_an_absent_peer_has_a_reason(timing: ModuleType) -> None:
    assert timing.missing("no_such_package") == "no_such_package is not installed"
    row = timing.Row(what="x", unit="x", skipped="y is not installed", budget=timing.at_most(1))
    assert row.status == "skipped"


def test_an_unknown_entry_is_refused(run: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--only", "library.nothing"]) == 2
    assert "library.rng, library.budget" in capsys.readouterr().err


def test_a_part_replaces_no_results(
    run: ModuleType, timing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = timing.Row(what="x", unit="x", value=1.0)
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "chosen", lambda only: {"library.rng": lambda settings: iter([row])})
    assert run.main(["--only", "library"]) == 0
    assert not list(tmp_path.iterdir())
    assert run.main([]) == 0
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_one_entry_runs_and_writes_json(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    arguments = ["--only", "library", "--small", "--repeats", "2", "--json", str(path)]
    command = [sys.executable, str(BENCHMARKS / "run.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert result.returncode == 0, result.stderr
    content = json.loads(path.read_text())
    assert [row["entry"] for row in content["rows"]] == ["library.rng", "library.budget"]
    assert all(0 < row["low"] <= row["value"] <= row["high"] for row in content["rows"])
    assert {"torch", "numpy", "python"} <= set(content["versions"])
    assert result.stdout.count("library:") == 2


def test_balancing_is_compared_over_the_same_actions(balance: ModuleType) -> None:
    truth = np.arange(32) % 4
    counts = np.hstack([np.eye(4)[truth]] * 2)
    all_hit, common = counts, counts * ~balance.RARE
    arms = {"plain": [common] * 3, "same": [common] * 3, "all": [all_hit, all_hit, common]}
    hits = {arm: [(found, counts) for found in runs] for arm, runs in arms.items()}
    rows = {row["arm"]: row for row in balance.summarise(hits, resamples=200)}
    assert rows["plain"]["leaderboard"] == {"value": 50.0, "low": 50.0, "high": 50.0}
    for measure in ("leaderboard", "rare_recall"):
        assert set(rows["same"]["difference"][measure].values()) == {0.0}
    assert rows["all"]["leaderboard"]["value"] == pytest.approx(250 / 3)
    rare = rows["all"]["difference"]["rare_recall"]
    assert rare["value"] == pytest.approx(200 / 3)
    assert 0 <= rare["low"] < rare["value"] < rare["high"] == 100.0
    assert rows["all"]["recall"]["Red"] == pytest.approx(2 / 3)
    assert rows["all"]["recall"]["No card"] == 1.0


def test_hits_are_those_of_the_right_classes(balance: ModuleType) -> None:
    names = ("No offence", "No card", "Yellow", "Red")
    truth, predicted = np.array([0, 1, 2, 3, 3]), np.array([0, 2, 2, 3, 0])
    part = balance.PartScores(names, truth, predicted, predicted == truth)
    hits, counts = balance._part_hits(part, balance.OS)
    assert list(balance.OS) == ["No card", "No offence", "Yellow", "Red"]
    assert counts.sum(0).tolist() == [1, 1, 1, 2]
    assert hits.sum(0).tolist() == [0, 1, 1, 1]
