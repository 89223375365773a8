"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of optional test data: skipped where unset, a failure where set but wrong."""
    folder = os.environ.get("VGG_JAX_SHARED_DATA")
    if not folder:
        pytest.skip("needs VGG_JAX_SHARED_DATA")
    path = Path(folder).resolve()
    assert (path / "photos.csv").is_file(), f"VGG_JAX_SHARED_DATA={folder} has no photos.csv"
    return path
