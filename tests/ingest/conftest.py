"""What the tests of ingest share: records as probes write them, and a lake to land them in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.lake import Lake

Record = dict[str, Any]


@pytest.fixture(scope="session")
def ping() -> Callable[..., Record]:
    """Makes a ping record of three answered packets; a keyword replaces a value, and `...` removes a key."""

    def make(**changes: Any) -> Record:
        record: Record = {
            "af": 4, "avg": 2.0, "dst_addr": "192.0.2.1", "dst_name": "example.org", "dup": 0,
            "from": "198.51.100.7", "fw": 4970, "lts": 30, "max": 3.0, "min": 1.0, "msm_id": 1001,
            "msm_name": "Ping", "prb_id": 7, "proto": "ICMP", "rcvd": 3,
            "result": [{"rtt": 1.0}, {"rtt": 3.0}, {"rtt": 2.0}], "sent": 3, "size": 20,
            "src_addr": "10.0.0.2", "step": 240, "stored_timestamp": 1557705700, "timestamp": 1557705600,
            "ttl": 57, "type": "ping",
        }  # fmt: skip
        if isinstance(changes.get("timestamp"), int):  # no clock was ahead
            record["stored_timestamp"] = changes["timestamp"] + 100
        record.update(changes)
        return {key: value for key, value in record.items() if value is not ...}

    return make


@pytest.fixture(scope="session")
def traceroute() -> Callable[..., Record]:
    """Makes a traceroute record; `hops` maps hop numbers to replies, where an address stands for an answer."""

    def make(hops: dict[int, list[Any]] | None = None, **changes: Any) -> Record:
        def reply(one: Any) -> Any:
            return {"from": one, "rtt": 1.5, "size": 28, "ttl": 60} if isinstance(one, str) else one

        chosen = {1: ["10.0.0.1"], 2: ["192.0.2.1"]} if hops is None else hops
        record: Record = {
            "af": 4, "dst_addr": "192.0.2.1", "dst_name": "192.0.2.1", "endtime": 1557705610,
            "from": "198.51.100.7", "fw": 4970, "lts": 30, "msm_id": 5001, "msm_name": "Traceroute",
            "paris_id": 3, "prb_id": 7, "proto": "UDP",
            "result": [{"hop": hop, "result": [reply(one) for one in replies]} for hop, replies in chosen.items()],
            "size": 40, "src_addr": "10.0.0.2", "timestamp": 1557705600, "type": "traceroute",
        }  # fmt: skip
        record.update(changes)
        return {key: value for key, value in record.items() if value is not ...}

    return make


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    folder = tmp_path / "lake"
    folder.mkdir()
    return Lake(folder)
