"""The questions of docs/questions.md: SPARQL, Cypher and Python give equal answers, on every store that there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.lake import Lake
from kg.neo4j_query import query as ask_cypher
from kg.neo4j_store import Neo4jStore
from kg.schema import COUNTRY_SCORE, IN_COUNTRY
from kg.sparql import query as ask_sparql
from kg.store import STORES, GraphStore
from qoe.profile import load_profile
from tests.conftest import START
from tests.places import empty_place
from twin.building import Origins, build_graph, read_origins, summarise_lake
from twin.ingestion import ingest_files, load_probes

PAGE = (Path(__file__).parents[1] / "docs" / "questions.md").read_text(encoding="utf-8")
QUESTIONS = {
    title: dict(re.findall(r"```(sparql|cypher|python)\n(.*?)```", body, flags=re.DOTALL))
    for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE)
}
BEFORE = START + timedelta(hours=2)
AT = START + timedelta(hours=30)


@pytest.fixture(scope="module", params=list(STORES))
def store(
    request: pytest.FixtureRequest, records: Path, prefixes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GraphStore]:
    """The synthetic Atlas's graph."""
    home = tmp_path_factory.mktemp("questions")
    lake = Lake(home / "lake")
    load_probes(lake, records / "probes.json", as_of=START)
    ingest_files(lake, [records / "results.ndjson.bz2"])
    twice = home / "prefixes.csv"  # every prefix is announced by a second AS too
    lines = prefixes.read_text().splitlines()
    again = [re.sub(",(?:AS)?(.*)", lambda found: f",{int(found[1]) + 1000}", line) for line in lines[1:]]
    twice.write_text("\n".join([*lines, *again]) + "\n")
    origins: Origins = read_origins(twice)
    with empty_place(request.param, home, request).open() as opened:
        summary = summarise_lake(lake, timedelta(hours=12))
        build_graph(summary, opened, load_profile(), origins=origins)
        yield opened


def asked(store: GraphStore) -> dict[str, Any]:
    """What the questions are asked with: the country with the most paths, and a probe in it."""
    scores = store.facts(COUNTRY_SCORE, values=("paths",)).to_pylist()
    country = max(scores, key=lambda row: (row["paths"], row["country_code"]))["country_code"]
    probe = min(row["source"] for row in store.edges(IN_COUNTRY).to_pylist() if row["target"] == country)
    return {"at": AT, "before": BEFORE, "country": country, "application": "voip", "probe": probe}


def used(query: str, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a query names, as text where they are times."""
    text = {
        name: value if name not in ("at", "before") else value.isoformat() for name, value in given.items()
    }
    return {name: value for name, value in text.items() if re.search(rf"[?$]{name}\b", query)}


def test_the_page_has_five_questions_each_in_three_languages() -> None:
    assert len(QUESTIONS) == 5
    assert all(set(languages) == {"sparql", "cypher", "python"} for languages in QUESTIONS.values())


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_the_same_answer_in_every_language(
    store: GraphStore, question: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    given = asked(store)
    languages = QUESTIONS[question]
    scope: dict[str, Any] = {"store": store, **given}
    exec(languages["python"], scope)  # noqa: S102 - the page's own code
    expected = scope["rows"]
    answer = ask_sparql(
        store,
        languages["sparql"],
        used(languages["sparql"], given),
        limit=10_000,
        timeout_s=60.0,
        cache=tmp_path_factory.getbasetemp() / "questions-rdf",
        report=lambda *_: None,
    )
    assert_equal([dict(zip(answer.columns, row, strict=True)) for row in answer.rows], expected)
    if isinstance(store, Neo4jStore):
        cypher = languages["cypher"]
        found = ask_cypher(store.connection, cypher, used(cypher, given), limit=10_000, timeout_s=60.0)
        assert_equal([dict(zip(found.columns, row, strict=True)) for row in found.rows], expected)


def test_every_question_has_an_answer_here(store: GraphStore) -> None:
    answered = 0
    for languages in QUESTIONS.values():
        scope: dict[str, Any] = {"store": store, **asked(store)}
        exec(languages["python"], scope)  # noqa: S102 - the page's own code
        answered += bool(scope["rows"])
    assert answered == 5


def assert_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted)
