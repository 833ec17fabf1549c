"""What goes out of a graph comes back equal, in every form; and what is no graph is refused whole."""

from __future__ import annotations

import gzip
import os
import random
import re
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import networkx
import pyarrow as pa
import pyoxigraph as ox
import pytest
from hypothesis import HealthCheck, given, settings
from rdflib import Graph

from domain.errors import InputError, NotFoundError, StoreError, TruncatedError, UnknownNameError
from domain.progress import unheard
from domain.provenance import Provenance
from domain.selection import Selection
from kg.exchange import FORMS, export_graph, import_graph
from kg.exchange.whole import facts
from kg.schema import (
    APPLICATION,
    AS,
    ATLAS_PROBE,
    LOCATED_IN_AS,
    MEASURES,
    NODE_TYPES,
    PATH_SCORE,
    PATH_STATE,
    FactType,
)
from kg.store import open_store
from kg.tables import fact_schema
from tests.contract.memory_store import MemoryStore, Tables
from tests.kg.random_graphs import HOSTILE, content, graphs

RDF_FORMS = ("turtle", "nquads", "jsonld")
T0 = datetime(2019, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SAID = Provenance(
    reference_name="atlas.ping",
    reference_org="RIPE NCC",
    reference_url_data=None,
    reference_time_fetch=T0,
    reference_time_modification=None,
    method="median of the packets",
    synthetic=False,
)
FEW = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def empty() -> MemoryStore:
    return MemoryStore(Tables())


def states(count: int = 3, **other: Any) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "probe_id": 1001,
                "target": "2001:db8::1",
                "af": 6,
                "window_start": T0 + number * HOUR,
                "window_end": T0 + (number + 1) * HOUR,
                "results": 15,
                "sent": 45,
                "received": 44,
                "duplicates": 0,
                "errors": 0,
                "rtt_min_ms": 0.1 + number,
                "rtt_median_ms": 1 / 3 + number,
                "synthetic": False,
            }
            | other
            for number in range(count)
        ],
        fact_schema(PATH_STATE),
    )


@pytest.fixture
def small() -> MemoryStore:
    store = empty()
    store.upsert_nodes(ATLAS_PROBE, pa.table({"id": [1001, 1002], "name": ['a "b"\n', None]}))
    located = pa.table(
        {
            "source": [1001, 1001],
            "target": [64500, 64501],
            "af": [6, 6],
            "valid_from": [None, T0],
            "valid_to": [T0, None],
        }
    )
    store.upsert_edges(LOCATED_IN_AS, located, SAID)
    store.put_facts(PATH_STATE, states(), SAID)
    return store


def moved(store: MemoryStore, form: str, folder: Path) -> MemoryStore:
    path = folder / "graph"
    other = empty()
    written = export_graph(store, path, form, report=unheard)
    assert import_graph(other, path, form, report=unheard) == written == store.counts()
    return other


@pytest.mark.parametrize("form", FORMS)
@FEW
@given(store=graphs())
def test_a_graph_comes_back_equal_value_for_value(
    form: str, store: MemoryStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = moved(store, form, tmp_path_factory.mktemp("moved"))
    assert content(other) == content(store)


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_graph_comes_back_empty(form: str, tmp_path: Path) -> None:
    assert content(moved(empty(), form, tmp_path)) == content(empty())


@pytest.mark.parametrize("form", FORMS)
def test_reading_the_same_again_changes_nothing(form: str, small: MemoryStore, tmp_path: Path) -> None:
    before = content(small)
    export_graph(small, tmp_path / "graph", form, report=unheard)
    import_graph(small, tmp_path / "graph", form, report=unheard)
    assert content(small) == before


@pytest.mark.parametrize("form", FORMS)
def test_edges_of_one_owner_keep_each_its_own_provenance(form: str, tmp_path: Path) -> None:
    store = empty()
    earlier = pa.table(
        {"source": [1], "target": [64500], "af": [4], "valid_from": [T0], "valid_to": [T0 + HOUR]}
    )
    later = pa.table(
        {
            "source": [1, 1],
            "target": [64500, 64501],
            "af": [4, 4],
            "valid_from": [T0, T0 + HOUR],
            "valid_to": [T0 + HOUR, None],
        }
    )
    store.upsert_edges(LOCATED_IN_AS, earlier, SAID)
    other = Provenance(
        reference_name="routing",
        reference_org="unknown",
        reference_url_data=None,
        reference_time_fetch=None,
        reference_time_modification=None,
        method=None,
        synthetic=True,
    )
    store.upsert_edges(LOCATED_IN_AS, later, other)
    back = moved(store, form, tmp_path).edges(LOCATED_IN_AS)
    assert back["reference_name"].to_pylist() == ["atlas.ping", "routing"]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "iyp-csv"])
