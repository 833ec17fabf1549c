"""Windows: half-open spans of UTC time, and how people write lengths and times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from domain.errors import InputError

_CENTURY = timedelta(days=36525)

LONGEST_S = 366 * 86400

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Window:
    """The half-open span `[start, end)`, aware UTC.

    Raises:
        InputError: when a bound is naive or the span is empty.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise InputError(
                "a window without a time zone",
                found=f"[{self.start}, {self.end})",
                expected="aware UTC times",
            )
        if self.end <= self.start:
            raise InputError(
                "an empty window",
                found=f"[{self.start}, {self.end})",
                expected="an end after the start",
            )

    @property
    def length(self) -> timedelta:
        """How long the window lasts."""
        return self.end - self.start

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def parse_length(text: str) -> timedelta:
    """Read a window length such as `3h`, `30m`, `1d`.

    Raises:
        InputError: when it is not a whole positive number with a unit s, m, h or d, or is longer than a year.

    >>> parse_length("3h")
    datetime.timedelta(seconds=10800)
    """
    return parse_duration(text, longest=timedelta(seconds=LONGEST_S))


def parse_duration(text: str, *, longest: timedelta = _CENTURY) -> timedelta:
    """Read a length of time such as `90d`.

    Raises:
        InputError: when it is not a whole positive number with a unit s, m, h or d, or is longer.

    >>> parse_duration("730d").days
    730
    """
    match = re.fullmatch(r"([1-9][0-9]{0,9})([smhd])", text.strip())
    if match is None:
        raise InputError(
            "not a length of time",
            found=repr(text),
            expected="a whole number and a unit s, m, h or d, such as 3h",
        )
    seconds = int(match[1]) * _UNITS_S[match[2]]
    if seconds > longest.total_seconds():
        raise InputError("too long a time", found=repr(text), expected=f"at most {longest.days}d")
    return timedelta(seconds=seconds)


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time; one without an offset is UTC.

    Raises:
        InputError: when it is not a time.

    >>> parse_time("2019-05-12T09:28:14Z").isoformat()
    '2019-05-12T09:28:14+00:00'
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            "not a time", found=repr(text), expected="ISO 8601, such as 2019-05-12T09:00Z"
        ) from error


def written_out(text: str) -> str:
    """A time in ISO 8601, also a day, written out to the second in UTC, as XML Schema has it; any other text as it is.

    >>> written_out("2019-05-12T09:28Z"), written_out("2019-05-12"), written_out("20:00 on Sunday")
    ('2019-05-12T09:28:00Z', '2019-05-12T00:00:00Z', '20:00 on Sunday')
    """
    if not re.match(r"\d{4}-\d{2}-\d{2}", text):
        return text
    try:
        moment = parse_time(text)
    except InputError:
        return text
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
