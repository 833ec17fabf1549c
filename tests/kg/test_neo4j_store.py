"""What is particular to Neo4j: faults of a server, sharing a database, questions in Cypher, what the server is told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import neo4j
import neo4j.exceptions
import pyarrow as pa
import pytest

import kg.neo4j_connection
import kg.neo4j_store
from domain.credentials import Credentials
from domain.errors import EmptyError, InputError, QoetwinError, StoreError
from domain.provenance import Provenance
from domain.selection import Selection
from kg.exchange.whole import name_of
from kg.neo4j_connection import Connection, in_our_words
from kg.neo4j_query import Answer, query
from kg.neo4j_shapes import shape_of, unique_nodes, unique_relationships
from kg.neo4j_store import Neo4jStore, open_address
from kg.schema import (
    ATLAS_PROBE,
    EDGE_TYPES,
    FACT_TYPES,
    IN_COUNTRY,
    LOCATED_IN_POINT,
    MEASURES,
    NEXT_HOP,
    NODE_TYPES,
    PATH_STATE,
    POINT,
    VERSION,
    EdgeType,
    FactType,
    NodeType,
)
from tests.contract.memory_store import MemoryStore, Tables
from tests.contract.test_stores import edges, everything, facts, fill, hop, link, nodes, said, state
from tests.neo4j.guard import ALLOWED, MARK, NotOursError, TestDatabase
from tests.neo4j.server import free_port

T0 = datetime(2019, 5, 12, 9, tzinfo=UTC)
H3 = timedelta(hours=3)


@pytest.fixture
def database(neo4j_server: TestDatabase) -> TestDatabase:
    neo4j_server.clear()
    return neo4j_server


def opened(database: TestDatabase, *, create: bool = True) -> Neo4jStore:
    return open_address(database.address, Path(), create=create, credentials=database.credentials)


@pytest.fixture
def store(database: TestDatabase) -> Iterator[Neo4jStore]:
    with opened(database) as one:
        yield one


def told(database: TestDatabase, cypher: str, **parameters: Any) -> list[Any]:
    """What the server says, asked past the store."""
    with database.driver() as driver:
        records, _, _ = driver.execute_query(cypher, parameters, database_="neo4j")
        return [record.values() for record in records]


# What the schema says is what the server keeps


def test_constraints_and_indexes_are_those_of_the_schema(database: TestDatabase) -> None:
    opened(database).close()
    rows = told(database, "SHOW CONSTRAINTS YIELD entityType, labelsOrTypes, properties, type")
    found = {(kind, *names, *properties) for kind, names, properties, _ in rows}
    wanted = {("NODE", label, key) for label, key in unique_nodes()}
    wanted |= {("RELATIONSHIP", name, "key") for name in unique_relationships()}
    assert wanted <= found
    assert {kind for *_, kind in rows} <= {"UNIQUENESS", "RELATIONSHIP_UNIQUENESS"}
    indexed = told(
        database, "SHOW INDEXES YIELD labelsOrTypes, properties WHERE properties = ['window_start']"
    )
    names = {name for (names, _) in indexed for name in names}
    assert names == {
        "PATH_STATE",
        "ProbeState",
        "TargetState",
        "LINK_STATE",
        "PATH_PREDICTION",
        "PATH_SCORE",
        "ASScore",
        "CountryScore",
    }
    assert len(names) == len(FACT_TYPES)


def test_a_graph_of_another_version_is_refused_in_one_line(database: TestDatabase) -> None:
    opened(database).close()
    for version, words in ((VERSION + 1, "newer"), (1, "older")):
        told(database, "MATCH (g:QoetwinGraph) SET g.version = $version", version=version)
        with pytest.raises(StoreError, match=words):
            opened(database)


@pytest.mark.parametrize("version", [2, 3])
def test_a_graph_of_an_older_version_becomes_one_of_this_version(
    database: TestDatabase, version: int
) -> None:
    with opened(database) as store:
        fill(store)
        before = everything(store)
    told(database, "MATCH (g:QoetwinGraph) SET g.version = $version", version=version)
    with opened(database) as store:
        assert everything(store) == before
    assert told(database, "MATCH (g:QoetwinGraph) RETURN g.version") == [[VERSION]]


def test_states_lie_beside_the_edge_that_they_are_about_and_are_found_by_their_time(
    store: Neo4jStore,
) -> None:
    fill(store)
    answer = ask(
        store,
        "MATCH (p:AtlasProbe)-[s:PATH_STATE]->(t:IP) WHERE s.window_start <= datetime($at) < s.window_end"
        " MATCH (p)-[m:MEASURES {af: s.af}]->(t) RETURN p.id, t.ip, s.rtt_median_ms ORDER BY t.ip",
        at="2019-05-12T10:00:00Z",
    )
    assert answer.rows == [(1, "192.0.2.1", 11.0), (1, "2001:db8::1", 11.0)]
    of_probe = ask(store, "MATCH (s:ProbeState)-[:OF]->(p:AtlasProbe {id: 1}) RETURN s.paths")
    assert of_probe.rows == [(1,)]


def test_a_prediction_lies_beside_a_path_of_its_own_and_no_pattern_of_states_meets_it(
    store: Neo4jStore,
) -> None:
    fill(store)  # with a prediction of a pair that was never measured
    answer = ask(
        store,
        "MATCH (p:AtlasProbe)-[s:PATH_PREDICTION {model: $model}]->(t:IP) MATCH (p)-[:PREDICTED_TO {af: s.af}]->(t)"
        " RETURN p.id, t.ip, s.rtt_low_ms, EXISTS { (p)-[:MEASURES]->(t) } AS measured ORDER BY p.id",
        model="graph-transformer",
    )
    assert answer.rows == [(1, "192.0.2.1", 9.0, True), (2, "192.0.2.9", 9.0, False)]
    assert ask(store, "MATCH (:AtlasProbe {id: 2})-[s:PATH_STATE|MEASURES]->() RETURN count(s)").rows == [
        (0,)
    ]


def test_pages_and_batches_of_any_size_hold_the_same_graph(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kg.neo4j_store, "PAGE", 4)
    monkeypatch.setattr(kg.neo4j_store, "BATCH", 5)
    reference = MemoryStore(Tables())
    rows = [
        state(probe_id=probe, target=target, window_start=T0 + n * H3, window_end=T0 + (n + 1) * H3)
        for n in range(2)
        for probe in range(1, 5)
        for target in ("192.0.2.1", "☃ 𐀀|\\")
    ]
    rows += [
        dict(row, window_end=T0 + H3 / 3) for row in rows[:6]
    ]  # windows of two lengths that begin together
    countries = [
        link(probe, country, valid_from=T0 + n * H3, valid_to=T0 + (n + 1) * H3)
        for probe in range(1, 4)
        for n, country in enumerate(("LB", "SY", "NL"))
    ]
    with opened(database) as store:
        for one in (store, reference):
            fill(one)
            one.put_facts(PATH_STATE, facts(PATH_STATE, *rows), said("ping"))
            one.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, *countries), said("probes"))
            one.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, *countries[3:9]), said("probes, later"))
        for found, expected in zip(everything(store), everything(reference), strict=True):
            assert found == expected
        for selection in (
            Selection(probe_ids=(2,)),
            Selection(af=4),
            Selection(targets=("☃ 𐀀|\\",)),
            Selection(at=T0),
            Selection(window_s=10800),
            Selection(start=T0 + H3),
        ):
            assert store.facts(PATH_STATE, selection) == reference.facts(PATH_STATE, selection)
        assert store.prune(PATH_STATE, T0 + H3) == reference.prune(PATH_STATE, T0 + H3)
        assert everything(store) == everything(reference)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(1901, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2019, 5, 12, 9, 0, 0, 123456, tzinfo=UTC),
        datetime(2999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_times_come_back_to_the_microsecond(store: Neo4jStore, moment: datetime) -> None:
    provenance = Provenance(
        reference_name="x",
        reference_org="x",
        reference_url_data=None,
        reference_time_fetch=moment,
        reference_time_modification=None,
        method=None,
        synthetic=False,
    )
    store.upsert_edges(NEXT_HOP, hop("192.0.2.9", "192.0.2.1", 1, moment, moment), provenance)
    (edge,) = store.edges(NEXT_HOP).to_pylist()
    assert (edge["first_seen"], edge["last_seen"], edge["reference_time_fetch"]) == (moment, moment, moment)
    store.put_facts(
        PATH_STATE, facts(PATH_STATE, state(window_start=moment, window_end=moment + H3)), provenance
    )
    (row,) = store.facts(PATH_STATE, Selection(at=moment)).to_pylist()
    assert (row["window_start"], row["window_end"]) == (moment, moment + H3)


def test_a_place_is_a_point_as_iyp_has_them_and_text_for_us(store: Neo4jStore) -> None:
    positions = ["POINT(35.5 33.9)", "POINT(-180.0 90.0)", "POINT(1e-07 0.1)"]
    rows = [
        {"position": position, "latitude": float(position[6:-1].split()[1]), "longitude": 1.0}
        for position in positions
    ]
    store.upsert_nodes(POINT, nodes(POINT, *rows))
    store.upsert_edges(LOCATED_IN_POINT, edges(LOCATED_IN_POINT, link(1, positions[0])), said("probes"))
    assert store.nodes(POINT)["position"].to_pylist() == sorted(positions)
    near = "MATCH (p:Point) WHERE point.distance(p.position, point({longitude: 35.5, latitude: 33.8})) < 20000 RETURN count(p)"
    assert ask(store, near).rows == [(1,)]
    assert [n.target_key for n in store.neighbours(ATLAS_PROBE, 1, hops=1)] == [positions[0]]
    for wrong in ("POINT(35.50 33.9)", "Beirut", "POINT(200.0 0.0)", "POINT(1 2)", "POINT(nan 0.0)"):
        with pytest.raises(StoreError, match="POINT"):
            store.upsert_edges(LOCATED_IN_POINT, edges(LOCATED_IN_POINT, link(1, wrong)), said("probes"))


# A database that others use too


def test_what_others_keep_in_the_database_is_neither_changed_nor_deleted_nor_read_as_ours(
    database: TestDatabase,
) -> None:
    told(
        database,
        "CREATE (p:AtlasProbe {id: 1, status_name: 'Connected'})-[:COUNTRY {reference_name: 'iyp'}]->"
        "(c:Country {country_code: 'FR', alpha3: 'FRA'}),"
        " (p)-[:LOCATED_IN {af: 4, reference_name: 'iyp'}]->(:AS {asn: 2497}), (:Tag {label: 'x'})",
    )
    with opened(database) as store:
        fill(store)
        store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, link(1, "LB")), said("probes"))
        store.prune(PATH_STATE, T0 + 9 * H3)
        assert store.edges(IN_COUNTRY)["target"].to_pylist() == ["LB", "NL"]
        assert store.counts()["AtlasProbe COUNTRY Country"] == 2
        assert [n.target_key for n in store.neighbours(ATLAS_PROBE, 1, hops=1) if n.edge == "COUNTRY"] == [
            "LB"
        ]
    theirs = "MATCH (p:AtlasProbe {id: 1})-[r {reference_name: 'iyp'}]->(n) RETURN p.status_name, type(r) ORDER BY type(r)"
    assert told(database, theirs) == [["Connected", "COUNTRY"], ["Connected", "LOCATED_IN"]]
    assert told(database, "MATCH (c:Country {country_code: 'FR'}) RETURN c.alpha3") == [["FRA"]]
    assert told(database, "MATCH (t:Tag) RETURN count(t)") == [[1]]
    assert told(database, "MATCH (p:AtlasProbe {id: 1}) RETURN count(p)") == [[1]]


def test_tests_do_not_empty_a_database_of_somebody_else(database: TestDatabase) -> None:
    with database.driver() as driver:
        driver.execute_query(f"MATCH (n:{MARK}) DELETE n CREATE (:Precious)", database_="neo4j")
        try:
            with pytest.raises(NotOursError, match=ALLOWED):
                TestDatabase(address=database.address, credentials=database.credentials, server=None).guard(
                    environment={}
                )
            assert told(database, "MATCH (n:Precious) RETURN count(n)") == [[1]]
            database.guard(environment={ALLOWED: "yes"})
        finally:
            driver.execute_query(f"MATCH (n:Precious) DELETE n MERGE (:{MARK})", database_="neo4j")


# Faults


def many(probes: int) -> pa.Table:
    return facts(
        PATH_STATE,
        *(state(probe_id=probe, target=f"192.0.2.{n}") for probe in range(1, probes + 1) for n in range(100)),
    )


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_goes_away_in_the_middle_of_a_write_and_comes_back_holds_the_same_graph(
    database: TestDatabase, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = database.server
    if server is None:
        pytest.skip("a server that NEO4J_URI names is not ours to stop")
    monkeypatch.setattr(kg.neo4j_store, "BATCH", 500)
    written = many(60)
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with opened(database) as store:
                store.put_facts(PATH_STATE, written, said("ping"))
        except QoetwinError as error:
            failed.append(error)

    opened(database).close()
    writer = threading.Thread(target=write)
    writer.start()
    until = time.monotonic() + 60
    while not told(database, "MATCH ()-[s:PATH_STATE]->() RETURN count(s) > 1000")[0][0]:
        assert writer.is_alive(), failed
        assert time.monotonic() < until
    assert writer.is_alive(), "it had written everything before the server went away"
    getattr(server, how)()
    server.start()
    writer.join(120)
    assert not failed
    with opened(database) as store:
        assert store.facts(PATH_STATE) == written.sort_by([(n, "ascending") for n in ("probe_id", "target")])
        assert store.edges(MEASURES).num_rows == written.num_rows


def test_a_server_that_stays_away_is_one_clear_line_and_the_same_written_again_finishes(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = database.server
    if server is None:
        pytest.skip("a server that NEO4J_URI names is not ours to stop")
    monkeypatch.setattr(kg.neo4j_connection, "RETRY_S", 1.0)
    with opened(database) as store:
        server.stop()
        try:
            with pytest.raises(StoreError, match=r"no Neo4j answers.*run the same again") as caught:
                fill(store)
            assert "\n" not in caught.value.line()
            with pytest.raises(StoreError, match="no Neo4j answers"):
                store.counts()
        finally:
            server.start()
        fill(store)
        reference = MemoryStore(Tables())
        fill(reference)
        assert everything(store) == everything(reference)


def test_a_commit_that_may_or_may_not_have_happened_is_done_again(
    store: Neo4jStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Connection.session, []

    def torn(self: Connection, access: str, fetch_size: int = 1000) -> Any:
        session = real(self, access, fetch_size)
        execute = session.execute_write

        def execute_write(work: Callable[..., Any]) -> Any:
            answer = execute(work)
            calls.append(answer)
            if len(calls) == 1:
                raise neo4j.exceptions.IncompleteCommit("gone")
            return answer

        session.execute_write = execute_write  # type: ignore[method-assign]
        return session

    monkeypatch.setattr(Connection, "session", torn)
    store.put_facts(PATH_STATE, facts(PATH_STATE, state()), said("ping"))
    assert len(calls) == 2
    assert store.facts(PATH_STATE) == facts(PATH_STATE, state())


def test_a_wrong_password_an_absent_database_and_a_password_in_the_address_are_one_line_each(
    database: TestDatabase,
) -> None:
    wrong = Credentials(user="neo4j", password="not it at all")  # noqa: S106
    with pytest.raises(StoreError, match="NEO4J_USER and NEO4J_PASSWORD") as caught:
        open_address(database.address, Path(), create=True, credentials=wrong)
    assert "not it at all" not in caught.value.line()
    with pytest.raises(StoreError, match="no database 'nowhere'"):
        open_address(f"{database.address}/nowhere", Path(), create=True, credentials=database.credentials)
    with pytest.raises(StoreError, match="ends up in logs") as caught:
        open_address("bolt://neo4j:secret@127.0.0.1:1", Path(), create=True, credentials=None)
    assert "secret" not in caught.value.line()


@contextmanager
def speaking_http() -> Iterator[str]:
    class Page(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"bolt://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def saying_nothing() -> Iterator[str]:
    """Accepts connections and closes them without a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stopped = threading.Event()

        def serve() -> None:
            server.settimeout(0.1)
            while not stopped.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"bolt://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stopped.set()
            thread.join()


