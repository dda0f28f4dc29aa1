"""Command lines run as a user types them."""

import os
import subprocess
import sys
from pathlib import Path


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run command lines in a folder, with this Python first; the first that fails ends them."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=folder, env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=280,
    )  # fmt: skip
