"""Rows as text: a table for people, json, csv and ndjson for machines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

Cell: TypeAlias = str | int | float | bool | datetime | None
Row: TypeAlias = Mapping[str, Cell]


class Format(StrEnum):
    """How data is written to stdout."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"


def as_text(
    rows: Sequence[Row], form: Format, *, columns: Sequence[str] | None = None, title: str = ""
) -> str:
    """Rows in one of the formats; those for machines carry every key, whatever a table shows.

    Args:
        rows: all with the same keys.
        form: the format.
        columns: what a table shows; None is everything.
        title: what stands above a table.
    """
    match form:
        case Format.JSON:
            return json.dumps([_plain(row) for row in rows], indent=2, allow_nan=False) + "\n"
        case Format.NDJSON:
            return "".join(json.dumps(_plain(row), allow_nan=False) + "\n" for row in rows)
        case Format.CSV:
            return _csv(rows)
        case Format.TABLE:
            return _table(rows, columns, title)


def object_as_text(row: Row, form: Format, *, title: str = "") -> str:
    """One row: an object in json, two columns in a table."""
    match form:
        case Format.JSON:
            return json.dumps(_plain(row), indent=2, allow_nan=False) + "\n"
        case Format.TABLE:
            return _table([{"what": key, "value": value} for key, value in row.items()], None, title)
        case _:
            return as_text([row], form)


def _plain(row: Row) -> dict[str, object]:
    return {key: _stamp(value) if isinstance(value, datetime) else value for key, value in row.items()}


def _csv(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: str(value).lower() if isinstance(value, bool) else value for key, value in _plain(row).items()}
        for row in rows
    )
    return text.getvalue()


def _table(rows: Sequence[Row], columns: Sequence[str] | None, title: str) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = list(rows[0]) if columns is None and rows else list(columns or ())
    table = Table(
        title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False
    )
    for name in names:
        numbers = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row[name])) for name in names))
    # As wide as it needs to be: a terminal may scroll, a pipe must not lose a column.
    text = io.StringIO()
    Console(file=text, width=max(80, _width(rows, names)), color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines()) + "\n"


def _width(rows: Sequence[Row], names: Sequence[str]) -> int:
    return sum(3 + max(len(name), *(len(_cell(row[name])) for row in rows), 0) for name in names)


def _cell(value: Cell) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}" if abs(value) < 1.0 else f"{value:,.2f}"
        case int():
            return str(value)
        case datetime():
            return _stamp(value)
        case str():
            # Data from outside must not be able to move the cursor or colour the terminal.
            return "".join(letter if letter.isprintable() else "�" for letter in value)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
