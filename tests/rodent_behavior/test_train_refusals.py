"""Flags of training that are out of range, contradict each other, cannot act, or have another name now."""

import pytest
from rodent_looks import FRAMES, VIDEO, warnings_of
from rodent_pieces import Built, seen

from common.config import UserError

OUT_OF_RANGE = """
--epochs 0|--batch_size 0|--accumulation_steps 0|--train_T 0|--val_T 0|--num_workers -1|--max_steps -1
--early_stopping_patience -1|--lr 0|--lr nan|--min_lr -1|--lr_factor 1 --lr_schedule plateau
--lr_factor 0 --lr_schedule plateau|--lr_patience -1 --lr_schedule plateau|--weight_decay -1
--weight_decay nan|--clip_norm -1|--clip_norm nan|--clip_norm inf|--ema_decay 1 --use_ema
--ema_decay 0 --use_ema|--warmup_epochs -1
--dropout 1|--dropout -0.1|--head_dropout 1|--focal_gamma -1|--label_smoothing 1|--label_smoothing -0.1
--lambda_smooth -1|--lambda_tmse -1|--lambda_kp -1|--kp_beta 0|--rare_boost_cap 0.9|--rare_threshold_share 1
--rare_threshold_share -1|--rare_margin -1|--max_weight_ratio 0.5|--kp_jitter_std 0.21|--kp_jitter_std -0.1
--aug_hflip 1.1|--aug_roll -1|--max_gap -1|--val_share -1|--val_share 1|--test_share 1|--kp_likelihood_thr 1.1
--min_frames 0|--fps 0|--frame_size 64|--frame_size 0,48|--hidden_dim 0|--hidden_dim 1|--num_layers 0
--refinements -1|--kp_names mouth|--kp_names mouth,mouth|--kp_alias nose|--kp_alias a=elbow
--pose_features generic --axis_points mouth|--pose_features generic --axis_points mouth,elbow
--split_file nowhere.json|--label_map nowhere.yaml|--manifest nowhere.csv|--group_regex (|--group_regex mouse
"""
OUT_OF_RANGE_ON_VIDEO = """
--aug_brightness 1.1|--aug_contrast -1|--aug_temporal_drop 2|--aug_noise_std -1|--img_size 8|--clip_T 0
--freeze_backbone_epochs -1|--unfreeze_blocks -1|--backbone_lr_scale 0|--cache_views -1|--cache_max_gb 0
--backbone_weights nowhere.pth
"""


def lines(table: str) -> list[str]:
    return [words for line in table.strip().splitlines() for words in line.split("|")]


