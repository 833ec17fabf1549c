"""Work that is killed, again and again, until it is through; then what is there is compared with what should be.

`python -m bench.kills` for as many as one likes; the tests for a few. A run kills itself (SIGKILL) at a line chosen by chance
among those that a whole run passes in one phase, the first time it comes there or a later one; or it is killed from outside at a
time chosen by chance, which also meets the libraries' own code. The work of this module is to ingest; `killed_works` has the
others that write to the lake, `tests.twin.killed_refresh` the one that writes to the graph.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from types import CodeType, FrameType
from typing import Any

import ingest.lake
from domain.errors import QoetwinError
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.parse import parse

Part = tuple[str, tuple[str, ...]]
"""The end of a file's name, and those of its functions that are meant; none: all."""

LAKE_PARTS: Sequence[Part] = tuple(
    (f"ingest/{name}.py", ()) for name in ("lake", "lake_files", "manifest", "sqlite_file", "earlier_lake")
)
"""All that writes the lake."""


def _nothing(home: Path) -> None:
    """Nothing needs to be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is killed, and begun again until it is through.

    Attributes:
        name: as figures call it.
        run: does all of it that is not done yet, in a process of its own.
        wrong: what is wrong once it is through; nothing should be.
        wrong_underway: what a reader sees that is wrong after a kill; likewise.
        phases: name -> what belongs to it.
        begin: makes what must be there before; it is not killed.
    """

    name: str
    run: Callable[[Path], None]
    wrong: Callable[[Path], list[str]]
    wrong_underway: Callable[[Path], list[str]]
    phases: Mapping[str, Sequence[Part]]
    begin: Callable[[Path], None] = _nothing


# Killing

OUTSIDE = "outside"
_PRELOADED = ("ingest.files", "ingest.lake", "ingest.parse", "ingest.probes", "twin.refresh")
_MOST_WRONG = 20

Passed = dict[str, list[tuple[str, int, int]]]
"""Phase -> file, line, and how often a whole run passes it."""


