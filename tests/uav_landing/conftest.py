"""Where the tests find real photos, when there are any."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the shared photos: $UAV_LANDING_REAL_DATA, else beside the repository; skips when absent."""
    named = os.environ.get("UAV_LANDING_REAL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "uav_landing"
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}")
    return folder
