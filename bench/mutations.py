"""Damaged records through both parsers: none is lost, both say the same, and what is still good is still understood.

Prints one JSON object; the exit status is 1 when something of that is not so, with the records that show it on stderr.
"""

from __future__ import annotations

import json
import sys
import time

from bench.parsing import batches_of
from bench.recorded import folder_of, parser_of
from ingest import ordinary
from ingest.parse import parse_batch
from tests.ingest.mutations import first_lines, must_be_understood, mutated, recorded_files


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    lines = [line for path in recorded_files(folder_of(arguments)) for line in first_lines(path)[::20]]
    began = time.perf_counter()
    raws = list(mutated(lines, arguments.records, arguments.seed))
    counted = understood = quarantined = other_types = must = 0
    faults: list[bytes] = []
    for batch in batches_of(raws):
        fast, careful = parse_batch(batch), parse_batch(batch, extension=False)
        counted += fast.records
        understood += fast.observations
        quarantined += fast.quarantined.num_rows
        other_types += fast.other_types
        same = all(
            getattr(fast, name).equals(getattr(careful, name))
            for name in ("pings", "traceroutes", "quarantined")
        )
        refused = set(fast.quarantined.column("position").to_pylist())
        good = [number for number, raw in enumerate(batch.records) if must_be_understood(raw)]
        must += len(good)
        faults += [batch.records[number] for number in good if number + batch.first_position in refused]
        faults += [] if same else [b"both parsers differ in the batch that begins with " + batch.records[0]]
    figures = {
        "records": len(raws),
        "library": ordinary.library() is not None,
        "counted": counted,
        "understood": understood,
        "quarantined": quarantined,
        "of_another_type": other_types,
        "must_be_understood": must,
        "faults": len(faults),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(figures, indent=2))
    for fault in faults[:10]:
        print(fault[:2000], file=sys.stderr)
    sys.exit(1 if faults or counted != len(raws) else 0)


if __name__ == "__main__":
    main()
