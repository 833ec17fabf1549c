"""Ingestion that is killed 200 times, in each of its phases and from outside: nothing may be lost, and nothing be there twice.

Prints one JSON object; exit 1 when anything went wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.ingest.kills import kill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qoetwin-kills-") as folder:
        outcome = kill(arguments.kills, arguments.seed, Path(folder))
    print(json.dumps(outcome, indent=2))
    sys.exit(1 if outcome["wrong"] else 0)


if __name__ == "__main__":
    main()
