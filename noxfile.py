"""The developer's loop: `nox -s demo` shows it work, `nox -s tests` proves it; `nox -l` lists the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nox

ROOT = Path(__file__).parent
LIBRARY = "packages/common[report,video]"
APPLICATIONS = {
    "uav_landing": "apps/uav_landing",
    "rodent_behavior": "apps/rodent_behavior",
    "eye_fixation": "apps/eye_fixation",
    "mvfouls": "apps/mvfouls",
}
TESTING = (
    "torchvision",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "pytest-socket",
    "hypothesis",
    "scikit-learn",
    "torchmetrics",
    "wandb",
)
PUBLISHED = "SoccerNet==0.2.0"
"""Holds the published evaluator of fouls, which needs none of what the package does."""
ORACLES = ("monai", "kornia", "segmentation-models-pytorch", "timm", "accelerate")

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True

QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}
PARALLEL = ("-n", "auto", "--dist", "loadfile")
ONE_THREAD = {**QUIET, "OMP_NUM_THREADS": "1"}


def _install(session: nox.Session, *packages: str) -> None:
    editable = [part for path in (LIBRARY, *APPLICATIONS.values()) for part in ("-e", path)]
    session.install("-c", "constraints.txt", *editable, *packages)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test but the slow and the live ones."""
    _install(session, *TESTING)
    session.install("--no-deps", PUBLISHED)
    session.run("pytest", "-m", "not slow and not live", *PARALLEL, *session.posargs, env=ONE_THREAD)


@nox.session(name="isolated")
@nox.parametrize("package", ["common", *APPLICATIONS], ids=["common", *APPLICATIONS])
def isolated(session: nox.Session, package: str) -> None:
    """Run one package's tests with nothing installed but the package and what it declares."""
    library = ["-e", LIBRARY if package == "common" else "packages/common"]
    own = [] if package == "common" else ["-e", APPLICATIONS[package]]
    session.install("-c", "constraints.txt", *library, *own, *TESTING)
    chosen = ("-m", "not slow and not live", f"tests/{package}")
    session.run("pytest", *chosen, *PARALLEL, *session.posargs, env=ONE_THREAD)


@nox.session
def tests_live(session: nox.Session) -> None:
    """Drive the real DeepLabCut-live in an environment of its own: it needs numpy 1 and Python below 3.13."""
    if sys.version_info >= (3, 13):
        session.skip("DeepLabCut-live has no release for Python 3.13")
    rodent = ("-e", "packages/common[report,video]", "-e", "apps/rodent_behavior[live]")
    session.install("-c", "constraints-live.txt", *rodent, "pytest", "pytest-timeout")
    chosen = ("-m", "live", "tests/rodent_behavior/live")
    session.run("pytest", *chosen, *session.posargs, env=ONE_THREAD)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and who may import whom."""
    _install(session, "ruff==0.17.6", "import-linter==2.16")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of every package, strictly."""
    _install(session, "mypy==2.4.1", "types-PyYAML")
    session.run("mypy")


@nox.session
def demo(session: nox.Session) -> None:
    """Train every application on generated data; ends with the path of one HTML page."""
    _install(session)
    lanes = (("uav_landing", "eye_fixation"), ("rodent_behavior", "mvfouls"))
    with ThreadPoolExecutor(len(lanes)) as pool:
        running = [pool.submit(_in_turn, session, lane) for lane in lanes]
        reports = {name: str(page) for lane in running for name, page in lane.result().items()}
    index = ROOT / "demo" / "index.html"
    page = ["--index", str(index), "--titles", *reports]
    session.run("python", "-m", "common.reporting", *reports.values(), *page, env=QUIET)
    session.log(f"open {index}")


Command = Callable[..., None]
Demo = Callable[[Command, Path], Path]


def _in_turn(session: nox.Session, names: Sequence[str]) -> dict[str, Path]:
    """Demonstrate applications one after the other on one core; return what goes into the index, by name."""
    return {name: DEMOS[name](partial(_spoken, session, name), ROOT / "demo" / name) for name in names}


