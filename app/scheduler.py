"""What runs the jobs: each when it is due, until told to stop; or all of them once.

APScheduler waits, and runs jobs side by side. When a job is due is asked of the `Runner`, which knows from the schedule's memory, also
after hours in which nothing ran; each job is planned anew when it has ended, so that it can neither pile up nor overtake itself.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from app.jobs import Outcome, Runner, backoff
from app.schedule_state import SCHEDULER, held
from domain.errors import StoreError

GRACE_S = 5.0
"""So long may work go on that was told to stop: a statement over the whole lake cannot be interrupted."""

_PAUSE_S = 0.1
_MOST_AT_ONCE = 8
_LONGEST_WAIT = timedelta(minutes=15)
"""The graph is brought up to the lake so often while a job runs for long."""

_PAUSE = timedelta(minutes=1)
"""A job that cannot be run just now is looked at again so soon."""

_LOOK_AROUND_S = 30
"""A machine that was suspended wakes up with timers that know nothing of it."""


@contextmanager
def stopped_by_signals(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set. The second of them ends the process at once: nothing that is kept is harmed."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def told(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        stop.set()
        say(f"{signal.Signals(number).name}: stopping")

    for number in before:
        signal.signal(number, told)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def keep_running(runner: Runner, home: Path, say: Callable[[str], None]) -> bool:
    """Run each job when it is due, and keep the graph up, until told to stop; then say whether all work came to its end."""
    scheduler = BackgroundScheduler(
        timezone=UTC,
        executors={"default": ThreadPoolExecutor(min(len(runner.config.source), _MOST_AT_ONCE) + 1)},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    changed = threading.Event()
    busy = threading.Lock()
    running: set[str] = set()

    def plan(name: str, after: timedelta = timedelta(0)) -> None:
        try:
            due = runner.next_run(name)
        except StoreError as error:
            say(f"{name}: {error.line()}")
            due = datetime.now(UTC) + _PAUSE
        due = max(due, datetime.now(UTC) + after)
        scheduler.add_job(run, "date", run_date=due, args=[name], id=name, replace_existing=True)

    def run(name: str) -> None:
        with busy:
            running.add(name)
        outcome = Outcome.FAILED
        try:
            outcome = runner.run(name, only_due=True)
        finally:  # whatever happened, it is planned again
            changed.set()
            if not runner.stop.is_set():
                trouble = outcome in (Outcome.FAILED, Outcome.ELSEWHERE)
                plan(name, _PAUSE if trouble else timedelta(0))
            with busy:
                running.discard(name)

    graph = threading.Thread(target=_keep_graph, args=(runner, changed), name="qoetwin-graph", daemon=True)
    with held(home, SCHEDULER) as alone:
        if not alone:
            say("note: another scheduler runs on this home; each job runs in one of the two at a time")
        changed.set()  # whoever ran before may have been killed before the graph was built
        for table in runner.config.source:
            plan(table.name)
        scheduler.add_job(lambda: None, "interval", seconds=_LOOK_AROUND_S)
        scheduler.start()
        graph.start()
        while not runner.stop.is_set():
            time.sleep(_PAUSE_S)  # not in `wait`, whose lock a signal's handler may find held by ourselves
        changed.set()
        scheduler.shutdown(wait=False)
        until = time.monotonic() + GRACE_S
        while running and time.monotonic() < until:
            time.sleep(0.02)
        graph.join(max(0.0, until - time.monotonic()))
    return not running and not graph.is_alive()


def _keep_graph(runner: Runner, changed: threading.Event) -> None:
    """Bring the graph up to the lake whenever a job has ended, and try again when it failed."""
    failures = 0
    while not runner.stop.is_set():
        wait = _LONGEST_WAIT if failures == 0 else min(backoff(failures), _LONGEST_WAIT)
        changed.wait(wait.total_seconds())
        changed.clear()
        failures = failures + 1 if runner.refresh() is Outcome.FAILED else 0


def run_once(runner: Runner, names: Sequence[str]) -> list[Outcome] | None:
    """Run each job (of these only) once; None when what is left of it did not end when it was told to stop."""
    outcomes: list[Outcome] = []
    worker = threading.Thread(
        target=lambda: outcomes.extend(runner.run_all(names)), name="qoetwin-once", daemon=True
    )
    worker.start()
    while worker.is_alive() and not runner.stop.is_set():
        worker.join(0.1)  # so that signals are heard
    worker.join(GRACE_S)
    return None if worker.is_alive() else outcomes
