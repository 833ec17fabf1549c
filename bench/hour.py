"""Two hours of the schedule, by a simulated clock, with every fault of the testbed, a stream beside, and processes that are killed: in
one clocks are right, in the other wrong by up to two hours.

Prints one JSON object, an hour each: what was met, and whether lake, quarantine, graph and status are what they should be. Exit 1 when anything is not,
or when a fault was not met.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from tests.app.hour import OUT_OF_STEP, PUNCTUAL, Hour, Play


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probes", type=int, default=24)
    parser.add_argument("--anchors", type=int, default=4)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=4)
    arguments = parser.parse_args()
    outcomes = {}
    for name, habits in (("punctual", PUNCTUAL), ("out of step", OUT_OF_STEP)):
        hour = Hour(
            probes=arguments.probes,
            anchors=arguments.anchors,
            ping_interval=timedelta(minutes=1),
            traceroute_interval=timedelta(minutes=5),
            habits=habits,
            step=1,
            every=timedelta(minutes=2),
            answer_s=3.0,
            kills=arguments.kills,
            stream=True,
            seed=arguments.seed,
        )
        with tempfile.TemporaryDirectory(prefix="qoetwin-hour-") as folder:
            outcomes[name] = Play(hour, Path(folder)).play()
    print(json.dumps(outcomes, indent=2))
    sys.exit(1 if any(one["wrong"] or one["faults_not_met"] for one in outcomes.values()) else 0)


if __name__ == "__main__":
    main()
