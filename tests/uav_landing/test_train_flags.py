"""Every flag of training does something that can be seen.

A row of EFFECTS says: with these words, looked at like this, the answer is that; without them it is another.
"""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from flag_rows import (
    Changes,
    Row,
    check_effect,
    deterministic,
    distance,
    forget_deterministic_kernels,
    has,
    resumed,
    wandb_options,
)
from landing_pieces import KEYS, Built, seen
from PIL import Image

from common.config import flags
from common.engine.checkpoint import find_checkpoint, load_checkpoint
from uav_landing.config import ModelConfig, TrainConfig
from uav_landing.data.dataset import cut, normalise
from uav_landing.labels import TABLES
from uav_landing.models.build import build_model

PIXELS = [[2, 0, -1, 0.5], [0, 3, 0, 0], [1, 1, 1, 1], [-2, 0, 0, 4], [5, 0, 0, 0]]
LOGITS = torch.tensor(PIXELS, dtype=torch.float64).T[None, :, None]
TARGET = torch.tensor([0, 0, 2, 3, 1])[None, None]
STEM, CLASSIFIER = "backbone.stem.conv.weight", ("classifier.weight", "classifier.bias")
SMALL = "--input-size 64 64 --width-multiplier 0.25 --store-scale 0.25 --device cpu --workers 0"


def raw(b: Built) -> tuple[bool, bool]:
    """Return whether the crops' images, and their labels, are the pixels of their windows."""
    pairs = [cut(b.data.store, b.crops.ids[w.photo], w, b.config.crops.input_size) for w in b.windows]
    samples = [b.crops[key] for key in KEYS]
    images = all(torch.equal(s["image"], normalise(image)) for s, (image, _) in zip(samples, pairs))
    labels = all(np.array_equal(s["target"], b.data.lookup[ids]) for s, (_, ids) in zip(samples, pairs))
    return images, labels


def mirrored(b: Built) -> bool:
    pairs = [cut(b.data.store, b.crops.ids[w.photo], w, b.config.crops.input_size) for w in b.windows]
    samples = [b.crops[key] for key in KEYS]
    return all(
        np.array_equal(s["target"], b.data.lookup[ids[:, ::-1]]) for s, (_, ids) in zip(samples, pairs)
    )


def loss_value(b: Built) -> float:
    return round(float(b.balance.losses.main(LOGITS, TARGET)), 5)


def terms(b: Built) -> dict[str, float]:
    b.model.train()
    return {name: term.weight for name, term in b.task.training_step(b.batch).items()}


def passes(b: Built) -> list[int]:
    """Return the number of tiles in each forward pass over one photo."""
    sizes: list[int] = []
    b.model.eval()
    b.model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    b.task.predictor(b.loaders.valid.dataset[0]["image"])
    return sizes


def moved(b: Built) -> float:
    """Return how far one optimiser step moved the weights."""
    return distance(b.model, lambda: b.ran("--max-steps 1").weights())


def first_flag(b: Built) -> int:
    """Return the validation at which a class without a single hit is reported."""
    zero = {f"class_{c}_{m}": 0.0 for c in range(4) for m in ("iou", "accuracy")}
    zero |= {f"class_{c}_support": 9.0 for c in range(4)} | {"miou": 0.9, "danger_as_safe": 0.0}
    for epoch in range(1, 20):
        report = types.SimpleNamespace(
            epoch=epoch, train={}, valid=zero | {"loss": 1 / epoch}, lr={}, recoveries=0, improved=False
        )
        if any(alarm.name == "class_zero" for alarm in b.task.alarms.check(report)):
            return epoch
    return 0


def stays_flat(b: Built) -> str:
    with pytest.MonkeyPatch.context() as patch:
        usual = b.task.metrics.__func__
        patch.setattr("uav_landing.task.LandingTask.metrics", lambda task: usual(task) | {"miou": 0.5})
        return b.ran("--epochs 4").out


def rebuilt(b: Built) -> bool:
    folder = Built([w for w in b.words if w != "--rebuild-cache"], b.files, b.ran).data.store.folder
    before = folder.stat().st_ino, (folder / "COMPLETE").stat().st_mtime_ns
    folder = b.data.store.folder
    return before != (folder.stat().st_ino, (folder / "COMPLETE").stat().st_mtime_ns)


