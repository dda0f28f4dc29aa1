"""The commands of the documents run as they are written; flags are only added behind them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in the application's folder, with this Python first on the path."""
    variables = {name: value for name, value in os.environ.items() if name != "UAV_LANDING_DATASET"}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    variables["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=LANDING, env=variables | environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip


def check_trained(done: subprocess.CompletedProcess[str], output_dir: Path) -> None:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "effective batch 18 (6 x 3 x 1)" in done.stdout
    assert "focal(gamma=2) x weights(guide)" in done.stdout
    assert "lr 3.0e-04" in done.stdout
    assert [f"Class {index}: IoU=" in done.stdout for index in range(4)] == [True] * 4
    assert (output_dir / "fixed_memory_efficient_compact_best.pth").is_file()
    assert (output_dir / "run-0001" / "report.html").is_file()


def test_training_with_a_named_data_set(photos, tmp_path):
    check_trained(shell(f"{TRAIN} {SHORTER} --dataset-path {photos} --output-dir {tmp_path}"), tmp_path)


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
