"""Every flag of `evaluate` and `report` does something that can be seen, or is refused with a reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from eye_files import gaze_splits
from eye_runs import SMALL, Bench, Ran, swapped

from common.config import flags
from eye_fixation.config import EvaluateConfig
from eye_fixation.data.pt import write_folder
from eye_fixation.report_config import ReportConfig

BASELINES = (
    "uniform", "center", "persistence", "constant_velocity", "linear_ar", "center_bias", "history_kernel"
)  # fmt: skip


class Row(NamedTuple):
    """With `words` behind `given` the answer of `look` is `value`, without them it is another."""

    words: str
    look: Callable[[Ran], Any]
    value: Any
    given: str = "--checkpoint {model}"


def written(ran: Ran, name: str = "e.json") -> dict[str, Any]:
    """What the command wrote; nothing where it wrote nothing."""
    path = ran.home / name
    found: dict[str, Any] = json.loads(path.read_text()) if ran.done.home and path.is_file() else {}
    return found


def bits(ran: Ran) -> float | None:
    entry = written(ran).get("summary", {}).get("bits", {})
    value: float | None = entry.get("mean")
    return value


def judged(ran: Ran) -> str:
    """The line that says who was judged on what, or why nobody was."""
    said = (ran.out + ran.err).splitlines()
    return next((line for line in said if line.startswith(("judged", "error"))), "")


OUT = "--out e.json --bootstrap 20"
MODEL = f"--checkpoint {{model}} {OUT}"
CHOICE = "error: --checkpoint MODEL or --baseline NAME: exactly one of them is expected"

EVALUATE = {
    "checkpoint": Row("--checkpoint {model}", judged, "judged   focal (seed 42) on test: 12 sequences", ""),
    "baseline": Row("--baseline persistence", judged, "judged   persistence on test: 12 sequences", ""),
    "data_dir": Row("--data-dir {tmp}/other", lambda r: written(r)["data"]["dir"], "{tmp}/other", MODEL),
    "coord_order": Row(
        "--coord-order yx", judged, "judged   focal (seed 42) on test: 12 sequences",
        "--checkpoint {tmp}/turned/focal/seed42 --data-dir {tmp}/unnamed",
    ),
    "split": Row(
        "--split val", judged, "judged   focal (seed 42) on val: 12 sequences  (used for calibration)"
    ),
    "out": Row("--out deep/er/e.json", lambda r: bool(written(r, "deep/er/e.json")), True),
    "bootstrap": Row(
        "--bootstrap 20", lambda r: written(r)["summary"]["bits"]["ci"] is not None, True,
        "--checkpoint {model} --out e.json --bootstrap 0",
    ),
    "ci": Row(
        "--ci 0.5", lambda r: (ends := written(r)["summary"]["bits"]["ci"])[1] - ends[0], "narrower", MODEL
    ),
    "device": Row("--device cuda:99", lambda r: (r.code, "--device: device 'cuda:99'" in r.err), (2, True)),
}  # fmt: skip
REPORT = {
    "results": Row(
        "--results {two}/loss_comparison.json {one}/loss_comparison.json",
        lambda r: [name in page(r) for name in ("focal (one)", "focal (two)")], [True, True], "",
    ),
    "out": Row(
        "--out deep/page.html", lambda r: (r.home / "deep" / "page.html").is_file(), True,
        "--results {one}/loss_comparison.json",
    ),
}  # fmt: skip


def page(ran: Ran) -> str:
    path = ran.home / "report.html"
    return path.read_text() if ran.done.home and path.is_file() else ""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Bench:
    """Trainings called one, two and turned, the last on files of (y, x), and other data."""
    root = tmp_path_factory.mktemp("evaluate")
    bench = Bench(root, data_folder)
    for name in ("one", "two"):
        ran = bench.run(f"train --loss focal {SMALL} --in-len 10 --out-len 10 --out {root / name}")
        assert ran.code == 0
    write_folder(root / "other", gaze_splits((24, 12, 9)), {})
    swapped(root / "unnamed", gaze_splits())
    turned = f"--coord-order yx --data-dir {root / 'unnamed'} --out {root / 'turned'}"
    assert bench.run(f"train --loss focal {SMALL} {turned}").code == 0
    return bench


@pytest.fixture
def run(bench: Bench, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run `evaluate WORDS` or another verb's."""
    bench.capfd = capfd

    def start(words: str, verb: str = "evaluate") -> Ran:
        return bench.run(f"{verb} {filled(words, bench)}")

    return start


