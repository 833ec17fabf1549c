"""`qoetwin.toml`: what is fetched, from where, when, and what graph is kept up with it.

    [graph]                            all of it may be left out
    window = "3h"                      length of a window
    prefixes = "prefixes.csv"          who announces what, as for `graph build --prefixes`
    keep = "90d"                       retention, as for `graph build --keep`

    [atlas]                            all of it may be left out
    server = "atlas.ripe.net"
    certificate = "authority.pem"      authorities to trust instead of the system's
    key_file = "atlas-key"             a file that holds the API key; or
    key_variable = "QOETWIN_ATLAS_KEY" the environment variable that does

    [[source]]                         any number of them
    name = "roots"
    kind = "atlas"                     results of measurements, through the Atlas API
    measurements = [1001, 2001]        their ids; and, or instead,
    filter = { type = "ping", af = 4, tags = "anchoring" }   the API's own filters of measurements
    probes = [6217]                    only these probes
    every = "15m"                      or cron = "*/15 * * * *" (UTC)
    look_back = "2h"                   asked for again each time, as results arrive late
    start = "2026-01-01"               where the first run begins; without it, look_back before now

    [[source]]
    name = "archive"
    kind = "files"                     files of results
    path = "incoming"                  a file, or a folder that is looked through each time
    every = "1h"

    [[source]]
    name = "who-is-where"
    kind = "probes"                    what Atlas says of probes and anchors
    every = "1d"

Paths are relative to the file that they stand in. The API key itself never stands here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from app.options import MOST_ID
from domain.credentials import ATLAS_KEY_VARIABLE
from domain.errors import InputError, NotFoundError, UnknownNameError
from domain.window import parse_duration, parse_length, parse_time

_RESERVED = frozenset(
    [
        "key",
        "page",
        "page_size",
        "after",
        "format",
        "sort",
        "fields",
        "optional_fields",
        "ids",
        "server",
        "verify",
        "user_agent",
        "return_objects",
    ]
)
"""What a filter may not be: how is asked, and how answers look, is our affair, and a key in an address would be in logs."""


def _read_by(parse: Callable[[str], Any]) -> BeforeValidator:
    """A value that a function of the domain reads from text; what is wrong with it is said in its words."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("a text in quotes")  # pydantic turns it into its own error
        try:
            return parse(value)
        except InputError as error:
            raise ValueError(error.expected or error.what) from error

    return BeforeValidator(read)


