"""What `train_modular.py` makes of its flags: documented lines, presets, and defaults that give way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mv_flags import FRAGMENTS, M1, M2, parsed, write_roots

from common.config import UserError
from common.schedulers.learning_rate import Schedule
from mvfouls.adaptation import Phases, auto_patience, settle_phases, settle_warmup
from mvfouls.resolve_modular import resolve
from mvfouls.settings import RunSettings


def about(value: float) -> Any:
    return pytest.approx(value, rel=1e-9)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two data sets of which only the files are there."""
    return write_roots(tmp_path_factory.mktemp("roots"))


@pytest.fixture(scope="module")
def run(folders: dict[str, Path]) -> Callable[[str], RunSettings]:
    """Settings of a command line about the first data set."""
    return lambda words: resolve(parsed(words, folders["data"]))


def test_the_recommended_command(run):
    settings = run(M1)
    assert (settings.fit.epochs, settings.fit.early_stopping_patience, settings.fit.precision) == (
        50,
        15,
        "bf16",
    )
    assert settings.losses.keys() == {"severity", "action_class", "offence"}
    assert {(loss.kind, loss.weighted, loss.smoothing) for loss in settings.losses.values()} == {
        ("focal", True, 0.1)
    }
    assert [loss.weight for loss in settings.losses.values()] == [3.0, 3.0, 0.5]
    balance = settings.balance
    assert (balance.sampler, balance.strategy, balance.basis) == ("factor", "balanced_capped", "presented")
    assert (balance.factor_start, balance.factor_end, balance.factor_epochs) == (1.5, 3.0, 15)
    assert settings.freezing.strategy == "advanced"
    assert (settings.rates.head_lr, settings.rates.backbone_lr, settings.rates.gradual) == (1e-3, 1e-5, True)
    augment = settings.augment
    assert (augment.jitter, augment.crop, augment.on_device, augment.severity_aware) == (3, 0.7, True, True)
    assert any("--aggressive-augmentation is deprecated" in line for line in settings.notes)
    assert settings.data.pixels.frames.indices() == tuple(range(67, 83))


@pytest.mark.parametrize(
    ("epochs", "head", "backbone"),
    [
        (2.5, 5.050e-4, 5.05e-6),
        (5, 1e-3, 1e-5),
        (20, 7.503e-4, 7.75e-6),
        (27.5, 5.005e-4, 5.5e-6),
        (50, 1e-6, 1e-6),
    ],
)
def test_the_rates_of_the_recommended_command(run, epochs, head, backbone):
    settings = run(M1)
    for base, rate in ((settings.rates.head_lr, head), (settings.rates.backbone_lr, backbone)):
        schedule = Schedule(config=settings.fit.schedule, base_lr=base, total_steps=5000, steps_per_epoch=100)
        assert schedule.lr(round(epochs * 100), int(epochs)) == pytest.approx(rate, rel=1e-3)


def test_the_test_command(run):
    settings = run(M2)
    assert (settings.fit.epochs, settings.loader.train_batches, settings.judge.batches) == (2, 3, 3)
    assert (settings.loader.batch_size, settings.loader.workers) == (2, 0)
    pixels = settings.data.pixels
    assert (pixels.frames.count, pixels.height, pixels.width) == (8, 112, 200)
    assert pixels.frames.indices() == (67, 69, 71, 73, 76, 78, 80, 82)
    assert (settings.freezing.emergency_unfreeze_epoch, settings.freezing.emergency_unfreeze_gradual) == (
        1,
        True,
    )
    assert (settings.fit.early_stopping_patience, settings.fit.schedule.warmup_epochs) == (None, 0)
    assert any("nothing is written to test_checkpoints" in line for line in settings.notes)


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_preset_runs_like_its_fragment(run, name):
    def bare(settings: RunSettings) -> dict[str, Any]:
        return {key: value for key, value in vars(settings).items() if key != "notes"}

    typed, preset = run(FRAGMENTS[name]), run(f"--preset {name}")
    assert bare(typed) == bare(preset)
    assert any(line.startswith(f"preset {name}: ") for line in preset.notes)


@pytest.mark.parametrize(
    ("name", "strength", "sampler", "factors", "loss"),
    [
        ("very_small", 0.6, "factor", (1.5, 6.0), ("focal", 0.15)),
        ("small", 0.7, "factor", (1.5, 4.0), ("focal", 0.1)),
        ("medium", 0.7, "factor", (3.0, 3.0), ("ce", 0.1)),
        ("large", 0.8, "factor", (2.0, 2.0), ("ce", 0.05)),
    ],
)
def test_the_presets(run, name, strength, sampler, factors, loss):
    settings = run(f"--preset {name}")
    balance, severity = settings.balance, settings.losses["severity"]
    assert (settings.augment.crop, balance.sampler) == (strength, sampler)
    assert (balance.factor_start, balance.factor_end) == factors
    assert (severity.kind, severity.smoothing) == loss


