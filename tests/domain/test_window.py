"""Windows are half-open, and refuse what has no time zone."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InputError
from domain.window import Window, parse_duration, parse_length, parse_time, written_out

moments = st.integers(1_262_304_000, 4_102_444_800).map(lambda second: datetime.fromtimestamp(second, tz=UTC))
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001
lengths = st.integers(1, 100_000).map(lambda seconds: timedelta(seconds=seconds))


@given(moments, lengths)
def test_a_window_holds_its_start_and_not_its_end(moment: datetime, length: timedelta) -> None:
    window = Window(start=moment, end=moment + length)
    assert window.length == length
    assert window.start in window
    assert window.end not in window


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (NAIVE, NAIVE + timedelta(days=1)),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_naive_or_empty_window_is_refused(start: datetime, end: datetime) -> None:
    with pytest.raises(InputError):
        Window(start=start, end=end)


@given(st.integers(1, 366), st.sampled_from("smhd"))
def test_a_length_is_a_number_and_a_unit(number: int, unit: str) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert parse_length(f"{number}{unit}").total_seconds() == number * seconds


@given(st.text())
def test_other_texts_are_no_length_and_no_time_and_never_crash(text: str) -> None:
    for parse in (parse_length, parse_time):
        with contextlib.suppress(InputError):
            parse(text)


@pytest.mark.parametrize("text", ["9999-12-31T23:00-05:00", "0001-01-01T00:00+05:00"])
def test_a_time_that_utc_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a time"):
        parse_time(text)


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from(["minutes", "seconds", "microseconds"]))
def test_a_time_that_is_written_out_is_the_same_time(moment: datetime, to: str) -> None:
    text = moment.isoformat(timespec=to)
    assert parse_time(written_out(text)) == datetime.fromisoformat(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", written_out(text))


@pytest.mark.parametrize("text", ["tomorrow", "2019-13-45", "LB", "2019", "2019-05-12 or so", ""])
def test_what_is_no_time_stays_as_it_is(text: str) -> None:
    assert written_out(text) == text


def test_retention_may_be_of_many_years_and_not_of_more_than_a_century() -> None:
    assert parse_duration("3650d").days == 3650
    with pytest.raises(InputError, match="at most 36525d"):
        parse_duration("36526d")
    with pytest.raises(InputError, match="at most 36525d"):
        parse_duration("9999999999d")


def test_a_window_of_more_than_a_year_is_refused() -> None:
    with pytest.raises(InputError, match="at most 366d"):
        parse_length("999999999d")


def test_a_time_without_an_offset_is_utc_and_one_with_an_offset_is_converted() -> None:
    assert parse_time("2019-05-12T09:00") == datetime(2019, 5, 12, 9, tzinfo=UTC)
    assert parse_time("2019-05-12T11:00+02:00") == datetime(2019, 5, 12, 9, tzinfo=UTC)
    assert parse_time("2019-05-12T11:00+02:00").tzinfo is UTC
