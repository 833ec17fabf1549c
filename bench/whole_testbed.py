"""The whole graph of a synthetic Internet of 10,000 probes: a million states from a lake to SQLite. Prints one JSON object.

A process of its own, so that its peak of memory is that of the build: the lake is made in another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.graph import peak_gib

PROBES, ANCHORS, WINDOWS = 9_990, 10, 8
WINDOW = timedelta(hours=3)
START = datetime(2026, 1, 5, tzinfo=UTC)


def main() -> None:
    home = Path(sys.argv[1])
    if sys.argv[2:] == ["lake"]:
        make_lake(home)
        return
    subprocess.run([sys.executable, "-m", "bench.whole_testbed", str(home), "lake"], check=True)
    print(json.dumps(build(home)))


def make_lake(home: Path) -> None:
    import numpy as np
    import orjson

    from domain.window import Window
    from ingest.lake import Lake
    from ingest.parse import Batch, parse_batch
    from ingest.probes import probes_table
    from testbed import atlas_json
    from testbed.campaign import Campaign
    from testbed.events import schedule
    from testbed.internet import SyntheticInternet
    from testbed.weather import Weather

    internet = SyntheticInternet.generate(11, PROBES, ANCHORS)
    window = Window(start=START, end=START + WINDOWS * WINDOW)
    campaign = Campaign.plan(internet, window, ping_interval=WINDOW, traceroute_interval=WINDOWS * WINDOW)
    weather = Weather(internet, schedule(internet, window))
    lake = Lake(home / "lake")
    lake.merge_probes(
        probes_table([atlas_json.probe(campaign, host) for host in internet.hosts]).table, START
    )
    start_s, stop_s = int(window.start.timestamp()), int(window.end.timestamp()) - 1
    for measurement in campaign.measurements:
        hosts = np.array(measurement.participants)
        records: list[bytes] = []
        for who, at_s in campaign.moments(measurement, hosts, start_s, stop_s, 100_000):
            records += map(orjson.dumps, atlas_json.results(campaign, weather, measurement, who, at_s))
        lake.land(
            parse_batch(Batch(source=f"measurement {measurement.msm_id}", first_position=0, records=records))
        )


def build(home: Path) -> dict[str, object]:
    from ingest.lake import Lake
    from kg.store import open_store
    from qoe.profile import load_profile
    from twin.building import build_graph, summarise_lake

    before = time.perf_counter()
    summary = summarise_lake(Lake(home / "lake"), WINDOW)
    summarised = time.perf_counter()
    with open_store("sqlite", home, create=True) as store:
        built = build_graph(summary, store, load_profile())
    done = time.perf_counter()
    return {
        "probes": PROBES + ANCHORS,
        "states": built.states,
        "scores": built.scores,
        "summarise_s": round(summarised - before, 1),
        "write_s": round(done - summarised, 1),
        "seconds": round(done - before, 1),
        "limit_s": 60,
        "peak_gib": peak_gib(),
        "limit_gib": 2,
        "file_gib": round((home / "graph.sqlite").stat().st_size / 2**30, 2),
    }


if __name__ == "__main__":
    main()
