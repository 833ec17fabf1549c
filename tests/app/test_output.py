"""Tables: as wide as a terminal is, and elsewhere as they need to be; what is for machines knows of no terminal."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from unicodedata import east_asian_width

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.output import Format, as_text, object_as_text

_cells = (
    st.none()
    | st.booleans()
    | st.text("ab-. 中😀\u1100\x1b", max_size=60)
    | st.just(datetime(2026, 1, 5, tzinfo=UTC))
)
_rows = st.lists(
    st.fixed_dictionaries({"name": st.text("abc", min_size=1, max_size=30), "why": _cells, "what else": _cells})
    .flatmap(lambda row: st.integers(0, 10**6).map(lambda number: {**row, "bytes_s": number})),
    min_size=1,
    max_size=5,
)  # fmt: skip


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    return monkeypatch


def width_of(line: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in line)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=_rows, width=st.sampled_from([60, 80, 120]))
def test_no_line_is_wider_than_the_terminal_and_no_number_is_lost(
    terminal: pytest.MonkeyPatch,
    rows: list[dict[str, str | bool | int | datetime | None]],
    width: int,
) -> None:
    terminal.setenv("COLUMNS", str(width))
    table = as_text(rows, Format.TABLE)
    assert all(width_of(line) <= width for line in table.splitlines())
    assert "\x1b" not in table
    assert all(str(row["bytes_s"]) in table.replace("\n", " ") for row in rows)


REASON = "loss unknown: the probe could not send, or packets are not counted (71 of 4595 windows)"


def test_what_is_too_long_to_stand_beside_the_rest_stands_below_its_row(
    terminal: pytest.MonkeyPatch,
) -> None:
    terminal.setenv("COLUMNS", "60")
    rows = [
        {"application": "web", "score": 72.86, "rtt_ms": 109.9, "paths": 958, "model": None, "reason": REASON},
        {"application": "file-transfer", "score": 7.0, "rtt_ms": 9.9, "paths": 1, "model": None, "reason": None},
    ]  # fmt: skip
    assert as_text(rows, Format.TABLE) == "\n".join(
        [
            "",
            " application    score  rtt ms  paths",
            " ───────────────────────────────────",
            " web            72.86  109.90    958",
            "    reason: loss unknown: the probe could not send, or",
            "    packets are not counted (71 of 4595 windows)",
            " file-transfer   7.00    9.90      1",
            "",
            "",
        ]
    )


def test_what_is_too_long_for_a_few_lines_ends_in_an_ellipsis_unless_it_is_the_only_row(
    terminal: pytest.MonkeyPatch,
) -> None:
    terminal.setenv("COLUMNS", "60")
    rows = [{"position": number, "beginning": "x" * 500} for number in range(2)]
    two, one = as_text(rows, Format.TABLE), as_text(rows[:1], Format.TABLE)
    assert two.count("…") == 2
    assert two.count("x") < 400
    assert (one.count("…"), one.count("x")) == (0, 500)
    whole = object_as_text({"home": "/a" * 200, "rows": 5}, Format.TABLE)
    assert "".join(whole.split()).count("/a") == 200
    assert all(len(line) <= 60 for line in whole.splitlines())


@pytest.mark.parametrize("letter", ["中", "😀", "\u1100"])
def test_letters_of_two_cells_are_folded_by_cells_and_none_is_lost(
    terminal: pytest.MonkeyPatch, letter: str
) -> None:
    terminal.setenv("COLUMNS", "60")
    text = f"{letter * 100} a {letter * 3} {letter * 41}"
    rows = [{"position": number, "beginning": text} for number in range(2)]
    for table, wanted in (
        (as_text(rows[:1], Format.TABLE), 144),
        (object_as_text({"beginning": text, "rows": 5}, Format.TABLE), 144),
        (as_text(rows, Format.TABLE), None),
    ):
        assert max(map(width_of, table.splitlines())) in range(50, 61)
        assert wanted is None or table.count(letter) == wanted
    assert table.count("…") == 2


def test_a_pipe_and_a_machine_lose_nothing(terminal: pytest.MonkeyPatch) -> None:
    rows = [{"position": number, "beginning": "x" * 500, "landed_at": None} for number in range(2)]
    terminal.setenv("COLUMNS", "60")
    on_terminal = {form: as_text(rows, form) for form in Format}
    terminal.setattr(sys.stdout, "isatty", lambda: False)
    for form in (Format.JSON, Format.CSV, Format.NDJSON):
        assert on_terminal[form] == as_text(rows, form)
    piped = as_text(rows, Format.TABLE)
    assert piped.count("x" * 500) == 2
    assert "landed at" in piped
    assert "landed at" not in on_terminal[Format.TABLE]


def test_nothing_is_a_table_too(terminal: pytest.MonkeyPatch) -> None:
    assert as_text([], Format.TABLE).strip() == ""
    assert "a b" in as_text([], Format.TABLE, columns=["a b", "a_b"])


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl
    import struct
    import subprocess
    import termios
    from pathlib import Path

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    script = "from app.output import *; print(as_text([{'a': 1, 'b': 'word ' * 30}], Format.TABLE))"
    root = Path(__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    subprocess.run([sys.executable, "-c", script], stdout=theirs, cwd=root, env=environment, check=True)
    os.close(theirs)
    lines = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)
    assert 40 < max(map(len, lines)) <= 50
