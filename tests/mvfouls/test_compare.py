"""The verb `compare`: runs on the same actions, their paired differences, seeds and settings."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from mv_comparisons import OFFICIAL, drawn_labels, guesses, resampled, write_run
from mv_official import as_entry, slow_scores, write_annotations
from mv_runs import SMALL
from scipy.stats import binomtest

from common.reporting.html import Html
from mvfouls import compare_page
from mvfouls.cli import app
from mvfouls.compare_numbers import FEWEST, KEYS, LEADERBOARD, TITLES
from mvfouls.submission import write_predictions

RESAMPLES = 200
ROWS = drawn_labels(60, seed=5)
GUESSES = {share: guesses(ROWS, share, seed=int(10 * share)) for share in (0.2, 0.4, 0.5, 0.7, 0.9)}


@pytest.fixture
def home(tmp_path):
    write_annotations(tmp_path / "A.json", ROWS)
    return tmp_path


@pytest.fixture
def run(home):
    """Write a finished run into `home` that has a share of the actions right."""

    def write(name, share=0.5, words="", **rest):
        return write_run(home / name, home / "A.json", GUESSES[share], words, **rest)

    return write


@pytest.fixture
def compare(home, capfd):
    """Run the command; return the result with the console and the page, or what it says about the error.

    Without plots, its slowest part, unless asked for.
    """

    def run(line, code=0, *, plots=False):
        words = ["--out=@page", "--json=@R.json", f"--bootstrap={RESAMPLES}", *line.split()]
        with pytest.MonkeyPatch.context() as patch:
            for name in () if plots else ("difference_plot", "recall_plot"):
                patch.setattr(compare_page, name, lambda *given: Html(""))
            patch.setattr("os.fsync", lambda descriptor: None)
            assert app.main(["compare", *(word.replace("@", f"{home}/") for word in words)]) == code
        said = capfd.readouterr()
        if code:
            return said.err
        page = (home / "page" / "comparison.html").read_text()
        return {**json.loads((home / "R.json").read_text()), "out": said.out, "page": page}

    return run


def test_identical_runs_differ_by_exactly_nothing(run, compare):
    for name in ("one", "two", "three"):
        run(name)
    found = compare("@one @two @three")
    assert (found["baseline"], list(found["differences"])) == ("one", ["two", "three"])
    for each in found["differences"].values():
        for key, difference in each.items():
            assert difference["value"] == 0
            if found["n"][key] >= FEWEST:
                assert (difference["low"], difference["high"], difference["p"]) == (0, 0, 1)
            if key.endswith("_acc"):
                assert (difference["gained"], difference["lost"]) == (0, 0)
        assert each[LEADERBOARD]["p_holm"] == 1
    assert "No leaderboard value differs from that of one" in found["page"]
    assert "settings do not differ" in found["out"]


def test_differences_are_those_of_a_slow_paired_bootstrap(run, compare):
    run("a", 0.5)
    run("b", 0.7)
    run("c", 0.4)
    found = compare("@a @b @c --baseline @b")
    drawn = {
        name: resampled(ROWS, GUESSES[share], RESAMPLES)
        for name, share in (("a", 0.5), ("b", 0.7), ("c", 0.4))
    }
    point = {
        name: slow_scores(ROWS, GUESSES[share], "strict")
        for name, share in (("a", 0.5), ("b", 0.7), ("c", 0.4))
    }
    smallest = []
    for name in ("a", "c"):
        for key, title in OFFICIAL.items():
            difference, sample = found["differences"][name][key], drawn[name][key] - drawn["b"][key]
            assert difference["value"] == pytest.approx((point[name][title] - point["b"][title]) / 100)
            assert [difference["low"], difference["high"]] == pytest.approx(
                np.quantile(sample, [0.025, 0.975])
            )
            fewest = min((sample <= 1e-12).sum(), (sample >= -1e-12).sum())
            assert difference["p"] == pytest.approx(min(1, 2 * (fewest + 1) / (RESAMPLES + 1)))
        smallest.append((found["differences"][name][LEADERBOARD]["p"], name))
    (first, least), (second, most) = sorted(smallest)
    adjusted = {name: found["differences"][name][LEADERBOARD]["p_holm"] for name in ("a", "c")}
    assert adjusted == {least: min(1, 2 * first), most: max(min(1, 2 * first), second)}


def test_gained_and_lost_actions_and_recall_by_class(run, compare):
    run("a", 0.5)
    run("b", 0.9)
    found = compare("@a @b")
    right = {
        name: np.array([entry == as_entry(*ROWS[k]) for k, entry in GUESSES[share].items()])
        for name, share in (("a", 0.5), ("b", 0.9))
    }
    assert right["b"].sum() > right["a"].sum()
    os_right = {
        name: [
            (entry["Offence"], entry["Severity"]) == (ROWS[k][1], ROWS[k][2])
            for k, entry in GUESSES[share].items()
        ]
        for name, share in (("a", 0.5), ("b", 0.9))
    }
    pairs = list(zip(os_right["a"], os_right["b"], strict=True))
    accuracy = found["differences"]["b"]["os_acc"]
    assert (accuracy["gained"], accuracy["lost"]) == (pairs.count((False, True)), pairs.count((True, False)))
    assert accuracy["value"] == pytest.approx((accuracy["gained"] - accuracy["lost"]) / 60)
    yellow = [place for place, row in enumerate(ROWS.values()) if row[2] == "3.0"]
    value, hits = found["runs"][1]["values"]["os_recall/Yellow"], sum(os_right["b"][k] for k in yellow)
    wilson = binomtest(hits, len(yellow)).proportion_ci(method="wilson")
    assert found["n"]["os_recall/Yellow"] == len(yellow)
    assert list(value.values()) == pytest.approx([hits / len(yellow), wilson.low, wilson.high])


def test_few_actions_of_a_class_prove_nothing(run, compare):
    """One red card that only one run finds is in every resample that has one: p would be tiny."""
    run("a", 0.2)
    run("b", 0.9)
    found = compare("@a @b")
    rare = [key for key in KEYS if 0 < found["n"][key] < FEWEST]
    assert {"os_recall/Red", "action_recall/Dive"} <= set(rare)
    for key in KEYS:
        known = [found["differences"]["b"][key][part] is not None for part in ("low", "high", "p")]
        assert known == [found["n"][key] >= FEWEST] * 3
    assert f"A class of fewer than {FEWEST} actions has no p" in found["out"]
    shown = sum(each["p"] is not None for each in found["differences"]["b"].values())
    assert f"note     {shown} differences have a p; of so many about 0.5 lie below .05" in found["out"]


def test_runs_that_differ_in_the_seed_alone_are_one_group(run, compare):
    shares = {"a1": 0.4, "a2": 0.5, "a3": 0.7, "b1": 0.9, "b2": 0.7, "c": 0.2}
    for seed, (name, share) in enumerate(shares.items()):
        flag = {"a": "", "b": "--loss_function focal", "c": "--lr 1e-3"}[name[0]]
        run(name, share, f"{flag} --seed {seed} --num_workers {seed} --save_dir {name}")
    found = compare("@a1 @b1 @a2 @c @b2 @a3")
    groups = {tuple(group["runs"]): group for group in found["groups"]}
    assert list(groups) == [("a1", "a2", "a3"), ("b1", "b2"), ("c",)]
    first, second, alone = groups.values()
    assert (first["seeds"], second["seeds"], first["differences"]) == ([0, 1, 2], [3, 4], None)
    values = {
        name: slow_scores(ROWS, GUESSES[share], "strict")["leaderboard_value"] / 100
        for name, share in shares.items()
    }
    said = first["values"][LEADERBOARD]
    three = [values[name] for name in ("a1", "a2", "a3")]
    assert (said["mean"], said["sd"]) == pytest.approx((np.mean(three), np.std(three, ddof=1)))
    assert alone["values"][LEADERBOARD]["sd"] is None
    drawn = {name: resampled(ROWS, GUESSES[share], RESAMPLES)[LEADERBOARD] for name, share in shares.items()}
    mean = np.mean([drawn[name] for name in ("a1", "a2", "a3")], axis=0)
    assert [said["low"], said["high"]] == pytest.approx(np.quantile(mean, [0.025, 0.975]))
    sample = np.mean([drawn["b1"], drawn["b2"]], axis=0) - mean
    difference = second["differences"][LEADERBOARD]
    assert difference["value"] == pytest.approx((values["b1"] + values["b2"]) / 2 - np.mean(three))
    assert [difference["low"], difference["high"]] == pytest.approx(np.quantile(sample, [0.025, 0.975]))
    assert difference["p_holm"] >= difference["p"]
    assert "gained" not in second["differences"]["os_acc"]
    assert "runs that differ in the seed alone" in found["out"]
    assert "Over seeds" in found["page"]


def test_a_seed_that_occurs_twice_is_told(run, compare):
    run("a", 0.4, "--seed 1")
    run("b", 0.5, "--seed 1")
    (note,) = [note for note in compare("@a @b")["notes"] if "seed" in note]
    assert note.startswith("a, b: a seed occurs twice")


def test_settings_that_differ(run, compare):
    run("a", words="--loss_function focal --seed 1 --num_workers 0")
    run("b", words="--weight_decay 1e-4 --main_task_weights 1 2 --seed 2", training_data="u" * 64)
    found = compare("@a @b")
    assert found["settings"] == {
        "differ": {
            "--weight_decay": ["0.0001", "0.0001 (typed)"],
            "--seed": ["1", "2"],
            "--main_task_weights": ["3.0 3.0", "1.0 2.0"],
            "--loss_function": ["focal", "weighted"],
            "training data": ["t" * 12, "u" * 12],
        },
        "left_out": 0,
    }
    assert not found["groups"]
    for text in ("--main_task_weights", "0.0001 (typed)", "u" * 12):
        assert text in found["page"]
        assert text in found["out"]


def test_settings_of_both_command_lines_and_of_none(run, compare, home):
    run("a", words="--lr 1e-3 --oversample_factor 2")
    run("b", words="--ldam-max-m 0.3", frontend="class_weights")
    write_predictions(home / "P.json", GUESSES[0.9], "valid")
    found = compare("@a @b @P.json --annotations @A.json")
    differ = found["settings"]["differ"]
    assert differ["command line"] == ["modular", "class_weights", "-"]
    assert differ["--lr"] == ["0.001", "0.0001", "-"]
    assert differ["--oversample_factor"] == ["2.0", "-", "-"]
    assert differ["--ldam_max_m"] == ["0.5", "0.3", "-"]
    assert found["settings"]["left_out"] > 50
    assert "--class_weight_cap" not in differ
    assert [run["seed"] for run in found["runs"]] == [42, 42, None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("@one", "RUNS: two runs or more are compared"),
        ("@one @two @one/../one", "one/../one is given twice"),
        ("@one @absent", "absent: no such run folder or file of predictions"),
        ("@one @two --baseline @three", "three: is none of the runs to compare"),
        ("@one @two --bootstrap 0", "--bootstrap 0: at least 1 is expected"),
        ("@one @P.json", "P.json: a file of predictions needs --annotations"),
        ("@one @two --annotations @B.json", "B.json: not the annotations that"),
        ("@one @two --annotations @absent.json", "absent.json: no such annotation file"),
        ("@one @P.json --annotations @B.json", "validated on different annotations"),
        ("@one @two --out @A.json/x", "--out"),
        ("@one @two --json @A.json/x", "--json"),
    ],
)
def test_refusals(run, compare, home, line, message):
    run("one")
    run("two")
    write_predictions(home / "P.json", GUESSES[0.4], "valid")
    write_annotations(home / "B.json", drawn_labels(60, seed=6))
    assert message in compare(line, code=2)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.yaml", None, "two: no run folder, config.yaml is not there"),
        ("config.yaml", "a: [1", "config.yaml: not valid YAML"),
        ("config.yaml", "data: {size: 3}\nsave_dir: x", "two: the run of another application"),
        ("class_report.json", None, "two: no validation was finished"),
        ("class_report.json", "{", "class_report.json: not valid JSON"),
        ("class_report.json", "[]", "class_report.json: an object is expected"),
        (
            "class_report.json",
            '{"partial": true, "actions": 3}',
            "two: only 3 validation actions were judged",
        ),
        ("class_report.json", "{}", "two: val_predictions.json judged by"),
        ("val_predictions.json", None, "two: predicts no official labels"),
        ("val_predictions.json", "{", "val_predictions.json, line 1"),
        ("data_report.json", None, "two: data_report.json names no annotations; --annotations does"),
    ],
)
def test_runs_that_cannot_be_compared(run, compare, file, text, message):
    run("one")
    path = run("two") / file
    path.unlink() if text is None else path.write_text(text)
    assert message in compare("@one @two", code=2)


def test_both_runs_are_named_that_saw_other_actions(run, compare, home):
    run("one")
    less = dict(list(GUESSES[0.5].items())[3:])
    write_run(home / "less", home / "A.json", less)
    text = compare("@one @less", code=2)
    assert (
        f"{home}/one and {home}/less: not the same validation actions: 3 only in {home}/one: 0, 1, 2" in text
    )
    rows = drawn_labels(60, seed=6)
    other = write_annotations(home / "B.json", rows)
    write_run(home / "other", other, guesses(rows, 0.5, 1))
    text = compare("@one @other", code=2)
    assert f"{home}/one and {home}/other: validated on different annotations" in text


def test_annotations_that_moved_and_that_changed(run, compare, home):
    run("one")
    run("two", 0.7)
    before = compare("@one @two")["runs"]
    (home / "A.json").rename(home / "moved.json")
    assert "--annotations names it" in compare("@one @two", code=2)
    assert compare("@one @two --annotations @moved.json")["runs"] == before
    write_annotations(home / "A.json", drawn_labels(60, seed=6))
    assert "A.json: not the annotations that" in compare("@one @two", code=2)


def test_too_few_actions_and_unknown_labels(compare, home):
    rows = dict(list(ROWS.items())[:4])
    write_annotations(home / "A.json", rows)
    for name in ("P", "Q"):
        write_predictions(home / f"{name}.json", guesses(rows, 0.5, 1), "valid")
    line = "@P.json @Q.json --annotations @A.json"
    assert "4 actions have official labels, 5 are needed" in compare(line, code=2)
    text = (home / "A.json").read_text().replace(ROWS["0"][0], "Wrestling")
    (home / "A.json").write_text(text)
    assert "Wrestling" in compare(line, code=2)
    assert "actions have official labels" in compare(f"{line} --unknown_labels ignore", code=2)


def test_actions_without_prediction_and_without_annotation(compare, home):
    entries = dict(list(GUESSES[0.5].items())[2:]) | {"99": as_entry(*ROWS["0"])}
    for name in ("P", "Q"):
        write_predictions(home / f"{name}.json", entries, "valid")
    notes = compare("@P.json @Q.json --annotations @A.json")["notes"]
    assert notes[:2] == [
        "2 actions without a prediction, counted as wrong: 0, 1",
        "1 predictions for actions that are not annotated: 99",
    ]


def test_the_page_shows_everything_and_needs_nothing(run, compare, home):
    run("base", 0.4)
    run("a<b", 0.9, "--loss_function focal")
    found = compare("@base @a<b", plots=True)
    page = found["page"]
    assert page.count("<svg") == 3
    assert "a<b" not in page
    assert "a&lt;b by +" in page
    for text in (
        "2 runs on 60 validation actions", "Differences to base", "Recall by class", "Standing tackling",
        "Settings that differ", "--loss_function", found["annotations"]["sha256"],
        "200, the same for all runs", "red-card recall rests on",
    ):  # fmt: skip
        assert text in page
    assert not any(word in page for word in ("http", "<script", "<link", "src="))
    assert str(home / "page" / "comparison.html") in found["out"]


def test_the_verdict_names_what_differs_after_adjustment():
    def told(**p):
        found = {name: {LEADERBOARD: {"value": 0.05, "p_holm": each}} for name, each in p.items()}
        return compare_page.verdict({"baseline": "base", "differences": found})

    assert told(a=0.2, b=0.05).startswith("No leaderboard value differs from that of base")
    assert told(a=0.2, b=0.01).endswith("base: b by +5.0 points (p .010); of the other 1 none does.")
    assert told(b=0.01).endswith("b by +5.0 points (p .010).")


def test_the_console_shows_a_line_per_number(run, compare):
    run("a", 0.4)
    run("b", 0.9)
    found = compare("@a @b")
    out = found["out"]
    value = found["differences"]["b"][LEADERBOARD]["value"]
    assert re.search(rf"\n  LB +{re.escape(f'{100 * value:+.1f}')} ", out)
    assert "b - a, points" in out
    for title in TITLES.values():
        assert f"\n  {title} " in out
    assert "Standing tackling" in out


def test_trained_runs_of_both_command_lines(train, football, compare, home, capfd):
    for name in ("first", "second"):
        assert train(f"--epochs 1 --seed {len(name)}", name=name).code == 0
    sides = "".join(
        f" --{short}-dir {folder} --{short}-annotations {folder}/annotations.json"
        for short, folder in (("train", f"{football}/mvfouls/train"), ("val", f"{football}/mvfouls/valid"))
    )
    small = SMALL.replace("--epochs 2", "--epochs 1").replace("--max_views 2", "")
    words = f"train --frontend class_weights {sides} {small} --multi-task --backbone-arch r2plus1d_18"
    assert app.main([*words.split(), f"--output-dir={home}/third"]) == 0, capfd.readouterr().err
    capfd.readouterr()
    found = compare("@first @second @third --bootstrap 2000")
    assert [run["frontend"] for run in found["runs"]] == ["modular", "modular", "class_weights"]
    for run in found["runs"]:
        report = json.loads((home / run["name"] / "class_report.json").read_text())
        assert run["values"][LEADERBOARD] == pytest.approx(report["leaderboard"])
        assert run["values"]["os_recall/Yellow"]["value"] == report["os"][2]["recall"]
    assert [group["runs"] for group in found["groups"]] == [["first", "second"], ["third"]]
    assert found["settings"]["differ"]["--seed"] == ["5", "6", "42"]


def test_neither_the_verb_nor_its_page_needs_torch():
    code = "import sys, mvfouls.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
