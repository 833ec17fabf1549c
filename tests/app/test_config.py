"""qoetwin.toml: what it says, and what it is told when it says it wrongly."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config import AtlasResultsTable, FilesTable, ProbesTable, read_config, read_key, trigger_of
from domain.credentials import ATLAS_KEY_VARIABLE
from domain.errors import InputError, NotFoundError, UnknownNameError
from ingest.atlas import AtlasSource
from ingest.stream import StreamSettings

ROOT = Path(__file__).parents[2]
KEY = "6f1d3a52-0000-4000-8000-secretsecret"
SOURCE = """[[source]]
name = "roots"
kind = "atlas"
measurements = [1001, 2001]
every = "15m"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "qoetwin.toml"
    path.write_text(text)
    return path


def test_everything_that_the_head_of_the_module_shows_is_read(tmp_path: Path) -> None:
    import app.config

    assert app.config.__doc__ is not None
    shown = [line.removeprefix("    ") for line in app.config.__doc__.splitlines() if line.startswith("    ")]
    # One place of the key at a time; and what stands to the right is for people.
    lines = [line.split("   ")[0] for line in shown if not line.startswith("key_variable")]
    config = read_config(written(tmp_path, "\n".join(lines)))
    assert (config.graph.window, config.graph.keep) == (timedelta(hours=3), timedelta(days=90))
    results, files, probes = config.source
    assert isinstance(results, AtlasResultsTable)
    assert isinstance(files, FilesTable)
    assert isinstance(probes, ProbesTable)
    assert (results.measurements, results.probes) == ((1001, 2001), (6217,))
    assert results.filter == {"type": "ping", "af": 4, "tags": "anchoring"}
    assert (results.every, results.look_back) == (timedelta(minutes=15), timedelta(hours=2))
    assert results.start == datetime(2026, 1, 1, tzinfo=UTC)
    assert config.path(files.path) == tmp_path / "incoming", "paths are relative to the file"


