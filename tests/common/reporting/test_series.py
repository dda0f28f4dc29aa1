import json
import math
from pathlib import Path
from typing import Any

from common.reporting.run_data import read_run
from common.reporting.series import Panel, Panels, arrange


def arranged(folder: Path, records: list[dict[str, Any]], *events: dict[str, Any]) -> Panels:
    fixed = {"epoch": 1, "seconds": 1.0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(fixed | r) + "\n" for r in records))
    (folder / "events.jsonl").write_text("".join(json.dumps(fixed | {"step": 0} | e) + "\n" for e in events))
    return arrange(read_run(folder))


def step(at: int, **values: float) -> dict[str, Any]:
    return {"kind": "step", "step": at} | {key.replace("__", "/"): value for key, value in values.items()}


def valid(at: int, values: dict[str, float | None]) -> dict[str, Any]:
    return {"kind": "validation", "step": at} | {f"valid/{name}": value for name, value in values.items()}


def titles(panels: list[Panel]) -> list[str]:
    return [panel.title for panel in panels]


def test_complete_run(fake_run: Path) -> None:
    panels = arrange(read_run(fake_run))
    assert panels.headline is not None
    assert panels.headline.title == "miou"
    assert titles(panels.main) == [
        "loss", "loss terms", "mean_accuracy", "accuracy", "danger_as_safe", "learning rate"
    ]  # fmt: skip
    assert titles(panels.classes) == ["iou per class", "recall per class"]
    assert titles(panels.extra) == ["seconds", "grad_norm", "samples_per_second"]
    assert [line.label for line in panels.main[1].lines] == [
        "focal", "focal, validation", "dice", "dice, validation"
    ]  # fmt: skip


def test_both_spellings_of_a_class_key(tmp_path: Path) -> None:
    record = valid(1, {"class_0_iou": 0.5, "class_1_iou": 0.25, "class_0_support": 9.0, "f1/0": 0.1})
    panels = arranged(tmp_path, [record], {"kind": "confusion", "names": ["sky", "sea"], "matrix": []})
    assert titles(panels.classes) == ["iou per class", "f1 per class"]
    assert [(line.label, line.values) for line in panels.classes[0].lines] == [
        ("sky", [0.5]),
        ("sea", [0.25]),
    ]
    assert panels.main == panels.extra == []


def test_unknown_values_are_gaps_and_panels_of_nothing_else_are_left_out(tmp_path: Path) -> None:
    panels = arranged(tmp_path, [valid(1, {"a": None, "b": None}), valid(2, {"a": 0.5, "b": None})])
    assert titles(panels.main) == ["a"]
    first, second = panels.main[0].lines[0].values
    assert math.isnan(first)
    assert second == 0.5


def test_equal_learning_rates_share_a_curve(tmp_path: Path) -> None:
    records = [step(i, lr__decay=0.1 / i, lr__plain=0.1 / i, lr__head=1.0 / i) for i in (1, 2)]
    rates = arranged(tmp_path, records).main[0]
    assert [(line.label, line.values) for line in rates.lines] == [
        ("decay, plain", [0.1, 0.05]), ("head", [1.0, 0.5])
    ]  # fmt: skip


def test_of_many_classes_the_lowest_are_in_colour(tmp_path: Path) -> None:
    panel = arranged(tmp_path, [valid(1, {f"iou/{c}": c / 20 for c in range(20)})]).classes[0]
    assert [line.label for line in panel.lines if not line.faint] == [f"class {c}" for c in range(8)]
    assert sum(line.faint for line in panel.lines) == 12
    assert panel.remark == "In colour: the 8 lowest of 20 classes."


def test_curves_beyond_the_first_six_are_folded(tmp_path: Path) -> None:
    panels = arranged(tmp_path, [valid(1, dict.fromkeys("abcdefgh", 0.5))])
    assert titles(panels.main) == list("abcdef")
    assert titles(panels.extra) == ["g", "h"]
