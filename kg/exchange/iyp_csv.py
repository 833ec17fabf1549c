"""A folder of CSV files for `neo4j-admin database import`, with the labels, keys and edge names of the Internet Yellow Pages.

A file a node label, a file a kind of edge, each of which is there, if only with its header. Facts about an edge are relationships beside it (`PATH_STATE`), facts about a node are nodes
with an `OF` to it, as the Neo4j store keeps them. Edges and facts carry the properties of Provenance. `import.args` holds the
arguments for neo4j-admin, which says how it is called.

Text is in quotes and may hold line ends; nothing between two commas is unknown.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from domain.errors import InputError, TruncatedError
from kg.exchange.terms import lexical, subject
from kg.exchange.whole import (
    CLASSES,
    KINDS,
    Kind,
    Piece,
    class_of,
    columns_of,
    key_of,
    refuse_twins,
    respelled,
    typed,
)
from kg.schema import VERSION, Datatype, EdgeType, FactType, NodeType, Property

_TYPES = {
    Datatype.INTEGER: "long",
    Datatype.DOUBLE: "double",
    Datatype.BOOLEAN: "boolean",
    Datatype.STRING: "string",
    Datatype.DATETIME: "datetime",
}
_ARGUMENTS = "import.args"
_FIRST_LINE = "# A graph of qoetwin for Neo4j, ontology version {version}."
_SAID_ROWS = re.compile(r"^# (\d{1,18}) rows:\n--(?:nodes|relationships)=(.+)$", re.MULTILINE)
_OF = "_OF"


# Writing


def write(folder: Path, pieces: Iterator[Piece]) -> None:
    """Write pieces into a folder; it takes its name at the end, and replaces one that was written by this function.

    Raises:
        InputError: when it cannot be written, or something else is there.
    """
    if folder.exists() and not (folder / _ARGUMENTS).is_file():
        raise InputError(
            "something else is there",
            where=str(folder),
            expected=f"nothing, or a folder with {_ARGUMENTS} from an export before",
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write_files(new, pieces)
            new.chmod(0o755)
            if folder.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
                folder.replace(old)
                new.replace(folder)
                shutil.rmtree(old)
            else:
                new.replace(folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    except OSError as error:
        raise InputError("cannot write the folder", where=str(folder), found=str(error)) from error


def _write_files(folder: Path, pieces: Iterator[Piece]) -> None:
    open_files: dict[str, IO[bytes]] = {}
    rows = {name: 0 for kind in KINDS for name in _headers(kind)}
    try:
        for kind in KINDS:
            for name, header in _headers(kind).items():
                open_files[name] = (folder / f"{name}.csv").open("wb")
                open_files[name].write((",".join(header) + "\n").encode())
        for kind, table in pieces:
            for name, columns in _columns(kind, table.combine_chunks()).items():
                rows[name] += table.num_rows
                # Every column is text or null: text is quoted, null is nothing.
                csv.write_csv(
                    pa.table(columns, names=[str(number) for number in range(len(columns))]),
                    open_files[name],
                    csv.WriteOptions(include_header=False, quoting_style="needed"),
                )
    finally:
        for file in open_files.values():
            file.close()
    (folder / _ARGUMENTS).write_text(_arguments(rows), encoding="utf-8")


def _arguments(rows: Mapping[str, int]) -> str:
    lines = [
        _FIRST_LINE.format(version=VERSION),
        "# In this folder, with the server stopped: neo4j-admin database import full neo4j @import.args",
        "--multiline-fields=true",
    ]
    for kind in KINDS:
        for name in _headers(kind):
            nodes = isinstance(kind, NodeType) or (_about_node(kind) and not name.endswith(_OF))
            lines += [f"# {rows[name]} rows:", f"--{'nodes' if nodes else 'relationships'}={name}.csv"]
    return "\n".join(lines) + "\n"


def _about_node(kind: Kind) -> bool:
    return isinstance(kind, FactType) and isinstance(kind.about, NodeType)


def _headers(kind: Kind) -> dict[str, list[str]]:
    """File -> its header."""
    properties = [f"{column.name}:{_TYPES[column.datatype]}" for column in _properties(kind)]
    name = class_of(kind)
    if isinstance(kind, NodeType):
        return {name: [f":ID({name})", *properties, ":LABEL"]}
    if isinstance(kind, FactType) and isinstance(kind.about, NodeType):
        return {
            name: [f":ID({name})", *properties, ":LABEL"],
            name + _OF: [f":START_ID({name})", f":END_ID({kind.about.label})", ":TYPE"],
        }
    source, target = _labels(kind)
    return {name: [f":START_ID({source})", f":END_ID({target})", *properties, ":TYPE"]}


def _labels(kind: Kind) -> tuple[str, str]:
    """The labels at the ends of a relationship."""
    edge = kind.about if isinstance(kind, FactType) else kind
    assert isinstance(edge, EdgeType)  # noqa: S101 - facts about nodes are nodes
    return edge.source.label, edge.target.label


def _ends(kind: Kind) -> tuple[Property, ...]:
    """The columns that the two ends of a relationship are."""
    if isinstance(kind, EdgeType):
        return kind.ends
    return kind.subject[:2] if isinstance(kind, FactType) and not _about_node(kind) else ()


def _properties(kind: Kind) -> tuple[Property, ...]:
    return columns_of(kind)[len(_ends(kind)) :]


def _columns(kind: Kind, table: pa.Table) -> dict[str, list[pa.Array]]:
    """File -> its columns of text."""
    said = [_text(table[column.name], column.datatype) for column in _properties(kind)]
    name, rows = class_of(kind), table.num_rows
    if isinstance(kind, NodeType):
        return {name: [said[0], *said, _repeated(kind.label, rows)]}
    if isinstance(kind, FactType) and isinstance(kind.about, NodeType):
        names = subject(kind, table)
        return {
            name: [names, *said, _repeated(kind.label, rows)],
            name + _OF: [names, said[0], _repeated("OF", rows)],
        }
    ends = [_text(table[column.name], column.datatype) for column in _ends(kind)]
    verb = kind.name if isinstance(kind, EdgeType) else _upper_snake(kind.label)
    return {name: [*ends, *said, _repeated(verb, rows)]}


def _upper_snake(label: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", label).upper()


def _repeated(value: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), rows)


def _text(column: pa.ChunkedArray, datatype: Datatype) -> pa.Array:
    text = lexical(column, datatype)
    # Infinity as Java writes it.
    return pc.replace_substring(text, "INF", "Infinity") if datatype is Datatype.DOUBLE else text


# Reading


def read(folder: Path) -> Iterator[Piece]:
    """The graph in a folder: nodes, then edges, then facts.

    Raises:
        InputError: when it is no such folder, or says what the ontology does not know.
    """
    said = _rows_said(folder)
    for kind in KINDS:
        (name, header), *links = _headers(kind).items()
        path = folder / f"{name}.csv"
        keys, whole, names = [], [], []
        for text in _rows(path, header):
            table = typed(kind, _as_columns(kind, text), str(path))
            keys.append(table.select([column.name for column in key_of(kind)]))
            if links:
                names.append(pa.table({"name": text[header[0]], "of": text[header[1]]}))
            if isinstance(kind, FactType):
                yield kind, table
            else:
                whole.append(table)
        if keys:
            refuse_twins(kind, pa.concat_tables(keys), str(path))
        _refuse_part(path, sum(table.num_rows for table in keys), said.get(path.name))
        if whole:
            yield kind, pa.concat_tables(whole)
        for link, expected in links:
            _check_links(folder / f"{link}.csv", expected, names)


def _rows_said(folder: Path) -> dict[str, int]:
    """How many rows each file of a folder has, as its last one says."""
    try:
        text = (folder / _ARGUMENTS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "this is no graph in CSV", where=str(folder), found=str(error), expected=f"{_ARGUMENTS} in it"
        ) from error
    first = text.partition("\n")[0]
    if first != _FIRST_LINE.format(version=VERSION):
        raise InputError(
            "a graph of another ontology",
            where=str(folder / _ARGUMENTS),
            found=repr(first),
            expected=repr(_FIRST_LINE.format(version=VERSION)),
        )
    files = {f"{name}.csv" for kind in KINDS for name in _headers(kind)}
    other = sorted(path.name for path in folder.glob("*.csv") if path.name not in files)
    if other:
        raise InputError(
            "a file that the ontology does not know",
            where=str(folder),
            found=other[0],
            expected="a file a class: " + ", ".join(sorted(CLASSES)),
        )
    return {name: int(rows) for rows, name in _SAID_ROWS.findall(text)}


def _refuse_part(path: Path, rows: int, said: int | None) -> None:
    if rows != said:
        raise TruncatedError(
            "the file does not hold what it says it holds",
            where=str(path),
            found=f"{rows} rows",
            expected=f"{'no file' if said is None else f'{said} rows'}, as {_ARGUMENTS} says",
            next_step="it was cut or changed: export it again",
        )


def _rows(path: Path, header: list[str]) -> Iterator[pa.Table]:
    """The rows of a file as columns of text."""
    try:
        with csv.open_csv(
            path,
            read_options=csv.ReadOptions(block_size=1 << 24),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        ) as reader:
            if sorted(reader.schema.names) != sorted(header):
                raise InputError(
                    "a header that is not ours",
                    where=f"{path}, line 1",
                    found=",".join(reader.schema.names),
                    expected=",".join(header),
                )
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            "this is no CSV of ours",
            where=str(path),
            found="nothing: it is not there" if isinstance(error, FileNotFoundError) else str(error),
            next_step="if it was cut or changed, export it again",
        ) from error


def _as_columns(kind: Kind, text: pa.Table) -> pa.Table:
    """The columns of a file under the names that the ontology has for them."""
    names = {f"{column.name}:{_TYPES[column.datatype]}": column for column in _properties(kind)}
    columns = {column.name: respelled(text[name], column.datatype) for name, column in names.items()}
    if _ends(kind):
        source, target = _labels(kind)
        for column, name in zip(_ends(kind), (f":START_ID({source})", f":END_ID({target})"), strict=True):
            columns[column.name] = text[name]
    return pa.table(columns)


def _check_links(path: Path, header: list[str], names: list[pa.Table]) -> None:
    """Refuse facts that are linked to something else than their key says: the links say nothing else."""
    found = [table.select(header[:2]).rename_columns(["name", "of"]) for table in _rows(path, header)]
    schema = pa.schema([("name", pa.string()), ("of", pa.string())])
    tables = [
        pa.concat_tables([schema.empty_table(), *rows]).sort_by([("name", "ascending"), ("of", "ascending")])
        for rows in (names, found)
    ]
    if not tables[0].combine_chunks().equals(tables[1].combine_chunks()):
        raise InputError(
            "links that do not fit the facts",
            where=str(path),
            found=f"{tables[1].num_rows} links",
            expected=f"one from each of {tables[0].num_rows} facts to what its key says",
        )
