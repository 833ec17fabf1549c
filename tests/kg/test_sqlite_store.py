"""SQLite's own side of the store: its layout, its migrations, and what happens to a file when things go wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import adbc_driver_manager
import pyarrow as pa
import pytest
from adbc_driver_sqlite import dbapi

from domain.errors import EmptyError, StoreError
from domain.selection import Selection
from kg import sqlite_layout, sqlite_migrations
from kg.schema import (
    ASSIGNED,
    ATLAS_PROBE,
    EDGE_TYPES,
    FACT_TYPES,
    HOST_NAME,
    IN_COUNTRY,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    MEASURES,
    NEXT_HOP,
    NODE_TYPES,
    PART_OF_MEASUREMENT,
    PATH_SCORE,
    PATH_STATE,
    TARGET_HOST_NAME,
    VERSION,
    EdgeType,
)
from kg.sqlite_store import SQLiteStore
from kg.tables import described
from tests.contract import test_stores as contract
from tests.contract.test_stores import H3, T0, edges, facts, link, nodes, places, said, score, state

VERSION_1 = Path(__file__).with_name("graph_version_1.sql")

FINGERPRINTS = {2: "0a270f2887e970eb", 3: "38cb5ba671526359", 4: "8d4efc1dfd795f8b"}
"""Version of the ontology -> fingerprint of the tables that it makes."""


def test_a_change_of_the_tables_is_a_new_version_with_a_way_from_the_old_one() -> None:
    assert FINGERPRINTS.get(VERSION) == sqlite_layout.fingerprint(), (
        "the ontology makes other tables now: give it a new owl:versionInfo, say in kg/sqlite_migrations.py how a file of "
        "the old version becomes one of the new, and write the new fingerprint here"
    )
    assert set(sqlite_migrations.MIGRATIONS) == set(range(1, VERSION))


# Layout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "graph.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(path, create=True) as opened:
        yield opened


def fill(store: SQLiteStore) -> None:
    places(store)
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(), state(target="2001:db8::1", af=6)), said("ping"))
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, score()), said("scores"))


def everything(store: SQLiteStore) -> list[pa.Table]:
    return [
        *(store.nodes(node_type) for node_type in NODE_TYPES),
        *(store.edges(edge_type) for edge_type in EDGE_TYPES),
        *(store.facts(fact_type, with_provenance=True) for fact_type in FACT_TYPES),
    ]


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    """What SQLite itself says, past the store.

    By the store's own driver: Python's sqlite3 is another SQLite, and two of them in one process do not see each other's locks.
    """
    with dbapi.connect(path.as_uri(), autocommit=True) as file, file.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def test_every_node_edge_and_fact_has_a_table_with_its_columns(store: SQLiteStore, path: Path) -> None:
    def columns(table: str) -> set[object]:
        return {row[1] for row in ask(path, f"PRAGMA table_info ({sqlite_layout.name(table)})")}

    for node_type in NODE_TYPES:
        assert columns(node_type.label) == {p.name for p in node_type.columns}
    for edge_type in EDGE_TYPES:
        number = {"id"} if described(edge_type) else set()
        assert columns(edge_type.table) == {p.name for p in edge_type.columns} | {"provenance"} | number
    for fact_type in FACT_TYPES:
        about = {"subject"} if isinstance(fact_type.about, EdgeType) else {p.name for p in fact_type.subject}
        own = {p.name for p in (*fact_type.identity, *fact_type.values)}
        assert columns(fact_type.label) == {"window", "provenance"} | about | own


def test_all_that_a_row_refers_to_is_there(store: SQLiteStore, path: Path) -> None:
    fill(store)
    assert ask(path, "PRAGMA foreign_key_check") == []


def test_a_window_and_a_series_are_found_by_the_key(store: SQLiteStore, path: Path) -> None:
    fill(store)

    def plan(condition: str) -> str:
        return str(ask(path, f"EXPLAIN QUERY PLAN SELECT results FROM PathState WHERE {condition}"))  # noqa: S608

    some = "IN (SELECT value FROM json_each('[1]'))"
    assert "SEARCH PathState USING PRIMARY KEY (window=?)" in plan(f'"window" {some}')
    assert "SEARCH PathState USING PRIMARY KEY (window=? AND subject=?)" in plan(
        f'"window" {some} AND subject {some}'
    )


def test_a_state_takes_no_more_than_120_bytes_and_a_score_no_more_than_70(
    store: SQLiteStore, path: Path
) -> None:
    paths = [{"probe_id": n, "target": "2001:db8:1234:5678::1", "af": 6} for n in range(5000)]
    known = {"rtt_p95_ms": 11.5, "jitter_ms": 0.12345, "rtt_median_ms": 10.98765, "rtt_mean_ms": 11.0123}

    def size() -> int:
        (pages,), (page_size,) = ask(path, "PRAGMA page_count") + ask(path, "PRAGMA page_size")
        assert isinstance(pages, int)
        assert isinstance(page_size, int)
        return pages * page_size

    for window in range(2):  # the first makes the paths
        before = size()
        times = {"window_start": T0 + window * H3, "window_end": T0 + (window + 1) * H3}
        store.put_facts(
            PATH_STATE, facts(PATH_STATE, *(state(**p, **known, **times) for p in paths)), said("p")
        )
    assert size() - before <= 5000 * 120
    before = size()
    costs = {"score": 80.12345, "rtt_cost_points": 1.2345, "loss_cost_points": 18.5432}
    scores = [score(**p, **costs, profile="a profile with a long name") for p in paths]
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, *scores), said("scores"))
    assert size() - before <= 5000 * 70


def test_a_column_may_be_unknown_in_many_rows_before_it_is_known(store: SQLiteStore) -> None:
    unknown = [{"id": n, "name": None} for n in range(70_000)]  # more than the driver reads at once
    store.upsert_nodes(ATLAS_PROBE, nodes(ATLAS_PROBE, *unknown, {"id": 70_000, "name": "last"}))
    found = store.nodes(ATLAS_PROBE)
    assert (found.num_rows, found["name"][69_999].as_py(), found["name"][70_000].as_py()) == (
        70_001,
        None,
        "last",
    )


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "a home? 100%, #1 & 'mine'" / "graph.sqlite"
    with SQLiteStore(path, create=True) as store:
        fill(store)
    with SQLiteStore(path, create=False) as store:
        assert store.counts()["PathState"] == 2


def test_the_revision_says_which_graph_and_stays_when_nothing_is_new(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "a", create=True) as one, SQLiteStore(tmp_path / "b", create=True) as other:
        fill(one)
        fill(other)
        assert one.revision() != other.revision()
        revision = one.revision()
        fill(one)  # stated edges, too, are compared beside the graph
        assert one.revision() == revision


def test_when_the_last_synthetic_fact_is_pruned_none_is_held(store: SQLiteStore) -> None:
    synthetic = facts(PATH_STATE, state(synthetic=True))
    store.upsert_edges(MEASURES, edges(MEASURES, link(1, "192.0.2.1", af=4)), said("ping"))
    store.put_facts(PATH_STATE, synthetic, said("ping"))
    assert store.holds_synthetic()
    assert store.prune(PATH_STATE, T0 + H3) == 1
    assert not store.holds_synthetic()


# Versions


def version_1(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(VERSION_1.read_text())


COUNTS_1 = {
    "AtlasProbe": 2,
    "AtlasMeasurement": 2,
    "IP": 3,
    "Prefix": 1,
    "AS": 2,
    "Country": 2,
    "Point": 2,
    "HostName": 1,
    "Application": 2,
    "IP ASSIGNED AtlasProbe": 2,
    "AtlasProbe LOCATED_IN AS": 3,
    "AtlasProbe LOCATED_IN Point": 2,
    "AtlasProbe COUNTRY Country": 2,
    "IP PART_OF Prefix": 1,
    "AtlasProbe PART_OF AtlasMeasurement": 2,
    "AtlasMeasurement TARGET IP": 1,
    "AtlasMeasurement TARGET HostName": 1,
    "IP NEXT_HOP IP": 1,
    "AtlasProbe MEASURES IP": 2,
    "PathState": 4,
    "PathScore": 4,
}


def said_of(row: dict[str, object]) -> tuple[object, ...]:
    return row["reference_name"], row["reference_org"], row["method"], row["synthetic"]


@pytest.mark.parametrize("create", [True, False])
def test_a_graph_of_version_1_becomes_one_of_this_version_and_loses_nothing(path: Path, create: bool) -> None:
    version_1(path)
    probes, ping, testbed = (
        ("probes.json", "RIPE NCC", None, False),
        ("atlas.ping", "RIPE NCC", "summarised by window, in graph version 1", False),
        ("atlas.ping", "qoetwin testbed", "summarised by window, in graph version 1", True),
    )
    with SQLiteStore(path, create=create) as store:
        filled = {name: count for name, count in store.counts().items() if count}
        assert filled == COUNTS_1
        first = store.nodes(ATLAS_PROBE).to_pylist()[0]
        assert (first["name"], first["status"], first["is_anchor"]) == ('O\'Hara "home"', "Connected", False)
        for edge_type in (LOCATED_IN_POINT, LOCATED_IN_AS, IN_COUNTRY, ASSIGNED):
            stated = store.edges(edge_type).to_pylist()
            assert {(row["valid_from"], row["valid_to"], said_of(row)) for row in stated} == {
                (None, None, probes)
            }
        assert store.edges(ASSIGNED)["af"].to_pylist() == [4, 6]
        (hop,) = store.edges(NEXT_HOP).to_pylist()
        assert (hop["traceroutes"], hop["first_seen"], hop["last_seen"]) == (7, T0, T0 + timedelta(hours=1))
        v4, v6 = store.edges(MEASURES).to_pylist()
        assert (v4["first_seen"], v4["last_seen"], said_of(v4)) == (T0, T0 + 2 * H3, ping)
        assert (v6["target"], v6["first_seen"], v6["last_seen"], said_of(v6)) == (
            *("2001:db8::1", T0, T0 + H3),
            testbed,
        )
        states = store.facts(PATH_STATE, Selection(window_s=10800), with_provenance=True).to_pylist()
        assert [(row["window_start"], row["af"], row["synthetic"]) for row in states] == [
            *((T0, 4, False), (T0, 6, True)),
            (T0 + H3, 4, False),
        ]
        assert {name: states[0][name] for name in state()} == state(jitter_ms=0.5)
        assert states[0]["reference_time_fetch"] == datetime(2019, 5, 12, 9, 0, 0, 1, tzinfo=UTC)
        assert store.facts(PATH_STATE, Selection(window_s=3600)).num_rows == 1
        scores = store.facts(PATH_SCORE, with_provenance=True).to_pylist()
        assert {name: scores[0][name] for name in score()} == score(profile="table-i v1")
        assert [(row["score"], row["reason"]) for row in scores] == [
            *((80.0, None), (90.0, None), (99.0, None)),
            (None, "no packet came back"),
        ]
        assert said_of(scores[2]) == ("atlas.ping", "qoetwin testbed", "scored, in graph version 1", True)
        assert store.holds_synthetic()
        (pair, _) = store.pairs().to_pylist()
        assert (pair["probe_country"], pair["target_asn"], pair["target_latitude"]) == ("LB", 64501, 52.4)
    assert ask(path, "PRAGMA foreign_key_check") == []
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(path, "SELECT name FROM sqlite_master WHERE name LIKE '%version 1%'") == []


def test_a_graph_of_version_1_is_migrated_once_and_is_then_like_a_new_one(path: Path, tmp_path: Path) -> None:
    version_1(path)
    with SQLiteStore(path, create=False) as store:
        revision, migrated = store.revision(), everything(store)
    with SQLiteStore(path, create=False) as store:
        assert (store.revision(), everything(store)) == (revision, migrated)
    SQLiteStore(tmp_path / "new", create=True).close()
    layout = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    assert ask(path, layout) == ask(tmp_path / "new", layout)


@pytest.mark.parametrize("version", [2, 3])
def test_a_graph_of_a_later_version_becomes_one_of_this_version_and_loses_nothing(
    path: Path, tmp_path: Path, version: int
) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(VERSION_1.with_name(f"graph_version_{version}.sql").read_text())
    probe = {"id": 2, "name": "an anchor", "status": "Connected", "is_anchor": True, "synthetic": False}
    with SQLiteStore(tmp_path / "new", create=True) as new, SQLiteStore(path, create=False) as store:
        contract.fill_without_predictions(new)
        new.upsert_nodes(ATLAS_PROBE, nodes(ATLAS_PROBE, probe))
        assert everything(store) == everything(new)
        assert store.facts(PATH_STATE)["doubtful_results"].null_count == 2
        for one in (new, store):
            contract.fill(one)
        assert everything(store) == everything(new)
    assert ask(path, "PRAGMA foreign_key_check") == []
    layout = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    assert ask(path, layout) == ask(tmp_path / "new", layout)


def test_a_migration_that_cannot_be_finished_leaves_the_old_graph_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_1(path)
    layout = ask(path, "SELECT * FROM sqlite_master")
    broken = [*sqlite_migrations.from_1(), "INSERT INTO nowhere VALUES (1)"]
    monkeypatch.setitem(sqlite_migrations.MIGRATIONS, 1, lambda: broken)
    with pytest.raises(StoreError, match="nowhere"):
        SQLiteStore(path, create=True)
    assert ask(path, "SELECT * FROM sqlite_master") == layout
    assert ask(path, "PRAGMA user_version") == [(1,)]
    assert ask(path, "SELECT count(*) FROM path_score") == [(4,)]


def test_a_graph_of_a_newer_version_is_left_alone_and_says_so(path: Path) -> None:
    SQLiteStore(path, create=True).close()
    ask(path, f"PRAGMA user_version = {VERSION + 1}")
    for create in (True, False):
        with pytest.raises(
            StoreError, match=rf"version {VERSION + 1}; expected version {VERSION}; a newer qoetwin"
        ):
            SQLiteStore(path, create=create)


def test_a_database_of_somebody_else_is_left_alone(path: Path) -> None:
    ask(path, "CREATE TABLE theirs (a)")
    for create in (True, False):
        with pytest.raises(StoreError, match=r"another schema.*version 0"):
            SQLiteStore(path, create=create)
    assert ask(path, "SELECT name FROM sqlite_master") == [("theirs",)]


def test_an_empty_file_is_no_graph_until_one_is_made_there(path: Path) -> None:
    path.touch()
    with pytest.raises(EmptyError, match="qoetwin graph build"):
        SQLiteStore(path, create=False)
    with SQLiteStore(path, create=True) as store:
        fill(store)


# Faults


def test_what_is_no_database_is_one_line_that_says_what_to_do(path: Path) -> None:
    path.write_text("no database, but a text that is long enough to be read as the head of one" * 99)
    with pytest.raises(
        StoreError, match=r"graph.sqlite; found .*not a database.*; move the file away and run"
    ) as seen:
        SQLiteStore(path, create=False)
    assert "\n" not in str(seen.value)


def test_damaged_pages_are_one_line_that_says_what_to_do(path: Path) -> None:
    with SQLiteStore(path, create=True) as store:
        rows = (state(probe_id=n) for n in range(2000))
        store.put_facts(PATH_STATE, facts(PATH_STATE, *rows), said("ping"))
    content = bytearray(path.read_bytes())
    content[20 * 4096 :] = b"\x5a" * (len(content) - 20 * 4096)
    path.write_bytes(content)
    with (
        pytest.raises(StoreError, match=r"cannot read the graph.*malformed.*move the file away and run"),
        SQLiteStore(path, create=False) as store,
    ):
        everything(store)


def test_a_file_cut_short_is_one_line(path: Path) -> None:
    with SQLiteStore(path, create=True) as store:
        fill(store)
    path.write_bytes(path.read_bytes()[: 3 * 4096 + 17])
    with (
        pytest.raises(StoreError, match=r"cannot (read|open) the graph.*malformed"),
        SQLiteStore(path, create=False) as store,
    ):
        everything(store)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot open the graph"):
        SQLiteStore(tmp_path / "file" / "graph.sqlite", create=True)
    (tmp_path / "graph.sqlite").mkdir()
    with pytest.raises(StoreError, match="give a home that may be written"):
        SQLiteStore(tmp_path / "graph.sqlite", create=True)


def test_while_somebody_else_writes_a_writer_waits_then_says_so_and_readers_read_on(path: Path) -> None:
    with SQLiteStore(path, create=True) as store:
        fill(store)
        before = everything(store)
    changed = facts(PATH_STATE, state(sent=9))
    with (
        SQLiteStore(path, create=False) as other,
        SQLiteStore(path, create=False, patience_s=0.05) as store,
    ):
        with other.transaction():
            other.upsert_nodes(HOST_NAME, nodes(HOST_NAME, {"name": "a"}))
            with pytest.raises(StoreError, match=r"cannot write the graph.*locked.*wait, and try again"):
                store.put_facts(PATH_STATE, changed, said("ping"))
            assert everything(store) == before
        store.put_facts(PATH_STATE, changed, said("ping"))
        assert store.facts(PATH_STATE)["sent"].to_pylist() == [9, 3]


def test_on_a_full_disk_a_write_says_so_and_the_graph_is_as_it_was(store: SQLiteStore) -> None:
    fill(store)
    before, revision = everything(store), store.revision()
    many = facts(PATH_STATE, *(state(probe_id=n) for n in range(20_000)))
    store._execute("PRAGMA max_page_count = 200")  # as if the disk ended there
    with pytest.raises(
        StoreError, match=r"cannot write the graph.*is full; .*free some space, and try again"
    ):
        store.put_facts(PATH_STATE, many, said("ping"))
    assert everything(store) == before
    with pytest.raises(StoreError, match="is full"), store.transaction():  # noqa: PT012 - the fault comes in the middle
        store.upsert_nodes(HOST_NAME, nodes(HOST_NAME, {"name": "before the fault"}))
        store.put_facts(PATH_STATE, many, said("ping"))
    assert (everything(store), store.revision()) == (before, revision)
    store._execute("PRAGMA max_page_count = 100000")
    store.put_facts(PATH_STATE, many, said("ping"))
    assert store.counts()["PathState"] == 20_001


KILLED = """
import os, signal, sys
from pathlib import Path
from kg.schema import HOST_NAME, PATH_STATE
from kg.sqlite_store import SQLiteStore
from tests.contract.test_stores import facts, nodes, said, state

