"""Rows as text: a table for people, json, csv and ndjson for machines."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from shutil import get_terminal_size
from typing import TypeAlias
from unicodedata import east_asian_width

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
            return _table(
                [{"what": key, "value": value} for key, value in row.items()], None, title, fold=True
            )
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Column:
    """What a column of a table shows.

    Attributes:
        head: stands above it.
        numbers: whether it stands to the right, and whole.
        cells: one a row.
        missing: of which rows there is nothing to show.
        least: so wide at least: numbers stay whole, and words that are not long.
        most: so wide that nothing is folded but the head.
    """

    head: str
    numbers: bool
    cells: Sequence[str]
    missing: Sequence[bool]
    least: int
    most: int


def _column(name: str, rows: Sequence[Row], *, on_terminal: bool) -> _Column:
    head = name.replace("_", " ")
    cells = [_cell(row[name]) for row in rows]
    if on_terminal:  # a day and a time may stand one above the other
        cells = [
            cell.replace("T", " ") if isinstance(row[name], datetime) else cell
            for cell, row in zip(cells, rows, strict=True)
        ]
    numbers = all(isinstance(row[name], int | float | None) for row in rows)
    longest = _widest(cells)
    least = longest if numbers else min(_widest(word for cell in cells for word in cell.split()), _LONG_WORD)
    least = max(least, _widest(head.split()))
    return _Column(
        head=head,
        numbers=numbers,
        cells=cells,
        missing=[row[name] is None for row in rows],
        least=least,
        most=max(longest, least),
    )


_GAP = 2
_LONG_WORD = 16
_MOST_LINES = 2
_MOST_LINES_BELOW = 3
_INDENT = 4


def _table(rows: Sequence[Row], columns: Sequence[str] | None, title: str, *, fold: bool = False) -> str:
    """Rows as a table.

    On a terminal it is as wide as that: cells are folded (all of them, if `fold`), and a column whose cells would need more than
    a few lines stands below its row; what is longer ends in an ellipsis, and columns without a value are left out. Elsewhere it
    is as wide as it needs to be: a pipe must not lose anything.
    """
    names = list(rows[0]) if columns is None and rows else list(columns or ())
    width = get_terminal_size().columns if sys.stdout.isatty() else None
    if width is not None:
        names = [name for name in names if any(row[name] is not None for row in rows)] or names
    every = [_column(name, rows, on_terminal=width is not None) for name in names]
    beside = [*every]
    widths = [*map(_whole, every)]
    if width is not None:
        while not (widths := _fitted(beside, width - 1)) or (not fold and _too_long(beside, widths)):
            texts = [column for column in beside[1:] if not column.numbers]
            if fold or not texts:
                break
            beside.remove(max(texts, key=lambda column: column.most))
        widths = widths or [column.least for column in beside]  # the terminal wraps it
    below = [column for column in every if column not in beside]
    most_lines = None if fold or len(rows) == 1 else _MOST_LINES_BELOW
    lines = [title] if title else []
    lines += ["", *_side_by_side([column.head for column in beside], beside, widths)]
    lines.append(" " + "─" * (sum(widths) + _GAP * (len(widths) - 1)))
    for number in range(len(rows)):
        lines += _side_by_side([column.cells[number] for column in beside], beside, widths)
        for column in below:
            if not column.missing[number]:
                text = f"{column.head}: {column.cells[number]}"
                room = max(_LONG_WORD, (width or 0) - _INDENT)
                lines += [" " * _INDENT + line for line in _folded(text, room, most_lines)]
    return "\n".join([*lines, "", ""])


def _fitted(columns: Sequence[_Column], room: int) -> list[int]:
    """Widths with which columns fit into the room, the widest of them cut down first; none when they do not."""
    room -= _GAP * (len(columns) - 1)
    if sum(map(_whole, columns)) <= room:
        return [*map(_whole, columns)]
    for widest in range(min(room, max((column.most for column in columns), default=0)), 0, -1):
        widths = [
            column.least if column.numbers else max(column.least, min(column.most, widest))
            for column in columns
        ]
        if sum(widths) <= room:
            return widths
    return []


def _whole(column: _Column) -> int:
    """So wide that nothing is folded."""
    return max(column.most, _width(column.head))


def _too_long(columns: Sequence[_Column], widths: Sequence[int]) -> bool:
    return any(
        len(_folded(cell, width, None)) > _MOST_LINES
        for column, width in zip(columns[1:], widths[1:], strict=True)
        for cell in column.cells
    )


def _side_by_side(texts: Sequence[str], columns: Sequence[_Column], widths: Sequence[int]) -> list[str]:
    """One row, in as many lines as its longest cell; the last line of a head is what stands on the rule."""
    folded = [_folded(text, width, None) for text, width in zip(texts, widths, strict=True)]
    lines = []
    for number in range(max(map(len, folded), default=0)):
        parts = []
        for column, cell, width in zip(columns, folded, widths, strict=True):
            part = cell[number] if number < len(cell) else ""
            space = " " * (width - _width(part))
            parts.append(space + part if column.numbers else part + space)
        lines.append((" " + (" " * _GAP).join(parts)).rstrip())
    return lines


def _folded(text: str, width: int, most_lines: int | None) -> list[str]:
    """A text in lines of a width, broken between words where that is possible; what is left out at its end is an ellipsis.

    `textwrap` counts letters, not the cells that they take.
    """
    if _width(text) <= width:
        return [text]
    lines, used = [""], 0
    for word in text.rstrip().split(" "):
        needed, gap = _width(word), 1 if used > 0 else 0
        if used + gap + min(needed, 2) > width or used + gap + needed > width >= needed:
            lines.append("")
            used = gap = 0
        lines[-1] += " " * gap
        used += gap
        for letter in word:
            if used > 0 and used + _width(letter) > width:  # only in a word longer than a line
                lines.append("")
                used = 0
            lines[-1] += letter
            used += _width(letter)
    lines = [line.rstrip() for line in lines]
    if most_lines is not None and len(lines) > most_lines:
        last = lines[most_lines - 1]
        while _width(last) >= width:
            last = last[:-1]
        lines[most_lines - 1 :] = [last.rstrip() + "…"]
    return lines


def _widest(texts: Iterable[str]) -> int:
    return max(map(_width, texts), default=0)


def _width(text: str) -> int:
    """So many cells of a terminal; letters of East Asia take two."""
    if text.isascii():
        return len(text)
    return len(text) + sum(east_asian_width(letter) in "WF" for letter in text if letter >= "\u1100")


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
