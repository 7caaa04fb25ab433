"""Shared fixtures: where real CTs lie."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CTs, or a skip where there is none."""
    folder = os.environ.get("FASTCT_REAL_DATA")
    if not folder:
        pytest.skip("FASTCT_REAL_DATA names no folder of real CTs")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"FASTCT_REAL_DATA={folder} is not a folder")
    return path.resolve()
