import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from common.engine.run import Run, RunFolderError, git_commit, next_run_folder, start_run

HOLDER = """
import sys, time
from pathlib import Path
from common.engine.folder_lock import FolderLock
FolderLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def first_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)


def start(folder, **changes):
    return start_run(
        folder, **{"config": "lr: 0.1\n", "command": ["train", "--lr", "0.1"], "resuming": False, **changes}
    )


def lock_of(pid, host=None, started=None):
    return json.dumps({"pid": pid, "host": host or socket.gethostname(), "started": started})


def dead_pid():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_a_new_run_has_its_files_and_gives_the_folder_back(tmp_path):
    folder = tmp_path / "runs" / "a"
    with start(folder) as run:
        assert run.writes
        assert run.checkpoints == folder / "checkpoints"
        assert json.loads((folder / ".lock").read_text())["pid"] == os.getpid()
        run.metrics.write("step", 1, 0, {"x": 1.0})
        run.events.write("note", 1, 0, {"text": "y"})
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "environment.json",
        "events.jsonl",
        "metrics.jsonl",
    ]
    assert (folder / "config.yaml").read_text() == "lr: 0.1\n"
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["command"] == ["train", "--lr", "0.1"]
    assert environment["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert torch.__version__.startswith(environment["versions"]["torch"].split("+")[0])


def test_a_used_folder_is_refused_unless_resumed(tmp_path):
    with start(tmp_path) as run:
        run.metrics.write("step", 1, 0, {})
    with pytest.raises(RunFolderError, match="already holds a run"):
        start(tmp_path)
    assert not (tmp_path / ".lock").exists()
    with start(tmp_path, resuming=True, config="lr: 9\n") as run:
        run.metrics.write("step", 2, 0, {})
        assert (tmp_path / "config.yaml").read_text() == "lr: 0.1\n"
        run.replace_config("lr: 9\n")
    assert (tmp_path / "config.yaml").read_text() == "lr: 9\n"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_second_run_is_refused_while_the_first_lives_and_not_after(tmp_path, capsys):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(
            RunFolderError, match=f"in use by process {process.pid} on {socket.gethostname()}"
        ):
            start(tmp_path)
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == process.pid
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while ") Z" not in Path(f"/proc/{process.pid}/stat").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        start(tmp_path).close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    line = f"lock     stale lock of dead process {process.pid} on {socket.gethostname()} taken over"
    assert line in capsys.readouterr().out.splitlines()


def test_the_same_process_cannot_open_a_folder_twice(tmp_path):
    with start(tmp_path):
        with pytest.raises(RunFolderError, match=f"process {os.getpid()}"):
            start(tmp_path, resuming=True)
        assert (tmp_path / ".lock").exists()
    start(tmp_path).close()


def test_a_dead_or_reused_pid_is_taken_over(tmp_path, capsys):
    for content in (lock_of(dead_pid()), lock_of(os.getpid(), started="an earlier boot/1"), "", '{"pid": 1'):
        (tmp_path / ".lock").write_text(content)
        start(tmp_path).close()
    assert capsys.readouterr().out.count("taken over") == 2


def test_another_host_is_refused_with_advice(tmp_path):
    (tmp_path / ".lock").write_text(lock_of(dead_pid(), host="elsewhere"))
    with pytest.raises(RunFolderError, match=r"on elsewhere; use another folder, or remove .*\.lock"):
        start(tmp_path)


def test_a_closed_run_does_not_remove_the_lock_of_its_successor(tmp_path):
    run = start(tmp_path)
    (tmp_path / ".lock").write_text(lock_of(1))
    run.close()
    assert (tmp_path / ".lock").read_text() == lock_of(1)


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    with Run.dry(tmp_path / "never") as run:
        run.metrics.write("step", 1, 0, {"x": 1.0})
        run.events.write("note", 1, 0, {"text": "y"})
        run.replace_config("x: 1\n")
        run.console.line("run", "dry")
        assert not run.writes
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == "run      dry\n"


def test_other_processes_of_a_distributed_run_are_silent(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with start(tmp_path / "run") as run:
        run.metrics.write("step", 1, 0, {"x": 1.0})
        run.console.line("run", "x")
        assert run.checkpoints == tmp_path / "run" / "checkpoints"
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_run_folders_are_numbered_and_the_latest_is_named(tmp_path):
    assert next_run_folder(tmp_path / "out").name == "run-0001"
    (tmp_path / "out" / "run-0041").mkdir()
    (tmp_path / "out" / "run-99x").mkdir()
    assert next_run_folder(tmp_path / "out").name == "run-0042"
    assert next_run_folder(tmp_path / "out", prefix="a.b").name == "a.b-0001"
    assert (tmp_path / "out" / "latest").read_text() == "a.b-0001\n"
    assert (tmp_path / "out" / "run-0042").is_dir()


def test_git_commit_tells_changes_and_absence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    told = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert git_commit() == told
    (tmp_path / "file").write_text("2")
    assert git_commit() == f"{told}-dirty"
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None
