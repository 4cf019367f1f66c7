"""What tests share: the folder with reference cases and real exposures."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared():
    """Folder with reference cases and real data, which the project does not contain."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail("../shared is missing, and in CI nothing is skipped")
        pytest.skip("the reference cases and real exposures (../shared) are not here")
    return SHARED