def filled(words: str, bench: Bench) -> str:
    root = bench.root
    return words.format(tmp=root, one=root / "one", two=root / "two", model=root / "one/focal/seed42")


def test_every_flag_has_a_row() -> None:
    assert set(EVALUATE) == {flag.name for flag in flags(EvaluateConfig)}
    assert set(REPORT) == {flag.name for flag in flags(ReportConfig)}


@pytest.mark.parametrize("name", EVALUATE)
def test_the_flag_of_evaluate_has_its_effect(name: str, bench: Bench, run: Callable[..., Ran]) -> None:
    row = EVALUATE[name]
    answer, without = row.look(run(f"{row.given} {row.words}")), row.look(run(row.given))
    if name == "ci":
        assert 0 < answer < without
        return
    expected = filled(row.value, bench) if isinstance(row.value, str) else row.value
    assert answer == expected
    assert without != expected


@pytest.mark.parametrize("name", REPORT)
def test_the_flag_of_report_has_its_effect(name: str, run: Callable[..., Ran]) -> None:
    row = REPORT[name]
    assert row.look(run(f"{row.given} {row.words}", "report")) == row.value
    assert row.look(run(row.given, "report")) != row.value


def test_a_model_is_judged_as_it_was_after_training(bench: Bench, run: Callable[..., Ran]) -> None:
    """The numbers of the result file, without a flag of the training typed again."""
    found = written(run(MODEL))
    content = json.loads((bench.root / "one/loss_comparison.json").read_text())
    expected = content["losses"]["focal"]["summary"]
    for metric in ("bits", "ap", "mde_argmax_at_3", "coverage_90", "best_f1", "energy", "nss"):
        assert found["summary"][metric]["mean"] == pytest.approx(expected[metric]["mean"], abs=1e-6), metric
    assert found["calibration"] == content["losses"]["focal"]["runs"][0]["calibration"]
    assert found["trained_on_these_files"] is True
    assert found["data"]["source"] == "simulated"
    assert (found["split"], found["used_for_calibration"]) == ("test", False)
    other = written(run(f"{MODEL} --data-dir {{tmp}}/other"))
    assert other["trained_on_these_files"] is False


def test_a_file_and_its_folder_name_the_same_model(run: Callable[..., Ran]) -> None:
    assert bits(run(f"--checkpoint {{model}}/model.pt {OUT}")) == bits(run(MODEL))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_can_be_judged(name: str, run: Callable[..., Ran]) -> None:
    ran = run(f"--baseline {name} {OUT} --split train")
    assert ran.code == 0, ran.err
    found = written(ran)
    assert found["baseline"] == name
    assert found["summary"]["mde_argmax_at_10"]["mean"] > 0
    assert ("bits" in found["summary"]) == (name not in ("center", "constant_velocity", "linear_ar"))


def test_the_baselines_are_those_of_a_comparison(bench: Bench, run: Callable[..., Ran]) -> None:
    line = f"train --loss focal {SMALL} --in-len 10 --out-len 10 --max-train 0 --max-val 0 --baselines"
    inside = bench.run(line).content["baselines"]["history_kernel"]["summary"]
    found = written(run(f"--baseline history_kernel {OUT}"))["summary"]
    assert found["bits"]["mean"] == pytest.approx(inside["bits"]["mean"])
    assert found["ig_center"]["per_horizon"] == pytest.approx(inside["ig_center"]["per_horizon"])