def _moment(value: object) -> object:
    """A time as TOML has it, or as text in ISO 8601."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    try:
        return parse_time(value if isinstance(value, str) else "")
    except InputError as error:
        raise ValueError(error.expected) from error


def _filter(value: object) -> object:
    if not isinstance(value, dict):
        return value  # pydantic says what is wrong with it
    chosen: dict[str, str | int] = {}
    for name, one in value.items():
        if name in _RESERVED or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(
                "filters of Atlas's measurements, such as type, af, tags, target, status, description__startswith"
            )
        several = one if isinstance(one, list) else [one]
        if not several or not all(isinstance(part, str | int) for part in several):
            raise ValueError("texts, whole numbers, true or false, or lists of them")
        words = [str(part).lower() if isinstance(part, bool) else str(part) for part in several]
        chosen[name] = one if isinstance(one, int) and not isinstance(one, bool) else ",".join(words)
    if not chosen:
        raise ValueError("at least one filter: there are a hundred million measurements")
    return chosen


def _cron(value: str) -> str:
    trigger_of(value)
    return value


def _server(value: str) -> str:
    from ingest.atlas import check_server  # cousteau is only for those who name a server

    try:
        check_server(value)
    except InputError as error:
        raise ValueError(error.expected) from error
    return value


def _path(value: str) -> str:
    try:
        Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError("a path; there is no user of that name") from error
    if "\0" in value:
        raise ValueError("a path")
    return value


Length = Annotated[timedelta, _read_by(parse_length)]
Duration = Annotated[timedelta, _read_by(parse_duration)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Cron = Annotated[str, AfterValidator(_cron)]
Id = Annotated[int, Field(ge=1, le=MOST_ID)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[Text, AfterValidator(_path)]


class _Table(BaseModel):
    # Strict: "5" is no number. Nothing of the file is in pydantic's own messages: it might be a key.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class GraphTable(_Table):
    """The graph that is kept up with the lake."""

    window: Length = timedelta(hours=3)
    prefixes: PathText | None = None
    keep: Duration | None = None


class AtlasTable(_Table):
    """Who speaks the Atlas API, and where the key is."""

    server: Annotated[str, AfterValidator(_server)] = "atlas.ripe.net"
    certificate: PathText | None = None
    key_file: PathText | None = None
    key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = ATLAS_KEY_VARIABLE

    @model_validator(mode="after")
    def _one_key(self) -> AtlasTable:
        if self.key_file is not None and "key_variable" in self.model_fields_set:
            raise ValueError("key_file or key_variable, not both")
        return self


class _SourceTable(_Table):
    name: Name
    every: Duration | None = None
    cron: Cron | None = None

    @model_validator(mode="after")
    def _one_rhythm(self) -> _SourceTable:
        if (self.every is None) == (self.cron is None):
            raise ValueError("either every or cron")
        return self


class AtlasResultsTable(_SourceTable):
    """Results of measurements, through the Atlas API."""

    kind: Literal["atlas"]
    measurements: tuple[Id, ...] = Field(default=(), strict=False)
    filter: Annotated[Mapping[str, str | int] | None, BeforeValidator(_filter)] = None
    probes: tuple[Id, ...] = Field(default=(), strict=False)
    look_back: Duration = timedelta(hours=2)
    start: Moment | None = None

    @model_validator(mode="after")
    def _something(self) -> AtlasResultsTable:
        if not self.measurements and self.filter is None:
            raise ValueError("measurements or filter")
        return self


class FilesTable(_SourceTable):
    """Files of results, in a folder that is looked through."""

    kind: Literal["files"]
    path: PathText


class ProbesTable(_SourceTable):
    """What the Atlas API says of probes and anchors."""

    kind: Literal["probes"]


SourceTable: TypeAlias = AtlasResultsTable | FilesTable | ProbesTable
_KINDS: dict[str, type[_SourceTable]] = {
    get_args(table.model_fields["kind"].annotation)[0]: table
    for table in (AtlasResultsTable, FilesTable, ProbesTable)
}


class _File(_Table):
    graph: GraphTable = GraphTable()
    atlas: AtlasTable = AtlasTable()
    source: tuple[Annotated[SourceTable, Field(discriminator="kind")], ...] = Field(
        min_length=1, strict=False
    )


class Config(_File):
    """What `qoetwin.toml` says; `folder` is where it lies."""

    folder: Path

    def path(self, text: str) -> Path:
        """A path of the file."""
        return self.folder / Path(text).expanduser()

    def source_named(self, name: str) -> SourceTable:
        """The source of that name.

        Raises:
            UnknownNameError: when there is none.
        """
        for table in self.source:
            if table.name == name:
                return table
        names = [table.name for table in self.source]
        raise UnknownNameError(
            "no such source", found=repr(name), expected=" or ".join(_nearest(name, names) or names)
        )


_ZERO, _SUNDAY = 0, 7
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


def trigger_of(cron: str) -> BaseTrigger:
    """When a cron line of five fields is due, in UTC, as crontab(5) has it.

    APScheduler 3 counts weekdays from Monday, and wants a day that is right by both its day of the month and its weekday, where
    cron takes either if both are given.

    Raises:
        ValueError: when it is none, or is never due.
    """
    expected = "five fields, minute hour day month weekday, such as */15 * * * *"
    fields = cron.lower().split()
    if len(fields) != 5:
        raise ValueError(expected)
    minute, hour, day, month, weekday = fields
    try:
        days = _weekdays(weekday)
        either = [(day, days)] if day[0] == "*" or weekday[0] == "*" else [(day, "*"), ("*", days)]
        triggers = [
            CronTrigger(minute=minute, hour=hour, day=one, month=month, day_of_week=other, timezone=UTC)
            for one, other in either
        ]
    except ValueError as error:
        raise ValueError(f"{expected}; {error}") from error
    whole: BaseTrigger = triggers[0] if len(triggers) == 1 else OrTrigger(triggers)
    if whole.get_next_fire_time(None, datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise ValueError("a time that comes")
    return whole


def _weekdays(field: str) -> str:
    """The weekdays of a cron field as names, which mean the same to everybody."""
    if field == "*":
        return field
    chosen: set[str] = set()
    for part in field.split(","):
        match = re.fullmatch(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/([1-9]\d?))?", part)
        if match is None:
            raise ValueError(f"{part!r} is no weekday")
        every, first, last, step = match.groups()
        begin = _ZERO if every else _weekday(first)
        end = _SUNDAY - 1 if every else _weekday(last) if last else _SUNDAY - 1 if step else begin
        if last is not None and end == _ZERO:
            end = _SUNDAY
        if begin > end:
            raise ValueError(f"{part!r} ends before it begins")
        chosen.update(_DAYS[number] for number in range(begin, end + 1, int(step or 1)))
    return ",".join(sorted(chosen))


def _weekday(word: str) -> int:
    if word in _DAYS:
        return _DAYS.index(word)
    if not (word.isdecimal() and int(word) <= _SUNDAY):
        raise ValueError(f"{word!r} is no weekday")
    return int(word)


def read_config(path: Path) -> Config:
    """Read `qoetwin.toml`.

    Raises:
        NotFoundError: when it is not there.
        InputError: when it is not what it should be; says in which table, at which key and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except FileNotFoundError as error:
        raise NotFoundError(
            "no such file",
            where=str(path),
            expected="a list of sources (qoetwin.toml)",
            next_step="write one as README shows it, or name one with --config",
        ) from error
    except OSError as error:
        raise InputError("a file that cannot be read", where=str(path), found=error.strerror) from error
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        raise InputError(
            "not a text file",
            where=f"{path}, line {line}",
            found=f"byte {error.object[error.start]:#04x}",
            expected="TOML in UTF-8",
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise _no_toml(path, text, str(error)) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets thousands deep
        found = (
            "a value nested too deep" if isinstance(error, RecursionError) else "a number of too many digits"
        )
        raise InputError("TOML that cannot be read", where=str(path), found=found) from error
    if "folder" in content:  # which is ours to say
        raise _wrong(path, text, content, {"type": "extra_forbidden", "loc": ("folder",), "msg": ""})
    try:
        config = Config.model_validate(content | {"folder": path.absolute().parent})
    except ValidationError as error:
        # A key that is misspelt is also one that is missing: the first says more.
        wrong = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
        raise _wrong(path, text, content, wrong[0]) from error
    names = [table.name for table in config.source]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(
                "two sources of one name",
                where=_place(path, text, ("source", number, "name"), content),
                found=repr(name),
            )
    return config


def read_key(config: Config) -> str | None:
    """The API key, from where the configuration says that it is; None where there is none.

    Raises:
        InputError: when a place is named and there is no key.
    """
    table = config.atlas
    if table.key_file is not None:
        # Somebody may have put the key itself there: what stands there is not repeated.
        try:
            key = config.path(table.key_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            found = error.strerror if isinstance(error, OSError) else "no text"
            raise InputError(
                "the file of the API key cannot be read", where="[atlas] key_file", found=found
            ) from None
        if not key:
            raise InputError("the file of the API key is empty", where="[atlas] key_file")
        return key
    key = os.environ.get(table.key_variable, "")
    if not key and "key_variable" in table.model_fields_set:
        raise InputError(
            "no API key", where="the environment variable that [atlas] key_variable names", found="nothing"
        )
    return key or None


def _no_toml(path: Path, text: str, said: str) -> InputError:
    """The error for what tomllib said, which is where in words at its end: of Python 3.11, and only if that is not the file's end."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", said, re.DOTALL)
    if found is None:
        return InputError("not TOML", where=str(path), found=said)
    lines = text.rstrip().split("\n")
    line, column = (int(found[2]), int(found[3])) if found[2] else (len(lines), len(lines[-1]) + 1)
    return InputError("not TOML", where=f"{path}, line {line}, column {column}", found=found[1])


_EXPECTED: dict[int | str | None, str] = {
    "name": "letters, digits, dots, dashes and underscores, at most 64",
    "measurements": "a list of ids",
    "probes": "a list of ids",
    "filter": 'filters in braces, such as { type = "ping", af = 4 }',
    "graph": "a table",
    "atlas": "a table",
    "source": "tables [[source]], at least one",
    "key_variable": "the name of an environment variable: letters, digits and underscores",
}
"""What pydantic would say in the words of Python."""

_SECRET = frozenset({"key_file", "key_variable", "server"})


def _wrong(
    path: Path, text: str, content: Mapping[str, Any], details: Mapping[str, Any] | ErrorDetails
) -> InputError:
    """The error for what pydantic found; of what stands in the file it repeats the value of a known key only."""
    loc = tuple(part for part in details["loc"] if not (part in _KINDS and len(details["loc"]) > 2))
    kind, where = details["type"], _place(path, text, loc, content)
    last = loc[-1] if loc else None
    if kind == "extra_forbidden":
        known = _known(loc, content)
        return UnknownNameError(
            "a key that is not known here",
            where=where,
            expected=" or ".join(_nearest(str(last), known) or known),
            next_step="an API key stands in key_file or key_variable, never here" if last == "key" else None,
        )
    if kind == "missing":
        return InputError("a key that is missing", where=where, expected=str(last))
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        found = _value(content, (*loc, "kind"))
        return InputError(
            "a source of no known kind",
            where=_place(path, text, (*loc, "kind"), content),
            found=None if found is None else _short(found),
            expected=" or ".join(_KINDS),
        )
    error = details.get("ctx", {}).get("error")
    expected = str(error) if error is not None else details["msg"].removeprefix("Input should be ")
    expected = _EXPECTED.get(last, expected) if error is None else expected
    found = _value(content, loc)
    shown = None if found is None or isinstance(found, dict) or last in _SECRET else _short(found)
    return InputError("not what is expected there", where=where, found=shown, expected=expected)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _known(loc: Sequence[int | str], content: Mapping[str, Any]) -> list[str]:
    """The keys that the table has in which an unknown one was found."""
    if loc[0] == "source" and len(loc) > 1:
        return list(_KINDS[_value(content, (*loc[:2], "kind"))].model_fields)
    tables: dict[int | str, type[_Table]] = {"graph": GraphTable, "atlas": AtlasTable}
    return list((_File if len(loc) == 1 else tables[loc[0]]).model_fields)


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    return get_close_matches(name, known, n=1)


def _value(content: Any, loc: Sequence[int | str]) -> Any:
    """What stands in the file at a place; None where there is nothing."""
    for part in loc:
        if isinstance(content, dict):
            content = content.get(part)
        elif isinstance(content, list) and isinstance(part, int):
            content = content[part]
        else:
            return None
    return content


def _place(path: Path, text: str, loc: Sequence[int | str], content: Mapping[str, Any]) -> str:
    """File, line, table and key, as far as they can be said."""
    table, words = loc[:2] if loc[:1] == ("source",) else loc[:1], []
    if table:
        name = _value(content, (*table, "name"))
        words = [f"[[source]] {_short(name)}" if isinstance(name, str) else f"[{table[0]}]"]
    if len(loc) > len(table):
        words.append(".".join(str(part) for part in loc[len(table) :]))
    line = _line(text, table, loc[len(table)] if len(loc) > len(table) else None)
    return " ".join([f"{path}, line {line}:" if line is not None else f"{path}:", *words])


def _line(text: str, table: Sequence[int | str], key: int | str | None) -> int | None:
    """The line of a key of a table, else of the table's head, else None. tomllib does not tell it."""
    if not table:
        return None
    ordinal = table[1] if len(table) > 1 else 0
    seen, inside, head = -1, False, None
    for number, line in enumerate(text.splitlines(), 1):
        opened = re.match(r"\s*\[\[?\s*([\w-]+)\s*\]", line)
        if opened is not None:
            seen += opened[1] == table[0]
            inside = opened[1] == table[0] and seen == ordinal
            head = number if inside else head
            continue
        wanted = key if inside else table[0] if head is None and key is None else None
        if wanted is not None and re.match(rf"\s*\"?{re.escape(str(wanted))}\"?\s*[=.]", line):
            return number
    return head
