import pytest

from common.config import parse
from uav_landing.checks import BATCH_ABOVE_ONE, check_training, shortened
from uav_landing.config import PRESETS, TrainConfig
from uav_landing.models.build import build_model


def parsed(flags: str):
    return parse(TrainConfig, flags.split(), prog="train", presets=PRESETS, default_preset="guide")


def findings(flags: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in check_training(parsed(flags))]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_nothing_to_complain_about(preset):
    assert findings(f"--preset {preset}") == []


@pytest.mark.parametrize(
    "flags",
    [
        "--batch-size 0",
        "--epochs 0",
        "--accumulation-steps 0",
        "--learning-rate 0",
        "--learning-rate inf",
        "--weight-decay -1",
        "--grad-clip -1",
        "--eta-min -1",
        "--t-0 0",
        "--t-mult 0",
        "--warmup-epochs 30",
        "--warmup-epochs -1",
        "--max-memory-gb 0",
        "--max-disk-gb 0",
        "--workers -1",
        "--max-images -1",
        "--max-steps -1",
        "--save-every-steps -1",
        "--width-multiplier 0",
        "--pretrained-min-coverage 1.1 --pretrained-path x.pth",
        "--input-size 64 65",
        "--input-size 0 64",
        "--crops-per-image 0",
        "--scale-range 2 1",
        "--scale-range 0 1",
        "--rare-crop-fraction 1.5",
        "--rare-crop-fraction 0.5 --rare-temperature 0",
        "--hflip-p 2",
        "--rot90-p -0.1",
        "--brightness-contrast-p 1.1",
        "--color-jitter-p 2",
        "--ema-decay 1",
        "--gamma -1",
        "--weight-cap 0.5 --class-weights balanced",
        "--weight-cap -1 --class-weights balanced",
        "--focal-weight -1",
        "--dice-weight -1",
        "--aux-weight -1 --model-type mmseg_bisenetv2",
        "--tile-overlap 0.95",
        "--tile-batch 0",
        "--eval-every 0",
        "--alarm-patience 0",
        "--patience -1",
    ],
)
def test_values_out_of_range_are_errors_that_name_the_flag(flags):
    ((level, text),) = findings(flags)
    assert level == "error"
    names = [word for word in flags.split() if word.startswith("--")]
    assert any(name in text for name in names)


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        ("--batch-size 1 --model-type mmseg_bisenetv2", ("--batch-size 1", "--model-type mmseg_bisenetv2")),
        ("--focal-weight 0 --dice-weight 0", ("--focal-weight 0", "--dice-weight 0")),
        ("--scheduler onecycle --warmup-epochs 2", ("--warmup-epochs", "--scheduler onecycle")),
        ("--split-file sdd32", ("--split-file", "--split-mode random")),
        ("--class-weights 1 2 3", ("--class-weights", "3 numbers", "4 outputs")),
        ("--class-weights 1 2 3 4 --void ignore", ("--class-weights", "4 numbers", "3 outputs")),
        ("--class-weights 1 2 3 heavy", ("--class-weights", "heavy", "median_frequency")),
        ("--class-weights balanced sqrt", ("--class-weights balanced sqrt", "expected numbers")),
    ],
)
def test_contradictions_name_both_sides(flags, texts):
    errors = [text for level, text in findings(flags) if level == "error"]
    assert len(errors) == 1
    assert all(text in errors[0] for text in texts)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("--loss ce --gamma 1", "gamma"),
        ("--loss logit_adjusted --gamma 1", "gamma"),
        ("--weight-cap 5", "weight-cap"),
        ("--class-weights none --weight-cap 5", "weight-cap"),
        ("--class-weights 1 2 3 4 --weight-cap 5", "weight-cap"),
        ("--class-weights none --focal-normalize alpha", "focal-normalize"),
        ("--model-type mmseg_bisenetv2 --width-multiplier 2", "width-multiplier"),
        ("--aux-weight 0.3", "aux-weight"),
        ("--model-type deeplabv3plus_resnet50 --aux-weight 0.3", "aux-weight"),
        ("--scheduler cosine --t-0 5", "t-0"),
        ("--scheduler cosine --t-mult 1", "t-mult"),
        ("--scheduler none --eta-min 1e-5", "eta-min"),
        ("--pretrained-min-coverage 0.5", "pretrained-min-coverage"),
        ("--rare-temperature 0.2", "rare-temperature"),
        ("--no-augment --hflip-p 0.1", "hflip-p"),
        ("--no-augment --rot90-p 0.1", "rot90-p"),
        ("--no-augment --brightness-contrast-p 0.1", "brightness-contrast-p"),
        ("--no-augment --color-jitter-p 0.1", "color-jitter-p"),
        ("--no-alarms --alarm-patience 2", "alarm-patience"),
        ("--no-alarms --stop-on-alarm", "stop-on-alarm"),
        ("--wandb-mode disabled --wandb-project p", "wandb-project"),
        ("--split-mode grouped --split-seed 1", "split-seed"),
        ("--split-mode official --train-fraction 0.5", "train-fraction"),
        ("--split-mode file --split-file sdd32 --val-fraction 0.5", "val-fraction"),
        ("--focal-weight 0 --gamma 1", "gamma"),
        ("--focal-weight 0 --class-weights balanced", "class-weights"),
        ("--test-run --epochs 3", "epochs"),
        ("--test-run --max-steps 3", "max-steps"),
    ],
)
def test_a_typed_flag_that_cannot_act_is_said(flags, name):
    ((level, text),) = findings(flags)
    assert level == "warning"
    assert text.startswith(f"--{name} has no effect because ")


def test_defaults_that_cannot_act_are_not_worth_a_line():
    assert findings("--loss ce") == []
    assert findings("--focal-weight 0 --model-type mmseg_bisenetv2 --gamma 1") == []


@pytest.mark.parametrize(
    "model_type",
    ["compact", "mmseg_bisenetv2", "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"],
)
def test_a_batch_of_one_is_refused_where_the_network_cannot_train_on_it(model_type):
    config = parsed(f"--model-type {model_type}").config
    model = build_model(config.model, 4, aux=False)
    assert (model_type in BATCH_ABOVE_ONE) == model.needs_batch_above_one


def test_a_test_run_is_one_epoch_of_two_steps_on_two_photos():
    config = shortened(parsed("--test-run --warmup-epochs 2").config)
    assert (config.run.epochs, config.run.max_steps, config.run.max_images) == (1, 2, 2)
    assert config.optimizer.warmup_epochs == 0
    other = parsed("--epochs 7").config
    assert shortened(other) is other