@pytest.mark.parametrize("document", ["README.md", "docs/schedule.md"])
def test_what_the_documents_show_is_read(tmp_path: Path, document: str) -> None:
    shown = re.findall(r"```toml\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert shown
    for text in shown:
        assert read_config(written(tmp_path, text)).source


def test_a_filter_is_written_as_the_api_takes_it(tmp_path: Path) -> None:
    text = (
        SOURCE + 'filter = { tags = ["anchoring", "mesh"], status__in = [1, 2], is_public = true, af = 6 }\n'
    )
    (source,) = read_config(written(tmp_path, text)).source
    assert isinstance(source, AtlasResultsTable)
    assert source.filter == {"tags": "anchoring,mesh", "status__in": "1,2", "is_public": "true", "af": 6}


@pytest.mark.parametrize(
    "start", ["2026-01-05", '"2026-01-05"', "2026-01-05T03:00:00+03:00", '"2026-01-05T00:00Z"']
)
def test_a_time_may_be_toml_s_or_text(tmp_path: Path, start: str) -> None:
    (source,) = read_config(written(tmp_path, f"{SOURCE}start = {start}\n")).source
    assert isinstance(source, AtlasResultsTable)
    assert source.start == datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("", "source"),
        ("[[source]\n", r"not TOML: .*qoetwin.toml, line 1, column 9; found Expected '\]\]'"),
        (SOURCE + "start = \n\n", "not TOML: .*, line 6, column 9; found Invalid value"),
        (SOURCE + 'name = "b"\n', r"not TOML: .*, line 6, column 11; found Cannot overwrite a value"),
        (SOURCE + 'start = "soon', "not TOML: .*, line 6, column 14; found Unterminated string"),
        (SOURCE + 'evry = "1h"\n', "line 6.*roots.*evry.*expected every"),
        (SOURCE.replace('"15m"', '"15"'), "line 5.*roots.*every.*found '15'.*such as 3h"),
        (SOURCE.replace('"15m"', "15"), "line 5.*every.*found 15.*text in quotes"),
        (SOURCE + 'cron = "* * * * *"\n', "roots.*either every or cron"),
        (SOURCE.replace('every = "15m"\n', ""), "line 1.*roots.*either every or cron"),
        (SOURCE.replace('"atlas"', '"atlsa"'), "line 3.*roots.*kind.*'atlsa'.*atlas or files or probes"),
        (SOURCE.replace('kind = "atlas"\n', ""), "line 1.*roots.*kind.*atlas or files or probes"),
        (SOURCE.replace("1001", '"1001"'), "line 4.*measurements.0.*'1001'.*integer"),
        (SOURCE.replace("1001", "0"), "line 4.*measurements.0.*found 0"),
        (SOURCE.replace("[1001, 2001]", "1001"), "line 4.*measurements.*found 1001.*list of ids"),
        (SOURCE.replace("measurements = [1001, 2001]\n", ""), "roots.*measurements or filter"),
        (SOURCE.replace('name = "roots"\n', ""), "line 1.*missing|missing.*line 1"),
        (SOURCE.replace('"roots"', '"../roots"'), "line 2.*name.*letters, digits"),
        (SOURCE.replace('"roots"', '""'), "line 2.*name.*letters, digits"),
        (SOURCE + SOURCE, "two sources of one name.*line 7.*'roots'"),
        (SOURCE + "filter = {}\n", "line 6.*filter.*at least one"),
        (SOURCE + "filter = { page = 3 }\n", "line 6.*filter.*type, af, tags"),
        (SOURCE + "filter = { ids = [3] }\n", "line 6.*filter"),
        (SOURCE + "filter = { start_time = 2026-01-01 }\n", "line 6.*filter.*texts, whole numbers"),
        (SOURCE + 'start = "soon"\n', "line 6.*start.*'soon'.*ISO 8601"),
        (SOURCE + 'look_back = "-2h"\n', "line 6.*look_back.*'-2h'"),
        (SOURCE + "[graph]\nwindow = 3\n", r"line 7: \[graph\] window.*found 3"),
        (SOURCE + '[graph]\nwindow = "800d"\n', r"line 7: \[graph\] window.*at most"),
        (SOURCE + "[grpah]\n", "grpah.*expected graph"),
        ('folder = "/"\n' + SOURCE, "line 1.*folder"),
        ("graph = 5\n" + SOURCE, "line 1.*graph.*found 5.*a table"),
        ("source = 5\n", "line 1.*source.*tables"),
        (SOURCE.replace('every = "15m"', 'cron = "61 * * * *"'), "line 5.*cron.*'61"),
        (SOURCE.replace('every = "15m"', 'cron = "0 0 30 2 *"'), "line 5.*cron.*a time that comes"),
        (SOURCE.replace('every = "15m"', 'cron = "hourly"'), "line 5.*cron.*five fields"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, wrong: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        read_config(written(tmp_path, wrong))
    assert str(tmp_path / "qoetwin.toml") in told.value.line()


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--config"):
        read_config(tmp_path / "qoetwin.toml")
    (tmp_path / "qoetwin.toml").write_bytes(b"\n\xff\xfe\x00")
    with pytest.raises(InputError, match="line 2; found byte 0xff; expected TOML in UTF-8"):
        read_config(tmp_path / "qoetwin.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        f'key = "{KEY}"',
        f'api_key = "{KEY}"',
        f'key_variable = "{KEY}"',
        f'key_file = "{KEY}"',
        f'key_file = "{KEY}"\nkey_variable = "{KEY}"',
        f'key_file = ["{KEY}"]',
    ],
)
def test_a_key_that_stands_where_it_should_not_is_not_repeated(tmp_path: Path, table: str) -> None:
    with pytest.raises(InputError) as told:
        read_key(read_config(written(tmp_path, f"{SOURCE}[atlas]\n{table}\n")))
    assert KEY not in str(told.value)
    assert KEY not in repr(told.value.__cause__)
    if table.startswith("key ="):
        assert "key_file or key_variable" in told.value.line()


def test_a_key_in_a_filter_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="filter") as told:
        read_config(written(tmp_path, f'{SOURCE}filter = {{ key = "{KEY}" }}\n'))
    assert KEY not in str(told.value)


def test_the_key_comes_from_the_environment_or_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (ATLAS_KEY_VARIABLE, "OTHER"):
        monkeypatch.delenv(name, raising=False)
    plain = read_config(written(tmp_path, SOURCE))
    assert read_key(plain) is None
    named = read_config(written(tmp_path, f'{SOURCE}[atlas]\nkey_variable = "OTHER"\n'))
    with pytest.raises(InputError, match="no API key"):
        read_key(named)
    monkeypatch.setitem(os.environ, ATLAS_KEY_VARIABLE, "one")
    monkeypatch.setitem(os.environ, "OTHER", "two")
    assert (read_key(plain), read_key(named)) == ("one", "two")
    (tmp_path / "key").write_text("three\n")
    filed = read_config(written(tmp_path, f'{SOURCE}[atlas]\nkey_file = "key"\n'))
    assert read_key(filed) == "three"
    (tmp_path / "key").write_text(" \n")
    with pytest.raises(InputError, match="is empty"):
        read_key(filed)
    assert "three" not in repr(filed)


def test_an_unknown_source_is_told_the_nearest(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, SOURCE))
    assert config.source_named("roots").name == "roots"
    with pytest.raises(UnknownNameError, match=r"'rotos'.*expected roots"):
        config.source_named("rotos")


# Cron: held against a count over minutes by what crontab(5) says.


def cron_says(field: str, value: int, lowest: int, highest: int) -> bool:
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        low = lowest if first == "*" else int(first)
        high = highest if first == "*" or (step and not last) else int(last or first)
        if low <= value <= high and (value - low) % int(step or 1) == 0:
            return True
    return False


