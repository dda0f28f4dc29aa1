"""The commands of the eye-fixation documents run as they are written; flags are only added behind them."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eye_files import gaze_splits
from typed_commands import shell

from common.config import flags
from eye_fixation.cli import ALIASES, VERBS
from eye_fixation.data.pt import FILES, search_folders, write_folder

REPOSITORY = Path(__file__).parents[2]
APPLICATION = REPOSITORY / "apps" / "eye_fixation"
README = (APPLICATION / "README.md").read_text()
DOCUMENTED = "cd experiments/phase1_loss_function_analysis\npython train_loss_comparison.py"
SHORT = (
    "--hid-S 2 --hid-T 4 --N-S 2 --N-T 2 --epochs 1 --batch-size 8 --max-train 8 --max-val 8 --max-test 8 "
    "--bootstrap 20 --device cpu"
)
FEW = "--losses mse softmax_ce --seeds 1"
LOSSES = {"mse", "focal", "dice", "weighted_mse", "composite"}


def check_compared(done: subprocess.CompletedProcess[str], folder: Path) -> dict[str, Any]:
    """Require that a comparison ended well; return its results."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "0.5 on sigmoid measures calibration" in done.stdout
    assert (folder / "report.html").stat().st_size > 10_000
    content: dict[str, Any] = json.loads((folder / "loss_comparison.json").read_text())
    assert content["seed_compat"].keys() == content["losses"].keys()
    return content


