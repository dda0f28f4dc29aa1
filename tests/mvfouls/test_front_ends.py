"""Both command lines are one application: equal settings give equal weights, and checkpoints go both ways."""

import shutil

import pytest
from mv_runs import SMALL, Ran, Trainings, same

from mvfouls.cli import app, class_weights, modular

SAME = (
    f"{SMALL} --epochs 2 --lr 1e-3 --head_lr 1e-3 --backbone_lr 1e-3 --seed 3 --label_smoothing 0.1 "
    "--loss_types action_class ce severity focal offence ldam --ldam_s 20 --augmentation_strength mild "
    "--task_head offence deep_mlp hidden=16 --task_head severity linear --task_head action_type linear "
    "--dropout_rate 0.2 --cache_dir {home}/cache"
).replace("--max_views 2", "")
MODULAR = (
    "--dataset_root {data} --backbone_name r2plus1d_18 --no-use_class_balanced_sampler "
    "--main_task_weights 3 3 --auxiliary_task_weight 3 --class_weighting_strategy none --loss_function focal "
    "--freezing_strategy none --early_stopping_patience 0 --no-lr_warmup --save_dir {folder}"
)
CLASS_WEIGHTS = (
    "--train-dir {data}/mvfouls/train --val-dir {data}/mvfouls/valid "
    "--train-annotations {data}/mvfouls/train/annotations.json "
    "--val-annotations {data}/mvfouls/valid/annotations.json --multi-task --backbone-arch r2plus1d_18 "
    "--bag-of-clips --clip-sampling-strategy all --clip-pooling-type attention --disable-class-weights "
    "--freeze-mode none --output-dir {folder}"
)
LINES = {"modular": (modular.main, MODULAR), "class_weights": (class_weights.main, CLASS_WEIGHTS)}


@pytest.fixture
def run(train: Trainings, capfd):
    """Train with one of the command lines into the folder `name`."""

    def run(frontend: str, name: str, more: str = "") -> Ran:
        main, line = LINES[frontend]
        places = {"home": train.home, "data": train.data, "folder": train.home / name}
        capfd.readouterr()
        code = main(f"{SAME} {line} {more}".format(**places).split())
        return Ran(code, *capfd.readouterr(), train.home / name)

    return run


def shown(ran: Ran) -> list[str]:
    """The console's lines about epochs, without what clocks say."""
    lines = [line for line in ran.out.splitlines() if line.startswith(("  ", "balance", "loss"))]
    return [line for line in lines if " s | " not in line]


def test_equal_settings_train_equal_weights_and_checkpoints_go_both_ways(run, football, tmp_path, capfd):
    ran = {frontend: run(frontend, frontend) for frontend in LINES}
    one, other = ran.values()
    assert (one.code, other.code) == (0, 0), one.err + other.err
    assert same(one.weights(), other.weights())
    for kind in ("step", "epoch", "validation"):
        assert one.metrics(kind) == other.metrics(kind)
        assert one.metrics(kind)
    assert shown(one) == shown(other)
    assert one.checkpoint().metadata == other.checkpoint().metadata
    said = []
    for each in (one, other):
        words = f"evaluate --checkpoint {each.folder} --dataset_root {football} --split valid"
        assert app.main([*words.split(), "--num_workers", "0", "--device", "cpu"]) == 0
        said.append([line for line in capfd.readouterr().out.splitlines() if "model " not in line])
    assert said[0] == said[1]
    for first, second in (tuple(LINES), tuple(LINES)[::-1]):
        folder = tmp_path / f"{first}-continued"
        shutil.copytree(ran[first].folder, folder)
        start = sorted((folder / "checkpoints").glob("step-*"))[0]
        continued = run(second, folder.name, f"--resume {start} --allow_config_change")
        assert continued.code == 0, continued.err
        assert "resume   step 4, epoch 2" in continued.out
        assert same(continued.weights(), one.weights())
