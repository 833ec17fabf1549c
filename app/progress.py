"""Progress on stderr: bars with an ETA on a terminal, a line a step elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from domain.progress import Report


@contextmanager
def progress(say: Callable[[str], None]) -> Iterator[Report]:
    """A function to report steps to: what is done, how much of it, out of how much (None: not known).

    Args:
        say: writes a line to stderr.
    """
    if sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _lines(say)


_FIRST_LINE_S = 1.0
_NEXT_LINE_S = 10.0


def _lines(say: Callable[[str], None]) -> Report:
    """Say nothing of what is quick, and of what is not where it is, now and then."""
    began: dict[str, float] = {}
    said: dict[str, float] = {}

    def report(what: str, done: int, total: int | None) -> None:
        now = monotonic()
        elapsed_s = now - began.setdefault(what, now)
        finished = done == total
        if elapsed_s < _FIRST_LINE_S or (not finished and now - said.get(what, -_NEXT_LINE_S) < _NEXT_LINE_S):
            return
        said[what] = now
        line = f"{what}: {done}" if total is None else f"{what}: {done} of {total}"
        if finished:
            line += f", {elapsed_s:.0f} s"
        elif total is not None and done > 0:
            line += f", about {elapsed_s / done * (total - done):.0f} s left"
        say(line)

    return report


@contextmanager
def _bars() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report