def write_gaze(path: Path, seconds: float = 120.0, hz: float = 60.0) -> Path:
    """Write a recording that wanders over a screen of 1920 x 1080 px."""
    time = np.arange(int(seconds * hz)) / hz
    walk = np.cumsum(np.random.default_rng(0).normal(0, 6, (len(time), 2)), 0)
    x, y = (np.abs((part + size / 2) % (2 * size) - size) for part, size in zip(walk.T, (1900.0, 1060.0)))
    rows = [f"{t:.4f},{a + 5:.1f},{b + 5:.1f}" for t, a, b in zip(time, x, y)]
    path.write_text("\n".join(["t,x,y", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application's folder as on a clean checkout, with data beside the script."""
    home = tmp_path_factory.mktemp("checkout") / "apps" / "eye_fixation"
    shutil.copytree(APPLICATION / "experiments", home / "experiments")
    (home / "src").symlink_to(APPLICATION / "src")
    folder = home / "experiments" / "phase1_loss_function_analysis" / "data"
    write_folder(folder, gaze_splits(), {"command": "test"})
    return home


def test_the_documented_command(application: Path) -> None:
    """Both lines, verbatim; results go below the working folder, which is that of the script."""
    done = shell(f"{DOCUMENTED} {SHORT}", application)
    folder = application / "experiments/phase1_loss_function_analysis/runs/eye_fixation/run-0001"
    content = check_compared(done, folder)
    assert set(content["losses"]) == LOSSES
    config = content["config"]
    assert config["seeds"] == [42]
    assert (config["optimization"]["lr"], config["optimization"]["weight_decay"]) == (1e-3, 1e-5)
    assert content["data"]["source"] == "simulated"


def test_the_documented_defaults() -> None:
    """What the document states, and the short line above leaves out."""
    defaults = {flag.name: flag.default for flag in flags(VERBS["compare"].config_class)}
    stated = {
        "hid_S": 64, "hid_T": 256, "N_S": 4, "N_T": 8, "epochs": 25, "batch_size": 8, "lr": 1e-3,
        "weight_decay": 1e-5, "focal_alpha": 0.25, "focal_gamma": 2.0, "sparsity_weight": 0.8,
        "concentration_weight": 1.5, "focal_weight": 1.0, "pos_weight": 100.0, "in_len": 10, "out_len": 10,
    }  # fmt: skip
    assert {name: defaults[name] for name in stated} == stated
    assert set(defaults["losses"]) == LOSSES


def test_the_losses_as_a_script(application: Path) -> None:
    folder = application / "experiments/phase1_loss_function_analysis"
    done = shell("python enhanced_loss_functions.py", folder)
    assert done.returncode == 0, done.stderr
    for name in ("mse", "focal", "dice", "weighted_mse", "composite", "sparsity", "concentration"):
        found = [line.split() for line in done.stdout.splitlines() if line.split()[:1] == [name]]
        assert found
        assert all(math.isfinite(float(words[-1])) for words in found)


@pytest.mark.slow
def test_both_commands_of_the_message_about_missing_data(application: Path, tmp_path: Path) -> None:
    done = shell("eye-fixation compare", tmp_path)
    if all((folder / name).is_file() for folder in search_folders() for name in FILES):
        pytest.skip("the application's own folders hold data")
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []
    simulated, own = (line.split(maxsplit=1) for line in done.stderr.splitlines()[-2:])
    assert (simulated[0], own[:1]) == ("simulated", ["your"])
    commands = simulated[1], own[1].removeprefix("own").strip()
    write_gaze(tmp_path / "gaze.csv")
    for command, source in zip(commands, ("simulated", "real")):
        assert command.startswith("eye-fixation prepare ")
        assert command.endswith(f"--out {tmp_path / 'data'}")
        prepared = shell(command, tmp_path)
        assert prepared.returncode == 0, prepared.stderr
        found = shell("eye-fixation evaluate --baseline uniform --bootstrap 0 --out e.json", tmp_path)
        assert found.returncode == 0, found.stderr
        content = json.loads((tmp_path / "e.json").read_text())
        assert content["data"]["dir"] == str(tmp_path / "data")
        assert content["data"]["source"] == source
        shutil.rmtree(tmp_path / "data")


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    """As it is typed."""
    done = shell("eye-fixation compare --demo", tmp_path)
    content = check_compared(done, tmp_path / "runs/eye_fixation/run-0001")
    assert set(content["losses"]) == LOSSES
    assert content["data"]["source"] == "simulated"
    assert content["data"]["sequences"] == {"train": 64, "val": 32, "test": 32}
    assert content["oracle"]["summary"]["bits"]["mean"] > -10
    assert "real" not in done.stdout
    assert "oracle" in done.stdout


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def lines(block: str) -> list[str]:
    """The commands of a block without comments."""
    found = [re.sub(r"\s+#.*", "", line) for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in found if line and not line.startswith("pip install")]


def test_the_readme_begins_with_the_demo_and_the_documented_command(tmp_path: Path) -> None:
    first = lines(blocks("bash")[0])
    assert first[0] == "eye-fixation compare --demo"
    assert first[-2].startswith("cd ")
    assert first[-2].removeprefix("cd ") == f"apps/eye_fixation/{DOCUMENTED.splitlines()[0][3:]}"
    assert first[-1] == DOCUMENTED.splitlines()[1]
    assert (REPOSITORY / first[-2].removeprefix("cd ") / "train_loss_comparison.py").is_file()
    for line in first[1:-2]:
        done = shell(line, tmp_path)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted(
        [*FILES, "manifest.json", "oracle.pt"]
    )


@pytest.mark.slow
def test_from_ones_own_recording_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other commands and the Python of the README, one after the other in one folder."""
    write_gaze(tmp_path / "gaze.csv")
    for line in (line for block in blocks("bash")[1:] for line in lines(block)):
        verb = line.split()[1]
        done = shell(f"{line} {SHORT} {FEW}" if verb == "compare" else line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        if verb == "prepare":
            continue
        assert re.search(r"runs/eye_fixation|judged|next", done.stdout)
    content = json.loads((tmp_path / "runs/eye_fixation/run-0001/loss_comparison.json").read_text())
    assert set(content["losses"]) == {"mse", "softmax_ce"}
    assert not content["comparison"]["ranking_supported"]
    with np.load(tmp_path / "next.npz") as held:
        assert held["density"].shape[1:] == (10, 32, 32)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names: dict[str, Any] = {
        "coordinates": torch.full((3, 10, 2), 16.0), "mask": torch.ones(3, 10, dtype=torch.bool)
    }  # fmt: skip
    exec(compile(code, "README", "exec"), names)
    density = names["density"]
    assert density.shape == (3, 10, 32, 32)
    torch.testing.assert_close(density.sum((2, 3)), torch.ones(3, 10))


def test_every_verb_and_flag_that_is_named_exists() -> None:
    known = {flag.option for verb in VERBS.values() for flag in flags(verb.config_class)}
    known |= {"--config", "--help", *(f"--{name}" for name in ALIASES)}
    assert set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]+", README)) <= known
    named = re.findall(r"(?<!pip install )eye-fixation ([a-z]+)", README)
    assert set(named) <= VERBS.keys()
    assert all(f"`{verb}`" in README for verb in VERBS)


@pytest.mark.parametrize("words", [[], *([verb] for verb in VERBS)], ids=["", *VERBS])
def test_help_needs_no_heavy_import(words: list[str]) -> None:
    code = (
        "import sys; from eye_fixation.cli import main; code = main([*sys.argv[1:], '--help'])\n"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'{code} {sorted(heavy)}')"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0 []"
    assert "--" in done.stdout
