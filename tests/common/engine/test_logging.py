import io
import json
import math
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from common.engine import logging as engine_logging
from common.engine.logging import Console, EventLog, MetricsLog, read_events, read_metrics


def raw(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def fields(lines):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_each_line_is_on_disk_at_once_with_nan_and_infinity_as_null(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(
        "step", 3, 1, {"train/loss": 0.1, "lr/head": np.float32(0.5), "a": torch.tensor(2.0), "n": math.nan}
    )
    log.write("validation", 4, 1, {"valid/miou": -math.inf})
    first, second = raw(tmp_path / "metrics.jsonl")
    assert fields([first, second]) == [
        {"kind": "step", "step": 3, "epoch": 1, "train/loss": 0.1, "lr/head": 0.5, "a": 2.0, "n": None},
        {"kind": "validation", "step": 4, "epoch": 1, "valid/miou": None},
    ]
    assert 0 <= first["seconds"] <= second["seconds"] < 60


def test_values_survive_to_the_last_bit(tmp_path):
    value = 0.1 + 0.2
    with MetricsLog(tmp_path / "m") as log:
        log.write("step", 1, 0, {"x": value})
    assert read_metrics(tmp_path / "m")[0]["x"] == value


def test_running_time_goes_on_after_a_restart_whatever_the_clock_says(tmp_path, monkeypatch):
    clock = iter([100.0, 107.0, 3.0, 4.0])
    monkeypatch.setattr(engine_logging.time, "monotonic", lambda: next(clock))
    with MetricsLog(tmp_path / "m") as log:
        log.write("step", 1, 0, {})
    with MetricsLog(tmp_path / "m") as log:
        log.write("step", 2, 0, {})
    assert [line["seconds"] for line in raw(tmp_path / "m")] == [7, 8]


def test_names_of_the_line_itself_are_refused(tmp_path):
    with MetricsLog(tmp_path / "m") as log, pytest.raises(ValueError, match="seconds"):
        log.write("epoch", 1, 0, {"seconds": 3.0})
    with EventLog(tmp_path / "e") as log:
        log.write("alarm", 1, 0, {"kind": "alarm", "name": "x"})
        with pytest.raises(ValueError, match="kind"):
            log.write("alarm", 1, 0, {"kind": "note"})
    assert (tmp_path / "m").read_text() == ""


def test_resumed_metrics_read_as_if_never_interrupted(tmp_path):
    def write(log, steps):
        for step in steps:
            log.write("step", step, 0, {"loss": 10.0 - step})
            if step % 2 == 0:
                log.write("validation", step, 0, {"miou": step / 10})

    with MetricsLog(tmp_path / "straight") as log:
        write(log, range(1, 9))
    with MetricsLog(tmp_path / "broken") as log:
        write(log, range(1, 6))
    with MetricsLog(tmp_path / "broken") as log:
        log.resume(2)
        write(log, range(3, 8))
        log.resume(6)
        log.write("validation", 6, 0, {"miou": 0.6})
        write(log, range(7, 9))
    broken = fields(read_metrics(tmp_path / "broken"))
    straight = fields(read_metrics(tmp_path / "straight"))
    assert len(straight) == 12
    assert broken == straight


def test_events_past_a_resume_are_dropped_and_nested_values_become_json(tmp_path):
    with EventLog(tmp_path / "e") as log:
        log.write("header", 0, 0, {"lines": ["run"]})
        log.write("confusion", 4, 1, {"matrix": torch.eye(2, dtype=torch.int64), "ids": np.arange(2)})
        log.write("alarm", 8, 2, {"rows": ({"value": math.nan, "id": np.int64(3)},)})
        assert fields(read_events(tmp_path / "e"))[2]["rows"] == [{"value": None, "id": 3}]
        log.resume(4, 1)
        log.write("note", 8, 2)
        with pytest.raises(TypeError, match="object"):
            log.write("note", 9, 2, {"text": object()})
    events = fields(read_events(tmp_path / "e"))
    assert [event["kind"] for event in events] == ["header", "confusion", "resume", "note"]
    assert events[1] == {
        "kind": "confusion",
        "step": 4,
        "epoch": 1,
        "matrix": [[1, 0], [0, 1]],
        "ids": [0, 1],
    }
    assert events[2] == {"kind": "resume", "step": 4, "epoch": 1}


def test_an_unfinished_last_line_is_skipped_and_then_cut_off(tmp_path):
    path = tmp_path / "m"
    with MetricsLog(path) as log:
        log.write("step", 1, 0, {})
    with path.open("a") as file:
        file.write('{"kind": "step", "st')
    assert [line["step"] for line in read_metrics(path)] == [1]
    with MetricsLog(path) as log:
        log.write("step", 2, 0, {})
    assert [line["step"] for line in raw(path)] == [1, 2]


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "m").write_text('{"kind": "step", "step": 1}\n{oops}\n')
    with pytest.raises(ValueError, match=r"m, line 2: not valid JSON"):
        read_metrics(tmp_path / "m")


def test_a_full_disk_leaves_whole_lines(tmp_path):
    path = tmp_path / "e"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with EventLog(path) as log:
        log.write("note", 1, 0, {"text": "short"})
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                log.write("note", 2, 0, {"text": "x" * 5000})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.write("note", 3, 0, {"text": "again"})
    assert [line["step"] for line in raw(path)] == [1, 3]


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with MetricsLog(None) as log:
        log.write("step", 1, 0, {"x": 1.0})
        log.resume(1)
    assert list(tmp_path.iterdir()) == []


STEP = {"loss": 1.84213, "lr": 2e-4, "grad": 0.8312, "rate": 12.44, "waiting": 0.031, "memory_gib": 1.1}


def test_lines_look_as_documented():
    stream = io.StringIO()
    console = Console(stream)
    console.line("run", "runs/0142   seed 0")
    console.line("balance", "focal\nsampler none")
    console.step(200, 10000, **STEP)
    console.raw("Class 0: IoU=0.5  ")
    assert stream.getvalue().split("\n") == [
        "run      runs/0142   seed 0",
        "balance  focal",
        "         sampler none",
        "step     200/10000  loss 1.8421  lr 2.0e-04  grad 0.83  12.4 samples/s  data 3 %  1.1 GiB",
        "Class 0: IoU=0.5  ",
        "",
    ]


def test_terms_follow_the_loss_and_labels_keep_a_space():
    stream = io.StringIO()
    console = Console(stream)
    console.step(1, 2, **STEP, terms={"focal": 1.5, "dice": math.nan})
    console.line("out_of_memory", "micro-batch 8 -> 6")
    first, second, _ = stream.getvalue().split("\n")
    assert first.startswith("step     1/2  loss 1.8421  focal 1.5000  dice nan  lr 2.0e-04")
    assert second == "out_of_memory micro-batch 8 -> 6"


def test_only_step_lines_are_limited_to_ten_a_second(monkeypatch):
    stream = io.StringIO()
    console = Console(stream)
    now = 50.0
    monkeypatch.setattr(engine_logging.time, "monotonic", lambda: now)
    for index in range(1000):
        now = 50.0 + index / 1000
        console.step(index, 1000, **STEP)
        console.line("note", "kept")
    lines = stream.getvalue().splitlines()
    assert lines.count("note     kept") == 1000
    assert 9 <= len(lines) - 1000 <= 10


def test_console_is_ascii_and_can_be_silent():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(stream)
    console.line("note", "50 \u00b5m")
    console.raw("\u2713 done")
    stream.seek(0)
    assert stream.read() == "note     50 \\xb5m\n\\u2713 done\n"
    silent = io.StringIO()
    Console(silent, enabled=False).line("run", "x")
    Console(silent, enabled=False).step(1, 1, **STEP)
    assert silent.getvalue() == ""


def test_standard_output_is_the_default(capsys):
    Console().line("run", "here")
    assert capsys.readouterr().out == "run      here\n"


def test_a_reader_that_leaves_ends_the_lines_and_not_the_work(tmp_path):
    done = tmp_path / "done"
    code = (
        "import pathlib, sys; from common.engine.logging import Console\n"
        "console = Console()\n"
        "for number in range(20000): console.line('step', str(number))\n"
        f"pathlib.Path({str(done)!r}).touch()"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        assert process.stdout.readline() == "step     0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert done.exists()
