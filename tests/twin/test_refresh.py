"""A graph that was refreshed after every landing is the graph that is built at once of all that landed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.window import Window
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.parse import parse
from ingest.probes import probes_table
from kg.predictions import put_predictions
from kg.schema import FACT_TYPES, PATH_PREDICTION, PATH_STATE
from kg.store import GraphStore, open_store
from kg.tables import fact_schema
from qoe.profile import load_profile
from tests.ingest.kills import kill
from tests.twin.killed_refresh import REFRESH, content
from tests.twin.test_pipeline import ping
from tests.twin.test_qoe import SAID, T0
from twin.building import build_graph, prune_graph, read_origins, summarise_lake
from twin.refresh import _windows, keep_fresh, memory_file, refresh_graph

H3 = timedelta(hours=3)
PROFILE = load_profile()


def traceroute(probe: int, at_s: int, *addresses: str) -> dict[str, Any]:
    return {
        "type": "traceroute", "af": 4, "msm_id": 5001, "prb_id": probe, "timestamp": at_s, "dst_addr": addresses[-1],
        "result": [
            {"hop": hop, "result": [{"from": address, "rtt": 1.0 * hop}]} for hop, address in enumerate(addresses, 1)
        ],
    }  # fmt: skip


def refreshed(home: Path, lake: Lake, store: GraphStore, **how: Any) -> Any:
    return refresh_graph(lake, store, PROFILE, H3, memory_file(home, H3), **how)


_moment = st.integers(0, 5 * 8).map(lambda number: int(T0.timestamp()) + number * 2700)
_record = st.one_of(
    st.builds(
        lambda probe, at_s, rtt: ping(probe, timestamp=at_s, result=[{"rtt": rtt}]),
        st.integers(1, 3),
        _moment,
        st.sampled_from([1.0, 20.0, 300.0]),
    ),
    st.builds(
        lambda probe, at_s, hops: traceroute(probe, at_s, *hops),
        st.integers(1, 3),
        _moment,
        st.lists(
            st.sampled_from(["192.0.2.1", "192.0.2.2", "198.51.100.1", "203.0.113.1"]),
            min_size=2,
            max_size=4,
            unique=True,
        ),
    ),
)
_probe = st.builds(
    lambda probe, asn, day: (probe, asn, day),
    st.integers(1, 3),
    st.integers(64500, 64502),
    st.integers(-1, 2),
)


@settings(max_examples=6)
@given(
    steps=st.lists(st.one_of(st.lists(_record, min_size=1, max_size=5), _probe), min_size=1, max_size=5),
    with_origins=st.booleans(),
)
def test_refreshing_after_every_landing_comes_to_the_graph_that_is_built_at_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], with_origins: bool
) -> None:
    home, other = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("other")
    (home / "prefixes.csv").write_text("prefix,asn\n192.0.2.0/24,64501\n198.51.100.0/24,64502\n")
    how = {"origins": read_origins(home / "prefixes.csv")} if with_origins else {}
    lake = Lake(home / "lake")
    lake.land(parse([ping(1)], "test"))  # a graph needs one
    with open_store("sqlite", home, create=True) as store, open_store("sqlite", other, create=True) as fresh:
        for step in steps:
            if isinstance(step, list):
                lake.land(parse(step, "test"))
            else:
                probe, asn, day = step
                words = [{"id": probe, "asn_v4": asn, "country_code": "LB"}]
                lake.merge_probes(probes_table(words).table, T0 + timedelta(days=day))
            refreshed(home, lake, store, **how)
        assert refreshed(home, lake, store, **how) is None
        build_graph(summarise_lake(lake, H3), fresh, PROFILE, **how)
        assert content(store) == content(fresh)


def test_only_touched_windows_are_built_and_late_data_land_in_theirs(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    at_s = int(T0.timestamp())
    lake.land(parse([ping(1, timestamp=at_s + slot * 10_800) for slot in range(8)], "test"))
    with open_store("sqlite", tmp_path, create=True) as store:
        assert refreshed(tmp_path, lake, store).states == 8
        assert refreshed(tmp_path, lake, store) is None
        lake.land(parse([ping(2, timestamp=at_s + 10_800), ping(2, timestamp=at_s + 9 * 10_800)], "test"))
        built = refreshed(tmp_path, lake, store)
        assert (built.states, built.windows_from) == (3, T0 + H3)
        assert store.counts()[PATH_STATE.label] == 10


def test_a_graph_that_is_not_as_it_was_left_is_built_anew(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    at_s = int(T0.timestamp())
    lake.land(parse([ping(1, timestamp=at_s + slot * 10_800) for slot in range(4)], "test"))
    with open_store("sqlite", tmp_path, create=True) as store:
        refreshed(tmp_path, lake, store)
        store.prune(PATH_STATE, datetime(2100, 1, 1, tzinfo=UTC), None)
        assert refreshed(tmp_path, lake, store).states == 4
        memory_file(tmp_path, H3).write_text("{")
        assert refreshed(tmp_path, lake, store).states == 4
        assert refreshed(tmp_path, lake, store, keep=timedelta(hours=4)).states == 2


@pytest.mark.parametrize(
    ("hours", "length", "spans"),
    [
        ([], H3, []),
        ([0, 1, 2], H3, [(0, 3)]),
        ([0, 3, 9], H3, [(0, 6), (9, 12)]),
        ([5], timedelta(minutes=30), [(5, 6)]),
        ([1], timedelta(minutes=90), [(0, 3)]),
    ],
)
def test_windows_that_hold_touched_hours_are_whole(
    hours: list[int], length: timedelta, spans: list[tuple[int, int]]
) -> None:
    hour: Callable[[int], datetime] = lambda number: datetime.fromtimestamp(number * 3600, tz=UTC)  # noqa: E731
    assert _windows(hours, length) == [Window(start=hour(start), end=hour(end)) for start, end in spans]


def test_a_state_that_late_data_show_to_be_none_goes_with_all_that_followed_from_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    at_s = int(T0.timestamp())
    places = [
        {"id": 1, "latitude": 50.1, "longitude": 8.7, "address_v4": "198.51.100.1"},
        {"id": 2, "latitude": -33.9, "longitude": 151.2, "address_v4": "192.0.2.1", "is_anchor": True},
    ]
    lake.merge_probes(probes_table(places).table, T0)
    lake.land(
        parse([ping(1, timestamp=at_s + slot * 10_800, result=[{"rtt": 300.0}]) for slot in (0, 1)], "test")
    )
    with (
        open_store("sqlite", tmp_path, create=True) as store,
        open_store("sqlite", tmp_path / "other", create=True) as fresh,
    ):
        assert refreshed(tmp_path, lake, store).states == 2
        lake.land(parse([ping(1, timestamp=at_s + 60, result=[{"rtt": 0.5}])], "test"))
        assert refreshed(tmp_path, lake, store).no_longer_said > 0
        build_graph(summarise_lake(lake, H3), fresh, PROFILE)
        found, expected = content(store), content(fresh)
        for fact_type in FACT_TYPES:
            assert found[fact_type.label] == expected[fact_type.label]


def test_predictions_stay_whatever_is_built_and_go_with_the_windows_that_are_not_kept(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake")
    at_s = int(T0.timestamp())
    lake.land(parse([ping(1, timestamp=at_s + slot * 10_800) for slot in range(4)], "test"))
    with open_store("sqlite", tmp_path, create=True) as store:
        refreshed(tmp_path, lake, store)
        states = store.facts(PATH_STATE)
        (pair, *_) = store.pairs().to_pylist()
        rows = [
            {name: pair[name] for name in ("target", "af")}
            | {"probe_id": probe, "window_start": T0 + slot * H3, "window_end": T0 + (slot + 1) * H3}
            | {"model": "sage", "protocol": "forecast", "rtt_ms": 1.0, "in_range": True}
            | {"predicted_at": T0, "synthetic": False}
            for slot in range(6)
            for probe in (pair["probe_id"], 77)
        ]
        put_predictions(store, pa.Table.from_pylist(rows, fact_schema(PATH_PREDICTION)), SAID)
        predicted = store.facts(PATH_PREDICTION, with_provenance=True)
        lake.land(parse([ping(1, timestamp=at_s + 60)], "test"))
        assert refreshed(tmp_path, lake, store) is not None
        memory_file(tmp_path, H3).unlink()
        assert refreshed(tmp_path, lake, store).states == 4
        assert store.facts(PATH_PREDICTION, with_provenance=True) == predicted
        assert store.facts(PATH_STATE).num_rows == states.num_rows
        assert refreshed(tmp_path, lake, store, keep=timedelta(hours=4)).states == 2
        starts = store.facts(PATH_PREDICTION)["window_start"].unique().to_pylist()
        assert starts == [T0 + slot * H3 for slot in (2, 3, 4, 5)]
        counted = prune_graph(store, T0 + 4 * H3, None, only_count=False)
        assert counted[PATH_PREDICTION.label] == 4
        assert store.facts(PATH_PREDICTION).num_rows == 4


def test_what_is_written_beside_states_needs_none_of_them_built_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    at_s = int(T0.timestamp())
    lake.land(parse([ping(1, timestamp=at_s + day * 86_400) for day in (0, 1)], "test"))
    with open_store("sqlite", tmp_path, create=True) as store:
        assert refreshed(tmp_path, lake, store).states == 2
        pair = store.pairs().to_pylist()[0]
        row = (
            dict.fromkeys(fact_schema(PATH_PREDICTION).names)
            | {name: pair[name] for name in ("probe_id", "target", "af")}
            | {"window_start": T0, "window_end": T0 + H3, "model": "sage", "protocol": "forecast"}
            | {"rtt_ms": 1.0, "in_range": True, "predicted_at": T0, "synthetic": False}
        )
        before = store.revision()
        put_predictions(store, pa.Table.from_pylist([row], fact_schema(PATH_PREDICTION)), SAID)
        keep_fresh(tmp_path, before, store.revision())
        assert refreshed(tmp_path, lake, store) is None
        keep_fresh(tmp_path, "another", "one more")
        assert refreshed(tmp_path, lake, store) is None


def test_windows_whose_files_were_let_go_of_are_emptied(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    at_s = int(T0.timestamp())
    lake.land(parse([ping(1, timestamp=at_s + day * 86_400) for day in (0, 1)], "test"))
    with open_store("sqlite", tmp_path, create=True) as store:
        assert refreshed(tmp_path, lake, store).states == 2
        lake.files(Kind.PING)[0].unlink()
        lake.repair()
        assert refreshed(tmp_path, lake, store).states == 0
        assert store.counts()[PATH_STATE.label] == 1


def test_wherever_a_refresh_is_killed_the_next_comes_to_the_graph_that_is_built_at_once(
    tmp_path: Path,
) -> None:
    outcome = kill(REFRESH, 1 + len(REFRESH.phases), 1, tmp_path)
    assert outcome["wrong"] == []
    assert outcome["too_few"] == []
