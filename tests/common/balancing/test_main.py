"""`python -m common.balancing`: the page, the JSON and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.balancing.__main__ import main
from common.statistics import ClassStatistics

UAV = [3343002, 758065856, 225910153, 212680989]


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"counts": UAV, "names": ["void", "safe", "slow", "stop"], "unit": "pixel"}))
    return path


def result(counts: Path, *flags: str) -> dict[str, Any]:
    output = counts.parent / "out.json"
    main([str(counts), "--json", str(output), *flags])
    content: dict[str, Any] = json.loads(output.read_text())
    return content


def test_the_page_shows_every_part(counts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(counts), "--strategy", "sqrt"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("1200000000 pixels in 4 classes, ratio 226.8:1\n")
    for words in (
        "log prior", "sigmoid bias", "margin", "repeat", "balanced_capped", "median_frequency", "89.74",
        "63.1722", "logit adjustment or vector scaling", "x weights(sqrt)", "strength 0.50", "effective",
    ):  # fmt: skip
        assert words in page


def test_the_file_holds_the_numbers(counts: Path) -> None:
    content = result(counts, "--strategy", "balanced", "--max_margin", "1")
    np.testing.assert_allclose(
        content["weights"]["balanced"], [89.7397, 0.395744, 1.327962, 1.410563], rtol=2e-6
    )
    np.testing.assert_allclose(content["log_prior"], np.log(np.array(UAV) / 1.2e9))
    assert content["margins"][0] == 1
    assert content["budget"]["strength"] == pytest.approx(1)
    assert ClassStatistics.from_dict(content["statistics"]).counts.tolist() == UAV


def test_every_flag_changes_the_numbers(counts: Path) -> None:
    plain = result(counts, "--strategy", "effective_number")
    for flags in (
        ["--max_weight_ratio", "5"], ["--beta", "0.99999999"], ["--normalize", "min"], ["--tau", "1"],
        ["--max_margin", "0.2"], ["--repeat_threshold", "0.5"], ["--strategy", "sqrt"],
    ):  # fmt: skip
        assert result(counts, "--strategy", "effective_number", *flags) != plain
    repeated = result(counts, "--repeat_threshold", "0.5")["repeat_factors"]
    assert repeated[0] == pytest.approx((0.5 / 0.0027858) ** 0.5, rel=1e-3)
    assert result(counts, "--repeat_threshold", "0.5", "--repeat_cap", "3")["repeat_factors"][0] == 3
    squared = result(counts, "--repeat_threshold", "0.5", "--repeat_power", "1")["repeat_factors"]
    assert squared[0] == pytest.approx(repeated[0] ** 2)


def test_the_offset_takes_the_prior_that_the_weights_leave(counts: Path) -> None:
    alone = result(counts, "--tau", "1")["budget"]
    assert alone["strength"] == pytest.approx(1)
    both = result(counts, "--tau", "1", "--strategy", "sqrt")["budget"]
    assert both["strength"] == pytest.approx(1)
    assert both["offset"] != alone["offset"]


def test_an_overcorrection_fails_unless_allowed(counts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(counts), "--tau", "2"]) == 1
    assert "error    overcorrection" in capsys.readouterr().out
    assert main([str(counts), "--tau", "2", "--allow-stacking"]) == 0
    assert "warning  overcorrection" in capsys.readouterr().out


def test_group_counts_give_intervals_and_presence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = [[90, 10, 0], [80, 20, 0], [85, 10, 5], [95, 5, 0]]
    path = tmp_path / "groups.json"
    path.write_text(json.dumps({"counts": [350, 45, 5], "group_counts": groups}))
    content = result(path, "--repeat_threshold", "1")
    assert "95 % intervals over groups" in capsys.readouterr().out
    low, high = content["weights_95"]["balanced"][1]
    assert low < content["weights"]["balanced"][1] < high
    assert content["repeat_factors"] == [1, 1, 2]


def test_a_count_per_line_with_an_absent_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "counts.txt"
    path.write_text("900\n0\n9\n")
    content = result(path)
    assert content["statistics"]["counts"] == [900, 0, 9]
    assert content["log_prior"][1] is None
    assert "class 1 has no label" in capsys.readouterr().out


def test_own_statistics_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "statistics.json"
    statistics = ClassStatistics.from_counts([5, 3], unit="clip")
    path.write_text(json.dumps(statistics.to_dict()))
    assert ClassStatistics.from_dict(result(path)["statistics"]) == statistics


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting property name"),
        ('{"names": []}', '"counts" is needed'),
        ('{"counts": [1, 2], "weight": 3}', "weight"),
        ('{"counts": [1, -2]}', "counts[1] is -2"),
        ("1\nx\n", "'x'"),
    ],
)
def test_bad_files_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert main([str(path)]) == 2
    error = capsys.readouterr().err
    assert "bad.json" in error
    assert words in error


def test_unknown_flags_and_missing_files_are_named(counts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(counts), "--strateg", "sqrt"]) == 2
    assert "--strategy" in capsys.readouterr().err
    assert main(["none.json"]) == 2
    assert "none.json" in capsys.readouterr().err


def test_the_module_runs_without_torch(counts: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "common.balancing", str(counts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "ratio 226.8:1" in done.stdout
    assert "| torch\n" not in done.stderr