def test_the_oracle_is_that_of_the_split(bench: Bench, run: Callable[..., Ran]) -> None:
    """With a field per split, only the field of a split itself predicts its paths best."""
    folder = bench.root / "fields"
    words = f"--field-per-split --n-train 40 --n-val 40 --n-test 40 --out {folder}"
    assert bench.run(f"prepare {words}").code == 0
    for split in ("train", "val", "test"):
        ran = run(f"--baseline oracle --data-dir {folder} --split {split} {OUT}")
        found = written(ran)["summary"]
        assert found["ig_kernel"]["mean"] > 0, split
        assert found["bits"]["per_horizon"][0] > -7, split


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", CHOICE),
        ("--checkpoint {model} --baseline uniform", CHOICE),
        ("--checkpoint nowhere", "--checkpoint nowhere: no model file"),
        ("--baseline persistance", "--baseline persistance: one of uniform, center, persistence"),
        ("--baseline human", "--baseline human: these data permit uniform, center, persistence"),
        ("--baseline oracle", "--baseline oracle: these data permit uniform, center, persistence"),
        ("--baseline uniform --device cpu", "--device has no effect because a baseline has no network"),
        ("--checkpoint {model} --ci 0.9 --bootstrap 0", "--ci has no effect because --bootstrap is 0"),
        ("--checkpoint {model} --ci 1", "--ci 1"),
        ("--checkpoint {model} --bootstrap -1", "--bootstrap -1"),
        ("--checkpoint {model} --split all", "--split"),
        ("--checkpoint {model} --data-dir nowhere", "--data-dir nowhere: train_data.pt, val_data.pt"),
        ("--checkpoint {model} --data-dir {tmp}/coarse", "prepare --img-size 32 would fit"),
        ("--checkpoint {model} --data-dir {tmp}/slow", "prepare --rate-hz 10.0 would fit"),
        ("--checkpoint {model} --data-dir {tmp}/short", "--in-len 10 and --out-len 10 need 20"),
        ("--checkpoint {model} --data-dir {tmp}/other --coord-order yx", "--coord-order yx contradicts"),
        ("--checkpoint {model} --out {tmp}/one/loss_comparison.json/e.json", "cannot be written"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(
    words: str, text: str, bench: Bench, run: Callable[..., Ran]
) -> None:
    for name, settings in (
        ("coarse", {"img_size": 64}), ("slow", {"rate_hz": 5.0}), ("short", {"length": 15}),
    ):  # fmt: skip
        if not (bench.root / name).exists():
            write_folder(bench.root / name, gaze_splits((8, 4, 4), **settings), {})
    ran = run(words)
    assert ran.code == 2, ran.out
    assert ran.err.startswith("error: ")
    assert text in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "no run to report"),
        ("--results nowhere.json", "--results: nowhere.json not found"),
        ("--results {one}/config.yaml", "config.yaml is no result file"),
        ("--results {one}/loss_comparison.json --out {one}/config.yaml/page.html", "--out"),
    ],
)
def test_what_cannot_be_reported_is_refused(words: str, text: str, run: Callable[..., Ran]) -> None:
    ran = run(words, "report")
    assert ran.code == 2, ran.out
    assert text in ran.err
    assert "Traceback" not in ran.err


def test_results_of_other_test_data_do_not_stand_side_by_side(bench: Bench, run: Callable[..., Ran]) -> None:
    words = f"train --loss mse {SMALL} --in-len 10 --out-len 10"
    other = bench.run(f"{words} --data-dir {bench.root / 'other'} --out {bench.root / 'three'}")
    assert other.code == 0, other.err
    ran = run("--results {one}/loss_comparison.json {tmp}/three/loss_comparison.json", "report")
    assert ran.code == 2
    assert "results cannot stand side by side: hash of the test set" in ran.err


def test_a_damaged_model_is_named(bench: Bench, run: Callable[..., Ran]) -> None:
    whole = bench.root / "one/focal/seed42/model.pt"
    (bench.root / "cut.pt").write_bytes(whole.read_bytes()[:900])
    torch.save({"weights": 1}, bench.root / "foreign.pt")
    for name, text in (("cut", "cannot be read"), ("foreign", "is no model file of eye_fixation")):
        ran = run(f"--checkpoint {{tmp}}/{name}.pt")
        assert ran.code == 2
        assert f"{name}.pt" in ran.err
        assert text in ran.err
