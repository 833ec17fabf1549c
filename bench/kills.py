"""What writes to the lake, and the graph's refresh, killed in each phase and from outside: nothing may be lost, nothing be there
twice, nothing be left over. Ingestion is killed 200 times.

Prints one JSON object. Exit 1 when anything went wrong, or when a phase had less than a tenth of the kills.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.ingest.killed_works import WORKS
from tests.ingest.kills import LANDING, kill
from tests.twin.killed_refresh import REFRESH


def main() -> None:
    works = {work.name: work for work in (LANDING, *WORKS, REFRESH)}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="of ingestion")
    parser.add_argument("--other-kills", type=int, default=30, help="of each of the others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=works, action="append")
    arguments = parser.parse_args()
    outcomes = {}
    for name, work in works.items():
        if arguments.only and name not in arguments.only:
            continue
        kills = arguments.kills if work is LANDING else arguments.other_kills
        with tempfile.TemporaryDirectory(prefix="qoetwin-kills-") as folder:
            outcomes[name] = kill(work, kills, arguments.seed, Path(folder))
        print(name, outcomes[name], file=sys.stderr)
    print(json.dumps(outcomes, indent=2))
    sys.exit(any(outcome["wrong"] or outcome["too_few"] for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
