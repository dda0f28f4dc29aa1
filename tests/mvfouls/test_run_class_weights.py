"""A run of the class-weights command line on tiny clips, analysed, trained and resumed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mv_class_weights import parse_line
from mv_files import entry, write_split
from mv_tiny_backbone import DIM, tiny_backbone

from common.engine.checkpoint import find_checkpoint, load_checkpoint
from mvfouls import model as model_module
from mvfouls import run_class_weights

LABELS = [
    {"action_class": "Tackling", "severity": "1.0"},
    {"action_class": "Tackling", "severity": "3.0", "offence": "Between"},
    {"action_class": "Holding", "severity": "1.0", "offence": "No offence"},
    {"action_class": "Standing tackling", "severity": "5.0"},
]
SMALL = (
    "--backbone-arch r2plus1d_18 --img_height 64 --img_width 64 --frames_per_clip 2 --batch-size 4 "
    "--num-workers 0 --device cpu --disable_data_optimization --multi-task"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Flags of two splits of tiny clips."""
    root = tmp_path_factory.mktemp("clips")
    for name in ("train", "valid"):
        write_split(root, [entry((0, 1), **labels) for labels in LABELS], name=name)
    return (
        f"--train-dir {root}/train --val-dir {root}/valid --train-annotations {root}/train/annotations.json "
        f"--val-annotations {root}/valid/annotations.json"
    )


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str, *, frames: int, checkpointing: bool = False) -> torch.nn.Module:
        backbone = tiny_backbone(DIM, checkpointing=checkpointing)
        backbone.register_forward_hook(lambda module, inputs, features: features.repeat(1, 512 // DIM))
        return backbone

    monkeypatch.setattr(model_module, "build_backbone", build)


def run(words: str) -> int:
    return run_class_weights.main(parse_line(words))


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(find_checkpoint("last", folder)).model


def rows(folder: Path, kind: str) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if kind in json.dumps(row)]


def test_analysis_builds_no_model_and_writes_nothing(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run_class_weights.train, "main", None)
    words = f"{data} {SMALL} --analyze-only --loss-types offence ldam --output-dir {tmp_path / 'run'}"
    assert run(words) == 0
    said = capsys.readouterr().out
    assert "Tackling=4" in said
    assert "margins Offence" in said
    assert "effective" in said
    assert "no class weights for offence: ldam has margins instead" in said
    assert not (tmp_path / "run").exists()


def test_verbose_shows_what_the_flags_amount_to(data, caplog):
    caplog.set_level("DEBUG", logger="mvfouls")
    run(f"{data} {SMALL} --analyze-only --verbose")
    assert any(record.message.startswith("rates RateConfig(") for record in caplog.records)
    caplog.clear()


def test_a_resumed_run_ends_with_the_same_weights(data, tmp_path, capsys):
    words = (
        f"{data} {SMALL} --epochs 3 --adaptive-weights --dynamic-sampler --reduce-batch-on-unfreeze "
        "--unfreeze-batch-size 2 --adaptive-lr --eval-freq 2 --save-val-logits --deterministic"
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(f"{words} --output-dir {whole}") == 0
    assert (whole / "val_logits.npz").is_file()
    assert "recall offence:" in capsys.readouterr().out
    assert len(rows(whole, "action_class_weight")) == 3
    shutil.copytree(whole, parts)
    earlier = sorted((parts / "checkpoints").glob("step-*"))[0]
    assert load_checkpoint(earlier).epoch == 2
    assert run(f"{words} --output-dir {parts} --resume {earlier}") == 0
    first, second = weights_in(whole), weights_in(parts)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(not torch.equal(value, first[name]) for name, value in load_checkpoint(earlier).model.items())


def test_a_checkpoint_holds_recall_and_task_weights(data, tmp_path):
    words = f"{data} {SMALL} --epochs 1 --adaptive-weights --dynamic-sampler --output-dir {tmp_path / 'run'}"
    assert run(words) == 0
    state = load_checkpoint(find_checkpoint("last", tmp_path / "run")).state
    assert state["ranks"][0]["task"]["task_weights"]["next"] is not None
    assert any(value is not None for value in state["sampler"]["recall"])
