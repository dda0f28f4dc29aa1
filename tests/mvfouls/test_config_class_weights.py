"""The flags of `train_with_class_weights.py` are those of its document."""

import subprocess
import sys
from pathlib import Path

import pytest
from mv_class_weights import DATA, DEFAULTS, L1, L2, L3, TAKEN, parse_line, parsed
from mv_flags import DEFAULTS as MODULAR

from common.config import REQUIRED, UserError, flags, from_yaml, to_yaml
from common.config.parsing import Interface
from mvfouls.architectures import ARCHITECTURES
from mvfouls.cli.app import main as app
from mvfouls.cli.app import split_frontend
from mvfouls.cli.class_weights import main
from mvfouls.config_class_weights import ALIASES, BackboneArch, ClassWeightsConfig
from mvfouls.config_shared import DeepMlp

SCRIPT = Path(__file__).parents[2] / "apps" / "mvfouls" / "train_with_class_weights.py"
FLAGS = {flag.name: flag for flag in flags(ClassWeightsConfig)}
HELP = Interface(ClassWeightsConfig, "train_with_class_weights.py", aliases=ALIASES).help()


@pytest.mark.parametrize("name", [*DEFAULTS, *TAKEN])
def test_each_flag_has_the_documented_default_and_a_help_text(name):
    expected = {**DEFAULTS, **TAKEN}[name]
    flag = FLAGS[name]
    if expected is ...:
        assert flag.default is REQUIRED
    else:
        assert (flag.default, type(flag.default)) == (expected, type(expected))
    assert f"\n  --{name.replace('_', '-')}" in HELP
    assert flag.help.endswith(".")


def test_flags_taken_from_the_other_document_keep_their_defaults_but_for_the_documented_ones():
    changed = {name for name, value in TAKEN.items() if MODULAR[name] != value}
    assert changed == {
        "scheduler_warmup_epochs", "label_smoothing", "augmentation_strength", "aggressive_augmentation",
        "temporal_jitter_strength", "dropout_prob", "spatial_crop_strength", "color_aug_strength",
        "noise_strength",
    }  # fmt: skip


def test_every_network_can_be_named():
    assert set(BackboneArch.__args__) == set(ARCHITECTURES)


@pytest.mark.parametrize("line", [L1, L2, L3])
def test_the_documented_commands_are_read(line):
    config = parse_line(line).config
    assert config.core.multi_task
    assert config.core.epochs == 20
    assert config.task_losses.loss_types["offence"] == "ldam"
    assert config.splits.train_annotations == Path("mvfouls/train/annotations.json")
    if line is L3:
        (head,) = config.heads.task_head
        assert (head.task, head.head) == ("offence", DeepMlp(depth=3, hidden=1024, dropout=0.2))


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--loss-types offence ldam severity", ("--loss-types", "severity")),
        ("--loss-types offence ldam offence ce", ("offence", "twice")),
        ("--loss-types handbal ce", ("handbal", "handball")),
        ("--num-classes 6", ("--num-classes", "6")),
        ("--freeze-mode freeze_stages5", ("freeze_stages5", "freeze_stages4")),
        ("--backbone-arch swin3d", ("swin3d", "swin3d_t")),
        ("--primary-tasks fouls", ("--primary-tasks", "severity")),
        ("--unfreez-schedule x", ("--unfreeze-schedule",)),
        ("--task-head offence mlp", ("mlp", "deep_mlp")),
    ],
)
def test_the_line_is_refused_by_name(words, texts):
    with pytest.raises(UserError) as error:
        parsed(words)
    assert all(text in str(error.value) for text in texts)


def test_the_data_must_be_named():
    with pytest.raises(UserError, match="missing required --val-annotations"):
        parse_line(DATA.rpartition(" --val-annotations")[0])


def test_the_single_task_spelling_is_deprecated():
    with pytest.warns(DeprecationWarning, match="--balance-task is deprecated; use --balance-tasks"):
        assert parsed("--balance-task severity").config.balance.balance_tasks == ("severity",)


def test_settings_survive_a_file(tmp_path):
    given = parse_line(f'{L3} --unfreeze-schedule {{"3":"stage_3"}} --loss-types offence ldam')
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(given.config, typed=given.typed))
    assert from_yaml(ClassWeightsConfig, file) == given.config


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        ("--lr 1", "modular", "--lr 1"),
        ("--frontend class_weights --lr 1", "class_weights", "--lr 1"),
        ("--lr 1 --frontend=class-weights", "class_weights", "--lr 1"),
        ("--frontend", "", ""),
    ],
)
def test_the_front_end_is_told_apart(words, name, rest):
    assert split_frontend(words.split()) == (name, rest.split())


def test_the_console_command_has_both_front_ends(capsys):
    assert app(["train", "--frontend", "class_weights", "--help"]) == 0
    assert "--freeze-mode" in capsys.readouterr().out
    assert app(["train", "--frontend", "modular", "--help"]) == 0
    assert "--freezing-strategy" in capsys.readouterr().out
    assert app(["train", "--frontend", "other"]) == 2
    assert "one of modular, class_weights is expected; got 'other'" in capsys.readouterr().err


def test_a_bad_line_ends_with_2(capsys):
    assert main(["--no-such-flag"]) == 2
    assert "error: unknown flag --no-such-flag" in capsys.readouterr().err


def test_the_script_is_a_door_and_help_imports_nothing_heavy():
    assert len(SCRIPT.read_text().splitlines()) <= 10
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'numpy', 'cv2', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'{code} {sorted(heavy)}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "0 []"
    assert "--loss-types" in done.stdout