def same_backbone(b: Built, name: str) -> bool:
    file = torch.load(b.files / name, weights_only=True)
    own = b.model.state_dict()
    return all(torch.equal(own[key], value) for key, value in file.items() if key not in CLASSIFIER)


def has_averaged_weights(b: Built) -> bool:
    checkpoint = load_checkpoint(find_checkpoint("best", b.ran().folder))
    return checkpoint.ema is not None and not torch.equal(checkpoint.ema[STEM], checkpoint.model[STEM])


def without_memory(b: Built) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uav_landing.alarms.free_memory_share", lambda: 0.0)
        return b.ran().code


def about(value: float) -> Any:
    return pytest.approx(value, rel=1e-4)


SEVENTH = np.random.RandomState(7).permutation(6)
STILL = "--hflip-p 0 --rot90-p 0 --brightness-contrast-p 0"
ONLINE = "--wandb-mode online"
ONE_STEP = "--optimizer sgd --weight-decay 0 --learning-rate 1 --epochs 1 --max-images 1"

EFFECTS: dict[str, Row] = {
    "preset": Row("--preset safe", lambda b: b.data.class_ids, [1, 2, 3]),
    "dataset_path": Row("--dataset-path {tmp}/tiny", lambda b: b.photos.root.name, "tiny"),
    "dataset_format": Row("--dataset-format udd6", lambda b: b.photos, has("is not in the layout udd6")),
    "label_table": Row("--label-table udd6", lambda b: b.photos.table.name, "udd6"),
    "mapping": Row("--mapping {tmp}/mapping.yaml", lambda b: int(b.photos.table.lookup()[9]), 3),
    "color_tolerance": Row(
        "--color-tolerance 3", lambda b: b.data.store.histogram("0")[3], 256, "--dataset-path {tmp}/colour"
    ),
    "unknown_labels": Row(
        "--unknown-labels ignore", lambda b: b.data.store.unknown_pixels, 5, "--dataset-path {tmp}/unknown"
    ),
    "split_mode": Row("--split-mode grouped", lambda b: b.data.split.train, ("000", "001", "002", "003")),
    "split_file": Row(
        "--split-file {tmp}/split.yaml", lambda b: b.data.split.train, ("004",), "--split-mode file"
    ),
    "split_seed": Row(
        "--split-seed 7", lambda b: b.data.split.train, tuple(f"{index:03d}" for index in SEVENTH[:4])
    ),
    "train_fraction": Row("--train-fraction 0.5", lambda b: len(b.data.split.train), 3, "--val-fraction 0.3"),
    "val_fraction": Row("--val-fraction 0.3", lambda b: len(b.data.split.val), 2),
    "store_scale": Row("--store-scale 0.5", lambda b: b.data.store.shape("000"), (320, 480)),
    "cache_dir": Row("--cache-dir {tmp}/cache", lambda b: b.data.store.folder.parent.name, "cache"),
    "max_disk_gb": Row(
        "--max-disk-gb 0.0001", lambda b: b.data, has("--max-disk-gb allows 0.0001"), "--cache-dir {tmp}/no"
    ),
    "rebuild_cache": Row("--rebuild-cache", rebuilt, True, "--cache-dir {tmp}/again"),
    "input_size": Row("--input-size 32 96", lambda b: b.batch["image"].shape[2:], (32, 96)),
    "crops_per_image": Row("--crops-per-image 3", lambda b: len(b.crops), 12),
    "scale_range": Row("--scale-range 0.5 0.5", lambda b: {w[3:5] for w in b.windows}, {(128, 128)}),
    "rare_crop_fraction": Row(
        "--rare-crop-fraction 1", lambda b: all(w.rare is not None for w in b.windows), True
    ),
    "rare_temperature": Row(
        "--rare-temperature 1000", lambda b: [w.rare for w in b.windows], Changes, "--rare-crop-fraction 1"
    ),
    "augment": Row("--no-augment", raw, (True, True)),
    "hflip_p": Row("--hflip-p 1", mirrored, True, STILL),
    "rot90_p": Row("--rot90-p 1", lambda b: raw(b)[1], False, STILL),
    "brightness_contrast_p": Row("--brightness-contrast-p 1", raw, (False, True), STILL),
    "color_jitter_p": Row("--color-jitter-p 1", raw, (False, True), STILL),
    "mosaic_p": Row("--mosaic-p 1", raw, (False, False), STILL),
    "model_type": Row(
        "--model-type lraspp_mobilenet_v3_large",
        lambda b: sum(p.numel() for p in b.model.parameters()),
        3_218_648,
    ),
    "width_multiplier": Row(
        "--width-multiplier 1", lambda b: sum(p.numel() for p in b.model.parameters()), 793_540
    ),
    "pretrained_path": Row(
        "--pretrained-path {tmp}/weights.pth", lambda b: same_backbone(b, "weights.pth"), True
    ),
    "pretrained_min_coverage": Row(
        "--pretrained-min-coverage 0.1",
        lambda b: same_backbone(b, "half.pth"),
        True,
        "--pretrained-path {tmp}/half.pth",
    ),
    "void": Row("--void ignore", lambda b: b.model(torch.zeros(2, 3, 64, 64)).logits.shape[1], 3),
    "loss": Row("--loss ce", loss_value, about(63.263576)),
    "gamma": Row("--gamma 0.5", loss_value, about(59.134247)),
    "class_weights": Row(
        "--class-weights 1 2 1.5 3", lambda b: b.balance.losses.main.weight.tolist(), [1, 2, 1.5, 3]
    ),
    "weight_cap": Row(
        "--weight-cap 10",
        lambda b: np.ptp(np.log10(b.balance.weights.values)),
        about(1.0),
        "--class-weights balanced",
    ),
    "focal_normalize": Row("--focal-normalize alpha", loss_value, about(1.442458)),
    "focal_weight": Row("--focal-weight 0.25", terms, {"focal": 0.25, "dice": 0.5}),
    "dice_weight": Row("--dice-weight 0", terms, {"focal": 1.0}),
    "aux_weight": Row("--aux-weight 0", terms, {"focal": 1.0, "dice": 0.5}, "--model-type mmseg_bisenetv2"),
    "learning_rate": Row("--learning-rate 0.5", lambda b: {g["lr"] for g in b.optimizer.param_groups}, {0.5}),
    "optimizer": Row("--optimizer sgd", lambda b: type(b.optimizer), torch.optim.SGD),
    "weight_decay": Row(
        "--weight-decay 0.01", lambda b: {g["weight_decay"] for g in b.optimizer.param_groups}, {0, 0.01}
    ),
    "grad_clip": Row("--grad-clip 0.001", moved, pytest.approx(0.001, rel=0.01), ONE_STEP),
    "scheduler": Row("--scheduler none", lambda b: [b.rate(e) for e in (0, 9, 29)], [3e-4] * 3),
    "t_0": Row("--t-0 5", lambda b: b.rate(5), 3e-4),
    "t_mult": Row("--t-mult 1", lambda b: b.rate(20), 3e-4),
    "eta_min": Row("--eta-min 1e-4", lambda b: b.rate(9), about(1e-4 + 2e-4 * (1 + np.cos(0.9 * np.pi)) / 2)),
    "warmup_epochs": Row("--warmup-epochs 2", lambda b: b.rate(1, step=10), about(1.515e-4)),
    "ema_decay": Row("--ema-decay 0.9", has_averaged_weights, True, "--max-steps 1"),
    "monitor": Row("--monitor expected_cost", lambda b: b.task.headline.mode, "min"),
    "patience": Row("--patience 2", stays_flat, has("no better miou in 2 validations")),
    "tile_overlap": Row("--tile-overlap 0", lambda b: sum(passes(b)), 3 * 4),
    "tile_batch": Row("--tile-batch 7", passes, [7, 7, 7, 7]),
    "eval_every": Row(
        "--eval-every 2", lambda b: [v["epoch"] for v in b.ran().metrics("validation")], [2, 3], "--epochs 3"
    ),
    "alarms": Row("--no-alarms", lambda b: b.task.alarms, None),
    "alarm_patience": Row("--alarm-patience 2", first_flag, 2),
    "stop_on_alarm": Row("--stop-on-alarm", without_memory, 3, "--epochs 2"),
    "batch_size": Row("--batch-size 3", lambda b: len(b.batch["target"]), 3),
    "epochs": Row("--epochs 2", lambda b: len(b.ran().metrics("epoch")), 2, "--max-images 1 --max-steps 3"),
    "accumulation_steps": Row(
        "--accumulation-steps 1", lambda b: has("1 epochs x 2 steps")(b.ran().out), True, "--epochs 1"
    ),
    "max_memory_gb": Row(
        "--max-memory-gb 0.0001", lambda b: has("read from disk")(b.ran("--max-steps 1").out), True
    ),
    "output_dir": Row(
        "--output-dir {tmp}/there", lambda b: b.ran("--max-steps 1").out, has("there/run-0001")
    ),
    "wandb_project": Row("--wandb-project mine", wandb_options, has("'project': 'mine'"), ONLINE),
    "wandb_mode": Row("--wandb-mode offline", wandb_options, has("'mode': 'offline'"), ONLINE),
    "workers": Row("--workers 2", lambda b: b.loaders.train.num_workers, 2),
    "seed": Row("--seed 7", lambda b: (float(b.model.state_dict()[STEM].sum()), b.windows), Changes),
    "deterministic": Row("--deterministic", deterministic, True),
    "device": Row(
        "--device cuda:99",
        lambda b: b.ran("--max-steps 1").err,
        has("--device: device 'cuda:99' is not there"),
    ),
    "amp": Row("--amp bf16", lambda b: b.ran("--max-steps 1").metrics("step")[0]["train/loss"], Changes),
    "save_every_steps": Row(
        "--save-every-steps 1",
        lambda b: [event["step"] for event in b.ran("--max-steps 2").events("checkpoint")],
        [1, 2],
        "--accumulation-steps 1 --batch-size 1",
    ),
    "resume": Row("--resume last", resumed, True, "--epochs 2"),
    "max_images": Row("--max-images 2", lambda b: len(b.data.split.train), 2),
    "max_steps": Row("--max-steps 1", lambda b: len(b.ran().metrics("epoch")), 1, "--epochs 2"),
    "test_run": Row("--test-run", lambda b: b.ran().out, has("train 2 photos   valid 1"), "--max-steps 1"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data sets, a mapping, a split and weights that rows name with {tmp}."""
    root = tmp_path_factory.mktemp("files")
    plain = np.full((64, 64), 3, np.uint8)
    unknown, colour = plain.copy(), np.full((64, 64, 3), (0, 102, 0), np.uint8)
    unknown[0, :5] = 77
    for name, first in (("tiny", plain), ("unknown", unknown), ("colour", colour + np.uint8(3))):
        for number in range(6):
            for folder, pixels in (
                ("original_images", colour),
                ("label_images_semantic", plain if number else first),
            ):
                path = root / name / folder / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    mapping = {item.id: item.landing for item in TABLES["sdd"].classes}
    (root / "mapping.yaml").write_text(yaml.safe_dump(mapping | {9: 3}))
    (root / "split.yaml").write_text('{train: ["004"], val: ["005"], test: ["000"]}')
    torch.manual_seed(1)
    weights = build_model(ModelConfig(width_multiplier=0.25), 4, aux=False).state_dict()
    torch.save(weights, root / "weights.pth")
    torch.save(dict(list(weights.items())[: len(weights) // 2]), root / "half.pth")
    return root


@pytest.fixture(autouse=True)
def usual_kernels():
    yield
    forget_deterministic_kernels()


def test_every_flag_has_a_row():
    assert set(EFFECTS) == {flag.name for flag in flags(TrainConfig)}


@pytest.mark.parametrize("name", EFFECTS)
def test_the_flag_has_its_effect(name, files, scenes, train):
    row = EFFECTS[name]
    base = f"{SMALL} --dataset-path {scenes} {row.given}"
    assert f"--{name.replace('_', '-')}" in row.words.replace("--no-", "--").split()
    check_effect(row, lambda words: seen(f"{base} {words}", files, train, row.look))


@pytest.mark.parametrize(
    ("words", "guess"), [("", 7.79791), ("--focal-normalize alpha", 0.779791), ("--loss ce", None)]
)
def test_the_alarm_knows_the_loss_of_a_uniform_guess(words, guess, files, scenes, train):
    base = f"{SMALL} --dataset-path {scenes} --class-weights 10 10 10 10 {words}"
    seen_guess = seen(base, files, train, lambda b: b.task.alarms.initial_focal)
    assert seen_guess == (None if guess is None else about(guess))
