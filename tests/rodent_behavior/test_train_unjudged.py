"""Training on everything, for a fixed number of epochs."""

import torch

from common.engine.checkpoint import find_checkpoint
from common.engine.checkpoint import load_checkpoint as load_run
from common.engine.logging import read_metrics


def test_without_validation_the_last_weights_are_exported_and_nothing_is_scored(train, use, tmp_path):
    ran = train("--val_share 0 --epochs 2 --lr 1e-2 --use_ema --ema_decay 0.5")
    assert ran.code == 0, ran.err
    assert "train 8   valid 0" in ran.out
    assert "no validation: 2 epochs, the last weights are kept, no scores" in ran.out
    assert "Training complete! Weights after epoch 2, not validated" in ran.out
    for score in ("F1", "macro_f1", "Val loss", "absent from validation", "temperature"):
        assert score not in ran.out.replace("macro F1 to", "")
    assert "nan" not in ran.out.split()
    assert "valid    epoch" not in ran.out
    lines = read_metrics(ran.folder / "metrics.jsonl")
    assert [line["epoch"] for line in lines if line["kind"] == "validation"] == [1, 2]
    assert not [line for line in lines if None in line.values()]
    assert not (ran.folder / "confusion.csv").exists()
    contents = ran.contents
    assert (contents["epoch"], contents["best_val_f1"], contents["val_metrics"]) == (2, None, None)
    assert (contents["temperature"], contents["best_thresholds"]) == (None, None)
    assert contents["split"]["val"] == []
    assert len(contents["split"]["train"]) == 4
    last = load_run(find_checkpoint("last", ran.folder))
    assert last.ema is not None
    assert all(torch.equal(contents["model_state_dict"][name], value) for name, value in last.ema.items())
    data = f"--annotations {ran.home / 'Annotations'} --videos {ran.home / 'Videos'} --out {tmp_path / 'e'}"
    said = use(f"evaluate --checkpoint {ran.model} {data}")
    assert said.code == 2
    assert "--split val: no trial of it is here; in the checkpoint it is nothing" in said.err
    assert use(f"predict {ran.home / 'Videos'} --checkpoint {ran.model} --out {tmp_path / 'p'}").code == 0