def _spoken(session: nox.Session, name: str, *command: str) -> None:
    """Run a command with the application's name before each line it prints."""
    program = shutil.which(command[0], path=session.bin)
    assert program is not None, command[0]
    environment = {**os.environ, **ONE_THREAD, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [program, *command[1:]], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(f"{name:<16} {line}")
    if code := process.wait():
        session.error(f"{' '.join(command)} ended with {code}")


def _demo_landing(run: Command, home: Path) -> Path:
    """Learn 12 generated aerial photos, then map one of them; return the report."""
    scenes, runs = home / "scenes", home / "runs"
    data = ["--dataset-path", str(scenes), "--dataset-format", "synthetic"]
    run("uav-landing", "analyze", *data, "--output-dir", str(home / "analysis"))
    short = (
        "--input-size 256 256 --crops-per-image 8 --accumulation-steps 1 --epochs 8 --eval-every 2".split()
    )
    rate = "--learning-rate 2e-3 --scheduler cosine --warmup-epochs 1 --tile-overlap 0.25".split()
    run("uav-landing", "train", *data, *short, *rate, "--output-dir", str(runs))
    latest = runs / (runs / "latest").read_text().strip()
    photo = scenes / "original_images" / "000.jpg"
    out = ["--input", str(photo), "--output", str(home / "predictions")]
    run("uav-landing", "predict", "--checkpoint", str(latest), *out)
    return latest / "report.html"


def _demo_rodent(run: Command, home: Path) -> Path:
    """Learn the behaviour in generated videos of a mouse; return the report."""
    shutil.rmtree(home, ignore_errors=True)
    run("rodent-behavior", "demo", "--epochs", "16", "--out", str(home))
    return home / "runs" / "demo" / "report.html"


def _demo_gaze(run: Command, home: Path) -> Path:
    """Compare six losses on simulated gaze; return the report."""
    shutil.rmtree(home, ignore_errors=True)
    run("eye-fixation", "compare", "--demo", "--losses", "documented", "softmax_ce", "--out", str(home))
    return home / "report.html"


def _demo_fouls(run: Command, home: Path) -> Path:
    """Learn fouls in generated clips and show some beside the answers; return the report."""
    shutil.rmtree(home, ignore_errors=True)
    generated = "--contents motion --actions 80 --size 112 64".split()
    run("mvfouls", "prepare", "--synthetic", str(home), *generated)
    network = "--backbone_name small3d --frames_per_clip 8 --img_height 64 --img_width 112 --lr 1e-3".split()
    plan = "--epochs 6 --freezing_strategy none --augmentation_strength none --num_workers 0".split()
    folder = ["--dataset_root", str(home)]
    run("mvfouls", "train", *folder, *network, *plan, "--save_dir", str(home / "run"))
    shown = ["--split", "valid", "--page_actions", "8", "--num_workers", "0"]
    out = ["--out", str(home / "predictions.json")]
    run("mvfouls", "predict", "--checkpoint", str(home / "run"), *folder, *shown, *out)
    return home / "run" / "report.html"


DEMOS: dict[str, Demo] = {
    "uav_landing": _demo_landing,
    "rodent_behavior": _demo_rodent,
    "eye_fixation": _demo_gaze,
    "mvfouls": _demo_fouls,
}


@nox.session
def docs_commands(session: nox.Session) -> None:
    """Run every command shown in a README, and the documented ones, as written."""
    _install(session, *TESTING)
    session.run("pytest", "tests/documented", *session.posargs, env=QUIET)


@nox.session
def bench(session: nox.Session) -> None:
    """Time the library against its peers in one process; prints a table and writes JSON."""
    _install(session, *TESTING, *ORACLES)
    env = {**QUIET, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    session.run("python", "benchmarks/run.py", *session.posargs, env=env)
