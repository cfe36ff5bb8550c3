"""Real data for tests: found by CRNN_TEST_DATA, or the test is skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("CRNN_TEST_DATA", ROOT.parent / "shared" / "data"))


def data_file(*parts):
    """Return a file of the real data, or skip the test."""
    file = DATA.joinpath(*parts)
    if not file.exists():
        pytest.skip(f"real data not here: {file} (set CRNN_TEST_DATA)")
    return file
