"""The commands of the argument reference run as they are written; flags are only added behind them."""

import re
from pathlib import Path

import pytest
from typed_commands import shell

from common.config import flags
from mvfouls.cli.app import FRONTENDS, VERBS
from mvfouls.config_modular import ALIASES
from mvfouls.synthetic import write_dataset

REPOSITORY = Path(__file__).parents[2]
APPLICATION = REPOSITORY / "apps" / "mvfouls"
README = (APPLICATION / "README.md").read_text()
RECOMMENDED = """python train_modular.py \\
  --dataset_root . \\
  --epochs 50 \\
  --batch_size 16 \\
  --lr 2e-4 \\
  --backbone_name r2plus1d_18 \\
  --freezing_strategy advanced \\
  --loss_function focal \\
  --use_class_balanced_sampler \\
  --progressive_class_balancing \\
  --aggressive_augmentation \\
  --gpu_augmentation \\
  --severity_aware_augmentation \\
  --mixed_precision \\
  --scheduler cosine \\
  --label_smoothing 0.1 \\
  --num_workers 12 \\
  --save_dir checkpoints"""
VERIFY = """python train_modular.py \\
  --dataset_root . \\
  --test_run \\
  --test_batches 3 \\
  --batch_size 2 \\
  --epochs 2 \\
  --num_workers 0 \\
  --frames_per_clip 8 \\
  --img_height 112 \\
  --img_width 200 \\
  --emergency_unfreeze_epoch 1 \\
  --freezing_strategy advanced \\
  --save_dir test_checkpoints"""
FRAGMENTS = (
    "--augmentation_strength extreme --progressive_class_balancing --progressive_end_factor 6.0 "
    "--label_smoothing 0.15 --loss_function focal --severity_aware_augmentation",
    "--augmentation_strength aggressive --progressive_class_balancing --progressive_end_factor 4.0 "
    "--label_smoothing 0.1 --loss_function focal",
    "--augmentation_strength aggressive --use_class_balanced_sampler --oversample_factor 3.0 "
    "--label_smoothing 0.1",
    "--augmentation_strength moderate --use_class_balanced_sampler --oversample_factor 2.0 "
    "--label_smoothing 0.05",
)
DATA = """python train_with_class_weights.py \\
  --train-dir mvfouls/train \\
  --val-dir mvfouls/valid \\
  --train-annotations mvfouls/train/annotations.json \\
  --val-annotations mvfouls/valid/annotations.json \\
  --multi-task \\
"""
LDAM = {
    "basic": DATA
    + """  --epochs 20 \\
  --batch-size 3 \\
  --lr 5e-5 \\
  --backbone-arch mvitv2_b \\
  --loss-types action_class ce severity focal offence ldam \\
  --output-dir outputs/ldam_experiment""",
    "custom": DATA
    + """  --loss-types action_class ldam severity ldam offence ldam \\
  --ldam-max-m 0.3 \\
  --ldam-s 20.0 \\
  --epochs 20 \\
  --output-dir outputs/all_ldam_experiment""",
    "deep_heads": DATA
    + """  --loss-types action_class ce severity focal offence ldam \\
  --task-head offence deep_mlp depth=3 hidden=1024 dropout=0.2 \\
  --ldam-max-m 0.5 \\
  --ldam-s 30.0 \\
  --epochs 20 \\
  --output-dir outputs/ldam_plus_deep_heads""",
}
SMALL = "--frames_per_clip 4 --img_height 64 --img_width 64 --num_workers 0 --device cpu"
SHORT = f"{SMALL} --test_run --test_batches 1 --batch_size 2 --epochs 1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: the script beside the data set."""
    root = tmp_path_factory.mktemp("fouls")
    write_dataset(root, actions=16, size=(96, 64))
    for script in ("train_modular.py", "train_with_class_weights.py"):
        (root / script).symlink_to(APPLICATION / script)
    return root


def test_the_test_command(home: Path) -> None:
    done = shell(f"{VERIFY} {SMALL} --test_batches 1 --probe_batches 1", home)
    assert done.returncode == 0, done.stderr
    assert "freeze   epoch 1 emergency open layer4.1" in done.stdout
    assert done.stdout.count("epoch  1/2 |") == done.stdout.count("epoch  2/2 |") == 1
    assert "read back equal" in done.stdout
    assert not (home / "test_checkpoints").exists()


@pytest.mark.slow
def test_the_test_command_as_it_stands(home: Path) -> None:
    done = shell(VERIFY, home)
    assert done.returncode == 0, done.stderr
    assert "freeze   epoch 1 emergency open layer4.1" in done.stdout
    assert not (home / "test_checkpoints").exists()


@pytest.mark.parametrize(
    "network",
    ["--backbone_name small3d", pytest.param("", marks=pytest.mark.slow)],
    ids=["small", "documented"],
)
def test_the_recommended_command(network: str, home: Path) -> None:
    done = shell(f"{RECOMMENDED} {SHORT} {network}", home)
    assert done.returncode == 0, done.stderr
    assert "bf16" in done.stdout
    assert "| f 1.50" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_fragment_for_a_size_of_data_set(fragment: str, home: Path) -> None:
    done = shell(f"python train_modular.py --dataset_root . {fragment} {SHORT} --backbone_name small3d", home)
    assert done.returncode == 0, done.stderr
    assert "epoch  1/1 |" in done.stdout


@pytest.mark.parametrize(
    "name", [name if name == "deep_heads" else pytest.param(name, marks=pytest.mark.slow) for name in LDAM]
)
def test_the_commands_of_the_ldam_guide(name: str, home: Path) -> None:
    done = shell(f"{LDAM[name]} {SHORT} --backbone-arch small3d", home)
    assert done.returncode == 0, done.stderr
    assert f"loss     offence ldam s={'20' if name == 'custom' else '30'}" in done.stdout
    assert "class weights" in done.stdout
    assert "epoch  1/1 |" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "short", "parameters"),
    [
        # the network of 24 blocks takes 32 frames of 224 x 224 and nothing else
        ("basic", "--test_run --test_batches 1 --batch_size 1 --epochs 1 --num_workers 0", 50_934_829),
        ("custom", SHORT, 27_862_758),
        ("deep_heads", SHORT, 30_756_339),
    ],
)
def test_the_commands_of_the_ldam_guide_with_their_network(
    name: str, short: str, parameters: int, home: Path
) -> None:
    done = shell(f"{LDAM[name]} {short}", home)
    assert done.returncode == 0, done.stderr
    assert f"params {parameters} " in done.stdout


def test_the_readme_shows_the_recommended_commands() -> None:
    assert RECOMMENDED in README
    assert LDAM["deep_heads"] in README


def test_every_verb_and_flag_that_is_named_exists() -> None:
    """Every `mvfouls VERB` and every flag in the README is one that the command has."""
    for verb in re.findall(r"^mvfouls ([a-z]+)", README, re.MULTILINE):
        assert verb in VERBS, verb
    commands = [*VERBS.values(), *FRONTENDS.values()]
    every = [flag for verb in commands for flag in flags(verb.config_class)]
    known = {name for flag in every for name in (flag.name, *flag.synonyms)} | set(ALIASES)
    for name in re.findall(r"--([a-z][a-z0-9_-]+)", README):
        assert name.replace("-", "_") in known | {"help", "preset", "frontend"}, name
