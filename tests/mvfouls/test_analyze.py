"""What is counted, what balancing makes of it, and offsets fitted on validation logits only."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mv_counts import COUNTS, SAMPLES
from mv_files import entry, write_annotations
from numpy.typing import ArrayLike

from common.config import run_main
from mvfouls.analyze import main, recommended_preset
from mvfouls.calibration import read_calibration
from mvfouls.config_modular import PRESETS
from mvfouls.config_verbs import AnalyzeConfig
from mvfouls.labels import IGNORE, OFFICIAL_ACTIONS, TASKS

Analyze = Callable[..., str]

ODD = {
    "3": entry((0, 1), action_class="Tackling", offence="No Offence", severity=""),
    "5": entry((0, 1, 2), action_class="Dive", offence="Between", severity="3.0", multiple_fouls="yes"),
    "8": entry((0, 1), action_class="Dont know", upper_body_part="Use of shoulders"),
    "9": entry((0, 1, 2, 3), action_class="", offence="", severity="", contact="Without contact"),
    "12": entry((0,), action_class="Tackling", severity="5.0"),
    "13": entry((0, 1), action_class="Tackling", severity="2.0", touch_ball="Maybe"),
}
"""Every oddity of the labels in six actions."""


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations whose class counts are the documented ones of training."""
    columns = {task: _column(task, counts) for task, counts in COUNTS.items()}
    actions = {
        str(k): entry((0, 1), **{task: values[k] for task, values in columns.items()}) for k in range(SAMPLES)
    }
    return write_annotations(tmp_path_factory.mktemp("documented") / "annotations.json", actions)


def _column(task: str, counts: Sequence[int]) -> list[str]:
    values = TASKS[task].classes
    listed = [value for value, number in zip(values, counts) for _ in range(number)]
    return listed + [""] * (SAMPLES - len(listed))


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return write_annotations(tmp_path / "annotations.json", ODD)


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Analyze:
    monkeypatch.chdir(tmp_path)

    def call(line: str, *, code: int = 0) -> str:
        assert run_main(main, AnalyzeConfig, line.split(), prog="mvfouls analyze") == code
        said = capfd.readouterr()
        return said.err if code else said.out

    return call


def report(run: Analyze, line: str) -> dict[str, Any]:
    run(f"{line} --json out/R.json")
    content: dict[str, Any] = json.loads(Path("out/R.json").read_text())
    return content


def close(actual: Sequence[float], expected: ArrayLike) -> None:
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_every_task_and_attribute_is_counted(run: Analyze, odd: Path) -> None:
    out = run(f"--annotations {odd} --json R.json")
    found = json.loads(Path("R.json").read_text())
    assert (found["set"], found["actions"], found["clips"], found["matches"]) == ("train", 6, 14, 1)
    assert found["views"] == {"1": 1, "2": 3, "3": 1, "4": 1}
    assert list(found["tasks"]) == list(TASKS)
    kinds, offences = found["tasks"]["action_class"], found["tasks"]["offence"]
    assert kinds["actions"] == [3, 0, 0, 0, 0, 0, 0, 1]
    assert kinds["clips"] == [5, 0, 0, 0, 0, 0, 0, 3]
    assert kinds["ignored"] == {"Dont know": 1, "": 1}
    assert (offences["actions"], offences["spelled"]) == ([3, 1, 1], {"No Offence": 1})
    assert found["tasks"]["offence_severity"]["ignored"] == {"no official label": 3}
    assert found["tasks"]["multiple_fouls"]["spelled"] == {"yes": 1}
    assert found["tasks"]["upper_body_part"]["actions"] == [0, 1]
    assert found["tasks"]["contact"]["actions"] == [5, 1]
    table = np.zeros((8, 4), dtype=int)
    for cell in ((0, 0), (7, 2), (0, 3)):
        table[cell] = 1
    assert found["official"]["actions"] == {"total": 3, "table": table.tolist()}
    assert found["official"]["clips"]["total"] == 2 + 3 + 1
    for text in (
        "6 actions 14 clips 1 matches | views 1:1 2:3 3:1 4:1",
        "classes  action_class   4 of 6 actions have a class   ratio 3.0",
        "ignored 2: Dont know 1, (empty) 1",
        "spelled otherwise 1: No Offence 1",
        "official 3 of 6 actions and 6 of 14 clips count officially",
    ):
        assert text in out


