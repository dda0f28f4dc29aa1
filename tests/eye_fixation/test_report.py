"""The page of result files, drawn from random densities judged as trained ones are."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eye_results import SHARPNESS, fake_results, write_results

from common.config import UserError, run_main
from eye_fixation.report import NAVIGATION, write_report
from eye_fixation.report_audit import audit_tables, audits_of, options_of
from eye_fixation.report_config import ReportConfig
from eye_fixation.report_data import Film, Model, read_evidence
from eye_fixation.report_film import inside_share, outline, region, shown_steps
from eye_fixation.report_plots import MOST_OFF, found_over_expected, spread
from eye_fixation.report_sections import rank_reading, training_lines
from eye_fixation.results import CAVEAT


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return fake_results(failed="composite_literal", seeds=(1, 2, 3))


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return fake_results(losses=("dice",), seeds=(1,))


@pytest.fixture(scope="module")
def page(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    path = write_report([write_results(folder / "run-0001", content)], folder / "new" / "report.html")
    return path.read_text(encoding="utf-8")


def written(tmp_path: Path, content: dict[str, Any], name: str = "run") -> str:
    path = write_results(tmp_path / name, content, film=False)
    return write_report([path], tmp_path / "report.html").read_text(encoding="utf-8")


def prose(page: str) -> str:
    return re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<svg.*?</svg>|<style.*?</style>", " ", page))


def test_the_page_needs_nothing_outside_itself_and_has_every_section(page: str) -> None:
    assert not re.search(r"https?://|<script|<link|@import", page)
    assert set(re.findall(r'<section id="(\w+)"', page)) == set(NAVIGATION)
    assert re.findall(r'<a href="#(\w+)"', page) == list(NAVIGATION)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', page)) <= set(ids)
    assert CAVEAT in page
    assert "RuntimeError: &lt;no&gt; memory" in page


def test_every_plot_has_a_reading_its_n_and_its_source(page: str) -> None:
    losses = len(SHARPNESS)
    captions = re.findall(r"n: ([^<]*)\. Source: ([^<]*)\.", page)
    plots = 1 + 1 + 1 + 2 + 1 + 1 + (losses + 1) + losses  # rank, film, horizons, ..., constants, training
    assert len(captions) == plots + 1  # and the main table
    assert all(re.search(r"\d", n) and "simulated data" in source for n, source in captions)
    assert len(re.findall(r"<svg", page)) == plots + 2  # three sequences of film under one caption
    assert len(re.findall(r"data:image/png;base64", page)) == 3


@pytest.mark.parametrize(
    ("source", "said", "never"),
    [
        ("simulated", "Simulated data", r"\breal\b|recorded"),
        ("real", "Real data, recorded gaze", r"simulated|unknown source"),
        ("unknown", "Data of unknown source", r"\breal\b|recorded|simulated"),
    ],
)
def test_the_source_is_called_what_it_is(
    small: dict[str, Any], tmp_path: Path, source: str, said: str, never: str
) -> None:
    text = written(tmp_path, {**small, "data": {**small["data"], "source": source}})
    assert f">{said}<" in text
    assert not re.search(never, prose(text), re.IGNORECASE)


def test_numbers_of_the_file_are_in_the_tables(page: str, content: dict[str, Any]) -> None:
    text = prose(page)
    for loss in SHARPNESS:
        bits = content["losses"][loss]["summary"]["bits"]["mean"]
        assert f"{bits:.2f}" in text
    for pair in content["comparison"]["pairs"]:
        assert f"{pair['difference']:+.3f}" in text
        assert f"{pair['p_holm']:.4f}" in text
    point = content["baselines"]["constant_velocity"]["summary"]["mde_argmax_at_3"]["mean"]
    assert f"{point:.2f}" in text
    assert "below the kernel" in text
    assert "No ranking is supported" not in text


def test_fewer_than_three_seeds_rank_nothing(small: dict[str, Any], tmp_path: Path) -> None:
    text = written(tmp_path, small)
    assert "No ranking is supported: intervals cover test groups only" in text
    assert "No film strip: " in text


def test_audit_tables_are_computed_with_the_settings_of_the_file(
    content: dict[str, Any], tmp_path: Path
) -> None:
    large = {**content, "data": {**content["data"], "img_size": 32}}
    result = read_evidence([write_results(tmp_path, large, film=False)]).first
    assert options_of(result).pos_weight == 50
    tables = audit_tables(audits_of(result), 32)
    for golden in (
        "-6.930495", "-2.945577", "0.000975609", "0.987654", "0.252922", "128.380662", "20.621445",
        "34.211572", "0.180894", "0.304403", "172.515280", "9.847751", "0.052817", "10.321572", "0.120409",
    ):  # fmt: skip
        assert golden in tables
    assert tables.count(">misleads<") == 3


def test_files_of_the_same_test_set_stand_side_by_side(content: dict[str, Any], tmp_path: Path) -> None:
    paths = [write_results(tmp_path / name, content) for name in ("run-0001", "run-0002")]
    evidence = read_evidence(paths)
    assert len(evidence.models) == 2 * len(SHARPNESS)
    assert len({model.label for model in evidence.models}) == len(evidence.models)
    assert len({(model.color, model.dash) for model in evidence.models}) == len(evidence.models)
    assert {"dice (run-0001)", "dice (run-0002)"} < {model.label for model in evidence.models}


def test_the_page_of_several_files_names_each(small: dict[str, Any], tmp_path: Path) -> None:
    paths = [write_results(tmp_path / name, small) for name in ("run-0001", "run-0002")]
    text = write_report(paths, tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<b>(dice \(run-000\d\))</b>", text)[:2] == ["dice (run-0001)", "dice (run-0002)"]
    assert text.count("<h3>run-0001</h3>") == 4  # comparison, baselines, film, runs


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("sha256", {"test": "other"}, "hash of the test set"),
        ("out_len", 5, "out_len"),
        ("valid_target_frames", {"test": 1}, "valid test frames"),
    ],
)
def test_files_of_other_test_frames_are_refused(
    content: dict[str, Any], tmp_path: Path, key: str, value: Any, named: str
) -> None:
    other = {**content, "data": {**content["data"], key: value}}
    paths = [write_results(tmp_path / n, c, film=False) for n, c in (("a", content), ("b", other))]
    with pytest.raises(UserError, match=named):
        read_evidence(paths)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "no result file"), ("[]", "kind is None"), ('{"kind": "other"}', "kind is 'other'")],
)
def test_what_is_no_result_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(said)):
        write_report([path], tmp_path / "report.html")
    with pytest.raises(UserError, match="not found"):
        write_report([tmp_path / "none.json"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_result_above_the_oracle_stops_the_report(content: dict[str, Any], tmp_path: Path) -> None:
    leak = {**content, "warnings": ["mse lies 4.0 standard errors above the oracle: test data have leaked"]}
    with pytest.raises(UserError, match="above the best possible"):
        written(tmp_path, leak)


def test_a_page_is_written_while_results_are_still_missing(
    content: dict[str, Any], small: dict[str, Any], tmp_path: Path
) -> None:
    bare = {**small, "baselines": {}, "oracle": None, "comparison": None}
    text = written(tmp_path, bare)
    assert not re.search('id="(comparison|baselines)"', text)
    assert "history kernel has" not in text
    failed = {"composite_literal": content["losses"]["composite_literal"]}
    text = written(tmp_path, {**bare, "losses": failed, "seed_compat": {}})
    assert "No loss has a result yet." in text


def test_uncalibrated_runs_show_their_raw_curves(small: dict[str, Any], tmp_path: Path) -> None:
    plain = json.loads(json.dumps(small))
    for run in plain["losses"]["dice"]["runs"]:
        run["calibration"] = run["metrics"]["calibrated"] = None
    evidence = read_evidence([write_results(tmp_path, plain, film=False)])
    model = next(model for model in evidence.models if model.name == "dice")
    raw = [run["metrics"]["raw"]["curves"]["coverage_share"] for run in plain["losses"]["dice"]["runs"]]
    np.testing.assert_allclose(model.curve("coverage_share"), np.mean(raw, axis=0))
    assert "n/a" in written(tmp_path, plain)


def test_the_command_takes_the_latest_run(
    small: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(*words: str) -> int:
        return run_main("eye_fixation.report:main", ReportConfig, list(words), prog="eye-fixation report")

    monkeypatch.chdir(tmp_path)
    assert command() == 2
    assert "no run to report" in capsys.readouterr().err
    write_results(tmp_path / "runs" / "eye_fixation" / "run-0003", small, film=False)
    (tmp_path / "runs" / "eye_fixation" / "latest").write_text("run-0003\n")
    assert command("--out", "page/new.html") == 0
    assert (tmp_path / "page" / "new.html").is_file()
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["new.html"]


def test_regions_are_the_densest_cells() -> None:
    density = np.array([[0.5, 0.3], [0.15, 0.05]], np.float16)
    np.testing.assert_array_equal(region(density, 0.4), [[True, False], [False, False]])
    np.testing.assert_array_equal(region(density, 0.9), [[True, True], [True, False]])
    edge = outline(np.array([[True]]), 4)
    assert edge.sum() == 12
    assert not edge[1:3, 1:3].any()
    assert shown_steps(3) == [0, 1, 2]
    assert len(shown_steps(24)) == 10
    assert (shown_steps(24)[0], shown_steps(24)[-1]) == (0, 23)


def test_the_true_cell_is_column_then_row_and_lost_frames_do_not_count() -> None:
    density = np.zeros((1, 3, 4, 4), np.float16)
    density[:, :, 3, 1] = 1  # row 3, column 1
    points = np.array([[[0.0, 0.0], [1.9, 3.2], [3.2, 1.9], [1.0, 4.0]]], np.float32)
    seen = np.array([[True, True, True, False]])
    film = Film(points, seen, 1, {"a": density})
    assert inside_share(film, "a", 0.5) == 0.5
    assert inside_share(Film(points, np.ones((1, 4), bool), 1, {"a": density}), "a", 0.5) == 2 / 3


def model(name: str, curves: dict[str, list[float | None]] | None = None, **run: Any) -> Model:
    entry = {"status": "ok", "metrics": {"calibrated": {"curves": curves or {}}}, **run}
    return Model(name, name, {"runs": [entry], "summary": {}}, {}, "#000000", "-")


def test_reliability_is_lit_over_expected_cells_where_there_are_enough() -> None:
    curves: dict[str, list[float | None]] = {
        "mass_predicted": [10.0, 4.0, 100.0, 0.0, 20.0],
        "mass_hits": [5.0, 2.0, 900.0, 6.0, 20.0],
    }
    found = found_over_expected(model("a", curves))
    np.testing.assert_allclose(found, [0.5, math.nan, MOST_OFF, math.nan, 1.0])
    assert len(found_over_expected(model("a"))) == 0


def test_the_rank_sentence_gives_equal_recalls_the_same_place() -> None:
    a, b, c = (model(name) for name in "abc")
    text = rank_reading([a, b, c], [c, b, a], {"a": 1.0, "b": 0.2, "c": 0.2})
    assert text.startswith("a leads by documented recall and is number 3 of 3 by bits; ")
    assert text.endswith("; c leads by bits and is number 2 by recall.")
    assert "put a first" in rank_reading([a, b], [a, b], {"a": 1.0, "b": 0.0})


def test_training_lines_are_means_over_seeds_with_gaps() -> None:
    entry = {"runs": [
        {"status": "ok", "train_losses": [4.0, 2.0, None], "val_losses": [5.0, 3.0, 1.0]},
        {"status": "ok", "train_losses": [2.0, 1.0], "val_losses": [3.0, 1.0]},
        {"status": "failed"},
    ]}  # fmt: skip
    lines = training_lines(Model("a", "a", entry, {}, "#000000", "-"))
    assert [line.values for line in lines if not line.faint] == [[3.0, 1.5], [4.0, 2.0]]
    assert sum(line.faint for line in lines) == 4
    assert math.isnan(lines[0].values[2])


@pytest.mark.parametrize("places", [[0.0, 0.0, 0.0], [3.0, 1.0, 1.2, 9.0], [5.0], []])
def test_names_keep_their_order_and_their_distance(places: list[float]) -> None:
    moved = spread(places, 1.0)
    order = sorted(range(len(places)), key=lambda i: places[i])
    assert all(moved[b] - moved[a] >= 1 - 1e-9 for a, b in pairwise(order))
    assert sum(moved) == pytest.approx(sum(places))