def test_where_no_neo4j_listens_or_something_else_does_it_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kg.neo4j_connection, "ANSWER_S", 1.0)
    credentials = Credentials(user="neo4j", password="x")  # noqa: S106
    with speaking_http() as http, saying_nothing() as silent:
        for address in (f"bolt://127.0.0.1:{free_port()}", http, silent, "bolt://no.such.host.invalid:7687"):
            with pytest.raises(StoreError, match="cannot open the graph") as caught:
                open_address(address, Path(), create=True, credentials=credentials)
            assert address in caught.value.line()


def test_an_old_server_or_another_product_is_refused(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for agent in ("Neo4j/4.4.40", "Neo4j/5.25.1", "Memgraph/2.0"):

        class Info:
            pass

        info = Info()
        info.agent = agent  # type: ignore[attr-defined]
        monkeypatch.setattr(neo4j.Driver, "get_server_info", lambda self, info=info: info)
        with pytest.raises(StoreError, match=r"expected Neo4j 5\.26 or newer"):
            opened(database)
    info.agent = "Neo4j/2025.10.1"  # type: ignore[attr-defined]
    opened(database).close()


def every_error(base: type[BaseException]) -> Iterator[type[BaseException]]:
    yield base
    for below in base.__subclasses__():
        if below.__module__ == "neo4j.exceptions":
            yield from every_error(below)


def test_every_error_of_the_driver_becomes_one_of_ours() -> None:
    found = {*every_error(neo4j.exceptions.Neo4jError), *every_error(neo4j.exceptions.DriverError)}
    public = {
        one
        for one in vars(neo4j.exceptions).values()
        if isinstance(one, type)
        and issubclass(one, neo4j.exceptions.Neo4jError | neo4j.exceptions.DriverError)
    }
    assert public <= found
    for kind in found:
        error = kind.__new__(kind)
        Exception.__init__(error, "first line\nsecond line")
        mine = in_our_words(error, "cannot read the graph", "bolt://x:7687", "neo4j")  # type: ignore[arg-type]
        assert isinstance(mine, StoreError)
        assert mine.line().startswith("cannot read the graph")
        assert "second line" not in mine.line()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("Neo.ClientError.Database.DatabaseNotFound", "there is no database"),
        ("Neo.ClientError.Security.CredentialsExpired", "must be changed"),
        ("Neo.ClientError.Security.Unauthorized", "does not know this user"),
        ("Neo.ClientError.Security.Forbidden", "this user may not"),
        ("Neo.ClientError.Transaction.TransactionTimedOut", "took too long"),
        ("Neo.TransientError.General.MemoryPoolOutOfMemoryError", "too little memory"),
        ("Neo.ClientError.General.ForbiddenOnReadOnlyDatabase", "takes no writes"),
        ("Neo.ClientError.Schema.ConstraintValidationFailed", "breaks a constraint"),
        ("Neo.DatabaseError.General.UnknownError", "UnknownError"),
    ],
)
def test_what_the_server_says_is_known_by_its_code(code: str, words: str) -> None:
    error = neo4j.exceptions.Neo4jError._hydrate_neo4j(code=code, message="said the server")
    assert words in in_our_words(error, "cannot write the graph", "bolt://x:7687", "neo4j").line()


