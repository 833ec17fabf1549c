"""What all tests share: where the recorded measurements are, and what happens when they are not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes is no matter of right or wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

RECORDED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded measurements, which are not part of the project."""
    if not RECORDED.is_dir():
        message = (
            "the recorded measurements are not part of the project; everything else is tested without them"
        )
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    return RECORDED
