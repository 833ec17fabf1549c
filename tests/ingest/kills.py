"""Ingestion that is killed, again and again, until it is through; then the lake is compared with what was to be ingested.

`python -m bench.kills` for as many as one likes; `test_kills.py` for a few. A run kills itself (SIGKILL) at a
line chosen by chance, inside one phase; or it is killed from outside at a time chosen by chance, which also meets the
libraries' own code.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import ingest.lake
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.parse import parse

PHASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "parse": ("ingest/parse.py", ()),
    "write": ("ingest/lake_files.py", ("stage", "_span_us", "_leaves")),
    "manifest": ("ingest/manifest.py", ()),
    "compaction": ("ingest/lake.py", ("compact", "_put_together", "_gathered")),
}
"""Phase -> the file, and the functions of it (none: all), whose lines belong to it."""

BATCHES, BATCH = 10, 12
_DAY_S = 86_400
_START_S = 1_557_705_600


def records(batch: int) -> list[bytes]:
    """What the source gives: pings of three days in no order, some twice, some traceroutes, and one record that is none."""
    made: list[Any] = []
    for number in range(BATCH):
        at_s = _START_S + (batch + number) % 3 * _DAY_S + 60 * number
        made.append(
            {"type": "ping", "fw": 5020, "msm_id": 1001, "prb_id": batch, "timestamp": at_s, "af": 4, "dst_addr": "192.0.2.1",
             "sent": 1, "rcvd": 1, "result": [{"rtt": 1.5 * number}]}
        )  # fmt: skip
        made.append(
            {"type": "traceroute", "fw": 5020, "msm_id": 5001, "prb_id": batch, "timestamp": at_s, "af": 4, "dst_addr": "192.0.2.1",
             "result": [{"hop": 1, "result": [{"from": "192.0.2.1", "rtt": 1.5 * number}]}]}
        )  # fmt: skip
    return [json.dumps(record).encode() for record in [*made, *made[:4], {"type": "ping", "prb_id": batch}]]


def ingest_all(folder: Path) -> None:
    """Ingest everything, in many commits, with many compactions."""
    ingest.lake.LANDED_BYTES, ingest.lake.COMPACTED_FILES = 3_000, 3
    lake = Lake(folder)
    for half in (range(BATCHES // 2), range(BATCHES // 2, BATCHES)):
        with lake.landing() as landing:
            for batch in half:
                landing.add(parse(records(batch), f"source {batch}"))


def die_in(phase: str, countdown: int, folder: Path) -> None:
    """Ingest, and be killed at a line of that phase, if it has so many."""
    file, functions = PHASES[phase]

    def belongs(code: CodeType) -> bool:
        return code.co_filename.endswith(file) and (not functions or code.co_name in functions)

    def at_a_line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal countdown
        if event == "line":
            countdown -= 1
            if countdown < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return at_a_line

    sys.settrace(lambda frame, event, argument: at_a_line if belongs(frame.f_code) else None)
    ingest_all(folder)


def problems(folder: Path) -> list[str]:
    """What is wrong with a lake into which everything was ingested; nothing should be."""
    lake = Lake(folder)
    found = []
    for kind in ("ping", "traceroute"):
        rows = lake.query(f"SELECT probe_id, timestamp FROM {kind}").to_pylist()  # noqa: S608
        landed = Counter((row["probe_id"], int(row["timestamp"].timestamp())) for row in rows)
        wanted = {
            (record["prb_id"], record["timestamp"])
            for batch in range(BATCHES)
            for record in map(json.loads, records(batch))
            if record["type"] == kind and "timestamp" in record
        }
        if landed != Counter(wanted):
            found.append(f"{kind}: {(landed - Counter(wanted)) + (Counter(wanted) - landed)}")
    quarantined = Counter(lake.query("SELECT source FROM quarantine")["source"].to_pylist())
    if quarantined != Counter(f"source {batch}" for batch in range(BATCHES)):
        found.append(f"quarantine: {quarantined}")
    there = set(folder.rglob("*.parquet"))
    named = {path for kind in Kind for path in lake.files(kind)}
    if there != named:
        found.append(f"files that nobody names, or that are not there: {there ^ named}")
    return found


def twice(folder: Path) -> list[str]:
    """Results that a reader sees twice; at no time should there be one."""
    lake = Lake(folder)
    return [
        f"{kind}: {row}"
        for kind in ("ping", "traceroute")
        for row in lake.query(
            f"SELECT probe_id, timestamp, count(*) AS n FROM {kind} GROUP BY ALL HAVING n > 1"  # noqa: S608
        ).to_pylist()
    ]


def kill(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill runs until there were so many kills, in turn in each phase and from outside; count them, and what went wrong."""
    chance = random.Random(seed)  # noqa: S311 - chance, not secrecy
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["ingest.lake", "ingest.parse"])
    longest = {"parse": 4_000, "write": 600, "manifest": 2_500, "compaction": 400}
    killed: Counter[str] = Counter()
    wrong: list[str] = []
    turn = lake_number = 0
    while killed.total() < kills:
        home = folder / str(lake_number)
        way = [*PHASES, "outside"][turn % 5]
        turn += 1
        if way == "outside":
            child = processes.Process(target=ingest_all, args=(home,))
            child.start()
            child.join(chance.uniform(0.05, 1.5))
            child.kill()
        else:
            child = processes.Process(target=die_in, args=(way, chance.randrange(longest[way]), home))
            child.start()
        child.join()
        if child.exitcode == -signal.SIGKILL:
            killed[way] += 1
            if home.exists():
                wrong += twice(home)
        elif child.exitcode == 0:  # it came through: look, and begin anew
            if way != "outside":
                longest[way] = max(20, longest[way] * 3 // 4)  # there are not that many lines
            wrong += problems(home)
            lake_number += 1
        else:
            wrong.append(f"a run ended with {child.exitcode} after {dict(killed)}")
            lake_number += 1
    home = folder / str(lake_number)
    ingest_all(home)
    wrong += problems(home)
    return {"kills": dict(killed), "lakes": lake_number + 1, "wrong": wrong}