@pytest.mark.parametrize(
    ("epochs", "phases"),
    [(5, (1, 4)), (10, (3, 7)), (20, (6, 14)), (1, (1, 0)), (50, (8, 15)), (23, (8, 15))],
)
def test_phases_that_nobody_typed_fit_the_epochs(run, epochs, phases):
    freezing = run(f"--epochs {epochs}").freezing
    assert (freezing.phase1_epochs, freezing.phase2_epochs) == phases


@pytest.mark.parametrize(
    ("words", "phases", "text"),
    [
        ("--epochs 20 --phase1_epochs 8", (8, 12), "phases 8 + 12 epochs: 8 + 15 do not fit into 20"),
        ("--epochs 20 --phase2_epochs 16", (4, 16), "phases 4 + 16 epochs"),
        ("--epochs 30 --phase1_epochs 8 --phase2_epochs 15", (8, 15), "phase 2 is extended by 7 epochs"),
        ("--epochs 10 --phase1_epochs 4 --phase2_epochs 9", (4, 6), "phases 4 + 6 epochs"),
        ("--test_run --phase1_epochs 4", (1, 0), "phases 1 + 0 epochs"),
    ],
)
def test_typed_phases_are_cut_or_extended_with_a_line(run, words, phases, text):
    settings = run(words)
    assert (settings.freezing.phase1_epochs, settings.freezing.phase2_epochs) == phases
    assert any(line.startswith(text) for line in settings.notes), settings.notes


def test_settling_is_what_it_says():
    assert settle_phases(Phases(first=8, second=15), 23, ()) == (Phases(first=8, second=15), ())
    assert settle_warmup(5, 20, typed=False) == (5, ())
    assert settle_warmup(5, 10, typed=False)[0] == 2
    assert settle_warmup(5, 6, typed=True) == (5, ())
    assert settle_warmup(5, 5, typed=True)[0] == 1


@pytest.mark.parametrize(
    ("words", "patience"),
    [
        ("--freezing_strategy none", 10),
        ("--simple_training --freezing_strategy advanced", 10),
        ("", 16),
        ("--epochs 20", 13),
        ("--freezing_strategy progressive", 15),
        ("--freezing_strategy adaptive", 15),
        ("--early_stopping_patience 4", 4),
        ("--early_stopping_patience 4 --test_run", None),
    ],
)
def test_the_patience_depends_on_the_strategy(run, words, patience):
    assert run(words).fit.early_stopping_patience == patience
    assert auto_patience("fixed", Phases(first=8, second=15), simple=False) == 16


@pytest.mark.parametrize(
    ("words", "warmup", "rise"),
    [
        ("", 5, 0.3),
        ("--epochs 10", 2, 0.3),
        ("--epochs 10 --scheduler_warmup_epochs 6", 6, 0.6),
        ("--scheduler onecycle", 0, 0.3),
        ("--scheduler onecycle --scheduler_warmup_epochs 10", 0, 0.2),
        ("--scheduler none", 0, 0.3),
        ("--scheduler none --lr_warmup", 5, 0.3),
        ("--no-lr_warmup", 0, 0.3),
        ("--scheduler_warmup_epochs 0", 0, 0.0),
    ],
)
def test_warm_up(run, words, warmup, rise):
    schedule = run(words).fit.schedule
    assert schedule.warmup_epochs == warmup
    assert schedule.pct_start == about(rise)


@pytest.mark.parametrize(
    ("words", "window", "count"),
    [
        ("", (67, 82), 16),
        ("--frames_per_clip 32", (59, 90), 32),
        ("--frames_per_clip 24", (63, 86), 24),
        ("--frames_per_clip 12", (67, 82), 12),
        ("--frames_per_clip 32 --start_frame 50 --end_frame 100", (50, 100), 32),
        ("--backbone_name mvitv2_b", (59, 90), 32),
        ("--backbone_name mvitv2_b --frames_per_clip 16", (67, 82), 16),
        ("--backbone_name mvitv2_b --start_frame 67", (67, 82), 16),
        ("--target_fps 15", (62, 87), 16),
    ],
)
def test_the_window(run, words, window, count):
    indices = run(words).data.pixels.frames.indices()
    assert (indices[0], indices[-1], len(indices)) == (*window, count)


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ("", (224, 398)),
        ("--backbone_name swin3d_t", (224, 224)),
        ("--backbone_name swin3d_t --img_width 398", (224, 398)),
        ("--backbone_name mvit_v2_s", (224, 224)),
    ],
)
def test_the_size(run, words, size):
    settings = run(words)
    assert (settings.data.pixels.height, settings.data.pixels.width) == size
    told = [line for line in settings.notes if line.startswith("input ")]
    assert bool(told) == (size == (224, 224))


