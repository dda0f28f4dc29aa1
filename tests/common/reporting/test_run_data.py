import json
from pathlib import Path
from typing import Any

import pytest

from common.reporting.run_data import RunData, read_run


def write(folder: Path, name: str, *records: dict[str, Any]) -> None:
    lines = [json.dumps({"step": 0, "epoch": 0, "seconds": 0.0} | record) for record in records]
    (folder / name).write_text("".join(line + "\n" for line in lines))


def run_with(folder: Path, *records: dict[str, Any], values: tuple[float | None, ...] = ()) -> RunData:
    write(folder, "events.jsonl", *records)
    validations = [
        {"kind": "validation", "step": 10 * (i + 1), "epoch": i + 1, "valid/miou": value}
        for i, value in enumerate(values)
    ]
    write(folder, "metrics.jsonl", *validations)
    return read_run(folder)


def header(mode: str) -> dict[str, Any]:
    return {"kind": "header", "lines": [], "headline": {"metric": "miou", "mode": mode}}


@pytest.mark.parametrize(("mode", "value", "epoch"), [("max", 0.7, 3), ("min", 0.2, 1)])
def test_best_follows_the_mode_and_skips_unknown_values(
    tmp_path: Path, mode: str, value: float, epoch: int
) -> None:
    best = run_with(tmp_path, header(mode), values=(0.2, None, 0.7, 0.5)).best()
    assert best is not None
    assert (best.value, best.epoch, best.last, best.count, best.outdone) == (value, epoch, 0.5, 3, False)


def test_the_checkpoint_marked_best_decides(tmp_path: Path) -> None:
    marked = {"kind": "checkpoint", "step": 20, "path": "step-20", "best": True}
    run = run_with(tmp_path, header("max"), marked, values=(0.2, 0.6999, 0.7))
    best = run.best()
    assert best is not None
    assert (run.best_step, best.value, best.outdone) == (20, 0.6999, True)


def test_without_a_named_headline_there_is_no_best(tmp_path: Path) -> None:
    run = run_with(tmp_path, values=(0.2, 0.7))
    assert run.best() is None
    assert run.best_step is None


def test_chosen_prefers_the_best_step_per_split(tmp_path: Path) -> None:
    events = [{"kind": "confusion", "step": s, "split": "valid", "matrix": [[s]]} for s in (10, 20, 30)]
    other = {"kind": "confusion", "step": 30, "split": "test", "matrix": [[99]]}
    marked = {"kind": "checkpoint", "step": 20, "path": "x", "best": True}
    run = run_with(tmp_path, *events, other, marked)
    assert [event["matrix"] for event in run.chosen("confusion", "split")] == [[[20]], [[99]]]


def test_what_a_resume_undid_is_gone(tmp_path: Path) -> None:
    alarm = {"kind": "alarm", "step": 30, "name": "a", "text": ""}
    run = run_with(tmp_path, alarm, {"kind": "resume", "step": 20}, alarm | {"step": 40})
    assert [event["step"] for event in run.of_kind("alarm")] == [40]


def test_names_come_from_whichever_event_tells_them(tmp_path: Path) -> None:
    run = run_with(
        tmp_path,
        {"kind": "statistics", "statistics": {"counts": [1, 2], "names": None}},
        {"kind": "per_class", "columns": [], "rows": [{"id": 7, "name": "seven", "support": 1}]},
        {"kind": "confusion", "names": ["zero", "one"], "matrix": [[1, 0], [0, 1]]},
    )
    assert run.class_names() == {"7": "seven", "0": "zero", "1": "one"}


def test_names_of_a_metric_come_from_the_task_it_belongs_to(tmp_path: Path) -> None:
    tables = [
        {"kind": "per_class", "task": task, "columns": [], "rows": [{"id": 0, "name": name, "support": 1}]}
        for task, name in (("foot", "short"), ("foot_print", "long"))
    ]
    run = run_with(tmp_path, *tables)
    assert run.class_names("foot_recall") == {"0": "short"}
    assert run.class_names("foot_print_recall") == {"0": "long"}
    assert len(run.chosen("per_class", "split", "task")) == 2


def test_colours_are_checked(tmp_path: Path) -> None:
    statistics = {"kind": "statistics", "statistics": {"counts": [1]}, "colors": ["red;background:url(x)"]}
    with pytest.raises(ValueError, match="expected #rrggbb"):
        run_with(tmp_path, statistics).class_colors()


def test_the_date_is_the_one_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text('{"date": "2025-03-14T09:26:53+00:00"}')
    assert run_with(tmp_path).date.isoformat() == "2025-03-14T09:26:53+00:00"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent: no such run folder"):
        read_run(tmp_path / "absent")


def test_a_folder_that_is_not_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither metrics\.jsonl nor events\.jsonl"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"), [("config.yaml", "a: [1"), ("environment.json", "{"), ("metrics.jsonl", "{\n")]
)
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, "events.jsonl")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        read_run(tmp_path)
