"""What `train_with_class_weights.py` makes of its flags."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mv_class_weights import L1, L2, L3, parse_line, parsed, settings_of
from mv_flags import parsed as modular
from mv_flags import write_roots

from common.config import UserError
from mvfouls.labels import task_labels
from mvfouls.model import build_model
from mvfouls.resolve_class_weights import data_root, resolve
from mvfouls.resolve_modular import resolve as resolve_modular
from mvfouls.settings import RunSettings

STAGES = ("stage_3", "stage_2", "stage_1", "stage_0", "patch_embed")
LAYERS = ("layer4", "layer3", "layer2", "layer1", "stem")


def weighted(settings: RunSettings) -> set[str]:
    return {task for task, loss in settings.losses.items() if loss.weighted}


@pytest.mark.parametrize(
    ("line", "expected", "told"),
    [
        (L1, {"action_class", "severity"}, "no class weights for offence: ldam has margins instead"),
        (L2, set(), "no class weights for severity, action_class, offence: ldam has margins instead"),
        (L3, {"action_class", "severity"}, "no class weights for offence: ldam has margins instead"),
    ],
)
def test_the_documented_commands(line, expected, told):
    settings = resolve(parse_line(line))
    assert settings.fit.epochs == 20
    assert settings.freezing.strategy == "schedule"
    assert settings.freezing.schedule == tuple(zip((3, 6, 9, 12, 15), STAGES))
    assert weighted(settings) == expected
    assert told in settings.notes
    assert settings.judge.headline == "leaderboard"
    assert (settings.fit.schedule.name, settings.fit.schedule.warmup_epochs) == ("cosine", 0)
    assert settings.fit.early_stopping_patience is None
    assert (settings.balance.sampler, settings.data.views.bags) == ("shuffle", False)


def test_what_the_documented_commands_differ_in():
    first, second, third = (resolve(parse_line(line)) for line in (L1, L2, L3))
    assert first.model.backbone == "mvitv2_b"
    assert first.data.pixels.frames.indices() == tuple(range(59, 91))
    assert (first.loader.batch_size, first.rates.lr, first.loader.workers) == (3, 5e-5, 4)
    assert {task: loss.kind for task, loss in first.losses.items()} == {
        "action_class": "ce",
        "severity": "focal",
        "offence": "ldam",
    }
    assert {(loss.max_margin, loss.scale) for loss in second.losses.values()} == {(0.3, 20.0)}
    head = third.model.heads["offence"]
    assert (head.kind, head.depth, head.hidden, head.dropout) == ("deep_mlp", 3, 1024, 0.2)
    assert third.model.heads["severity"].kind == "linear"
    assert third.save_dir == Path("outputs/ldam_plus_deep_heads")
    assert third.data.cache.folder == Path("mvfouls_cache")


@pytest.mark.parametrize(("line", "total"), [(L1, 50_934_829), (L2, 27_862_758), (L3, 30_756_339)])
def test_golden_totals(line, total):
    settings = resolve(parse_line(line))
    classes = {task: len(task_labels(task).classes) for task in settings.losses}
    cosine = [task for task, loss in settings.losses.items() if loss.kind == "ldam"]
    pixels = settings.data.pixels
    with torch.device("meta"):
        model = build_model(
            settings.model, classes, cosine, pixels.frames.count, (pixels.height, pixels.width)
        )
    assert sum(parameter.numel() for parameter in model.parameters()) == total


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", {"action_class", "severity", "offence"}),
        ("--loss-type ce", {"action_class", "severity", "offence"}),
        ("--loss-types severity bce offence ldam", {"action_class", "severity"}),
        ("--balanced-sampling", set()),
        ("--joint-severity-sampling", set()),
        ("--dynamic-sampler", set()),
        ("--balanced-sampling --enable-class-weights", {"action_class", "severity", "offence"}),
        ("--logit-adjustment", {"severity"}),
        ("--logit-adjustment --enable-class-weights", {"action_class", "severity", "offence"}),
        ("--loss-types offence balanced_softmax", {"action_class", "severity"}),
        ("--loss-types offence ldam --enable-class-weights --allow_overcorrection",
         {"action_class", "severity", "offence"}),
        ('--disable-class-weights', set()),
        ('--balanced-sampling --task-class-weights {"offence":[1,2,3]}', {"offence"}),
    ],
)  # fmt: skip
def test_which_tasks_have_class_weights(words, expected):
    assert weighted(settings_of(words)) == expected


@pytest.mark.parametrize(
    ("number", "task", "classes"),
    [(2, "offence", 2), (3, "offence", 3), (4, "offence_severity", 4), (5, "severity", 5),
     (8, "action_class", 8)],
)  # fmt: skip
def test_a_single_task(number, task, classes):
    settings = settings_of(f"--num-classes {number} --balanced-sampling", multi=False)
    assert list(settings.losses) == list(settings.model.heads) == [task]
    labels = task_labels(task, settings.data.junk_ids, undecided=settings.data.undecided)
    assert len(labels.classes) == classes
    assert settings.judge.headline == "mean_ba"
    assert settings.balance.sampler_tasks == (task,)
    dynamic = settings_of(f"--num-classes {number} --dynamic-sampler", multi=False)
    assert dynamic.balance.dynamic_task == task


@pytest.mark.parametrize(
    ("mode", "strategy", "opened"),
    [("none", "none", 0), ("freeze_all", "closed", 0), ("freeze_stages0", "closed", 4),
     ("freeze_stages2", "closed", 2), ("freeze_stages4", "closed", 0), ("adaptive", "adaptive", 0),
     ("advanced", "advanced", 0), ("gradient_guided", "gradient_guided", 0),
     ("progressive", "progressive", 0), ("fixed", "schedule", 0)],
)  # fmt: skip
def test_freeze_modes(mode, strategy, opened):
    settings = settings_of(f"--freeze-mode {mode} --epochs 50")
    assert (settings.freezing.strategy, settings.freezing.open_blocks) == (strategy, opened)
    assert not settings.rates.gradual
    if mode == "fixed":
        assert settings.freezing.schedule == ((8, "stage_3"), (10, "stage_2"), (12, "stage_1"))


def test_groups_of_convolutional_networks_have_other_names():
    settings = settings_of('--backbone-arch mc3_18 --unfreeze-schedule {"1":"stage_3","2":"layer3"}')
    assert settings.freezing.schedule == ((1, "layer4"), (2, "layer3"))
    assert settings_of("--backbone-arch mc3_18").freezing.schedule == tuple(zip((3, 6, 9, 12, 15), LAYERS))


def test_networks_with_published_heads():
    settings = settings_of("--backbone-arch k600 --weights w.pyth")
    assert (settings.model.backbone, settings.model.weights_classes) == ("mvitv2_b", 600)
    assert settings_of("--backbone-arch pyslowfast").model.weights_classes is None


def test_both_front_ends_give_the_same_settings(tmp_path):
    root = write_roots(tmp_path)["data"]
    splits = {name: root / "mvfouls" / name for name in ("train", "valid")}
    same = (
        "--epochs 12 --batch_size 4 --lr 1e-4 --head_lr 1e-4 --backbone_lr 1e-4 --seed 3 --num_workers 0 "
        "--loss_types action_class ce severity focal offence ldam --ldam_s 20 --label_smoothing 0.1 "
        "--augmentation_strength mild --dropout_rate 0.2 --tta --between_policy half "
        "--task_head offence deep_mlp --task_head severity linear --task_head action_type linear "
    )
    ours = parse_line(
        f"--train-dir {splits['train']} --val-dir {splits['valid']} "
        f"--train-annotations {splits['train']}/annotations.json "
        f"--val-annotations {splits['valid']}/annotations.json --multi-task {same} "
        "--backbone-arch r2plus1d_18 --bag-of-clips --clip-sampling-strategy all "
        "--clip-pooling-type attention --disable-class-weights "
        "--freeze-mode advanced --analysis_window 3 --early-stopping --early-stopping-patience 9 "
        "--early-stopping-min-delta 0 --output-dir run"
    )
    theirs = modular(
        f"--backbone_name r2plus1d_18 {same} --no-use_class_balanced_sampler --main_task_weights 3 3 "
        "--auxiliary_task_weight 3 --class_weighting_strategy none --loss_function focal "
        "--freezing_strategy advanced --analysis_window 3 --no-gradual_finetuning "
        "--early_stopping_patience 9 --no-lr_warmup --save_dir run",
        root,
    )
    left, right = resolve(ours), resolve_modular(theirs)
    assert replace(left, frontend="modular", notes=()) == replace(right, notes=())
    assert list(left.losses) == list(right.losses)
    assert list(left.model.heads) == list(right.model.heads)


def test_the_store_of_windows_lies_in_the_root_of_the_data_set():
    assert data_root(Path("mvfouls/train")) == Path(".")
    assert data_root(Path("data/MVFouls/train")) == Path("data")
    assert data_root(Path("other/train")) == Path("other")


def test_which_clips_a_sample_has():
    views = settings_of(
        "--backbone-arch r2plus1d_18 --bag-of-clips --clip-sampling-strategy all --min-clips-per-action 2"
    ).data.views
    assert (views.max_clips, views.min_clips) == (None, 2)
    views = settings_of("--bag-of-clips").data.views
    assert (views.max_clips, views.sampling) == (8, "random")


def test_a_global_batch_is_divided_or_refused():
    given = parsed("--batch-size 9 --force_batch_size")
    assert resolve(given, processes=3).loader.batch_size == 3
    with pytest.raises(UserError, match="--batch-size 9 does not divide among 2 processes"):
        resolve(given, processes=2)


def test_a_test_run_is_one_epoch_in_which_nothing_opens():
    settings = settings_of('--test_run --unfreeze-schedule {"3":"stage_3"} --early-stopping')
    assert (settings.fit.epochs, settings.fit.early_stopping_patience) == (1, None)
    assert settings_of("--test_run").freezing.schedule == ()