def test_golden_sampler_weights_and_margins(run: Analyze, documented: Path) -> None:
    line = f"--annotations {documented} --balance_tasks severity --tasks severity offence action_type"
    found = report(run, line)
    severity = found["balance"]["severity"]
    assert list(found["balance"]) == ["severity", "offence", "action_class"]
    close(severity["factors"], [1, 3.4789, 2.0408, 4, 4])
    close(severity["presented"], [0.3122, 0.3122, 0.3122, 0.0392, 0.0241])
    close(severity["weights"], [0.6714, 0.6714, 0.6714, 5.3479, 6.7135])
    close(severity["effective"], [0.2096] * 4 + [0.1615])
    close([severity["strength"], severity["inversion"]], [0.934, 1])
    close(severity["margins"], [0.1863, 0.2544, 0.2226, 0.4425, 0.5])
    close(found["balance"]["offence"]["margins"], [0.2214, 0.3689, 0.5])
    assert found["balance"]["offence"]["factors"] is None
    assert found["findings"] == []
    assert found["preset"]["name"] == "large"


@pytest.mark.parametrize(
    ("flags", "weights"),
    [
        ("", [0.5214, 1.8138, 1.0640, 5.2136, 5.2136]),
        ("--class_weighting_strategy sqrt", [0.7163, 1.3361, 1.0233, 4.0435, 5.1618]),
        ("--class_weighting_strategy none", None),
    ],
)
def test_golden_weights_without_a_sampler(
    run: Analyze, documented: Path, flags: str, weights: list[float] | None
) -> None:
    line = f"--annotations {documented} --no-use_class_balanced_sampler --tasks severity"
    severity = report(run, f"{line} {flags}")["balance"]["severity"]
    assert severity["factors"] is None
    if weights is None:
        assert severity["weights"] is None
    else:
        close(severity["weights"], weights)


def test_flags_of_the_sampler_act(run: Analyze, documented: Path) -> None:
    line = f"--annotations {documented} --balance_tasks severity --tasks severity --ldam_max_m 0.3"
    severity = report(run, f"{line} --oversample_factor 2 --max_repeat 1 --max_weight_ratio 1")["balance"][
        "severity"
    ]
    close(severity["factors"], [1, 2, 2, 2, 2])
    close(severity["presented"], severity["natural"])
    close(severity["weights"], [1] * 5)
    close(severity["margins"], 0.6 * np.array([0.1863, 0.2544, 0.2226, 0.4425, 0.5]))
    natural = f"--annotations {documented} --tasks severity --balance_tasks severity --weight_basis natural"
    out = run(natural)
    assert "error    severity: overcorrection: inversion 3.48" in out
    assert "weights balanced_capped of natural counts" in out
    out = run(f"{natural} --allow_overcorrection")
    assert "error    " not in out
    assert "warning  severity: overcorrection: inversion 3.48" in out


def test_legacy_classes(run: Analyze, odd: Path) -> None:
    found = report(run, f"--annotations {odd} --keep_junk_classes class_weights")
    kinds = found["tasks"]["action_class"]
    assert kinds["classes"][0] == "Missing/Empty"
    assert kinds["actions"] == [1, 0, 3, 0, 0, 0, 0, 0, 1, 1]
    modular = report(run, f"--annotations {odd} --keep_junk_classes modular")
    assert modular["tasks"]["action_class"]["actions"] == [1, 0, 1, 1, 0, 0, 0, 0, 0, 3]
    assert len(modular["balance"]["action_class"]["weights"]) == 10


def test_unknown_labels(run: Analyze, tmp_path: Path) -> None:
    path = write_annotations(tmp_path / "A.json", {"0": entry(), "1": entry(severity="6.0")})
    assert "action 1: Severity is '6.0'" in run(f"--annotations {path}", code=2)
    out = run(f"--annotations {path} --unknown_labels ignore --tasks severity --balance_tasks severity")
    assert "Severity '6.0': unknown, ignored 1 times" in out
    assert "ignored 1: 6.0 1" in out


def test_a_task_that_nothing_is_labelled_of(run: Analyze, odd: Path) -> None:
    out = run(f"--annotations {odd} --tasks handball_offence severity")
    assert "note     handball_offence: no action has a label, nothing can be balanced" in out
    out = run(f"--annotations {odd} --tasks handball_offence", code=2)
    assert "has a label of any of them" in out
    out = run(f"--annotations {odd} --balance_tasks handball_offence", code=2)
    assert "handball_offence: no training sample has a label" in out


def test_other_sets_are_counted_and_said_to_be_others(run: Analyze, tmp_path: Path) -> None:
    path = write_annotations(tmp_path / "A.json", {"0": entry()}, set_name="valid", number=3)
    out = run(f"--annotations {path}")
    assert "training balances by the counts of its own split, not of valid" in out
    assert "Number of actions is 3, 1 are listed" in out
    path = write_annotations(tmp_path / "C.json", {"0": entry(labelled=False)}, set_name="chall")
    assert "no labels" in run(f"--annotations {path}", code=2)