def test_a_graph_that_somebody_emptied_is_missed_before_anything_is_written(database: TestDatabase) -> None:
    with opened(database) as store:
        database.clear()
        with pytest.raises(StoreError, match="the graph has gone"):
            fill(store)
        with pytest.raises(EmptyError):
            opened(database, create=False)


def test_a_name_too_long_for_an_index_is_refused_in_one_line_and_nothing_of_it_stays(
    store: Neo4jStore,
) -> None:
    with pytest.raises(StoreError, match="cannot write the graph"):
        store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, link(1, "L" * 40_000)), said("probes"))
    assert store.nodes(ATLAS_PROBE).num_rows == 0


# Questions in Cypher


def ask(
    store: Neo4jStore, cypher: str, *, limit: int = 100, timeout_s: float = 30.0, **parameters: Any
) -> Answer:
    return query(store.connection, cypher, parameters, limit=limit, timeout_s=timeout_s)


@pytest.mark.parametrize(
    "cypher",
    [
        "CREATE (n:X)",
        "MATCH (n) SET n.x = 1",
        "MATCH (n) DETACH DELETE n",
        "MERGE (n:X) RETURN n",
        "CALL { CREATE (x:Y) RETURN x } RETURN x",
        "FOREACH (x IN [1] | CREATE (:Y))",
        "MATCH (n) CALL (n) { DELETE n } IN TRANSACTIONS",
        "MATCH (n) CALL (n) { RETURN 1 AS x } IN TRANSACTIONS RETURN x",
        "LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line",
        "RETURN COLLECT { LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l } AS x",
        "UNWIND [1] AS n RETURN [y IN [1] | COLLECT { LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l }] AS x",
        "UNWIND [1] AS n RETURN [y IN [1] | COLLECT { load\ncsv /**/ FROM 'http://x' AS l RETURN l }] AS x",
        "UNWIND [1] AS n RETURN [y IN [1] | COLLECT { \\u004cOAD CSV FROM 'http://x' AS l RETURN l }] AS x",
        "UNWIND [1] AS n WITH n WHERE any(y IN [1] WHERE EXISTS { CALL db.labels() YIELD label RETURN label }) RETURN n",
        "CALL dbms.listConfig()",
        "CALL dbms.killConnection('x')",
        "CALL tx.setMetaData({a: 1})",
        "CALL db.awaitIndexes()",
        "CALL db.createLabel('X')",
        "SHOW INDEXES",
        "SHOW TRANSACTIONS",
        "SHOW SETTINGS",
        "SHOW USERS",
        "TERMINATE TRANSACTION 'neo4j-transaction-1'",
        "CREATE INDEX FOR (n:X) ON (n.y)",
        "DROP CONSTRAINT x IF EXISTS",
        "CREATE USER x SET PASSWORD 'abcdefghi'",
        "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'bbbbbbbbb'",
        "PROFILE MATCH (n) RETURN n",
        "EXPLAIN MATCH (n) RETURN n",
        "USE system SHOW USERS",
        "MATCH (n) RETURN n; MATCH (m) DETACH DELETE m",
        "MATCH (n) RETURN m",
        "not Cypher",
        "",
        "RETURN $missing",
    ],
)
def test_what_would_do_more_than_read_the_graph_is_refused_before_it_runs(
    store: Neo4jStore, cypher: str
) -> None:
    store.upsert_nodes(ATLAS_PROBE, nodes(ATLAS_PROBE, {"id": 1}))
    revision = store.revision()
    with pytest.raises(InputError) as caught:
        ask(store, cypher)
    assert "\n" not in caught.value.line()
    assert store.revision() == revision
    assert store.counts()["AtlasProbe"] == 1


