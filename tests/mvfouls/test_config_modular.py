"""The flags of `train_modular.py` are those of its document."""

import subprocess
import sys
import warnings
from functools import reduce
from pathlib import Path

import pytest
from mv_flags import DEFAULTS, DEPRECATED, DOCUMENT, FRAGMENTS, NEW_DEFAULTS, documented, parsed

from common.config import UserError, flags, from_yaml, to_yaml
from common.config.parsing import Interface
from mvfouls.cli.app import VERBS
from mvfouls.cli.app import main as app
from mvfouls.cli.modular import main
from mvfouls.config_modular import ALIASES, PRESETS, ModularConfig
from mvfouls.config_shared import DeepMlp, Linear, SeMlp, TaskHead, repeated, task_name
from mvfouls.labels import TASKS

SCRIPT = Path(__file__).parents[2] / "apps" / "mvfouls" / "train_modular.py"
FLAGS = {flag.name: flag for flag in flags(ModularConfig)}
HELP = Interface(ModularConfig, "train_modular.py", presets=PRESETS, aliases=ALIASES).help()


def test_there_are_106_documented_flags():
    assert len(DEFAULTS) + len(DEPRECATED) == 106
    assert set(DEPRECATED) == set(ALIASES)
    assert FLAGS.keys() >= DEFAULTS.keys()


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_flag_has_the_documented_default_and_a_help_text(name):
    assert FLAGS[name].default == DEFAULTS[name]
    assert type(FLAGS[name].default) is type(DEFAULTS[name])
    assert f"\n  --{name.replace('_', '-')}" in HELP


def test_every_flag_has_a_sentence_and_the_deprecated_ones_are_named():
    assert all(flag.help.endswith(".") for flag in FLAGS.values())
    for name in DEPRECATED:
        assert f"--{name.replace('_', '-')}" in " ".join(HELP.split())


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="the document is not beside the repository")
def test_the_table_is_that_of_the_document():
    told = documented()
    assert told.keys() == DEFAULTS.keys() | set(DEPRECATED)
    for name in told.keys() - NEW_DEFAULTS - set(DEPRECATED):
        text = told[name]
        if text is None:
            assert DEFAULTS[name] is False, name
        elif text.startswith("["):
            assert list(DEFAULTS[name]) == [float(word) for word in text.strip("[]").split(",")]
        elif isinstance(DEFAULTS[name], float):
            assert float(text) == DEFAULTS[name], name
        else:
            assert text == str(DEFAULTS[name]), name


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_fragment_of_the_document(name):
    typed, preset = parsed(FRAGMENTS[name]), parsed(f"--preset {name}")
    assert set(PRESETS[name]) == typed.typed - {"dataset_root"}
    for flag in FLAGS.values():
        if flag.name != "preset":
            path = (*flag.groups, flag.name)
            assert reduce(getattr, path, typed.config) == reduce(getattr, path, preset.config), flag.name


def test_a_typed_flag_beats_the_preset():
    given = parsed("--preset small --label-smoothing 0.3")
    assert given.config.task_weights.label_smoothing == 0.3
    assert given.config.progressive.progressive_end_factor == 4.0
    assert "label_smoothing" not in given.preset_fields


@pytest.mark.parametrize("old", ALIASES)
def test_a_deprecated_flag_means_the_new_one(old):
    with pytest.warns(
        DeprecationWarning, match=f"--{old} is deprecated; use --loss-function {ALIASES[old][1]}"
    ):
        assert parsed(f"--{old}").config.loss.loss_function == ALIASES[old][1]


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (
            "--use_focal_loss --loss_function plain",
            ("--use_focal_loss", "contradicts", "--loss_function plain"),
        ),
        ("--use_class_weighted_loss --use_focal_loss", ("--use_class_weighted_loss", "--use_focal_loss")),
        ("--focal_gama 2", ("--focal_gama", "--focal_gamma")),
        ("--loss_types offence ldam severity", ("--loss_types", "severity")),
        ("--loss_types offence hinge", ("offence", "hinge", "ldam")),
        ("--task_head offence deep_mlp depht=3", ("--task_head", "depht", "depth")),
        ("--task_head offence mlp", ("mlp", "deep_mlp")),
        ("--backbone_name resnet50", ("--backbone_name", "resnet50", "r2plus1d_18")),
    ],
)
def test_the_line_is_refused_by_name(words, texts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(UserError) as error:
            parsed(words)
    assert all(text in str(error.value) for text in texts)


def test_heads_and_tasks_are_read():
    given = parsed(
        "--task-head offence deep_mlp depth=2 --task_head severity se_mlp --task_head action_type linear"
    )
    heads = given.config.heads.task_head
    assert heads == (
        TaskHead(task="offence", head=DeepMlp(depth=2)),
        TaskHead(task="severity", head=SeMlp(reduction=4)),
        TaskHead(task="action_type", head=Linear()),
    )
    assert task_name("action_type") == "action_class"
    assert repeated(["action_type", "severity", "action_class"]) == ["action_class"]


def test_every_task_can_be_named():
    words = FLAGS["balance_tasks"].choices
    assert {task_name(word) for word in words} == set(TASKS)


def test_settings_survive_a_file(tmp_path):
    given = parsed("--preset small --task-head offence se_mlp depth=2 --loss_types offence ldam --lr_warmup")
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(given.config, typed=given.typed))
    assert from_yaml(ModularConfig, file) == given.config


@pytest.mark.parametrize("words", [["train", "--help"], ["--help"]])
def test_the_console_command_knows_the_same_flags(words, capsys):
    assert app(words) == 0
    assert ("--freezing-strategy" if "train" in words else "submit") in capsys.readouterr().out
    assert VERBS["train"].config_class is ModularConfig


def test_a_bad_line_ends_with_2(capsys):
    assert main(["--no-such-flag"]) == 2
    assert "error: unknown flag --no-such-flag" in capsys.readouterr().err


def test_help_comes_at_once_and_imports_nothing_heavy():
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
    assert "--dataset-root" in done.stdout
