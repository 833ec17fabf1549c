"""States of samples, and what rules leave out of states."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from domain.observation import Doubt
from domain.place import fibre_rtt_ms
from ingest.batch import SAMPLE_SCHEMA, Parsed
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.parse import parse
from ingest.probes import probes_table
from ingest.summarise import (
    atlas_ids,
    hop_links,
    link_states,
    measurement_targets,
    results_faster_than_light,
    results_without_time,
    sampled_nodes,
    summarise,
)

Make = Callable[..., dict[str, Any]]

HOUR = timedelta(hours=1)
NOON = datetime(2020, 7, 19, 12, tzinfo=UTC)
EPOCH_S = int(NOON.timestamp())


def sample(**changes: Any) -> dict[str, Any]:
    unknown = dict.fromkeys(SAMPLE_SCHEMA.names)
    said = {"probe_id": 0, "target": "node:1", "af": 4, "timestamp": NOON, "rtt_avg_ms": 20.0}
    return unknown | said | {"doubts": [], "synthetic": False} | changes


def land(lake: Lake, *samples: dict[str, Any]) -> None:
    lake.land(Parsed(samples=pa.Table.from_pylist(list(samples), SAMPLE_SCHEMA)))


def states(lake: Lake, *samples: dict[str, Any]) -> list[dict[str, Any]]:
    land(lake, *samples)
    return list(summarise(lake, HOUR).to_pylist())


def later(minutes: int, **changes: Any) -> dict[str, Any]:
    return sample(timestamp=NOON + timedelta(minutes=minutes), **changes)


# Samples


def test_a_sample_that_counts_nothing_is_a_state_with_an_rtt_and_without_counts(lake: Lake) -> None:
    (state,) = states(lake, sample(rtt_min_ms=19.0, rtt_max_ms=25.0, rtt_mdev_ms=1.0))
    assert state == {
        "probe_id": 0, "target": "node:1", "af": 4, "window_start": NOON, "window_end": NOON + HOUR,
        "results": 1, "doubtful_results": 0, "sent": None, "received": None, "duplicates": None, "errors": None,
        "rtt_min_ms": 19.0, "rtt_mean_ms": 20.0, "rtt_median_ms": 20.0, "rtt_p95_ms": None, "loss_ratio": None,
        "jitter_ms": None, "utilisation_ratio": None, "synthetic": False,
    }  # fmt: skip


def test_samples_with_counts_make_loss_and_a_mean_over_packets_and_a_median_over_samples(lake: Lake) -> None:
    (state,) = states(
        lake,
        later(0, sent=10, received=10, rtt_min_ms=8.0, rtt_avg_ms=10.0),
        later(1, sent=10, received=5, rtt_min_ms=18.0, rtt_avg_ms=20.0),
        later(2, sent=10, received=5, rtt_min_ms=38.0, rtt_avg_ms=40.0),
    )
    assert (state["results"], state["sent"], state["received"], state["loss_ratio"]) == (3, 30, 20, 1 / 3)
    assert (state["rtt_min_ms"], state["rtt_mean_ms"], state["rtt_median_ms"]) == (8.0, 20.0, 20.0)
    assert (state["duplicates"], state["errors"], state["jitter_ms"]) == (None, None, None)


def test_one_sample_without_counts_leaves_those_of_its_window_unknown(lake: Lake) -> None:
    (state,) = states(lake, later(0, sent=10, received=8), later(1, rtt_avg_ms=40.0))
    assert (state["results"], state["sent"], state["received"], state["loss_ratio"]) == (2, None, None, None)
    assert state["rtt_median_ms"] == 30.0


def test_a_sample_that_was_lost_whole_is_loss_and_no_rtt(lake: Lake) -> None:
    lost, silent = states(
        lake,
        sample(probe_id=0, sent=10, received=0, rtt_avg_ms=None),
        sample(probe_id=2, rtt_avg_ms=None),
    )
    assert (lost["loss_ratio"], lost["rtt_median_ms"], lost["rtt_mean_ms"]) == (1.0, None, None)
    assert (silent["results"], silent["loss_ratio"], silent["rtt_median_ms"]) == (1, None, None)


def test_an_answered_sample_without_an_rtt_leaves_the_median_unknown(lake: Lake) -> None:
    (state,) = states(lake, later(0, sent=10, received=8), later(1, sent=10, received=8, rtt_avg_ms=None))
    assert (state["rtt_median_ms"], state["rtt_mean_ms"], state["loss_ratio"]) == (None, None, 0.2)


def test_the_single_packet_of_a_sample_is_its_least(lake: Lake) -> None:
    (state,) = states(lake, sample(sent=1, received=1))
    assert (state["rtt_min_ms"], state["rtt_mean_ms"]) == (20.0, 20.0)


def test_twenty_samples_have_a_95th_percentile_and_utilisation_is_the_mean_of_what_is_stated(
    lake: Lake,
) -> None:
    (state,) = states(
        lake,
        *(later(n, rtt_avg_ms=float(n), utilisation_ratio=0.5 if n < 2 else None) for n in range(19)),
        later(19, rtt_avg_ms=19.0, utilisation_ratio=0.2),
    )
    assert state["rtt_p95_ms"] == pytest.approx(18.05)
    assert state["utilisation_ratio"] == pytest.approx(0.4)


def test_the_same_sample_lands_once(lake: Lake) -> None:
    land(lake, sample(), sample(rtt_avg_ms=99.0))
    land(lake, sample())
    assert lake.query("SELECT rtt_avg_ms FROM sample").to_pylist() == [{"rtt_avg_ms": 20.0}]


# Doubts


def test_a_result_without_a_time_is_in_no_window_and_counted(
    ping: Make, traceroute: Make, lake: Lake
) -> None:
    ahead = {"timestamp": EPOCH_S + 7200, "stored_timestamp": EPOCH_S}
    lake.land(parse([ping(timestamp=EPOCH_S), ping(**ahead), traceroute(**ahead)], "test"))
    land(lake, sample(doubts=[str(Doubt.CLOCK_AHEAD)]))
    found = summarise(lake, HOUR).to_pylist()
    assert [(state["window_start"], state["results"]) for state in found] == [(NOON, 1)]
    assert results_without_time(lake) == 3
    assert link_states(lake, HOUR).num_rows == hop_links(lake).num_rows == 0
    assert measurement_targets(lake)["type"].to_pylist() == ["ping"]


def test_a_result_of_a_clock_out_of_step_is_in_its_state_and_counted_there(ping: Make, lake: Lake) -> None:
    lake.land(
        parse([ping(timestamp=EPOCH_S), ping(timestamp=EPOCH_S + 60, lts=7200), ping(timestamp=EPOCH_S + 120, lts=-1)], "test")
    )  # fmt: skip
    (state,) = summarise(lake, HOUR).to_pylist()
    assert (state["results"], state["doubtful_results"], state["sent"]) == (3, 2, 9)
    assert results_without_time(lake) == 0


# Faster than light

BEIRUT, AMSTERDAM = {"latitude": 33.89, "longitude": 35.50}, {"latitude": 52.37, "longitude": 4.90}
LEAST_MS = fibre_rtt_ms(3182.0)


def say(lake: Lake, when: datetime, *words: dict[str, Any]) -> None:
    table = probes_table([word | {"address_v4": None} for word in words], least_id=0).table.to_pylist()
    rows = [row | {"address_v4": word.get("address_v4")} for row, word in zip(table, words, strict=True)]
    lake.merge_probes(pa.Table.from_pylist(rows, lake.probes().schema), when)


def test_a_window_in_which_something_is_faster_than_light_is_no_state_and_counted(lake: Lake) -> None:
    say(lake, NOON, {"id": 0, **BEIRUT}, {"id": 1, "address_v4": "node:1", **AMSTERDAM})
    found = states(
        lake,
        later(0, rtt_avg_ms=LEAST_MS - 1.0),
        later(1, rtt_avg_ms=LEAST_MS + 50.0),
        later(60, rtt_avg_ms=LEAST_MS + 1.0),
        later(61, target="node:2", rtt_avg_ms=0.1),
    )
    assert [(state["target"], state["window_start"].hour) for state in found] == [
        ("node:1", 13),
        ("node:2", 13),
    ]
    assert results_faster_than_light(lake, HOUR) == 2


def test_a_place_that_is_put_right_puts_its_results_right_and_a_move_counts_from_when_it_was_said(
    lake: Lake,
) -> None:
    say(lake, NOON, {"id": 0, **BEIRUT}, {"id": 1, "address_v4": "node:1", **AMSTERDAM})
    land(lake, *(later(60 * hour, rtt_avg_ms=1.0) for hour in range(4)))
    assert results_faster_than_light(lake, HOUR) == 4
    say(lake, NOON + 2 * HOUR, {"id": 1, "address_v4": "node:1", **BEIRUT})
    assert [state["window_start"].hour for state in summarise(lake, HOUR).to_pylist()] == [14, 15]
    say(lake, NOON, {"id": 1, "address_v4": "node:1", **BEIRUT})
    # of two words of one time the greater counts: Amsterdam's latitude
    assert results_faster_than_light(lake, HOUR) == 2


def test_pings_are_held_to_light_where_the_target_is_a_known_anchor(ping: Make, lake: Lake) -> None:
    say(lake, NOON, {"id": 7, **BEIRUT}, {"id": 8, "address_v4": "192.0.2.1", **AMSTERDAM})
    lake.land(parse([ping(timestamp=EPOCH_S), ping(timestamp=EPOCH_S, dst_addr="192.0.2.2")], "test"))
    assert [state["target"] for state in summarise(lake, HOUR).to_pylist()] == ["192.0.2.2"]
    assert results_faster_than_light(lake, HOUR) == 1


def test_neighbours_within_the_blur_of_their_places_are_not_faster_than_light(ping: Make, lake: Lake) -> None:
    near = {"latitude": 52.37, "longitude": 4.925}  # 1.7 km off
    say(lake, NOON, {"id": 7, **near}, {"id": 8, "address_v4": "192.0.2.1", **AMSTERDAM})
    lake.land(parse([ping(timestamp=EPOCH_S, min=0.0, avg=0.0, max=0.0, result=[{"rtt": 0.0}] * 3)], "test"))
    assert results_faster_than_light(lake, HOUR) == 0


# Who is who


def test_nodes_of_tables_and_probes_of_atlas_are_told_apart(ping: Make, lake: Lake) -> None:
    say(lake, NOON, {"id": 7, **BEIRUT}, {"id": 9, **BEIRUT}, {"id": 1, "address_v4": "node:1"})
    lake.land(parse([ping(timestamp=EPOCH_S, prb_id=7)], "test"))
    land(lake, sample(probe_id=0, target="node:1"))
    assert sampled_nodes(lake).to_pylist() == [0, 1]
    assert atlas_ids(lake) == {7, 9}
    assert [file.parent.name for file in lake.files(Kind.SAMPLE)] == ["day=2020-07-19"]
