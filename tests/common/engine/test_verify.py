import subprocess
import sys

import pytest
import torch

from common.engine.checkpoint import Checkpoint, save_checkpoint
from common.engine.verify import main

PARTS = ["config.yaml", "metadata.json", "model.safetensors", "state.pt"]


@pytest.fixture
def run(tmp_path):
    for step in (1, 2):
        checkpoint = Checkpoint(
            step=step,
            epoch=0,
            headline=None,
            model={"w": torch.ones(4)},
            state={"step": step},
            config="a: 1\n",
        )
        save_checkpoint(tmp_path / "checkpoints", checkpoint, best=step == 1)
    return tmp_path


def lines(capsys) -> dict[str, str]:
    return {line[12:]: line[:12].strip() for line in capsys.readouterr().out.splitlines()}


def test_a_sound_run_has_one_ok_line_per_file(run, capsys):
    assert main([str(run)]) == 0
    files = [
        f"checkpoints/step-0000000{step}/{name}" for step in (2, 1) for name in ["manifest.json", *PARTS]
    ]
    assert lines(capsys) == dict.fromkeys(["checkpoints/last", "checkpoints/best", *files], "ok")


def test_a_single_checkpoint_and_a_checkpoints_folder(run, capsys):
    assert main([str(run / "checkpoints" / "step-00000001")]) == 0
    assert lines(capsys) == dict.fromkeys(["manifest.json", *PARTS], "ok")
    assert main([str(run / "checkpoints")]) == 0
    assert lines(capsys)["step-00000002/state.pt"] == "ok"


def test_each_kind_of_damage_has_its_word(run, capsys):
    folder = run / "checkpoints" / "step-00000002"
    content = bytearray((folder / "state.pt").read_bytes())
    content[50] ^= 8
    (folder / "state.pt").write_bytes(content)
    (folder / "config.yaml").write_text("")
    (folder / "metadata.json").unlink()
    (run / "checkpoints" / "best").write_text("")
    assert main([str(run)]) == 1
    bad = {name: status for name, status in lines(capsys).items() if status != "ok"}
    assert bad == {
        "checkpoints/best": "missing",
        "checkpoints/step-00000002/config.yaml": "size",
        "checkpoints/step-00000002/metadata.json": "missing",
        "checkpoints/step-00000002/state.pt": "BAD sha256",
    }


def test_a_checkpoint_without_manifest_is_bad(run, capsys):
    folder = run / "checkpoints" / "step-00000001"
    (folder / "manifest.json").unlink()
    assert main([str(folder)]) == 1
    assert lines(capsys) == {"manifest.json": "missing"}


def test_a_folder_without_checkpoints_is_bad(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1


def test_a_missing_folder_is_a_usage_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "absent")])
    assert caught.value.code == 2
    assert "absent: no such folder" in capsys.readouterr().err


def test_as_a_module(run):
    (run / "checkpoints" / "step-00000002" / "state.pt").unlink()
    command = [sys.executable, "-W", "error", "-m", "common.engine.verify", str(run)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "missing     checkpoints/step-00000002/state.pt" in result.stdout.splitlines()
    assert result.stderr == ""
