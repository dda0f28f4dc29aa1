"""The commands of the documents run as they are written; flags are only added behind them."""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from common.config import flags, parse
from eye_fixation import cli as eye_cli
from rodent_behavior import cli as rodent_cli
from uav_landing.cli import VERBS
from uav_landing.synthetic import write_scenes

REPOSITORY = Path(__file__).parents[2]
LANDING = REPOSITORY / "apps" / "uav_landing"
TRAIN = (
    "python scripts/train_memory_efficient_fixed.py --batch-size 6 --epochs 30 --accumulation-steps 3 "
    "--learning-rate 3e-4"
)
TRAIN_OVER_LINES = """python scripts/train_memory_efficient_fixed.py \\
    --batch-size 6 \\
    --epochs 30 \\
    --accumulation-steps 3 \\
    --learning-rate 3e-4"""
ANALYZE = "python scripts/analyze_class_distribution.py"
SHORTER = (
    "--max-steps 2 --input-size 64 64 --workers 0 --max-images 3 --store-scale 0.25 --tile-overlap 0 "
    "--wandb-mode disabled --device cpu"
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("documented") / "semantic_drone_dataset"
    write_scenes(root, count=6)
    return root


def shell(command: str, folder: Path = LANDING, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line, in the application's folder if not told otherwise, with this Python first."""
    variables = {name: value for name, value in os.environ.items() if name != "UAV_LANDING_DATASET"}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    variables["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder, env=variables | environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip


class Trained(NamedTuple):
    """A finished command and where it wrote."""

    done: subprocess.CompletedProcess[str]
    output_dir: Path


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    output_dir = tmp_path_factory.mktemp("outputs")
    return Trained(shell(f"{TRAIN} {SHORTER} --dataset-path {photos} --output-dir {output_dir}"), output_dir)


def check_trained(done: subprocess.CompletedProcess[str], output_dir: Path) -> None:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "effective batch 18 (6 x 3 x 1)" in done.stdout
    assert "focal(gamma=2) x weights(guide)" in done.stdout
    assert "lr 3.0e-04" in done.stdout
    assert [f"Class {index}: IoU=" in done.stdout for index in range(4)] == [True] * 4
    assert (output_dir / "fixed_memory_efficient_compact_best.pth").is_file()
    assert (output_dir / "run-0001" / "report.html").is_file()


def test_training_with_a_named_data_set(trained):
    check_trained(*trained)


def test_training_over_several_lines_with_the_data_set_in_the_environment(photos, tmp_path):
    command = f"{TRAIN_OVER_LINES} \\\n    {SHORTER} --output-dir {tmp_path}"
    check_trained(shell(command, UAV_LANDING_DATASET=str(photos)), tmp_path)


@pytest.mark.parametrize("command", [TRAIN, TRAIN_OVER_LINES, ANALYZE])
def test_without_data_every_command_says_where_it_looked(command, tmp_path):
    done = shell(command, UAV_LANDING_DATASET=str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no data set at {tmp_path / 'nowhere'}")
    for text in ("--dataset-path", "UAV_LANDING_DATASET", "original_images/", "--dataset-format synthetic"):
        assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif((LANDING / "datasets").is_dir(), reason="the documented data set is there")
def test_without_any_hint_the_documented_folder_is_tried():
    done = shell(TRAIN)
    assert done.returncode == 2
    folder = "datasets/Aerial_Semantic_Segmentation_Drone_Dataset/dataset/semantic_drone_dataset"
    assert f"error: no data set at {LANDING / folder}" in done.stderr


def test_analysis_writes_its_three_files(photos, tmp_path):
    done = shell(f"{ANALYZE} --output-dir {tmp_path} --bootstrap 50", UAV_LANDING_DATASET=str(photos))
    assert done.returncode == 0, done.stderr
    for name in ("class_distribution.json", "class_distribution.csv", "class_distribution_analysis.png"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("command", [TRAIN, ANALYZE])
def test_help_needs_no_heavy_import(command):
    script = command.split()[1]
    loaded = (
        "import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'numpy', 'cv2', 'albumentations', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'{code} {sorted(heavy)}')"
    )
    done = subprocess.run([sys.executable, "-c", loaded, script], cwd=LANDING, capture_output=True, text=True)
    assert done.stderr.strip() == "0 []"
    assert "--dataset-path" in done.stdout


READMES = (
    "README.md", "packages/common/README.md", "apps/uav_landing/README.md", "apps/rodent_behavior/README.md",
    "apps/eye_fixation/README.md", "CONTRIBUTING.md",
)  # fmt: skip
RODENT, EYE = "rodent-behavior ", "eye-fixation "
SCRIPTS = {
    "python train_multitask.py": f"{RODENT}train", "python train_loss_comparison.py": f"{EYE}compare"
}  # fmt: skip
"""The documented scripts that are a command as well; their tests run them."""
EVERY_README = "\n".join((REPOSITORY / name).read_text() for name in READMES)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", EVERY_README, re.S)


SHELL_LINES = sorted(
    {
        line
        for block in blocks("bash")
        for line in block.replace("\\\n", "").splitlines()
        if line.strip() and not line.startswith("#")
    }
)


def test_no_backslash_is_followed_by_a_comment():
    assert not re.search(r"\\[ \t]+\S", "\n".join(blocks("bash")))


@pytest.mark.parametrize("line", SHELL_LINES)
def test_a_command_of_a_readme(line, tmp_path):
    command = line.split("  #")[0].strip()
    if command.startswith("pip install"):
        check_installation(command)
    elif command.startswith("cd "):
        assert (REPOSITORY / command.removeprefix("cd ")).is_dir()
    elif command.startswith("python scripts/"):
        assert command in (TRAIN, ANALYZE)
    elif (known := as_verb(command)).startswith((RODENT, EYE)):
        check_words(known)
    else:
        assert command.startswith("uav-landing train ")
        done = shell(f"{command} --max-steps 1 --max-images 1 --workers 0 --device cpu", tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "outputs/fixed_training/run-0001/report.html").is_file()


def check_installation(command: str) -> None:
    """Require that the files, folders and sessions an installation line names are there."""
    for path in re.findall(r"(?:-c|-e) \"?([^\s\"\[]+)", command):
        assert (REPOSITORY / path).exists()
    sessions = re.findall(r"nox -s (.+)", command)
    for name in " ".join(sessions).split():
        assert f"def {name}(" in (REPOSITORY / "noxfile.py").read_text()


def as_verb(command: str) -> str:
    """Return a documented script's line as that of its command, another line as it is."""
    for script, verb in SCRIPTS.items():
        if command.startswith(script):
            return verb + command.removeprefix(script)
    return command


def check_words(command: str) -> None:
    """Require that a line's verb exists and takes its flags; other tests run these commands."""
    program, name, *words = shlex.split(command)
    cli = rodent_cli if program == RODENT.strip() else eye_cli
    verb = cli.VERBS[name]
    parse(
        verb.config_class, words, prog=program, presets=verb.presets, default_preset=verb.default_preset,
        aliases=verb.aliases,
    )  # fmt: skip


@pytest.mark.parametrize("code", [code for code in blocks("python") if "eye_fixation" not in code])
def test_code_of_a_readme(code):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code, "README", "exec"), {})
    assert said.getvalue().startswith("balance  ")


@pytest.mark.parametrize("command", ["python -m common.engine.verify RUN", "python -m common.reporting RUN"])
def test_a_command_on_a_run_folder(command, trained):
    assert f"`{command}`" in EVERY_README
    done = shell(command.replace("RUN", str(trained.output_dir / "run-0001")))
    assert done.returncode == 0, done.stderr


def test_counts_become_a_plan(tmp_path):
    assert "`python -m common.balancing counts.json`" in EVERY_README
    (tmp_path / "counts.json").write_text(json.dumps({"counts": [90, 10], "names": ["often", "rare"]}))
    done = shell("python -m common.balancing counts.json", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rare" in done.stdout


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("evaluate --checkpoint RUN --split test", "--tile-overlap 0"),
        ("predict --checkpoint RUN --input PHOTO_OR_FOLDER", "--tile-overlap 0"),
    ],
)
def test_a_verb_on_a_run_folder(verb, words, trained, photos, tmp_path):
    assert f"`{verb}`" in EVERY_README
    command = verb.replace("RUN", str(trained.output_dir / "run-0001"))
    command = command.replace("PHOTO_OR_FOLDER", str(photos / "original_images" / "000.jpg"))
    done = shell(f"uav-landing {command} {words} --device cpu", tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_verb_and_flag_that_is_named_exists():
    text = (LANDING / "README.md").read_text()
    known = {flag.option for verb in VERBS.values() for flag in flags(verb.config_class)} | {
        "--config",
        "--help",
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) <= known
    assert set(re.findall(r"uav-landing ([a-z]+)", text)) <= VERBS.keys()
