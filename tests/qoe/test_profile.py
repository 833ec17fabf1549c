"""Profiles are data, and bad data is refused by entry and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import InputError, NotFoundError
from qoe import profile as module
from qoe.profile import load_profile, read_profile

GOOD = (Path(module.__file__).parent / "profiles" / "table-i.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "entry", "reason"),
    [
        ("jitter = 0.5", "jitter = 0.6", "applications.voip", "sum to 1.1"),
        ("jitter = 0.5", "jitter = -0.5", "applications.voip.jitter", "from 0 to 1"),
        ("jitter = 0.5", "jitter = true", "applications.voip.jitter", "from 0 to 1"),
        ("jitter = 0.5", "bandwidth = 0.5", "applications.voip.bandwidth", "rtt, loss or jitter"),
        ("rtt_ms = 500.0", "rtt_s = 0.5", "anchors.rtt_ms", "above 0"),
        ("rtt_ms = 500.0", "rtt_ms = 0.0", "anchors.rtt_ms", "above 0"),
        ("rtt_ms = 500.0", "rtt_ms = nan", "anchors.rtt_ms", "above 0"),
        ("[applications.gaming]", "[applications.chess]", "gaming", "a table"),
        ("version = 1", 'version = "1"', "version", "a whole number"),
        ('name = "table-i"', 'name = ""', "name", "a text"),
        ("[anchors]", "[anchors", "profile.toml", "readable"),
    ],
)
def test_a_bad_profile_is_refused_by_entry_and_reason(
    tmp_path: Path, old: str, new: str, entry: str, reason: str
) -> None:
    assert old in GOOD
    path = tmp_path / "profile.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_profile(path)
    assert entry in caught.value.line()
    assert reason in caught.value.line()


def test_the_profile_that_comes_along_is_whole_and_names_its_sources() -> None:
    profile = load_profile()
    assert profile.label == "table-i v1"
    assert "Table I" in profile.source


def test_a_profile_nobody_wrote_is_named_with_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="table-i"):
        load_profile("../../etc/passwd")