store = SQLiteStore(Path(sys.argv[1]), create=False)
store.upsert_nodes(HOST_NAME, nodes(HOST_NAME, {"name": "whole"}))
with store.transaction():
    store.put_facts(PATH_STATE, facts(PATH_STATE, *(state(probe_id=n) for n in range(30_000))), said("ping"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_killed_in_the_middle_leaves_what_was_whole(path: Path) -> None:
    with SQLiteStore(path, create=True) as store:
        fill(store)
        before = store.counts()
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    run = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=root, env=environment, check=False)
    assert run.returncode == -signal.SIGKILL
    with SQLiteStore(path, create=False) as store:
        assert store.counts() == before | {"HostName": before["HostName"] + 1}
        fill(store)
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.fixture
def read_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graph where the disk may not be written; who runs the tests may be allowed everything, so it is only said."""
    with SQLiteStore(path, create=True) as store:
        fill(store)
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    return path


def test_a_graph_on_a_disk_that_may_not_be_written_is_read(read_only: Path) -> None:
    beside = set(read_only.parent.iterdir())
    with SQLiteStore(read_only, create=False) as store:
        assert store.counts()["PathState"] == 2
        assert store.pairs().num_rows == 2
        with pytest.raises(
            StoreError, match=r"cannot write the graph.*readonly.*give a home that may be written"
        ):
            store.upsert_nodes(HOST_NAME, nodes(HOST_NAME, {"name": "a"}))
        assert set(read_only.parent.iterdir()) == beside  # no log, no index of one


def test_a_graph_that_another_has_open_is_read_with_his_log_where_it_may_not_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SQLiteStore(path, create=True) as writer:
        fill(writer)
        monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
        with SQLiteStore(path, create=False) as reader:
            assert everything(reader) == everything(writer)


def test_an_old_graph_on_a_disk_that_may_not_be_written_says_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_1(path)
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    with pytest.raises(
        StoreError, match=f"version 1; expected version {VERSION}; open it once where it may be written"
    ):
        SQLiteStore(path, create=False)


FAULTS = [
    *(adbc_driver_manager.DataError, adbc_driver_manager.DatabaseError, adbc_driver_manager.Error),
    *(
        adbc_driver_manager.IntegrityError,
        adbc_driver_manager.InterfaceError,
        adbc_driver_manager.InternalError,
    ),
    *(adbc_driver_manager.NotSupportedError, adbc_driver_manager.OperationalError),
    *(adbc_driver_manager.ProgrammingError, OSError, pa.ArrowInvalid),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda error: error.__name__)
def test_whatever_the_driver_raises_is_a_store_error(
    store: SQLiteStore, fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def cursor(self, **options: object) -> None:
            code = {"status_code": adbc_driver_manager.AdbcStatusCode.INTERNAL}
            has_code = issubclass(fault, adbc_driver_manager.Error)
            no_code = fault is adbc_driver_manager.NotSupportedError
            raise fault("broken", **(code if has_code and not no_code else {}))

        def close(self) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr(store, "_db", Broken())
        with pytest.raises(StoreError, match=r"cannot read the graph.*broken"):
            store.nodes(HOST_NAME)
        with pytest.raises(StoreError, match=r"cannot write the graph.*broken"):
            store.upsert_nodes(HOST_NAME, nodes(HOST_NAME, {"name": "a"}))


def test_a_value_of_another_kind_is_refused_in_words(store: SQLiteStore) -> None:
    wrong = pa.table({"source": pa.array(["one"]), "target": pa.array(["anchor.example"])})
    with pytest.raises(StoreError, match=r"cannot write the graph.*one"):
        store.upsert_edges(TARGET_HOST_NAME, wrong, said("a"))
    halves = pa.table({"source": pa.array([1.5]), "target": pa.array([7.0])})
    with pytest.raises(StoreError, match=r"cannot write the graph.*1\.5"):
        store.upsert_edges(PART_OF_MEASUREMENT, halves, said("a"))
    assert set(store.counts().values()) == {0}