def test_a_name_that_ends_in_gz_is_packed_and_the_same_graph_gives_the_same_bytes(
    form: str, small: MemoryStore, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.gz", tmp_path / "b.gz"
    export_graph(small, first, form, report=unheard)
    export_graph(small, second, form, report=unheard)
    assert first.read_bytes() == second.read_bytes()
    assert len(gzip.decompress(first.read_bytes())) > 1000
    other = empty()
    import_graph(other, first, form, report=unheard)
    assert content(other) == content(small)


@pytest.mark.parametrize("form", FORMS)
def test_a_graph_goes_through_sqlite_and_comes_back_equal(
    form: str, small: MemoryStore, tmp_path: Path
) -> None:
    small.upsert_nodes(APPLICATION, pa.table({"name": list(HOSTILE)}))
    export_graph(small, tmp_path / "first", form, report=unheard)
    with open_store("sqlite", tmp_path / "home", create=True) as between:
        import_graph(between, tmp_path / "first", form, report=unheard)
        assert content(between) == content(small)
        export_graph(between, tmp_path / "second", form, report=unheard)
    back = empty()
    import_graph(back, tmp_path / "second", form, report=unheard)
    assert content(back) == content(small)


def test_triples_in_any_order_in_any_graph_and_twice_make_the_same_graph(
    small: MemoryStore, tmp_path: Path
) -> None:
    path = tmp_path / "graph.nq"
    export_graph(small, path, "nquads", report=unheard)
    lines = path.read_text().splitlines() * 2
    lines = [line.replace("ontology#NSKG> .", "other> .") for line in lines]
    random.Random(1).shuffle(lines)  # noqa: S311 - any order will do
    path.write_text("# by another tool\n\n" + "\n".join(lines) + "\n")
    other = empty()
    import_graph(other, path, "nquads", report=unheard)
    assert content(other) == content(small)


@pytest.mark.parametrize(("form", "rdf"), [("turtle", "turtle"), ("jsonld", "json-ld")])
def test_what_rdflib_read_and_wrote_comes_back(
    form: str, rdf: str, small: MemoryStore, tmp_path: Path
) -> None:
    path = tmp_path / "graph"
    export_graph(small, path, form, report=unheard)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # rdflib's JSON-LD uses what rdflib deprecates
        Graph().parse(data=path.read_bytes(), format=rdf).serialize(
            path, format="nt", encoding="utf-8"
        )  # its Turtle rounds
    other = empty()
    import_graph(other, path, "turtle", report=unheard)
    assert content(other) == content(small)


def test_each_statement_of_nquads_is_in_the_graph_of_its_layer(small: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "graph.nq"
    export_graph(small, path, "nquads", report=unheard)
    graph_of = {
        quad.subject.value.rpartition("/id/")[2].partition("/")[0]: str(quad.graph_name)
        for quad in ox.parse(path=str(path), format=ox.RdfFormat.N_QUADS)
    }
    assert graph_of["AtlasProbe-LOCATED_IN-AS"].endswith("#NTKG>")
    assert graph_of["PathState"].endswith("#NSKG>")
    assert graph_of["Provenance"] == "DEFAULT"


def test_an_edge_that_has_ended_is_not_said_directly(small: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "graph.ttl"
    export_graph(small, path, "turtle", report=unheard)
    assert "<AtlasProbe/1001> :LOCATED_IN <AS/64501> ." in path.read_text()
    assert "<AtlasProbe/1001> :LOCATED_IN <AS/64500> ." not in path.read_text()


def test_networkx_reads_graphml_with_its_types(small: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "graph.graphml"
    export_graph(small, path, "graphml", report=unheard)
    graph = networkx.read_graphml(path)
    assert graph.is_directed()
    assert graph.is_multigraph()
    assert graph.nodes["AtlasProbe/1001"]["name"] == 'a "b"\n'
    between = graph.get_edge_data("AtlasProbe/1001", "IP/2001:db8::1").values()
    assert sorted(edge["kind"] for edge in between) == ["AtlasProbe-MEASURES-IP", *["PathState"] * 3]
    assert {edge["rtt_median_ms"] for edge in between if edge["kind"] == "PathState"} == {1 / 3, 4 / 3, 7 / 3}


def test_what_networkx_wrote_comes_back(small: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "graph.graphml"
    export_graph(small, path, "graphml", report=unheard)
    networkx.write_graphml(networkx.read_graphml(path), path)
    other = empty()
    import_graph(other, path, "graphml", report=unheard)
    assert content(other) == content(small)


def test_csv_has_the_headers_keys_and_names_of_the_internet_yellow_pages(
    small: MemoryStore, tmp_path: Path
) -> None:
    folder = tmp_path / "csv"
    export_graph(small, folder, "iyp-csv", report=unheard)
    header = (folder / "AS.csv").read_text().splitlines()[0]
    assert header.startswith(":ID(AS),asn:long,")
    located = (folder / "AtlasProbe-LOCATED_IN-AS.csv").read_text().splitlines()
    assert located[0].startswith(
        ":START_ID(AtlasProbe),:END_ID(AS),af:long,valid_from:datetime,valid_to:datetime,"
    )
    assert all(f"{name}:" in located[0] for name in ("reference_name", "reference_org", "reference_url_data"))
    assert located[1].startswith('"1001","64500","6",,"2019-01-01T00:00:00Z","atlas.ping"')
    assert located[1].endswith('"LOCATED_IN"')
    assert (folder / "PathState.csv").read_text().splitlines()[1].endswith('"PATH_STATE"')
    arguments = (folder / "import.args").read_text()
    for node_type in NODE_TYPES:
        assert f"--nodes={node_type.label}.csv" in arguments


def test_large_numbers_of_facts_are_read_in_parts_that_make_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = empty()
    store.put_facts(PATH_STATE, states(7), SAID)
    monkeypatch.setattr("kg.exchange.whole.ROWS", 2)
    for selection in (Selection(), Selection(start=T0 + HOUR), Selection(end=T0 + 4 * HOUR), Selection(af=4)):
        parts = list(facts(store, PATH_STATE, selection))
        assert all(part.num_rows <= 2 for part in parts)
        whole = store.facts(PATH_STATE, selection, with_provenance=True)
        assert sum(part.num_rows for part in parts) == whole.num_rows
        if parts:
            assert pa.concat_tables(parts).equals(whole)


def test_a_graph_that_is_written_to_meanwhile_is_not_exported(small: MemoryStore, tmp_path: Path) -> None:
    def meddle(_what: str, done: int, _total: int | None) -> None:
        small.upsert_nodes(AS, pa.table({"asn": [done]}))

    path = tmp_path / "graph.ttl"
    path.write_text("before")
    with pytest.raises(StoreError, match="written to while it was read"):
        export_graph(small, path, "turtle", report=meddle)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


# What is refused

PREFIXES = """@base <https://w3id.org/qoetwin/id/> . @prefix : <https://w3id.org/qoetwin/ontology#> .
@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
<AS/1> a :AS ; :asn 1 . <AtlasProbe/7> a :AtlasProbe ; :id 7 .
<P> a :Provenance ; :reference_name "n" ; :reference_org "o" ; :synthetic false .
"""
EDGE = """a :AtlasProbe-LOCATED_IN-AS ; rdf:subject <AtlasProbe/7> ; rdf:predicate :LOCATED_IN ;
    rdf:object <AS/1> ; :af 4 ; :provenance <P> ."""


def by_hand(turtle: str) -> str:
    """A whole file: it says how much it holds."""
    resources = len(re.findall(r" a :(?!Provenance)", PREFIXES + turtle))
    return f"{PREFIXES}{turtle}\n<graph> a owl:Ontology ; :resources {resources} ."


def test_a_hand_written_graph_is_read(tmp_path: Path) -> None:
    path = tmp_path / "graph.ttl"
    path.write_text(by_hand(f"<AtlasProbe-LOCATED_IN-AS/7/1/4/> {EDGE} <AtlasProbe/7> :LOCATED_IN <AS/1> ."))
    store = empty()
    counts = import_graph(store, path, "turtle", report=unheard)
    assert counts[LOCATED_IN_AS.table] == 1
    assert store.edges(LOCATED_IN_AS)["target"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("turtle", "message"),
    [
        ("<AS/2> a :AS ; :asn 2 ", "this is no turtle.*line"),
        ("<Planet/2> a :Planet .", "a class that the ontology does not know.*Planet"),
        ("<AS/1> :colour 5 .", "a property that the ontology does not know.*AS/1.*colour"),
        ("<AS/1> :rtt_min_ms 5e0 .", "a property that AS has not.*rtt_min_ms"),
        ("<AS/2> :asn 2 .", "a resource without a class.*AS/2"),
        ("<AS/1> a :Country .", "a resource of several classes.*AS/1"),
        ("[] a :AS ; :asn 9 .", "a blank node"),
        ('<AS/2> a :AS ; :asn "2" .', "asn of AS is no integer.*AS/2"),
        ("<AS/2> a :AS ; :asn 2.5 .", "asn of AS is no integer.*decimal"),
        ("<AS/2> a :AS ; :asn 99999999999999999999 .", "asn of AS is no integer"),
        ("<AS/1> :degree 3, 4 .", "two values of one property.*AS/1"),
        ("<AS/2> a :AS .", "AS without asn.*AS/2"),
        ("<AS/3> a :AS ; :asn 2 .", "a name that is not made from the key.*AS/3.*AS/2"),
        (
            f"<AtlasProbe-LOCATED_IN-AS/7/1/4/> {EDGE.replace('<AS/1>', '<AS/9>')}",
            "rdf:object goes to nothing.*AS/9",
        ),
        (f"<AtlasProbe-LOCATED_IN-AS/7/1/4/> {EDGE.replace('LOCATED_IN ;', 'COUNTRY ;')}", "another verb"),
        (
            f"<AtlasProbe-LOCATED_IN-AS/7/1/4/> {EDGE.replace('; :provenance <P>', '')}",
            "without provenance",
        ),
        (f"<AtlasProbe-LOCATED_IN-AS/7/1/4/> {EDGE.replace('<P>', '<Q>')}", "provenance goes to nothing.*Q"),
        ("<Q> a :Provenance ; :reference_name 'n' ; :synthetic true .", "Provenance without reference_org"),
        ("<AtlasProbe/7> :LOCATED_IN <AS/1> .", "a relation that nobody vouches for.*AtlasProbe/7"),
        ("<graph> a owl:Ontology ; owl:versionInfo '1' .", "a graph of another ontology.*version"),
    ],
)
def test_what_the_ontology_does_not_know_is_refused_with_its_place_and_nothing_is_written(
    turtle: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "graph.ttl"
    path.write_text(by_hand(turtle))
    store = empty()
    with pytest.raises(InputError, match=message) as caught:
        import_graph(store, path, "turtle", report=unheard)
    assert str(path) in caught.value.line()
    assert content(store) == content(empty())


def test_a_fact_that_is_about_another_path_than_its_key_says_is_refused(
    small: MemoryStore, tmp_path: Path
) -> None:
    path = tmp_path / "graph.ttl"
    export_graph(small, path, "turtle", report=unheard)
    text = path.read_text()
    path.write_text(
        text.replace("/2001:db8::1/6> ;\n    :probe_id 1001", "/2001:db8::1/4> ;\n    :probe_id 1001", 1)
    )
    assert path.read_text() != text
    with pytest.raises(InputError, match="about one thing and has the key of another"):
        import_graph(empty(), path, "turtle", report=unheard)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "iyp-csv"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_was_cut_short_is_refused(
    form: str, suffix: str, small: MemoryStore, tmp_path: Path
) -> None:
    path = tmp_path / f"graph{suffix}"
    export_graph(small, path, form, report=unheard)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    store = empty()
    with pytest.raises(InputError):
        import_graph(store, path, form, report=unheard)
    assert content(store) == content(empty())
    if suffix:
        with pytest.raises(TruncatedError):
            import_graph(store, path, form, report=unheard)


@pytest.mark.parametrize("form", ["turtle", "nquads"])
@pytest.mark.parametrize("lines", [0, 1, 9, -2, -1])
def test_a_file_that_was_cut_between_two_lines_or_that_has_none_is_refused(
    form: str, lines: int, small: MemoryStore, tmp_path: Path
) -> None:
    path = tmp_path / "graph"
    export_graph(small, path, form, report=unheard)
    ends = [found.end() for found in re.finditer(r" \.\n", path.read_text())]
    path.write_text(path.read_text()[: 0 if lines == 0 else ends[lines - (lines < 0)]])
    with pytest.raises(TruncatedError, match="does not hold what it says"):
        import_graph(empty(), path, form, report=unheard)


def test_graphml_from_which_an_edge_was_taken_out_is_refused(small: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "graph.graphml"
    export_graph(small, path, "graphml", report=unheard)
    lines = path.read_text().splitlines(keepends=True)
    edge = next(number for number, line in enumerate(lines) if line.startswith("<edge"))
    path.write_text("".join(lines[:edge] + lines[edge + 1 :]))
    with pytest.raises(InputError, match="does not hold what it says"):
        import_graph(empty(), path, "graphml", report=unheard)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "iyp-csv"])
def test_what_is_no_file_is_never_replaced(form: str, small: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "thesis")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(InputError, match="something else is there"):
            export_graph(small, tmp_path / name, form, report=unheard)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "thesis").read_text() == "years of work"


@pytest.mark.parametrize(
    "file", ["AS.csv", "PathState.csv", "AtlasProbe-LOCATED_IN-AS.csv", "ProbeState_OF.csv"]
)
@pytest.mark.parametrize("how", ["removed", "emptied", "cut"])
def test_a_folder_that_lacks_a_file_or_a_row_is_refused(
    file: str, how: str, small: MemoryStore, tmp_path: Path
) -> None:
    folder = tmp_path / "csv"
    export_graph(small, folder, "iyp-csv", report=unheard)
    path = folder / file
    if how == "removed":
        path.unlink()
    elif how == "emptied":
        path.write_text("")
    else:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    store = empty()
    with pytest.raises(InputError, match=re.escape(file)):
        import_graph(store, folder, "iyp-csv", report=unheard)
    assert content(store) == content(empty())


@pytest.mark.parametrize("form", FORMS)
def test_something_else_is_refused(form: str, tmp_path: Path) -> None:
    path = tmp_path / "graph"
    with pytest.raises(NotFoundError):
        import_graph(empty(), path, form, report=unheard)
    if form == "iyp-csv":
        path.mkdir()
    else:
        path.write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    with pytest.raises(InputError, match="this is no"):
        import_graph(empty(), path, form, report=unheard)


def test_a_form_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="turtle or nquads"):
        export_graph(empty(), tmp_path / "x", "rtf", report=unheard)
    with pytest.raises(UnknownNameError, match="turtle or nquads"):
        import_graph(empty(), tmp_path / "x", "rtf", report=unheard)


def graphml(text: str) -> str:
    keys = "".join(
        f'<key id="{place[0]}_{name}" for="{place}" attr.name="{name}"/>'
        for place, name in (
            ("node", "kind"),
            ("node", "asn"),
            ("edge", "kind"),
            ("edge", "af"),
            ("node", "colour"),
        )
    )
    return f'<graphml xmlns="http://graphml.graphdrawing.org/xmlns">{keys}<graph>\n{text}\n</graph></graphml>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<node id="a"><data key="n_kind">Planet</data></node>', "line 2.*Planet"),
        ('<node id="a"><data key="n_kind">AS</data><data key="n_colour">1</data></node>', "colour"),
        ('<node id="a"><data key="x">AS</data></node>', "data without a key.*x"),
        ('<node id="a"><data key="n_kind">AS</data><data key="n_asn">x</data></node>', "asn is no integer"),
        ('<node id="a"><data key="n_kind">AS</data></node>', "asn is missing"),
        ('<edge source="a" target="b"/>', "no node before it.*a"),
        ("<hyperedge/>", "hyperedge"),
        ('<node id="a"><data key="n_kind">AS</data><data key="n_asn">1</data></node>' * 2, "twice"),
    ],
)
def test_graphml_that_the_ontology_does_not_know_is_refused_with_its_line(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "graph.graphml"
    path.write_text(graphml(text))
    store = empty()
    with pytest.raises(InputError, match=message):
        import_graph(store, path, "graphml", report=unheard)
    assert content(store) == content(empty())


def test_entities_of_a_document_type_are_never_expanded(tmp_path: Path) -> None:
    path = tmp_path / "graph.graphml"
    path.write_text('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<graphml>&x;</graphml>')
    with pytest.raises(InputError, match="a document type"):
        import_graph(empty(), path, "graphml", report=unheard)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("AS.csv", lambda text: text.replace('"64500","64500"', '"64500","x"'), "asn is no integer.*'x'"),
        ("AS.csv", lambda text: text.replace("asn:long", "number:long"), "a header that is not ours"),
        ("AS.csv", lambda text: text + text.splitlines()[1] + "\n", "twice"),
        ("AS.csv", lambda text: text + '"1"\n', "this is no CSV of ours"),
        ("import.args", lambda _: "# something\n", "another ontology"),
        ("Planet.csv", lambda _: "x\n", "a file that the ontology does not know.*Planet"),
    ],
)
def test_csv_that_is_not_ours_is_refused(
    file: str, change: Any, message: str, small: MemoryStore, tmp_path: Path
) -> None:
    folder = tmp_path / "csv"
    export_graph(small, folder, "iyp-csv", report=unheard)
    path = folder / file
    path.write_text(change(path.read_text() if path.exists() else ""))
    store = empty()
    with pytest.raises(InputError, match=message):
        import_graph(store, folder, "iyp-csv", report=unheard)
    assert content(store) == content(empty())


