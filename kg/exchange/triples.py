"""RDF -> pieces: triples in any order, gathered by subject into the tables that they were.

The parser runs beside us and gives a line a triple (`parse_rdf.py`); lines become columns (Arrow), the columns a table of triples
on disk (DuckDB, which needs little memory for it), and of that table one pivot a class is made.

Nothing is dropped: a triple that says nothing the ontology knows is refused, and so is one that contradicts another.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from domain.errors import InputError, StoreError, TruncatedError
from domain.progress import Report
from kg.exchange.terms import (
    BASE,
    HEADER,
    ONTOLOGY_IRI,
    OWL,
    RDF,
    RESOURCES,
    TYPE,
    XSD,
    about,
    literals,
    subject,
)
from kg.exchange.whole import CLASSES, KINDS, ROWS, Kind, Piece, class_of, columns_of, never_null, value_of
from kg.schema import NAMESPACE, PROVENANCE, VERSION, Datatype, EdgeType, FactType, NodeType, Property

_CHUNK = 1 << 24  # bytes of lines that are made into columns at a time
_MEMORY = "1GB"

_VERBS = sorted({kind.name for kind in KINDS if isinstance(kind, EdgeType)})
_LITERALS = sorted({p.name for kind in KINDS for p in literals(kind)} | {p.name for p in PROVENANCE})
_PREDICATES: tuple[str, ...] = (
    TYPE,
    OWL + "imports",
    OWL + "versionInfo",
    RESOURCES,
    RDF + "subject",
    RDF + "predicate",
    RDF + "object",
    NAMESPACE + "of",
    NAMESPACE + "provenance",
    *(NAMESPACE + name for name in _LITERALS),
    *(NAMESPACE + verb for verb in _VERBS),
)
"""All predicates there are; in the table of triples their number stands for them."""
_NUMBER = {iri: number for number, iri in enumerate(_PREDICATES)}
_FIRST_VERB = len(_PREDICATES) - len(_VERBS)
_CLASS_NUMBER = {name: number for number, name in enumerate(CLASSES)}
_PROVENANCE, _HEADER = len(CLASSES), len(CLASSES) + 1


def read(path: Path, form: str, report: Report) -> Iterator[Piece]:
    """The graph in an RDF file: nodes, then edges, then facts.

    Args:
        path: the file; `.gz` is unpacked.
        form: `turtle`, `nquads` or `jsonld`. Which named graph a statement is in does not count.
        report: is told of the triples.

    Raises:
        InputError: when it is no RDF of that form, or says what the ontology does not know, or says it wrongly. The place
            named is a line for syntax, else the resource.
    """
    where = str(path)
    with tempfile.TemporaryDirectory(prefix="qoetwin-rdf-") as folder:
        try:
            db = duckdb.connect(f"{folder}/triples.duckdb", config={"memory_limit": _MEMORY})
            db.execute("SET enable_progress_bar = false")  # printing is the command line's affair
        except duckdb.Error as error:
            raise StoreError("cannot work on disk", where=folder, found=str(error)) from error
        with db:
            try:
                _load(db, path, form, report)
                yield from _Gathered(db, where).pieces()
            except duckdb.Error as error:
                raise StoreError("cannot gather the triples", where=folder, found=str(error)) from error


def _load(db: duckdb.DuckDBPyConnection, path: Path, form: str, report: Report) -> None:
    db.execute("CREATE TABLE triple (s VARCHAR, p SMALLINT, o VARCHAR)")
    program = Path(__file__).with_name("parse_rdf.py")
    done = 0
    with tempfile.TemporaryFile() as complaint:
        command = [sys.executable, str(program), form, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaint) as parser:  # noqa: S603 - our own
            try:
                assert parser.stdout is not None  # noqa: S101 - it is a pipe
                for lines in _lines(parser.stdout):
                    chunk = _columns(lines, str(path))  # noqa: F841 - DuckDB finds it by its name
                    db.execute("INSERT INTO triple SELECT * FROM chunk")
                    done += len(lines)
                    report("triples", done, None)
            except BaseException:
                parser.kill()
                raise
        complaint.seek(0)
        said = complaint.read().decode(errors="replace").strip()
    if parser.returncode != 0:
        kind, _, found = said.rpartition("\n")[2].partition("\t")
        if kind == "truncated":
            raise TruncatedError("the file ends in the middle", where=str(path), found=found)
        raise InputError(
            f"this is no {form}",
            where=str(path),
            found=found or said or "nothing readable",
            next_step="if it was cut or changed, export it again",
        )


def _lines(file: IO[bytes]) -> Iterator[pa.Array]:
    """N-Triples as columns of lines, (lines,), with their ends."""
    rest = b""
    while block := file.read(_CHUNK):
        cut = block.rfind(b"\n") + 1
        if not cut:
            rest += block
            continue
        data = np.frombuffer(rest + block[:cut], np.uint8)
        rest = block[cut:]
        offsets = np.concatenate([[0], np.flatnonzero(data == ord("\n")) + 1])
        yield pa.LargeStringArray.from_buffers(
            len(offsets) - 1, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(data)
        )


def _columns(lines: pa.Array, where: str) -> pa.Table:
    """Lines as subject (IRI), predicate (its number) and object (a term of N-Triples)."""
    if not pc.all(pc.starts_with(lines, "<")).as_py():
        raise InputError(
            "a resource without a name (a blank node)", where=where, expected="an IRI for every resource"
        )
    parts = pc.split_pattern(lines, "> ", max_splits=2)
    subjects, verbs, objects = (pc.list_element(parts, number) for number in range(3))
    encoded = pc.dictionary_encode(verbs)
    iris = [verb.removeprefix("<") for verb in encoded.dictionary.to_pylist()]
    for number, iri in enumerate(iris):
        if iri not in _NUMBER:
            row = pc.index(encoded.indices, number).as_py()
            raise InputError(
                "a property that the ontology does not know",
                where=f"{where}, {subjects[row].as_py().removeprefix('<')}",
                found=iri,
                expected=f"the properties of {NAMESPACE}",
            )
    numbers = pa.array([_NUMBER[iri] for iri in iris], pa.int16()).take(encoded.indices)
    return pa.table(
        [pc.utf8_slice_codeunits(subjects, 1), numbers, pc.utf8_slice_codeunits(objects, 0, -3)],
        schema=pa.schema([("s", pa.large_string()), ("p", pa.int16()), ("o", pa.large_string())]),
    )


class _Gathered:
    """The triples of a file, by subject. Resources and terms are here as N-Triples has them, resources without the `<>`."""

    def __init__(self, db: duckdb.DuckDBPyConnection, where: str) -> None:
        self._db = db
        self._where = where
        self._present: set[int] = set()  # numbers of the classes that have resources
        self._nodes: dict[str, tuple[pa.Array, pa.Array]] = {}  # label -> IRIs, keys
        self._names = pa.array([], pa.string())  # IRIs of the provenances
        self._provenances = pa.table({})

    def pieces(self) -> Iterator[Piece]:
        """Nodes, then edges, then facts."""
        self._find_classes()
        self._check_header()
        self._read_provenances()
        for kind in KINDS:
            if isinstance(kind, NodeType):
                yield kind, self._nodes_of(kind)
        edges = [(kind, self._edges_of(kind)) for kind in KINDS if isinstance(kind, EdgeType)]
        self._check_direct()
        yield from edges
        for kind in KINDS:
            if isinstance(kind, FactType):
                for table in self._pivot(class_of(kind), _said_of(kind)):
                    yield kind, self._facts_of(kind, table)

    def _find_classes(self) -> None:
        """Give every resource its class (`is_a`), and every triple that of its subject (`typed`)."""
        self._db.execute(
            "CREATE TABLE kind AS SELECT s, any_value(o) AS o, count(DISTINCT o) AS n FROM triple WHERE p = 0 GROUP BY s"
        )
        self._refuse("SELECT s, o FROM kind WHERE n > 1", "a resource of several classes", "one each")
        names = [f"<{NAMESPACE}{name}>" for name in (*CLASSES, "Provenance")] + [f"<{OWL}Ontology>"]
        classes = pa.table({"o": names, "cls": pa.array(range(len(names)), pa.int16())})
        self._db.register("classes", classes)
        self._refuse(
            "SELECT s, o FROM kind ANTI JOIN classes USING (o)",
            "a class that the ontology does not know",
            f"the classes of {NAMESPACE}",
        )
        self._db.execute("CREATE TABLE is_a AS SELECT s, cls FROM kind JOIN classes USING (o)")
        self._refuse(
            "SELECT s, '' FROM triple ANTI JOIN is_a USING (s)", "a resource without a class", "an rdf:type"
        )
        self._db.execute(
            "CREATE TABLE typed AS SELECT cls, s, p, o FROM triple JOIN is_a USING (s) WHERE p > 0 AND p < ?",
            [_FIRST_VERB],
        )
        self._db.execute("CREATE TABLE direct AS SELECT s, p, o FROM triple WHERE p >= ?", [_FIRST_VERB])
        self._db.execute("DROP TABLE triple; DROP TABLE kind")
        self._present = {cls for (cls,) in self._db.execute("SELECT DISTINCT cls FROM is_a").fetchall()}

    def _check_header(self) -> None:
        """Refuse a graph of another ontology, and one of which a part is not there."""
        found = self._first(
            "SELECT s, p, o FROM typed WHERE cls = ? AND p <> ? AND o NOT IN (?, ?)",
            [_HEADER, _NUMBER[RESOURCES], f"<{ONTOLOGY_IRI}>", f'"{VERSION}"'],
        )
        if found is not None:
            raise InputError(
                "a graph of another ontology",
                where=f"{self._where}, {found[0]}",
                found=f"{_PREDICATES[found[1]]} {found[2]}",
                expected=f"{ONTOLOGY_IRI} of version {VERSION}",
            )
        told = self._db.execute(
            "SELECT DISTINCT o FROM typed WHERE cls = ? AND p = ?", [_HEADER, _NUMBER[RESOURCES]]
        ).fetchall()
        (there,) = self._db.execute("SELECT count(*) FROM is_a WHERE cls < ?", [_PROVENANCE]).fetchone() or (
            0,
        )
        if told != [(f'"{there}"^^<{XSD}{Datatype.INTEGER}>',)]:
            raise TruncatedError(
                "the file does not hold what it says it holds",
                where=f"{self._where}, {BASE}{HEADER}",
                found=f"{there} nodes, edges and facts; said are {' and '.join(o for (o,) in told) or 'none'}",
                expected=f"as many as its {RESOURCES} says, which an export writes last",
                next_step="it was cut or changed: export it again",
            )

    def _read_provenances(self) -> None:
        table = self._all("Provenance", {column.name: NAMESPACE + column.name for column in PROVENANCE})
        self._names = table["s"].combine_chunks()
        columns = {column.name: self._values("Provenance", table, column) for column in PROVENANCE}
        self._provenances = pa.table(columns)
        self._refuse_null(
            "Provenance", table["s"], self._provenances, {p.name for p in PROVENANCE if p.required}
        )

    def _nodes_of(self, kind: NodeType) -> pa.Table:
        raw = self._all(kind.label, _said_of(kind))
        table = pa.table({column.name: self._values(kind.label, raw, column) for column in kind.columns})
        self._check_names(kind, raw["s"], table)
        self._nodes[kind.label] = (raw["s"].combine_chunks(), table[kind.key.name].combine_chunks())
        return table

    def _edges_of(self, kind: EdgeType) -> pa.Table:
        name = class_of(kind)
        raw = self._all(name, _said_of(kind))
        verbs = self._iris(name, raw, "rdf:predicate")
        wrong = pc.not_equal(verbs, NAMESPACE + kind.name)
        if pc.any(wrong).as_py():
            row = pc.index(wrong, True).as_py()
            raise self._wrong(
                f"an edge of class {name} with another verb",
                raw["s"][row],
                verbs[row].as_py(),
                NAMESPACE + kind.name,
            )
        columns = {}
        for column, node, link in (
            ("source", kind.source, "rdf:subject"),
            ("target", kind.target, "rdf:object"),
        ):
            columns[column] = self._looked_up(
                name, raw, link, *self._nodes[node.label], f"an {node.label} that the file describes"
            )
        for literal in literals(kind):
            columns[literal.name] = self._values(name, raw, literal)
        table = pa.table(columns | self._provenance_of(name, raw))
        self._check_names(kind, raw["s"], table)
        if not table.num_rows:
            return table
        held = pa.table({"s": self._iris(name, raw, "rdf:subject"), "o": raw["rdf:object"]})
        if "valid_to" in table.column_names:
            held = held.filter(pc.is_null(table["valid_to"]))
        self._db.register("edge", held)
        self._db.execute(
            "DELETE FROM direct WHERE p = ? AND (s, o) IN (SELECT s, o FROM edge)",
            [_NUMBER[NAMESPACE + kind.name]],
        )
        self._db.unregister("edge")
        return table

    def _check_direct(self) -> None:
        found = self._first("SELECT s, p, o FROM direct ORDER BY ALL")
        if found is not None:
            raise InputError(
                "a relation that nobody vouches for",
                where=f"{self._where}, {found[0]}",
                found=f"{_PREDICATES[found[1]]} {found[2]}",
                expected="an edge with these ends, without valid_to, that says from whom it is",
            )

    def _facts_of(self, kind: FactType, raw: pa.Table) -> pa.Table:
        columns = {column.name: self._values(kind.label, raw, column) for column in kind.columns}
        table = pa.table(columns)
        for name, values in self._provenance_of(kind.label, raw).items():
            if name not in columns:
                table = table.append_column(name, values)
        self._check_names(kind, raw["s"], table)
        subjects = about(kind, table)
        said = pc.binary_replace_slice(self._iris(kind.label, raw, "of"), 0, len(BASE), "")
        differs = pc.not_equal(said, subjects)
        if pc.any(differs).as_py():
            row = pc.index(differs, True).as_py()
            raise self._wrong(
                "a fact that is about one thing and has the key of another",
                raw["s"][row],
                BASE + said[row].as_py(),
                BASE + subjects[row].as_py(),
            )
        return table.select([column.name for column in columns_of(kind)])

    def _provenance_of(self, name: str, raw: pa.Table) -> dict[str, pa.ChunkedArray]:
        rows = pa.array(range(len(self._names)), pa.int64())
        numbers = self._looked_up(
            name, raw, "provenance", self._names, rows, "a provenance that the file describes"
        )
        return {column.name: self._provenances[column.name].take(numbers) for column in PROVENANCE}

    def _looked_up(
        self, name: str, raw: pa.Table, link: str, iris: pa.Array, values: pa.Array, expected: str
    ) -> pa.ChunkedArray:
        """What the resources that a link goes to stand for."""
        found = self._iris(name, raw, link)
        numbers = pc.index_in(found, iris)
        if numbers.null_count:
            row = pc.index(pc.is_null(numbers), True).as_py()
            raise self._wrong(f"{link} goes to nothing", raw["s"][row], found[row].as_py(), expected)
        return values.take(numbers)

    def _all(self, name: str, predicates: dict[str, str]) -> pa.Table:
        schema = pa.schema([(column, pa.string()) for column in ("s", *predicates)])
        return pa.concat_tables([schema.empty_table(), *self._pivot(name, predicates)])

    def _pivot(self, name: str, predicates: dict[str, str]) -> Iterator[pa.Table]:
        """The resources of a class: `s`, and a column of terms for each predicate (column -> IRI)."""
        cls = _PROVENANCE if name == "Provenance" else _CLASS_NUMBER[name]
        if cls not in self._present:
            return
        numbers = {column: _NUMBER[iri] for column, iri in predicates.items()}
        other = self._first(
            "SELECT s, p FROM typed WHERE cls = ? AND NOT list_contains(?, p)", [cls, list(numbers.values())]
        )
        if other is not None:
            raise InputError(
                f"a property that {name} has not",
                where=f"{self._where}, {other[0]}",
                found=_PREDICATES[other[1]],
                expected="one of " + ", ".join(predicates),
            )
        columns = ", ".join(f'max(o) FILTER (p = {p}) AS "{column}"' for column, p in numbers.items())
        known = " + ".join(f'("{column}" IS NOT NULL)::INT' for column in numbers)
        # Left join: a resource of which nothing is said but its class is one too. Names and numbers are ours.
        self._db.execute(
            f"CREATE OR REPLACE TABLE wide AS SELECT s, {columns}, count(p) AS said "
            f"FROM (SELECT s FROM is_a WHERE cls = {cls}) "
            f"LEFT JOIN (SELECT s, p, o FROM typed WHERE cls = {cls}) USING (s) GROUP BY s"
        )
        # More said than there are columns: the same triple twice, which is nothing, or two values for one property.
        if self._first(f"SELECT 1 FROM wide WHERE said <> {known}") is not None:
            self._refuse(
                f"SELECT s, string_agg(DISTINCT o, ' and ') FROM typed WHERE cls = {cls} "
                "GROUP BY s, p HAVING count(DISTINCT o) > 1",
                "two values of one property",
                "one",
            )
        for batch in self._db.sql("SELECT * EXCLUDE said FROM wide").to_arrow_reader(ROWS):
            yield pa.Table.from_batches([batch])

    def _values(self, name: str, raw: pa.Table, column: Property) -> pa.ChunkedArray:
        """Terms of a property as values; they must be literals of its datatype."""
        terms = raw[column.name]
        ending = "" if column.datatype is Datatype.STRING else f"^^<{XSD}{column.datatype}>"
        fits = pc.and_(pc.starts_with(terms, '"'), pc.ends_with(terms, '"' + ending))
        row = pc.index(fits, False).as_py()
        if row >= 0:
            raise self._wrong(
                f"{column.name} of {name} is no {column.datatype}",
                raw["s"][row],
                terms[row].as_py(),
                f"a literal of {XSD}{column.datatype}",
            )
        try:
            text = pc.utf8_slice_codeunits(terms, 1, -1 - len(ending))
            return value_of(_unescaped(text), column.datatype)
        except ValueError as error:
            row = int(str(error))
            raise self._wrong(
                f"{column.name} of {name} is no {column.datatype}", raw["s"][row], terms[row].as_py()
            ) from error

    def _iris(self, name: str, raw: pa.Table, link: str) -> pa.ChunkedArray:
        """Terms of a link as IRIs; it is never missing."""
        terms = raw[link]
        row = pc.index(pc.fill_null(pc.starts_with(terms, "<"), False), False).as_py()
        if row >= 0:
            raise self._wrong(f"{name} without {link}", raw["s"][row], terms[row].as_py(), "an IRI")
        return pc.utf8_slice_codeunits(terms, 1, -1)

    def _check_names(self, kind: Kind, names: pa.ChunkedArray, table: pa.Table) -> None:
        """Refuse resources whose names and keys differ: two names for one thing, of which one would be lost."""
        self._refuse_null(class_of(kind), names, table, never_null(kind))
        derived = subject(kind, table)
        said = pc.binary_replace_slice(names, 0, len(BASE), "")
        differs = pc.or_(pc.not_equal(said, derived), pc.invert(pc.starts_with(names, BASE)))
        if pc.any(differs).as_py():
            row = pc.index(differs, True).as_py()
            raise self._wrong(
                f"a name that is not made from the key of this {class_of(kind)}",
                names[row],
                expected=BASE + derived[row].as_py(),
            )

    def _refuse_null(self, name: str, names: pa.ChunkedArray, table: pa.Table, columns: set[str]) -> None:
        for column in sorted(columns):
            if table[column].null_count:
                row = pc.index(pc.is_null(table[column]), True).as_py()
                raise self._wrong(f"{name} without {column}", names[row])

    def _wrong(
        self, what: str, resource: pa.Scalar, found: str | None = None, expected: str | None = None
    ) -> InputError:
        return InputError(what, where=f"{self._where}, {resource.as_py()}", found=found, expected=expected)

    def _refuse(self, query: str, what: str, expected: str) -> None:
        """Refuse a file in which a query (subject, what is wrong there) finds anything."""
        found = self._first(f"SELECT *, count(*) OVER () FROM ({query}) ORDER BY ALL")
        if found is not None:
            name, said, count = found
            more = f" and {count - 1} more" if count > 1 else ""
            raise InputError(
                what, where=f"{self._where}, {name}{more}", found=said.strip("<>") or None, expected=expected
            )

    def _first(self, query: str, values: list[object] | None = None) -> tuple[Any, ...] | None:
        """The first row that a query of ours finds; None where it finds nothing."""
        return next(iter(self._db.execute(f"{query} LIMIT 1", values).fetchall()), None)


def _said_of(kind: Kind) -> dict[str, str]:
    """Column -> IRI of the predicate, of what is said of a resource of that kind."""
    said = {column.name: NAMESPACE + column.name for column in literals(kind)}
    if isinstance(kind, EdgeType):
        said |= {f"rdf:{link}": RDF + link for link in ("subject", "predicate", "object")}
    if isinstance(kind, FactType):
        said["of"] = NAMESPACE + "of"
    if not isinstance(kind, NodeType):
        said["provenance"] = NAMESPACE + "provenance"
    return said


_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_LETTERS = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f"}


def _unescaped(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts of N-Triples without its escapes; few texts have any."""
    escaped = pc.fill_null(pc.match_substring(texts, "\\"), False)
    if not pc.any(escaped).as_py():
        return texts
    plain = [_ESCAPE.sub(_letter, text) for text in texts.filter(escaped).to_pylist()]
    return pc.replace_with_mask(texts.combine_chunks(), escaped.combine_chunks(), pa.array(plain, texts.type))


def _letter(match: re.Match[str]) -> str:
    short, long, one = match.groups()
    return _LETTERS.get(one, one) if one is not None else chr(int(short or long, 16))
