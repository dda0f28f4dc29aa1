"""The commands of the multi-task guide run as they are written; flags are only added behind them."""

import re
from pathlib import Path

import pytest
import torch
from typed_commands import shell

from common.config import flags
from rodent_behavior.cli import ALIASES, VERBS
from rodent_behavior.synth import generate

REPOSITORY = Path(__file__).parents[2]
APPLICATION = REPOSITORY / "apps" / "rodent_behavior"
README = (APPLICATION / "README.md").read_text()
START = "python train_multitask.py --annotations ./Annotations --videos ./Videos"
RECOMMENDED = f"""{START} --epochs 200 --batch_size 2 --min_frames 345 \\
    --kp_jitter_std 0.02 --aug_brightness 0.2 --aug_contrast 0.2 --aug_temporal_drop 0.1 \\
    --rare_boost_cap 30.0 --focal_gamma 2.5 --label_smoothing 0.1 \\
    --dropout 0.3 --head_dropout 0.2 --weight_decay 5e-2 --lr 5e-5 \\
    --early_stopping_patience 20 --lr_schedule cosine --warmup_epochs 10"""
QUICK = f"""{START} \\
    --epochs 2 \\
    --batch_size 2 \\
    --train_T 60 \\
    --val_T 60 \\
    --early_stopping_patience 0"""
FRAGMENTS = (
    "--lr_schedule plateau --lr_patience 10 --lr_factor 0.5",
    "--rare_boost_cap 50.0 --focal_gamma 3.0 --rare_threshold_share 0.05",
)
"""Of the guide's shorter snippets; the others run in tests/rodent_behavior without a process of their own."""
SHORT = "--max_steps 2 --backbone none --num_workers 0 --device cpu"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: the script beside the two data folders."""
    root = tmp_path_factory.mktemp("assay")
    generate(root, videos=3, trials=1, render=False)
    (root / "train_multitask.py").symlink_to(APPLICATION / "train_multitask.py")
    return root


@pytest.mark.parametrize("command", [RECOMMENDED, QUICK], ids=["recommended", "quick"])
def test_the_two_commands_of_the_guide(command: str, home: Path, tmp_path: Path) -> None:
    done = shell(f"{command} {SHORT} --run_dir {tmp_path / 'run'}", home)
    assert done.returncode == 0, done.stderr
    assert "[info] Saved best checkpoint to best_model_multitask.pt" in done.stdout
    assert "Checkpoint saved to: best_model_multitask.pt" in done.stdout
    contents = torch.load(home / "best_model_multitask.pt", weights_only=True)
    assert contents["classes"][1] == "paw_withdraw"
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_fragment_of_the_guide_is_accepted(fragment: str, home: Path, tmp_path: Path) -> None:
    done = shell(f"{START} {fragment} {SHORT} --max_steps 1 --run_dir {tmp_path / 'run'}", home)
    assert done.returncode == 0, done.stderr
    assert "Per-class F1:" in done.stdout


def test_the_readme_shows_the_recommended_command() -> None:
    assert RECOMMENDED in README


def test_every_verb_and_flag_that_is_named_exists() -> None:
    known = {flag.option for verb in VERBS.values() for flag in flags(verb.config_class)} | {
        "--config",
        "--help",
    }
    known |= {f"--{name}" for name in ALIASES}
    named = {text.replace("_", "-") for text in re.findall(r"(?<![\w-])--[A-Za-z][\w-]+", README)}
    assert named <= {text.replace("_", "-") for text in known} | {"--no-augment"}
    assert set(re.findall(r"rodent-behavior ([a-z-]+)", README)) <= VERBS.keys()