def kill(work: Work, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill runs until there were so many kills, as many in each phase as from outside; count them, and what went wrong.

    Returns:
        `kills` by phase; `homes` in which the work came to its end; `wrong`; `too_few`: phases that have less than a tenth of the kills.
    """
    chance = random.Random(seed)  # noqa: S311 - chance, not secrecy
    begun = folder / "begun"
    begun.mkdir()
    work.begin(begun)
    killed: Counter[str] = Counter(dict.fromkeys((*work.phases, OUTSIDE), 0))
    wrong: list[str] = []
    homes = 0
    observed = _observe(work, _copy(begun, folder / "observed"), folder / "passed.json")
    if observed is None:
        return {
            "kills": dict(killed),
            "homes": 0,
            "wrong": ["a run that nobody killed failed"],
            "too_few": [],
        }
    took_s, passed = observed
    wrong += _looked(work.wrong, folder / "observed")
    home: Path | None = None
    while killed.total() < kills and len(wrong) < _MOST_WRONG:
        if home is None:
            home = _copy(begun, folder / str(homes))
        way = min(killed, key=killed.__getitem__)
        if way == OUTSIDE:
            exit_code = _killed_from_outside(work, home, chance.uniform(0, took_s))
        else:
            file, line, times = chance.choice(passed[way])
            exit_code = _ran(_die_at, work, home, (file, line), chance.randrange(times))
        if exit_code == -signal.SIGKILL:
            killed[way] += 1
            if chance.random() < 0.5:  # who looks may mend, and the next run must do without
                wrong += _looked(work.wrong_underway, home)
            continue
        if exit_code == 0:  # it came through: look, and begin anew
            if way == OUTSIDE:
                took_s *= 0.8
            wrong += _looked(work.wrong, home)
        else:
            wrong.append(f"a run ended with {exit_code} after {dict(killed)}")
        home = None
        homes += 1
    if home is not None:
        exit_code = _ran(_run, work, home)
        wrong += _looked(work.wrong, home) if exit_code == 0 else [f"the last run ended with {exit_code}"]
        homes += 1
    return {
        "kills": dict(killed),
        "homes": homes,
        "wrong": wrong,
        "too_few": [phase for phase in work.phases if killed[phase] * 10 < kills],
    }


def _copy(begun: Path, home: Path) -> Path:
    shutil.copytree(begun, home)
    return home


def _looked(look: Callable[[Path], list[str]], home: Path) -> list[str]:
    try:
        found = look(home)
    except QoetwinError as error:
        found = [error.line()]
    return [f"{home.name}: {one}" for one in found]


def _processes() -> multiprocessing.context.ForkServerContext:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([name for name in _PRELOADED if name in sys.modules])
    return processes


def _ran(target: Callable[..., None], *arguments: object) -> int | None:
    child = _processes().Process(target=target, args=arguments)
    child.start()
    child.join()
    return child.exitcode


def _killed_from_outside(work: Work, home: Path, after_s: float) -> int | None:
    """Kill a run so many seconds after it has begun."""
    processes = _processes()
    here, there = processes.Pipe(duplex=False)
    child = processes.Process(target=_say_and_run, args=(work, home, there))
    child.start()
    there.close()
    here.recv()
    child.join(after_s)
    child.kill()
    child.join()
    return child.exitcode


def _say_and_run(work: Work, home: Path, begins: Connection) -> None:
    begins.send(None)
    work.run(home)


def _run(work: Work, home: Path) -> None:
    work.run(home)


def _observe(work: Work, home: Path, answer: Path) -> tuple[float, Passed] | None:
    """Seconds that a whole run takes, and the lines that it passes; None when it fails."""
    if _ran(_note_lines, work, home, answer) != 0:
        return None
    took_s, passed = json.loads(answer.read_text())
    return took_s, {phase: [tuple(one) for one in lines] for phase, lines in passed.items()}


def _note_lines(work: Work, home: Path, answer: Path) -> None:
    lines: Counter[tuple[str, str, int]] = Counter()

    def passes(phase: str, file: str, line: int) -> None:
        lines[phase, file, line] += 1

    began = perf_counter()
    _traced(work, home, passes)
    took_s = perf_counter() - began
    passed = {
        phase: sorted((file, line, times) for (own, file, line), times in lines.items() if own == phase)
        for phase in work.phases
    }
    answer.write_text(json.dumps([took_s, passed]))


def _die_at(work: Work, home: Path, place: tuple[str, int], countdown: int) -> None:
    """Run, and be killed when that line is passed for the so manieth time, counted from 0, if it ever is."""

    def passes(phase: str, file: str, line: int) -> None:
        nonlocal countdown
        if (file, line) == place:
            countdown -= 1
            if countdown < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    _traced(work, home, passes)


def _traced(work: Work, home: Path, passes: Callable[[str, str, int], None]) -> None:
    """Run, and say of every line of a phase that it is passed, whichever thread passes it."""
    phase_of: dict[CodeType, str | None] = {}

    def phase(code: CodeType) -> str | None:
        for name, parts in work.phases.items():
            for file, functions in parts:
                if code.co_filename.endswith(file) and (not functions or code.co_name in functions):
                    return name
        return None

    def at_a_line(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            own = phase_of[frame.f_code]
            assert own is not None
            passes(own, frame.f_code.co_filename, frame.f_lineno)
        return at_a_line

    def at_a_call(frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if code not in phase_of:
            phase_of[code] = phase(code)
        return None if phase_of[code] is None else at_a_line

    threading.settrace(at_a_call)
    sys.settrace(at_a_call)
    work.run(home)
    sys.settrace(None)


# What is in a lake


def strays(folder: Path, *others: Path) -> list[str]:
    """Files of a lake that nobody names, or that are named and not there; `others` should be there besides."""
    lake = Lake(folder)
    named = {file for kind in Kind for file in lake.files(kind)}
    named |= {folder / ".lock", folder / "manifest.sqlite", *others}
    there = {file for file in folder.rglob("*") if file.is_file()}
    return [f"files that nobody names, or that are not there: {there ^ named}"] if there != named else []


def landed(lake: Lake) -> Counter[tuple[str, int, int]]:
    """Type, probe and second of the results that a reader sees."""
    return Counter(
        (kind, row["probe_id"], row["at_s"])
        for kind in ("ping", "traceroute")
        for row in lake.query(
            f"SELECT probe_id, epoch(timestamp)::BIGINT AS at_s FROM {kind}"  # noqa: S608
        ).to_pylist()
    )


def difference(found: Counter[Any], wanted: Counter[Any]) -> list[str]:
    """What is there and should not be, and what should be and is not."""
    return [f"{name}: {few}" for name, few in (("too much", found - wanted), ("lost", wanted - found)) if few]


# Ingesting

BATCHES, BATCH = 6, 12
DAY_S = 86_400
START_S = 1_557_705_600


def ping(probe: int, at_s: int, rtt_ms: float = 1.5) -> dict[str, Any]:
    """A ping as Atlas gives it."""
    return {
        "type": "ping", "fw": 5020, "msm_id": 1001, "prb_id": probe, "timestamp": at_s, "af": 4, "dst_addr": "192.0.2.1",
        "sent": 1, "rcvd": 1, "result": [{"rtt": rtt_ms}],
    }  # fmt: skip


def traceroute(probe: int, at_s: int, rtt_ms: float = 1.5) -> dict[str, Any]:
    """A traceroute as Atlas gives it."""
    return {
        "type": "traceroute", "fw": 5020, "msm_id": 5001, "prb_id": probe, "timestamp": at_s, "af": 4, "dst_addr": "192.0.2.1",
        "result": [{"hop": 1, "result": [{"from": "192.0.2.1", "rtt": rtt_ms}]}],
    }  # fmt: skip


def packed(*made: dict[str, Any]) -> list[bytes]:
    """Records as bytes."""
    return [json.dumps(record).encode() for record in made]


def identity(record: dict[str, Any]) -> tuple[str, int, int]:
    """How `landed` calls it."""
    return record["type"], record["prb_id"], record["timestamp"]


def records(batch: int) -> list[bytes]:
    """What the source gives: pings of three days in no order, some twice, some traceroutes, and one record that is none."""
    made: list[Any] = []
    for number in range(BATCH):
        at_s = START_S + (batch + number) % 3 * DAY_S + 60 * number
        made += [ping(batch, at_s, 1.5 * number), traceroute(batch, at_s, 1.5 * number)]
    return packed(*made, *made[:4], {"type": "ping", "prb_id": batch})


def ingest_all(folder: Path) -> None:
    """Ingest everything, in many commits, with many compactions."""
    ingest.lake.LANDED_BYTES, ingest.lake.COMPACTED_FILES = 3_000, 3
    lake = Lake(folder)
    for half in (range(BATCHES // 2), range(BATCHES // 2, BATCHES)):
        with lake.landing() as landing:
            for batch in half:
                landing.add(parse(records(batch), f"source {batch}"))


def _wanted() -> Counter[tuple[str, int, int]]:
    made = [record for batch in range(BATCHES) for record in map(json.loads, records(batch))]
    return Counter({identity(record) for record in made if "timestamp" in record})


def problems(folder: Path) -> list[str]:
    """What is wrong with a lake into which everything was ingested; nothing should be."""
    lake = Lake(folder)
    found = difference(landed(lake), _wanted())
    quarantined = Counter(lake.query("SELECT source FROM quarantine")["source"].to_pylist())
    if quarantined != Counter(f"source {batch}" for batch in range(BATCHES)):
        found.append(f"quarantine: {quarantined}")
    return found + strays(folder)


def _problems_underway(folder: Path) -> list[str]:
    """Results that a reader sees twice, or that nobody gave."""
    return [f"too much: {found}"] if (found := landed(Lake(folder)) - _wanted()) else []


LANDING = Work(
    name="landing",
    run=ingest_all,
    wrong=problems,
    wrong_underway=_problems_underway,
    phases={
        "parse": (("ingest/parse.py", ()),),
        "write": (("ingest/lake_files.py", ("stage", "_span_us", "_leaves", "below")),),
        "manifest": (("ingest/manifest.py", ()), ("ingest/sqlite_file.py", ())),
        "compaction": (("ingest/lake.py", ("compact", "_put_together", "_gathered")),),
    },
)
