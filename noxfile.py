"""The developer's loop: `nox -s demo` shows it work, `nox -s tests` proves it; `nox -l` lists the rest."""

from __future__ import annotations

import os
from pathlib import Path

import nox

ROOT = Path(__file__).parent
LIBRARY = "packages/common[report]"
APPLICATIONS = {"uav_landing": "apps/uav_landing"}
TESTING = ("pytest", "pytest-timeout", "pytest-socket", "hypothesis", "scikit-learn", "torchmetrics")
ORACLES = ("monai", "kornia", "segmentation-models-pytorch", "timm")

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True

QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}


def _install(session: nox.Session, *packages: str) -> None:
    editable = [part for path in (LIBRARY, *APPLICATIONS.values()) for part in ("-e", path)]
    session.install("-c", "constraints.txt", *editable, *packages)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test but the slow and the live ones."""
    _install(session, *TESTING)
    session.run("pytest", "-m", "not slow and not live", *session.posargs, env=QUIET)


@nox.session(name="isolated")
@nox.parametrize("package", ["common", *APPLICATIONS], ids=["common", *APPLICATIONS])
def isolated(session: nox.Session, package: str) -> None:
    """Run one package's tests with nothing installed but the package and what it declares."""
    library = ["-e", LIBRARY if package == "common" else "packages/common"]
    own = [] if package == "common" else ["-e", APPLICATIONS[package]]
    session.install("-c", "constraints.txt", *library, *own, *TESTING)
    session.run("pytest", "-m", "not slow and not live", f"tests/{package}", *session.posargs, env=QUIET)


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
    """Train every application on generated data and open the way to one HTML page."""
    _install(session)
    session.run("python", "-m", "demo", *session.posargs, env={**QUIET, "PYTHONPATH": "tools"})


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