@pytest.mark.parametrize(
    ("actions", "preset"),
    [
        *((1, "very_small"), (99, "very_small"), (100, "small"), (500, "small")),
        *((501, "medium"), (1000, "medium"), (1001, "large"), (2916, "large")),
    ],
)
def test_presets_by_size(actions: int, preset: str) -> None:
    assert recommended_preset(actions) == preset


def test_the_flags_of_the_preset_are_shown(run: Analyze, odd: Path) -> None:
    out = run(f"--annotations {odd} --json R.json")
    assert "preset   --preset very_small   for 0 to 99 actions, here 6" in out
    assert "--augmentation_strength extreme --progressive_class_balancing --progressive_end_factor 6.0" in out
    assert json.loads(Path("R.json").read_text())["preset"]["flags"] == PRESETS["very_small"]


@pytest.fixture
def logits(tmp_path: Path) -> Path:
    """Validation logits of a model that calls nearly everything a standing tackling."""
    rng = np.random.default_rng(0)
    truth = rng.choice(8, 120, p=[0.2, 0.5, *[0.05] * 6])
    scores = rng.normal(size=(120, 8)) + 2 * np.eye(8)[truth] + 3 * (np.arange(8) == 1)
    truth[:4] = IGNORE
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.savez(
        tmp_path / "val_logits.npz",
        split="valid",
        action_ids=[str(k) for k in range(120)],
        **{
            "logits/action_class": scores,
            "probabilities/action_class": shares,
            "labels/action_class": truth,
            "classes/action_class": OFFICIAL_ACTIONS,
        },
    )
    return tmp_path / "val_logits.npz"


def test_offsets_are_fitted_and_written(run: Analyze, logits: Path) -> None:
    out = run(f"--val_logits {logits} --json R.json")
    assert "offsets fitted on 120 actions of valid" in out
    assert "thresholds, from which a class by itself is called present" in out
    assert "written  calibration.json   for predict and submit: --calibration calibration.json" in out
    part = read_calibration(Path("calibration.json")).parts["action_class"]
    assert part.after > part.before + 0.1
    assert part.offsets[1] < min(part.offsets[2:])
    assert json.loads(Path("R.json").read_text()).keys() == {"calibration"}
    run(f"--val_logits {logits} --max_offset 0.25 --out small/C.json")
    small = read_calibration(Path("small/C.json")).parts["action_class"]
    assert max(map(abs, small.offsets)) <= 0.25 < max(map(abs, part.offsets))


def test_offsets_are_refused_on_other_splits(run: Analyze, logits: Path) -> None:
    arrays = dict(np.load(logits))
    np.savez(logits, **{**arrays, "split": "test"})
    assert "offsets are fitted on valid only" in run(f"--val_logits {logits}", code=2)
    assert not Path("calibration.json").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "give --annotations, which are counted, or --val-logits"),
        ("--annotations absent.json", "absent.json: no such annotation file"),
        ("--annotations A --max_weight_ratio 0.5", "--max-weight-ratio 0.5: a finite number from 1 on"),
        ("--annotations A --oversample_factor inf", "--oversample-factor inf: a finite number from 1 on"),
        ("--annotations A --max_repeat 0", "--max-repeat 0: a finite number from 1 on"),
        ("--annotations A --ldam_max_m 0", "--ldam-max-m 0: a number above 0"),
        ("--val_logits A --max_offset nan", "--max-offset nan: a number above 0"),
        ("--annotations A --tasks action_type action_class", "--tasks: the task action_class is given twice"),
        ("--annotations A --balance_tasks severity severity", "--balance-tasks: the task severity is given"),
        ("--annotations A --tasks", "--tasks: no task is named"),
        ("--annotations A --balance_tasks", "--balance-tasks: no task is named"),
    ],
)
def test_bad_lines(run: Analyze, line: str, message: str) -> None:
    assert message in run(line, code=2)


def test_flags_that_cannot_act(
    run: Analyze, odd: Path, logits: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(f"--annotations {odd} --max_offset 2 --out C.json --no-use_class_balanced_sampler --max_repeat 3")
    run(f"--annotations {odd} --class_weighting_strategy none --weight_basis natural --max_weight_ratio 3")
    run(f"--val_logits {logits} --tasks severity")
    assert [
        message.removeprefix("--").replace(" has no effect because", ":") for message in caplog.messages
    ] == [
        "max-offset: --val-logits is not given",
        "out: --val-logits is not given",
        "max-repeat: the class-balanced sampler is off",
        "max-weight-ratio: --class-weighting-strategy is none",
        "weight-basis: --class-weighting-strategy is none",
        "tasks: --annotations is not given",
    ]


def test_a_file_that_cannot_be_written(run: Analyze, odd: Path) -> None:
    assert "--json annotations.json/R.json: cannot be written" in run(
        f"--annotations {odd} --json annotations.json/R.json", code=2
    )