def test_questions_take_parameters_that_are_never_read_as_cypher(store: Neo4jStore) -> None:
    hostile = "'}) DETACH DELETE n //"
    store.upsert_nodes(ATLAS_PROBE, nodes(ATLAS_PROBE, {"id": 1, "name": hostile}))
    assert ask(store, "MATCH (p:AtlasProbe {name: $name}) RETURN p.id AS id", name=hostile).rows == [(1,)]
    assert ask(store, "RETURN 'LOAD CSV ' + $x AS x", x="CREATE").rows == [("LOAD CSV CREATE",)]
    assert ask(
        store, "CALL db.labels() YIELD label WITH label WHERE label = 'Country' RETURN label"
    ).rows == [("Country",)]
    with pytest.raises(InputError, match="parameter"):
        ask(store, "RETURN $x", x=2**70)
    with pytest.raises(InputError, match="parameter"):
        ask(store, "RETURN $x", x=object())


def test_answers_stop_at_as_many_rows_as_were_asked_for(store: Neo4jStore) -> None:
    answer = ask(store, "UNWIND range(1, 1000000000) AS n RETURN n, n * 2 AS twice", limit=3)
    assert answer == Answer(columns=("n", "twice"), rows=[(1, 2), (2, 4), (3, 6)], cut=True)
    assert not ask(store, "UNWIND range(1, 3) AS n RETURN n", limit=3).cut
    assert ask(store, "MATCH (n:Nothing) RETURN n.x AS x") == Answer(columns=("x",), rows=[], cut=False)


