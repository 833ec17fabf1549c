"""Questions in SPARQL. They only read, for so long and in so much memory, and go nowhere but to the graph here.

What a query needs of the graph (`sparql_needs`) is written once into an on-disk store of oxigraph, in a cache that knows which revision of the graph
it holds; the query runs on that, in a process of its own (`sparql_process.py`).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import pyoxigraph as ox

from domain.errors import InputError, StoreError
from domain.progress import Report
from domain.selection import Selection
from kg.answer import Answer
from kg.exchange.nquads import lines
from kg.exchange.terms import BASE, ONTOLOGY_IRI, OWL, RDF, TYPE, XSD, Block, Describer
from kg.exchange.whole import KINDS, Kind, class_of, pieces
from kg.schema import NAMESPACE, ONTOLOGY, VERSION, EdgeType, Layer
from kg.sparql_needs import PROVENANCE_CLASS, Needs, needs
from kg.store import GraphStore

PREFIXES = {
    "": NAMESPACE,
    "id": BASE,
    "rdf": RDF,
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "owl": OWL,
    "xsd": XSD,
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "sosa": "http://www.w3.org/ns/sosa/",
    "prov": "http://www.w3.org/ns/prov#",
    "qudt": "http://qudt.org/schema/qudt/",
    "unit": "http://qudt.org/vocab/unit/",
}
"""Prefixes that a query need not declare."""

GRAPHS = (*(NAMESPACE + layer.value for layer in Layer), ONTOLOGY_IRI)
"""The named graphs: a layer each, and the ontology. A query that names none asks all of them together."""

MEMORY_BYTES = 2 * 1024**3
Cell = str | int | float | bool | datetime | None


def query(
    store: GraphStore,
    sparql: str,
    parameters: Mapping[str, str | int | float | bool | datetime | None],
    *,
    limit: int,
    timeout_s: float,
    cache: Path,
    report: Report,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    memory_bytes: int = MEMORY_BYTES,
) -> Answer:
    """Answer a SELECT, ASK, CONSTRUCT or DESCRIBE query.

    Args:
        store: the graph.
        sparql: the query; the prefixes of `PREFIXES` are known.
        parameters: variable -> the value it stands for in the query; values are never read as SPARQL.
        limit: rows to give.
        timeout_s: after that many seconds the query is stopped. Making the cache, when the graph has changed, does not count.
        cache: folder that holds the graph as oxigraph reads it.
        report: is told of the rows that go into the cache.
        selection: facts to ask about; empty means all.
        memory_bytes: that the query may use.

    Raises:
        InputError: when it is no query, would do more than read, or takes too long or too much memory.
        StoreError: when the graph cannot be read, or the cache cannot be written.
    """
    _refuse_deep(sparql)
    refuse_what_reads_elsewhere(sparql)
    terms = {name: _term(name, value) for name, value in parameters.items()}
    bound = _bound(sparql, terms) if terms else sparql
    named = _names_graphs(sparql)
    _run({"store": None, "query": bound, "prefixes": PREFIXES, "union": False}, 1, timeout_s, memory_bytes)
    wanted = None if named else needs(bound, PREFIXES)
    folder = _cached(store, selection, wanted, cache, report, named=bool(named))
    request = {
        "store": str(folder),
        "query": bound,
        "prefixes": PREFIXES,
        "union": bool(named) and "FROM" not in named,
    }
    return _run(request, limit, timeout_s, memory_bytes)


def _run(request: dict[str, Any], limit: int, timeout_s: float, memory_bytes: int) -> Answer:
    """The answer of the program that queries; without a store it only reads the query."""
    program = Path(__file__).with_name("sparql_process.py")
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, str(program)],
            input=json.dumps(request | {"limit": limit, "memory_bytes": memory_bytes}).encode(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            "the query took too long and was stopped",
            found=f"more than {timeout_s:g} s",
            next_step="ask for less, or give it more time",
        ) from error
    if done.returncode != 0:
        raise InputError(
            "the query was stopped",
            found=_why(done.returncode, done.stderr),
            expected=f"at most {memory_bytes // 1024**2} MB of memory, and no depth that ends its reader",
            next_step="ask for less, and with fewer brackets in each other",
        )
    said = json.loads(done.stdout)
    if "error" in said:
        raise _mapped(said["error"], said["kind"], request["store"])
    return Answer(
        columns=tuple(said["columns"]),
        rows=[tuple(_value(cell) for cell in row) for row in said["rows"]],
        cut=said["cut"],
    )


def _why(code: int, stderr: bytes) -> str:
    words = stderr.decode(errors="replace").strip().splitlines()
    return words[-1] if words else f"its process ended: {signal.strsignal(-code) if code < 0 else code}"


def _mapped(error: str, kind: str, folder: str | None) -> InputError | StoreError:
    if kind == "SyntaxError" and "Prefix not found" in error:
        return InputError(
            "a prefix that is not known",
            found=error.partition(": expected")[0],
            expected=f"PREFIX lines, or one of {', '.join(name + ':' for name in PREFIXES)}",
        )
    if kind == "SyntaxError":
        return InputError("this is no SPARQL query", found=error)
    if kind == "OSError":
        return StoreError(
            "cannot read the graph's cache", where=str(folder), found=error, next_step="delete that folder"
        )
    return InputError("the query cannot be answered", found=error)


# Values


def _term(name: str, value: str | int | float | bool | datetime | None) -> str:
    """A parameter as a literal in SPARQL, escaped."""
    match value:
        case bool():
            said = ("true" if value else "false", "boolean")
        case int():
            said = (str(value), "integer")
        case float():
            said = (repr(value).replace("inf", "INF").replace("nan", "NaN"), "double")
        case datetime():
            said = (value.isoformat(), "dateTime")
        case str():
            said = (value, "string")
        case None:
            raise InputError(
                f"the parameter {name} has no value",
                expected="a value: SPARQL has no null; an unknown property is not there (OPTIONAL, BOUND)",
            )
    return str(ox.Literal(said[0], datatype=ox.NamedNode(XSD + said[1])))


def _bound(sparql: str, terms: Mapping[str, str]) -> str:
    """A query in which variables have values.

    In each group of the query in which such a variable is, `VALUES` comes first. oxigraph's own substitution binds only what is
    selected; values joined to the whole are unknown to filters in inner groups.

    Raises:
        InputError: when a variable is not in the query.
    """
    inserted: dict[int, str] = {}
    tokens = _tokens(sparql)
    used = dict.fromkeys(terms, False)
    for number, opened in enumerate(tokens):
        if opened.text != "{" or not _opens_group(tokens, number):
            continue
        depth, inside = 1, set()
        for token in tokens[number + 1 :]:
            depth += (token.text == "{") - (token.text == "}")
            if not depth:
                break
            if token.kind == "variable":
                inside.add(token.text[1:])
        names = [name for name in terms if name in inside]
        used |= dict.fromkeys(names, True)
        inserted[opened.end] = "".join(f" VALUES ?{name} {{ {terms[name]} }}" for name in names)
    for name, there in used.items():
        if not there:
            raise InputError(f"the query has no ?{name}", expected="a variable for each parameter")
    for place in sorted(inserted, reverse=True):
        sparql = sparql[:place] + inserted[place] + " " + sparql[place:]
    return sparql


def _opens_group(tokens: list[_Token], number: int) -> bool:
    """Whether a brace opens a group of patterns: not a template, the data of `VALUES`, or what holds only a `SELECT`."""
    before = [_word(token) for token in tokens[max(0, number - 1) : number]]
    after = tokens[number + 1] if number + 1 < len(tokens) else None
    if before == ["CONSTRUCT"] or (after is not None and (_word(after) == "SELECT" or after.text == "|")):
        return False
    # VALUES ?x {, or VALUES ( ?x ?y ) {
    back = number - 1
    while back >= 0 and (tokens[back].kind == "variable" or tokens[back].text in ("(", ")")):
        back -= 1
    return back < 0 or _word(tokens[back]) != "VALUES" or back == number - 1


def _value(cell: list[str] | None) -> Cell:
    if cell is None:
        return None
    datatype, text = cell
    try:
        match (datatype or "").removeprefix(XSD):
            case "integer":
                return int(text)
            case "double" | "decimal" | "float":
                return float(text)
            case "boolean":
                return text == "true"
            case "dateTime":
                return datetime.fromisoformat(text)
    except ValueError:
        pass  # none of its datatype, or none that Python has a value for: as it is written
    return text


# What is refused

_DEEPEST = 200


def _refuse_deep(sparql: str) -> None:
    """Refuse a query with more brackets in each other than any question needs: reading it would end the reader, or take hours."""
    depth = deepest = 0
    for letter in sparql:
        depth = max(0, depth + (letter in "{([") - (letter in "})]"))
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        raise InputError(
            "the query is nested too deeply",
            found=f"{deepest} brackets in each other",
            expected=f"at most {_DEEPEST}",
        )


_TOKEN = re.compile(
    r"""
      (?P<iri><[^<>"{}|^`\\\x00-\x20]*>)
    | (?P<text>\"\"\"(?:[^"\\]|\\.|\"(?!\"\"))*\"\"\" | '''(?:[^'\\]|\\.|'(?!''))*''' | "(?:[^"\\\n\r]|\\.)*" | '(?:[^'\\\n\r]|\\.)*')
    | (?P<comment>\#[^\n\r]*)
    | (?P<variable>[?$]\w+)
    | (?P<language>@[A-Za-z]+(?:-[A-Za-z0-9]+)*)
    | (?P<name>(?:[^\W\d_](?:[\w.-]*[\w-])?)?:(?:[\w:]|%[0-9A-Fa-f]{2}|\\.)?(?:(?:[\w.:-]|%[0-9A-Fa-f]{2}|\\.)*(?:[\w:-]|%[0-9A-Fa-f]{2}|\\.))?)
    | (?P<word>\w+)
    | (?P<other>\\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_UPDATES = {"INSERT", "DELETE", "LOAD", "CLEAR", "DROP", "CREATE", "ADD", "MOVE", "COPY", "WITH"}
_QUERIES = {"SELECT", "ASK", "CONSTRUCT", "DESCRIBE"}
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})|\\U([0-9A-Fa-f]{8})")


@dataclass(frozen=True, slots=True)
class _Token:
    """A token of SPARQL: which of `_TOKEN`'s kinds, its text, where it ends."""

    kind: str
    text: str
    end: int


def _tokens(text: str) -> list[_Token]:
    """The tokens of a query, without comments and space."""
    return [
        _Token(str(found.lastgroup), found[0], found.end())
        for found in _TOKEN.finditer(text)
        if found.lastgroup != "comment" and not found[0].isspace()
    ]


def _word(token: _Token) -> str:
    """A keyword in capitals; nothing for what is no word."""
    return token.text.upper() if token.kind == "word" else ""


def _names_graphs(sparql: str) -> set[str]:
    """Which of the words are in a query by which it chooses among named graphs: `GRAPH` and `FROM`."""
    plain = _ESCAPE.sub(_letter, sparql)
    return {_word(token) for text in (sparql, plain) for token in _tokens(text)} & {"GRAPH", "FROM"}


def refuse_what_reads_elsewhere(sparql: str) -> None:
    """Refuse updates, `SERVICE`, and `FROM` anything but our own named graphs.

    SPARQL may write any letter as an escape; the query is looked at as it is, and without its escapes.

    Raises:
        InputError: saying what is refused.
    """
    for text in {sparql, _ESCAPE.sub(_letter, sparql)}:
        _refuse(text)


def _letter(found: re.Match[str]) -> str:
    code = int(found[1] or found[2], 16)
    return chr(code) if code < 0x110000 else found[0]


_SERVICE = re.compile(r"(?<![A-Za-z_?$:/#-])service|(?:true|false)service", re.IGNORECASE)
"""Where oxigraph may read the keyword: anywhere but within a name. It needs no space around it."""


def _refuse(text: str) -> None:
    # Not by tokens: whether < begins an IRI or compares is for a parser to say, and a request that went out is out.
    if _SERVICE.search(text):
        raise InputError(
            "SERVICE is refused: queries go nowhere but to the graph here",
            found="the word SERVICE",
            next_step="where it is part of a text, give the text as a parameter",
        )
    prefixes = dict(PREFIXES)
    begun = False
    tokens = _tokens(text)
    nothing = _Token("other", "", 0)
    for number, token in enumerate(tokens):
        word = _word(token)
        following, second = (*tokens[number + 1 : number + 3], nothing, nothing)[:2]
        if word == "PREFIX":
            prefixes[following.text.removesuffix(":")] = second.text.strip("<>")
        if word in _UPDATES and not begun:
            raise InputError("an update is refused", found=token.text, expected=" or ".join(sorted(_QUERIES)))
        begun = begun or word in _QUERIES
        if word == "FROM":
            given = second if _word(following) == "NAMED" else following
            prefix, _, local = given.text.partition(":")
            graph = given.text.strip("<>") if given.kind == "iri" else prefixes.get(prefix, "") + local
            if graph not in GRAPHS:
                raise InputError(
                    "FROM another graph is refused",
                    found=given.text,
                    expected=" or ".join(f"<{iri}>" for iri in GRAPHS),
                )


# The cache


def _cached(
    store: GraphStore, selection: Selection, wanted: Needs | None, cache: Path, report: Report, *, named: bool
) -> Path:
    """The folder with what is wanted of the graph as it is now; made when it is not there.

    Few queries name graphs. Without them oxigraph has half the indexes to make, and nothing to tell apart when all are asked.
    """
    parts = None if wanted is None else sorted((name, sorted(some)) for name, some in wanted.items())
    revision = _digest(f"{store.revision()} {VERSION} {ox.__version__}")
    folder = cache / f"{revision}-{_digest(f'{selection} {parts} {named}')}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _tidy(cache, revision)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
        try:
            _build(store, selection, wanted, building, report, named=named)
            if not folder.is_dir():  # someone else may have been quicker
                building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise StoreError("cannot write the graph's cache", where=str(cache), found=str(error)) from error
    return folder


def _build(
    store: GraphStore,
    selection: Selection,
    wanted: Needs | None,
    folder: Path,
    report: Report,
    *,
    named: bool,
) -> None:
    built = ox.Store(str(folder))
    text = _text(store, selection, wanted, report, named=named)
    stream = io.BufferedReader(_Stream(text), 1 << 20)
    form = ox.RdfFormat.N_QUADS if named else ox.RdfFormat.N_TRIPLES
    built.bulk_load(cast(IO[bytes], stream), form, lenient=True)
    graph = ox.NamedNode(ONTOLOGY_IRI) if named else ox.DefaultGraph()
    built.bulk_load(path=ONTOLOGY, format=ox.RdfFormat.TURTLE, to_graph=graph)
    built.flush()


def _text(
    store: GraphStore, selection: Selection, wanted: Needs | None, report: Report, *, named: bool
) -> Iterator[bytes]:
    describer = Describer()
    yield lines(describer.header(), graphs=named)
    kinds = KINDS if wanted is None else [kind for kind in KINDS if _is_wanted(kind, wanted)]
    for piece in pieces(store, selection, report, kinds):
        for block in describer.blocks(piece):
            yield lines(block if wanted is None else _only(block, piece[0], wanted), graphs=named)


def _is_wanted(kind: Kind, wanted: Needs) -> bool:
    """Whether anything that is wanted is said where a kind is said; an edge is said of its source too."""
    directly = isinstance(kind, EdgeType) and NAMESPACE + kind.name in wanted.get(kind.source.label, ())
    # Provenances are said where something first refers to them.
    return directly or class_of(kind) in wanted or PROVENANCE_CLASS in wanted


def _only(block: Block, kind: Kind, wanted: Needs) -> Block:
    """Of a block what is wanted."""
    if block.cls is None and isinstance(kind, EdgeType):
        name = kind.source.label
    else:
        name = (block.cls or "").removeprefix(NAMESPACE)
    predicates = wanted.get(name, frozenset())
    return replace(
        block,
        cls=block.cls if TYPE in predicates else None,
        statements=[one for one in block.statements if one.predicate in predicates],
    )


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file to read."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next."""
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._rest = memoryview(part)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


_KEPT = 8  # caches of one revision: questions are asked again
_ABANDONED_S = 86_400.0


def _tidy(cache: Path, revision: str) -> None:
    """Remove caches of graphs that are no more, and what a process that was killed left.

    The newest of another revision stays: a query may still run on it.
    """
    by_age = sorted((path.stat().st_mtime, path) for path in cache.iterdir() if path.is_dir())
    whole = [path for _, path in by_age if not path.name.startswith(".")]
    current = [path for path in whole if path.name.startswith(revision)]
    others = [path for path in whole if not path.name.startswith(revision)]
    left = [path for age, path in by_age if path.name.startswith(".") and age < time.time() - _ABANDONED_S]
    for path in (*current[: -(_KEPT - 1)], *others[:-1], *left):
        shutil.rmtree(path, ignore_errors=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
