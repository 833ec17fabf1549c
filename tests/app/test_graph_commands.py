"""The commands of the graph: as it was, what changed, questions, checks, moving it, retention."""

from __future__ import annotations

import csv
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import Cli
from tests.conftest import START

FIRST, LATER = START.isoformat(), (START + timedelta(hours=20)).isoformat()


def rows(qoetwin: Cli, *arguments: object) -> list[dict[str, Any]]:
    ran = qoetwin(*arguments, "--format", "json")
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = json.loads(ran.out)
    return found


@pytest.fixture
def own(built: Path, tmp_path: Path) -> Path:
    """A home that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "own"))


def test_the_graph_as_it_was_has_one_window_of_facts_and_the_hops_seen_around_then(
    qoetwin: Cli, built: Path
) -> None:
    whole = {row["what"]: row["count"] for row in rows(qoetwin, "graph", "show", "--home", built)}
    then = {
        row["what"]: row["count"] for row in rows(qoetwin, "graph", "show", "--at", LATER, "--home", built)
    }
    before = {
        row["what"]: row["count"]
        for row in rows(qoetwin, "graph", "show", "--at", "2001-01-01", "--home", built)
    }
    assert 0 < then["PathState"] < whole["PathState"]
    assert then["PathScore"] == 5 * then["PathState"]
    assert 0 < then["IP NEXT_HOP IP"] <= whole["IP NEXT_HOP IP"]
    assert (before["PathState"], before["IP NEXT_HOP IP"]) == (0, 0)
    assert before["AtlasProbe COUNTRY Country"] == whole["AtlasProbe COUNTRY Country"]  # as far as is known


def test_what_changed_between_two_times_is_said_and_counted(qoetwin: Cli, built: Path) -> None:
    asked = ("graph", "show", "--at", FIRST, "--against", LATER, "--most", 3, "--home", built)
    ran = qoetwin(*asked, "--format", "json")
    found = json.loads(ran.out)
    changed = [row for row in found if row["type"] == "PathState" and row["change"] == "changed"]
    assert len(changed) == 3
    assert all(row["before"] != row["after"] for row in changed)
    assert "PathState: " in ran.err
    assert "3 shown" in ran.err
    nothing = qoetwin("graph", "show", "--at", FIRST, "--against", FIRST, "--home", built)
    assert "nothing changed" in nothing.err


def test_a_diff_without_a_beginning_or_of_one_node_is_wrong_usage(qoetwin: Cli, built: Path) -> None:
    for arguments in (("--against", LATER), ("AtlasProbe", "1", "--at", FIRST, "--against", LATER)):
        assert qoetwin("graph", "show", *arguments, "--home", built).code == 2


def test_pruning_says_what_it_would_delete_and_deletes_it_only_when_told(qoetwin: Cli, own: Path) -> None:
    before = rows(qoetwin, "graph", "show", "--home", own)
    asked = ("graph", "prune", "--before", LATER, "--home", own)
    said = {row["what"]: row["count"] for row in rows(qoetwin, *asked)}
    assert rows(qoetwin, "graph", "show", "--home", own) == before
    done = rows(qoetwin, *asked, "--yes")
    assert {row["what"]: row["count"] for row in done} == said
    counts = {row["what"]: row["count"] for row in before}
    after = {row["what"]: row["count"] for row in rows(qoetwin, "graph", "show", "--home", own)}
    assert said["PathState"] > 0
    for what in said:
        assert after[what] == counts[what] - said[what]
    assert after["AtlasProbe"] == counts["AtlasProbe"]


def test_a_build_with_retention_keeps_the_newest_windows_and_says_what_it_deleted(
    qoetwin: Cli, own: Path
) -> None:
    before = rows(qoetwin, "graph", "show", "--home", own)
    ran = qoetwin("graph", "build", "--window", "1h", "--keep", "6h", "--home", own, "--format", "json")
    built = json.loads(ran.out)
    assert built["pruned"] > 0
    assert f"{built['pruned']} facts" in ran.err
    windows = rows(
        qoetwin,
        "graph",
        "query",
        "--sparql",
        "SELECT DISTINCT ?s {[] a :PathState ; :window_start ?s}",
        "--home",
        own,
    )
    assert len(windows) == 6
    assert built["PathState"] < next(row["count"] for row in before if row["what"] == "PathState")


def test_a_build_gives_its_figures_also_when_the_schedule_cannot_remember_it(qoetwin: Cli, own: Path) -> None:
    (own / "schedule.sqlite").write_bytes(b"no database, and long enough to be taken for one" * 10)
    ran = qoetwin("graph", "build", "--window", "1h", "--home", own, "--format", "json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["PathState"] > 0
    (note,) = (line for line in ran.err.splitlines() if "schedule.sqlite" in line)
    assert note.startswith("note: the graph is built")


def test_what_was_built_is_well_and_a_check_says_so(qoetwin: Cli, built: Path) -> None:
    ran = qoetwin("graph", "check", "--home", built, "--format", "json")
    assert (ran.code, json.loads(ran.out)) == (0, [])
    assert "nothing is wrong" in ran.err


def test_a_check_names_what_is_wrong_and_where_and_fails(qoetwin: Cli, own: Path) -> None:
    import adbc_driver_sqlite.dbapi as sqlite

    with sqlite.connect(str(own / "graph.sqlite"), autocommit=True) as database, database.cursor() as cursor:
        cursor.execute("UPDATE Point SET latitude = 123.0 WHERE position = (SELECT min(position) FROM Point)")
    ran = qoetwin("graph", "check", "--home", own, "--format", "json")
    assert ran.code == 1
    findings = json.loads(ran.out)
    assert any(finding["found"] == "123.0" and finding["where"].startswith("Point/") for finding in findings)


def test_a_sparql_query_takes_values_as_values_and_stops_at_its_limit(qoetwin: Cli, built: Path) -> None:
    query = (
        "SELECT ?id WHERE { ?probe a :AtlasProbe ; :id ?id ; :COUNTRY/:country_code ?country } ORDER BY ?id"
    )
    probes = rows(qoetwin, "graph", "query", "--sparql", query, "--home", built)
    assert len(probes) == 9
    country = rows(
        qoetwin, "graph", "query", "--sparql", "SELECT ?c {[] :country_code ?c} ORDER BY ?c", "--home", built
    )[0]["c"]
    some = rows(
        qoetwin, "graph", "query", "--sparql", query, "--param", f"country={country}", "--home", built
    )
    assert 0 < len(some) < 9
    hostile = 'country=LB" } ; DROP ALL #'
    assert rows(qoetwin, "graph", "query", "--sparql", query, "--param", hostile, "--home", built) == []
    cut = qoetwin("graph", "query", "--sparql", query, "--limit", 2, "--home", built, "--format", "csv")
    assert len(list(csv.reader(cut.out.splitlines()))) == 3
    assert "--limit gives more" in cut.err


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("DELETE WHERE { ?s ?p ?o }", "an update is refused"),
        ("SELECT * { SERVICE <http://192.0.2.1/sparql> { ?s ?p ?o } }", "SERVICE"),
        ("SELECT * FROM <http://192.0.2.1/data> { ?s ?p ?o }", "FROM"),
        ("SELECT nonsense", "no SPARQL query"),
    ],
)
def test_a_query_that_would_do_more_than_read_the_graph_is_refused_in_one_line(
    qoetwin: Cli, built: Path, query: str, words: str
) -> None:
    ran = qoetwin("graph", "query", "--sparql", query, "--home", built)
    assert (ran.code, ran.out) == (1, "")
    assert words in ran.err.splitlines()[-1]


def test_a_query_that_would_run_for_ever_is_stopped(qoetwin: Cli, built: Path) -> None:
    forever = "SELECT (COUNT(*) AS ?n) { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i }"
    ran = qoetwin("graph", "query", "--sparql", forever, "--timeout", 1, "--home", built)
    assert ran.code == 1
    assert "took too long" in ran.err


def test_cypher_on_a_graph_that_is_not_in_neo4j_says_what_to_do(qoetwin: Cli, built: Path) -> None:
    ran = qoetwin("graph", "query", "--cypher", "RETURN 1", "--home", built)
    assert ran.code == 1
    assert "--sparql" in ran.err
    assert qoetwin("graph", "query", "--home", built).code == 2


@pytest.mark.parametrize("form", ["turtle", "nquads", "jsonld", "graphml", "iyp-csv"])
def test_a_graph_that_was_moved_is_the_same_graph(
    qoetwin: Cli, built: Path, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "moved"
    exported = rows(qoetwin, "graph", "export", "--as", form, "--out", out, "--home", built)
    imported = rows(qoetwin, "graph", "import", out, "--as", form, "--home", tmp_path / "other")
    assert imported == exported
    query = ("graph", "show", "--at", FIRST, "--against", LATER, "--most", 10_000)
    assert rows(qoetwin, *query, "--home", tmp_path / "other") == rows(qoetwin, *query, "--home", built)


@pytest.mark.parametrize("form", ["turtle", "nquads", "jsonld", "graphml", "iyp-csv"])
def test_what_is_no_graph_is_not_imported_and_makes_none(qoetwin: Cli, tmp_path: Path, form: str) -> None:
    bad = tmp_path / "bad"
    bad.write_text("this is no graph")
    ran = qoetwin("graph", "import", bad, "--as", form, "--home", tmp_path / "home")
    assert (ran.code, len(ran.err.strip().splitlines())) == (1, 1)
    missing = qoetwin("graph", "import", tmp_path / "none", "--as", form, "--home", tmp_path / "home")
    assert missing.code == 1
    assert not (tmp_path / "home").exists()


def test_a_graph_of_which_the_last_part_is_missing_is_not_imported_and_makes_none(
    qoetwin: Cli, built: Path, tmp_path: Path
) -> None:
    out = tmp_path / "csv"
    assert qoetwin("graph", "export", "--as", "iyp-csv", "--out", out, "--home", built).code == 0
    (out / "CountryScore.csv").unlink()
    ran = qoetwin("graph", "import", out, "--as", "iyp-csv", "--home", tmp_path / "home")
    assert (ran.code, len(ran.err.strip().splitlines())) == (1, 1)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("at", ["2026-01-05T12:00:00Z", "2026-01-05T12:00Z", "2026-01-05T14:00+02:00"])
def test_a_time_may_be_given_to_a_query_in_any_of_its_forms(qoetwin: Cli, built: Path, at: str) -> None:
    query = (
        "SELECT (COUNT(*) AS ?states) { ?s a :PathState ; :window_start ?start ; :window_end ?end"
        " FILTER (?start <= xsd:dateTime(?at) && xsd:dateTime(?at) < ?end) }"
    )
    ((states,),) = [
        row.values()
        for row in rows(qoetwin, "graph", "query", "--sparql", query, "--param", f"at={at}", "--home", built)
    ]
    assert states > 0


def test_a_prefix_that_is_not_known_is_named_with_those_that_are(qoetwin: Cli, built: Path) -> None:
    ran = qoetwin("graph", "query", "--sparql", "SELECT ?x { ?x a foaf:Probe }", "--home", built)
    assert (ran.code, len(ran.err.strip().splitlines())) == (1, 1)
    assert "a prefix that is not known" in ran.err
    assert "rdfs:" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sparql", "SELECT * {}", "--timeout", "nan"),
        ("--sparql", "SELECT * {}", "--from", "2026-01-06", "--to", "2026-01-05"),
        ("--sparql", "SELECT ?x {}", "--param", "x=\udcff"),
        ("--sparql", "SELECT ?x {}", "--param", 'x="\\ud800"'),
    ],
)
def test_odd_options_of_a_query_are_wrong_usage(
    qoetwin: Cli, built: Path, arguments: tuple[str, ...]
) -> None:
    assert qoetwin("graph", "query", *arguments, "--home", built).code == 2


@pytest.mark.parametrize(
    "literal", ['"abc"^^xsd:integer', '"-0044-01-01T00:00:00Z"^^xsd:dateTime', '"x"^^xsd:double']
)
def test_a_literal_that_is_none_of_its_datatype_comes_as_it_is_written(
    qoetwin: Cli, built: Path, literal: str
) -> None:
    found = rows(qoetwin, "graph", "query", "--sparql", f"SELECT ({literal} AS ?x) {{}}", "--home", built)
    assert found == [{"x": literal.split('"')[1]}]


def test_a_query_that_is_nested_too_deeply_is_refused_at_once(qoetwin: Cli, built: Path) -> None:
    deep = "#" + "}" * 60_000 + "\nSELECT * {" + "{" * 60_000 + "}" * 60_000 + "}"
    ran = qoetwin("graph", "query", "--sparql", deep, "--home", built)
    assert (ran.code, len(ran.err.strip().splitlines())) == (1, 1)
    assert "nested too deeply" in ran.err


def test_an_export_never_replaces_the_graph_that_it_reads(qoetwin: Cli, own: Path) -> None:
    graph = own / "graph.sqlite"
    before = graph.read_bytes()
    assert qoetwin("graph", "export", "--as", "turtle", "--out", graph, "--home", own).code == 2
    assert graph.read_bytes() == before


def test_a_parameter_that_is_given_twice_is_wrong_usage(qoetwin: Cli, built: Path) -> None:
    given = ("--param", "id=1", "--param", "id=2")
    ran = qoetwin("graph", "query", "--sparql", "SELECT * {?s :id ?id}", *given, "--home", built)
    assert ran.code == 2
    assert "id twice" in ran.err


def test_a_graph_that_may_only_be_read_is_asked_in_sparql_from_the_user_s_cache(
    qoetwin: Cli, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: (path, mode) != (built, os.W_OK))
    found = rows(
        qoetwin, "graph", "query", "--sparql", "SELECT ?id {[] a :AtlasProbe ; :id ?id}", "--home", built
    )
    assert len(found) == 9
    assert any((tmp_path / "qoetwin").iterdir())


def test_tensors_are_of_the_paths_that_filters_choose_and_other_forms_take_no_filters(
    qoetwin: Cli, built: Path, tmp_path: Path
) -> None:
    out = tmp_path / "graph.safetensors"
    counts = rows(qoetwin, "graph", "export", "--as", "pyg", "--out", out, "--af", 4, "--home", built)
    everything = rows(qoetwin, "graph", "export", "--as", "pyg", "--out", out, "--home", built)
    assert out.stat().st_size > 1000
    assert 0 < counts["AtlasProbe|MEASURES|IP"] < everything["AtlasProbe|MEASURES|IP"]  # type: ignore[call-overload]
    refused = qoetwin("graph", "export", "--as", "turtle", "--out", out, "--af", 4, "--home", built)
    assert refused.code == 2


def test_a_list_of_probes_is_true_as_of_its_time(qoetwin: Cli, own: Path, tmp_path: Path) -> None:
    probe = rows(qoetwin, "qoe", "web", "--group-by", "probe", "--home", own)[0]["group"]
    moved = tmp_path / "moved.csv"
    moved.write_text(f"prb_id,lat,lon,asn_v4,asn_v6,country\n{probe},64.1,-21.9,,,IS\n")
    now = datetime.now(UTC)
    future = qoetwin("probes", "load", moved, "--as-of", now + timedelta(hours=1), "--home", own)
    assert (future.code, len(future.err.strip().splitlines())) == (1, 1)
    assert qoetwin("probes", "load", moved, "--as-of", now, "--home", own).code == 0
    assert qoetwin("graph", "build", "--window", "1h", "--home", own).code == 0

    def countries(*at: str) -> set[str]:
        met = rows(qoetwin, "graph", "show", "AtlasProbe", probe, *at, "--home", own)
        return {row["target_key"] for row in met if row["edge"] == "COUNTRY"}

    assert countries() == countries("--at", now) == {"IS"}
    assert countries("--at", now - timedelta(seconds=1)) not in (set(), {"IS"})


def test_prefixes_put_hops_into_networks_and_a_bad_list_is_refused_by_line(
    qoetwin: Cli, own: Path, prefixes: Path, tmp_path: Path
) -> None:
    built = rows(qoetwin, "graph", "build", "--window", "1h", "--prefixes", prefixes, "--home", own)
    assert built["AS NEXT_AS AS"] > 0  # type: ignore[call-overload]
    later = qoetwin("graph", "build", "--window", "1h", "--home", own)
    assert "an earlier --prefixes" in later.err
    bad = tmp_path / "bad.csv"
    bad.write_text("prefix,asn\n198.18.0.0/24,64500\nnonsense,1\n")
    ran = qoetwin("graph", "build", "--window", "1h", "--prefixes", bad, "--home", own)
    assert ran.code == 1
    assert "line 3" in ran.err