def test_a_question_that_would_run_for_ever_is_stopped(store: Neo4jStore) -> None:
    before = time.monotonic()
    with pytest.raises(InputError, match="took too long"):
        ask(
            store,
            "UNWIND range(1, 1000000000) AS a UNWIND range(1, 1000000000) AS b RETURN count(*)",
            timeout_s=1.0,
        )
    assert time.monotonic() - before < 20
    assert ask(store, "RETURN 1 AS one").rows == [(1,)]


def test_a_question_that_needs_too_much_memory_is_stopped_and_the_server_goes_on(store: Neo4jStore) -> None:
    with pytest.raises(InputError, match="memory"):
        ask(
            store,
            "UNWIND range(1, 1000000000) AS n RETURN size(collect([n, n + 1, toString(n)]))",
            timeout_s=120.0,
        )
    assert ask(store, "RETURN 1 AS one").rows == [(1,)]


def test_answers_are_values_that_json_has(store: Neo4jStore) -> None:
    fill(store)
    answer = ask(
        store,
        "MATCH path = (p:AtlasProbe {id: 1})-[r:MEASURES {af: 4}]->(t)"
        " RETURN p, r, path, datetime('2019-05-12T09:00:00.5Z') AS moment, date('2019-05-12') AS day,"
        " time('09:00Z') AS clock, duration('P1DT2H') AS length, point({longitude: 1.0, latitude: 2.0}) AS place,"
        " [1, null, {a: 0.5}] AS list, 0.0 / 0.0 AS nan, 1.0 / 0.0 AS infinite, localdatetime('2019-05-12T09:00') AS local",
    )
    row = dict(zip(answer.columns, json.loads(json.dumps(answer.rows, allow_nan=False))[0], strict=True))
    assert row["p"]["labels"] == ["AtlasProbe"]
    assert row["p"]["properties"] == {"id": 1}
    assert (row["r"]["type"], row["r"]["properties"]["af"]) == ("MEASURES", 4)
    assert (row["r"]["start"], row["r"]["end"]) == tuple(node["id"] for node in row["path"]["nodes"])
    assert len(row["path"]["relationships"]) == 1
    assert row["moment"].startswith("2019-05-12T09:00:00.5")
    assert (row["day"], row["length"]) == ("2019-05-12", "P1DT2H")
    assert row["local"].startswith("2019-05-12T09:00")
    assert row["clock"].startswith("09:00:00")
    assert row["place"] == {"srid": 4326, "coordinates": [1.0, 2.0]}
    assert row["list"] == [1, None, {"a": 0.5}]
    assert (row["nan"], row["infinite"]) == ("NaN", "Infinity")


@pytest.mark.parametrize("kind", [*NODE_TYPES, *EDGE_TYPES, *FACT_TYPES], ids=name_of)
def test_everything_is_sought_by_its_key_also_while_the_graph_is_empty(
    store: Neo4jStore, kind: NodeType | EdgeType | FactType
) -> None:
    """A plan that was made for an empty graph is kept, and a scan in it takes hours in a full one."""
    question = f"EXPLAIN UNWIND $rows AS r MATCH {shape_of(kind).by_key('r[0]')} RETURN s"
    with store.connection.session(neo4j.READ_ACCESS) as session:
        plan = json.dumps(session.run(question, rows=[]).consume().plan, default=str)
    assert "Seek" in plan
    assert "Scan" not in plan