def day_is_due(cron: str, moment: datetime) -> bool:
    _, _, day, month, weekday = cron.split()
    of_month = cron_says(day, moment.day, 1, 31)
    of_week = any(cron_says(weekday, one, 0, 7) for one in {moment.isoweekday() % 7, moment.isoweekday()})
    either = day[0] != "*" and weekday[0] != "*"
    of_day = of_month or of_week if either else of_month and of_week
    return of_day and cron_says(month, moment.month, 1, 12)


def is_due(cron: str, moment: datetime) -> bool:
    minute, hour, *_ = cron.split()
    of_time = cron_says(minute, moment.minute, 0, 59) and cron_says(hour, moment.hour, 0, 23)
    return of_time and day_is_due(cron, moment)


@settings(max_examples=60)
@given(
    minute=st.sampled_from(["*", "0", "*/7", "3,40-50/5"]),
    hour=st.sampled_from(["*", "3", "*/6", "22-23"]),
    day=st.sampled_from(["*", "13", "1-10", "*/9"]),
    weekday=st.sampled_from(["*", "0", "7", "1-5", "5-7", "*/2", "2/3", "0,6"]),
    began=st.datetimes(datetime(2026, 1, 1), datetime(2026, 3, 1)),  # noqa: DTZ001
)
def test_a_cron_line_is_due_when_crontab_says(
    minute: str, hour: str, day: str, weekday: str, began: datetime
) -> None:
    cron = f"{minute} {hour} {day} * {weekday}"
    start = began.replace(tzinfo=UTC)
    found = trigger_of(cron).get_next_fire_time(None, start)
    at = start.replace(second=0, microsecond=0)
    at += timedelta(minutes=int(at < start))
    while not is_due(cron, at):
        tomorrow = (at + timedelta(days=1)).replace(hour=0, minute=0)
        at = at + timedelta(minutes=1) if day_is_due(cron, at) else tomorrow
    assert found == at


def test_weekdays_may_be_names_and_sunday_is_both_ends_of_the_week() -> None:
    sunday, monday = datetime(2026, 1, 4, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC)
    for cron in ("0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * SUN", "0 0 * * sat-sun"):
        assert trigger_of(cron).get_next_fire_time(None, sunday) == sunday
    for cron in ("0 0 * * 1", "0 0 * * mon-fri", "0 0 * * 1-5"):
        assert trigger_of(cron).get_next_fire_time(None, sunday) == monday
    for wrong in ("0 0 * * 8", "0 0 * * fri-mon", "0 0 * * moon", "0 0 * * 1-", "0 0 * *"):
        with pytest.raises(ValueError, match="five fields"):
            trigger_of(wrong)


FILES = '[[source]]\nname = "in"\nkind = "files"\nevery = "1h"\npath = "in"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a=" + "[" * 100_000, "TOML that cannot be read.*nested too deep"),
        ("a=" + "9" * 5000, "TOML that cannot be read.*too many digits"),
        (FILES + '[atlas]\nkey_file = "a\\u0000b"\n', r"line 7: \[atlas\] key_file; expected a path"),
        (FILES + '[atlas]\ncertificate = "a\\u0000b"\n', r"line 7: \[atlas\] certificate; .*expected a path"),
        (
            FILES.replace('"in"\n', '"~nosuchuser/x"\n').replace('name = "~nosuchuser/x"', 'name = "in"'),
            "line 5: .*path; found '~nosuchuser/x'; expected a path; there is no user",
        ),
        *(
            (
                FILES + f'[atlas]\nserver = "{server}"\n',
                r"line 7: \[atlas\] server; expected HOST or HOST:PORT",
            )
            for server in (
                "user:secret@127.0.0.1:1",
                "127.0.0.1:1/../../?key=secret",
                "https://secret",
                "secret:0",
                "secret:99999",
                "",
            )
        ),
    ],
)
def test_what_cannot_even_be_read_is_one_short_line_without_a_secret(
    tmp_path: Path, text: str, told: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=told) as error:
        read_config(path)
    line = error.value.line()
    assert str(path) in line
    assert "secret" not in line
    assert len(line) < 300 + len(str(path))


@pytest.mark.parametrize(
    "server", ["atlas.ripe.net", "localhost:8443", "192.0.2.1", "[2001:db8::1]:443", "[::1]"]
)
def test_a_server_is_a_host_perhaps_with_a_port(tmp_path: Path, server: str) -> None:
    assert read_config(written(tmp_path, FILES + f'[atlas]\nserver = "{server}"\n')).atlas.server == server


@pytest.mark.parametrize("of", [AtlasSource, StreamSettings])
def test_whoever_names_a_server_is_told_without_what_they_said(
    of: type[AtlasSource] | type[StreamSettings],
) -> None:
    for server in ("user:secret@127.0.0.1:1", "127.0.0.1:1/../../?key=secret", "127.0.0.1:1\n"):
        with pytest.raises(InputError, match="HOST or HOST:PORT") as error:
            of(server=server)
        assert "secret" not in error.value.line()
