"""A model read back from its checkpoint alone, and checkpoints that cannot be."""

import json
from dataclasses import replace

import pytest
import torch
from mv_checkpoint import write_run

from common.config import UserError
from common.engine.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from common.engine.manifest import MANIFEST, sealed
from mvfouls.card import load_trained

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path, _tiny):
    """A run folder with one checkpoint."""
    return write_run(tmp_path / "run")


@pytest.mark.parametrize("averaged", [False, True])
def test_tensors_that_do_not_fit_their_own_card_are_named(run, averaged):
    checkpoint = load_checkpoint(find_checkpoint("best", run))
    tensors = {name: value for name, value in checkpoint.model.items() if name != "aggregator.score.0.bias"}
    tensors["heads.offence.1.weight"] = torch.zeros(4, 7)
    broken = replace(checkpoint, ema=tensors) if averaged else replace(checkpoint, model=tensors)
    folder = save_checkpoint(run / "checkpoints", broken, best=True)
    for where in (run, folder):
        with pytest.raises(UserError) as caught:
            load_trained(where, CPU)
        text = str(caught.value)
        file = folder / ("ema.safetensors" if averaged else "model.safetensors")
        assert text.startswith(f"--checkpoint {where}: {file} does not fit the model")
        assert "missing (1): aggregator.score.0.bias" in text
        assert "heads.offence.1.weight: (4, 7) instead of (3, 16)" in text


def test_a_checkpoint_of_another_version_is_refused(run):
    path = find_checkpoint("best", run) / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["seal"]
    path.write_bytes(sealed({**manifest, "schema": 1}))
    with pytest.raises(UserError, match="written by another version: schema 1"):
        load_trained(run, CPU)