@pytest.mark.parametrize(
    ("words", "head", "backbone"),
    [
        ("", 1e-3, 1e-5),
        ("--lr 1e-4", 5e-4, 5e-6),
        ("--lr 1e-4 --head_lr 1e-3", 1e-3, 5e-6),
        ("--lr 1e-4 --backbone_lr 1e-5", 5e-4, 1e-5),
    ],
)
def test_rates_that_nobody_typed_follow_lr(run, words, head, backbone):
    rates = run(words).rates
    assert (rates.head_lr, rates.backbone_lr) == (about(head), about(backbone))


def test_typed_augmentation_survives_its_preset(run):
    augment = run("--augmentation_strength extreme --noise_strength 0.01 --dropout_prob 0").augment
    assert (augment.noise, augment.frame_dropout, augment.crop, augment.cutout) == (0.01, 0.0, 0.6, 2)
    assert run("--augmentation_strength none --temporal_jitter_strength 2").augment.jitter == 2
    assert run("--preset very_small --disable_augmentation").augment.severity_aware is False


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--loss_types offence ldam", {"severity", "action_class"}),
        ("--loss_types severity balanced_softmax", {"action_class", "offence"}),
        ("--loss_types severity bce --loss_function plain", set()),
        ("--loss_function focal --class_weighting_strategy none", set()),
        ("--logit_adjustment --loss_types offence focal", {"offence"}),
        ("--logit_adjustment --class_weighting_strategy sqrt", {"severity", "action_class", "offence"}),
        ("--loss_types offence ldam --class_weighting_strategy sqrt --allow_overcorrection",
         {"severity", "action_class", "offence"}),
    ],
)  # fmt: skip
def test_which_tasks_have_class_weights(run, words, expected):
    settings = run(words)
    assert {task for task, loss in settings.losses.items() if loss.weighted} == expected
    if words == "--loss_types offence ldam":
        assert "no class weights for offence: ldam has margins instead" in settings.notes


def test_without_offence_training_selects_by_the_mean(run):
    for words in ("--auxiliary_tasks none", "--auxiliary_task_weight 0"):
        settings = run(words)
        assert list(settings.model.heads) == ["severity", "action_class"]
        assert settings.judge.headline == "mean_ba"
        assert any("selection by mean_ba" in line for line in settings.notes)
    assert run("--auxiliary_tasks offence_severity").judge.headline == "leaderboard"


def test_modes_win_over_a_preset(run):
    settings = run("--preset small --disable_class_balancing")
    assert (settings.balance.sampler, settings.losses["severity"].kind) == ("shuffle", "focal")
    plain = run("--disable_class_balancing")
    assert any("loss weighted becomes plain" in line for line in plain.notes)
    assert run("--preset small --no-use_class_balanced_sampler").balance.sampler == "shuffle"


def test_a_global_batch_is_divided_or_refused(folders):
    given = parsed("--batch_size 9 --force_batch_size", folders["data"])
    assert resolve(given, processes=3).loader.batch_size == 3
    assert any("3 x 3 processes = 9" in line for line in resolve(given, processes=3).notes)
    with pytest.raises(UserError, match="--batch-size 9 does not divide among 2 processes"):
        resolve(given, processes=2)


def test_what_the_device_decides(folders):
    given = parsed("--pin_memory", folders["data"])
    for cuda in (False, True):
        settings = resolve(given, cuda=cuda)
        assert (settings.loader.pin_memory, settings.model.channels_last) == (cuda, cuda)
    swin = parsed("--backbone_name swin3d_t", folders["data"])
    assert resolve(swin, cuda=True).model.channels_last is False
    assert resolve(parsed("--channels_last", folders["data"])).model.channels_last is True


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--dataset_root nowhere", "--dataset_root nowhere: no folder of split train"),
        ("--epochs 0 --no-enable_config_validation", "must be"),
        ("--backbone_name s3d --frames_per_clip 8", "--frames_per_clip 8: s3d"),
        ("--start_frame 90 --end_frame 80", "start 90 and end 80"),
    ],
)
def test_what_no_run_can_have_is_a_user_error(words, text, folders):
    with pytest.raises(UserError, match=text):
        resolve(parsed(words, folders["data"]))