def test_a_folder_with_something_else_is_never_replaced(small: MemoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="something else is there"):
        export_graph(small, folder, "iyp-csv", report=unheard)
    assert (folder / "thesis.tex").read_text() == "years of work"
    export_graph(small, tmp_path / "other", "iyp-csv", report=unheard)
    export_graph(small, tmp_path / "other", "iyp-csv", report=unheard)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csv", "other"]


@pytest.mark.parametrize("form", FORMS)
def test_where_nothing_can_be_written_there_is_one_line(
    form: str, small: MemoryStore, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        export_graph(small, tmp_path / "file" / "graph", form, report=unheard)


def test_scores_survive_because_they_are_written_after_their_states(
    small: MemoryStore, tmp_path: Path
) -> None:
    score = {
        "probe_id": 1001,
        "target": "2001:db8::1",
        "af": 6,
        "window_start": T0,
        "window_end": T0 + HOUR,
        "application": "voip",
        "origin": "measured",
        "score": 81.25,
        "profile": "ai-ndt 1",
    }
    small.put_facts(PATH_SCORE, pa.Table.from_pylist([score], fact_schema(PATH_SCORE)), SAID)
    assert isinstance(PATH_SCORE, FactType)
    assert PATH_SCORE.about is MEASURES
    for form in FORMS:
        folder = tmp_path / form
        folder.mkdir()
        assert moved(small, form, folder).counts()["PathScore"] == 1