@pytest.mark.parametrize(
    "words", [*lines(OUT_OF_RANGE), *(f"{VIDEO} {words}" for words in lines(OUT_OF_RANGE_ON_VIDEO))]
)
def test_a_value_out_of_range_is_an_error_that_names_the_flag(words, files, base, train):
    answer = seen(f"{base} {words}", files, train, lambda b: (b.network, b.plan))
    assert isinstance(answer, str), answer
    names = [word for word in words.removeprefix(VIDEO).split() if word.startswith("--")]
    assert any(name in answer for name in names), answer


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--min_frames 100", ["--min_frames 100", "--trial_frames 60"]),
        ("--warmup_epochs 10 --epochs 10", ["--warmup_epochs 10", "--epochs 10"]),
        ("--min_lr 1e-3", ["--min_lr", "--lr"]),
        ("--loss ce --focal_gamma 2", ["--focal_gamma", "--loss ce"]),
        ("--rare_threshold_share 0 --rare_boost_cap 5", ["--rare_boost_cap 5", "--rare_threshold_share 0"]),
        ("--pose_features none", ["--pose_features none", "--backbone none"]),
        (f"--pose_features none {VIDEO}", ["--pose_features none", "--model_type multitask"]),
        ("--temporal_model tcn --refinements 1", ["--refinements 1", "--temporal_model tcn"]),
        ("--temporal_model tcn --hidden_dim 12", ["--hidden_dim", "multiple of 8"]),
        ("--split_file {tmp}/split.json --val_share 0.2", ["--split_file", "--val_share"]),
        ("--split_file {tmp}/split.json --test_share 0.2", ["--split_file", "--test_share"]),
        ("--val_share 0 --lr_schedule plateau", ["--val_share 0", "--lr_schedule plateau"]),
        ("--group_by trial --group_regex (?P<group>.)", ["--group_by trial", "--group_regex"]),
        ("--group_regex rat_(?P<group>.)", ["--group_regex", "mouse_1"]),
        ("--backbone_type vit_2d", ["--backbone_type vit_2d", "--encoder_name", "vit_small_patch14_dinov2"]),
        ("--no-save_backbone", ["--no-save_backbone", "--backbone_weights"]),
        (
            f"{FRAMES} --no-save_backbone --backbone_weights {{tmp}}/tiny.pth",
            ["--no-save_backbone", "--unfreeze_blocks 4"],
        ),
        ("--backbone_weights {tmp}/tiny.pth", ["--backbone_weights", "--backbone none"]),
        ("--backbone resnet18", ["--backbone resnet18", "--backbone_weights", "nothing is downloaded"]),
        (
            "--backbone resnet18 --random_backbone --backbone_weights x.pth",
            ["--random_backbone", "--backbone_weights"],
        ),
        (
            "--backbone vit_small_patch16_224.augreg_in21k --random_backbone --img_size 40",
            ["--img_size 40", "patch, 16"],
        ),
        (f"{FRAMES} --unfreeze_blocks 5", ["--unfreeze_blocks 5", "4 blocks"]),
        ("--pose_features graph18 --kp_names mouth,tail_base", ["--pose_features graph18", "kp_names"]),
        ("--kp_names mouth,tail_base,elbow --pose_features generic", ["elbow", "mouth"]),
        (
            "--kp_names mouth,tail_base,L_hindpaw --pose_features generic --aug_hflip 0.5",
            ["--aug_hflip", "r_hindpaw"],
        ),
        ("--fps 60", ["--fps 60", "30"]),
        ("--frame_size 100,48", ["--frame_size 100 x 48", "64 x 48"]),
        ("--videos {tmp}/bare --frame_size 64,48", ["--fps"]),
        ("--videos {tmp}/bare --fps 30", ["--frame_size W,H"]),
        ("--videos {tmp}/renamed", ["mouth", "muzzle"]),
        ("--pose_dir {tmp}/two_scorers", ["mouse_1DLC_b.csv", "mouse_1DLC_net.csv", "--dlc_scorer"]),
        ("--pose_dir {tmp}/two_animals", ["left", "right", "--individual"]),
        ("--annotations {tmp}/spoilt", ["mouse_1.mp4_1.csv", "row 61", "8"]),
        ("--annotations {tmp}/nowhere", ["--annotations", "prediction_<video file name>_<trial>.csv"]),
    ],
)  # fmt: skip
def test_what_cannot_go_together_is_refused_by_name(words, texts, files, base, train):
    answer = seen(f"{base} {words}", files, train, lambda b: (b.network, b.loaders))
    assert isinstance(answer, str), answer
    assert all(text in answer for text in texts), answer


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--lr_patience 3", "lr-patience: --lr_schedule is cosine"),
        ("--lr_factor 0.1", "lr-factor: --lr_schedule is cosine"),
        ("--ema_decay 0.9", "ema-decay: --use_ema is off"),
        ("--wandb_entity lab", "wandb-entity: --use_wandb is off"),
        ("--wandb_project mine", "wandb-project: --use_wandb is off"),
        ("--wandb_run_name one", "wandb-run-name: --use_wandb is off"),
        ("--model_type action_only --lambda_kp 1", "lambda-kp: --model_type is action_only"),
        ("--model_type action_only --kp_task copy", "kp-task: --model_type is action_only"),
        ("--model_type action_only --kp_beta 1", "kp-beta: --model_type is action_only"),
        ("--lambda_kp 0 --kp_task copy", "kp-task: --lambda_kp is 0"),
        ("--val_share 0 --early_stopping_patience 3", "early-stopping-patience: --val_share is 0"),
        ("--val_share 0 --val_T 40", "val-T: --val_share is 0"),
        ("--clip_T 8", "clip-T: --backbone is none"),
        ("--img_size 32", "img-size: --backbone is none"),
        ("--aug_brightness 0.1", "aug-brightness: --backbone is none"),
        ("--cache_views 1", "cache-views: --backbone is none"),
        ("--random_backbone", "random-backbone: --backbone is none"),
        (f"{VIDEO} --unfreeze_blocks 0 --backbone_lr_scale 1", "backbone-lr-scale: --unfreeze_blocks is 0"),
        ("--max_weight_ratio 3 --class_weighting sqrt", "max-weight-ratio: --class_weighting is sqrt"),
        ("--loss ldam --class_weighting sqrt", "class-weighting: --loss ldam"),
        ("--axis_points mouth,tail_base", "axis-points: --pose_features is invariant"),
        ("--pose_features graph18 --max_gap 3", "max-gap: --pose_features graph18"),
        ("--kp_jitter_std 0 --kp_jitter_mode frame", "kp-jitter-mode: --kp_jitter_std is 0"),
        ("--rare_boost_cap 1 --rare_margin 3", "rare-margin: no class is repeated"),
        ("--no-augment --aug_roll 3", "aug-roll: --no-augment"),
    ],
)  # fmt: skip
def test_what_cannot_act_is_a_warning_and_an_error_when_strict(words, text, files, base, train):
    flag, reason = text.split(": ")
    text = f"--{flag} has no effect because {reason}"
    assert text in seen(f"{base} {words}", files, train, warnings_of)
    assert text in seen(f"{base} {words} --strict_config_validation", files, train, warnings_of)
    with pytest.raises(UserError, match="has no effect"):
        Built(f"{base} {words} --strict_config_validation".split(), train)


def test_default_settings_have_nothing_to_complain_about(recordings, train):
    folders = f"--annotations {recordings / 'Annotations'} --videos {recordings / 'Videos'}"
    assert Built(folders.split(), train).findings == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("--encoder_name tiny_cnn", "--backbone"), ("--tcn_layers 2", "--num-layers"),
     ("--scheduler plateau", "--lr-schedule"), ("--early_stop_patience 3", "--early-stopping-patience")],
)  # fmt: skip
def test_legacy_spellings_are_deprecated(old, new, files, base, train):
    with pytest.warns(DeprecationWarning, match=f"{old.split()[0]} is deprecated; use {new}"):
        built = Built(f"--annotations a --videos v {old}".split(), train)
    assert new[2:].replace("-", "_") in built.parsed.typed
