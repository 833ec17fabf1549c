"""How SQLite lays out the graph: tables made from `kg.schema`, one a node label, one an edge type, one a fact type.

    node label   its key is the primary key.
    edge type    ends, identity (and `valid_from`, where it is stated) are the primary key. Edges that facts are about have a
                 number, and those columns are unique.
    fact type    primary key (window, subject, identity): a window is read in one sweep, and the series of one subject is one
                 seek a window. The subject of facts about edges is the edge's number; of facts about nodes, the node's key.

Windows, provenance and the words that facts repeat (application, model, metric, reason, profile) are numbers into tables of
their own, `window`, `provenance` and `word`: a score is a row of some sixty bytes. Times are microseconds since the epoch.
`graph` has one row: who this graph is, how often it was written, and whether anything synthetic ever was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from kg.schema import (
    EDGE_TYPES,
    FACT_TYPES,
    MEASURED,
    NODE_TYPES,
    PROVENANCE,
    Datatype,
    EdgeType,
    FactType,
    History,
    Merge,
    NodeType,
    Property,
)
from kg.tables import described

SINCE_EVER = -(2**63)
"""What stands for an unknown `valid_from`: it is part of a key, and no part of a key can be null."""

_MEASURED_NUMBER = 1
"""Number of the word `MEASURED`, so that a trigger can name it."""

_SQL_TYPE = {
    Datatype.INTEGER: "INTEGER",
    Datatype.DOUBLE: "REAL",
    Datatype.STRING: "TEXT",
    Datatype.BOOLEAN: "INTEGER",
    Datatype.DATETIME: "INTEGER",
}


def ddl() -> list[str]:
    """The statements that make an empty graph."""
    return [
        "CREATE TABLE graph (identifier TEXT NOT NULL, revision INTEGER NOT NULL, synthetic INTEGER NOT NULL)",
        "CREATE TABLE provenance (id INTEGER PRIMARY KEY, " + ", ".join(map(_declared, PROVENANCE)) + ")",
        'CREATE TABLE "window" (id INTEGER PRIMARY KEY, window_start INTEGER NOT NULL, window_end INTEGER NOT NULL,'
        " UNIQUE (window_start, window_end))",
        "CREATE TABLE word (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE)",
        f"INSERT INTO word VALUES ({_MEASURED_NUMBER}, '{MEASURED}')",
        *(_node_table(node_type) for node_type in NODE_TYPES),
        *(statement for edge_type in EDGE_TYPES for statement in _edge_table(edge_type)),
        *(_fact_table(fact_type) for fact_type in FACT_TYPES),
    ]


def fingerprint() -> str:
    """A word for the layout; another one is another version of it."""
    return hashlib.sha256("\n".join(ddl()).encode()).hexdigest()[:16]


def subject_columns(fact_type: FactType) -> tuple[str, ...]:
    """The column of a fact's table that says what it is about."""
    about = fact_type.about
    return ("subject",) if isinstance(about, EdgeType) else tuple(p.name for p in fact_type.subject)


def fact_key(fact_type: FactType) -> tuple[str, ...]:
    """The primary key of a fact's table."""
    return ("window", *subject_columns(fact_type), *(p.name for p in fact_type.identity))


def name(identifier: str) -> str:
    """An identifier of the schema, quoted. Only names from `kg.schema` come here, never data."""
    return '"' + identifier.replace('"', '""') + '"'


def names(identifiers: Iterable[str]) -> str:
    """Some identifiers, quoted, with commas between."""
    return ", ".join(map(name, identifiers))


def upsert(table: str, columns: Sequence[Property], key: Sequence[Property], *, provenance: bool) -> str:
    """The statement that writes a row of a node or an edge, one parameter a column; one that says the same is left alone.

    Null never erases, in whichever order two values come; but who states an edge states also that it has no end.
    """
    given = [*(c.name for c in columns), *(["provenance"] if provenance else [])]
    merged = {name(c.name): _merged(table, c) for c in columns if c not in key}
    changed = " OR ".join(f"{name(table)}.{column} IS NOT {value}" for column, value in merged.items())
    updates = [f"{column} = {value}" for column, value in merged.items()]
    updates += ["provenance = excluded.provenance"] if provenance else []
    action = f"DO UPDATE SET {', '.join(updates)} WHERE {changed}" if merged else "DO NOTHING"
    return (
        f"INSERT INTO {name(table)} ({names(given)}) VALUES ({', '.join('?' * len(given))})"
        f" ON CONFLICT ({names(c.name for c in key)}) {action}"
    )


def put(fact_type: FactType) -> str:
    """The statement that writes a fact whole: key, values and provenance are its parameters."""
    key, values = fact_key(fact_type), [value.name for value in fact_type.values]
    given = (*key, *values, "provenance")
    table = name(fact_type.label)
    old = ", ".join(f"{table}.{name(value)}" for value in values)
    new = ", ".join(f"excluded.{name(value)}" for value in values)
    updates = ", ".join(f"{name(value)} = excluded.{name(value)}" for value in (*values, "provenance"))
    return (
        f"INSERT INTO {table} ({names(given)}) VALUES ({', '.join('?' * len(given))})"
        f" ON CONFLICT ({names(key)}) DO UPDATE SET {updates} WHERE ({old}) IS NOT ({new})"
    )


def delete(fact_type: FactType) -> str:
    """The statement that deletes a fact; the columns of its key are the parameters."""
    about = fact_type.about
    same = dict.fromkeys(subject_columns(fact_type), "?")
    if isinstance(about, EdgeType):
        ends = " AND ".join(f"{name(p.name)} = ?" for p in about.key)
        same = {"subject": f"(SELECT id FROM {name(about.table)} WHERE {ends})"}
    same["window"] = '(SELECT id FROM "window" WHERE window_start = ? AND window_end = ?)'
    for p in fact_type.identity:
        is_word = p.datatype is Datatype.STRING
        same[p.name] = "(SELECT id FROM word WHERE word = ?)" if is_word else "?"
    where = " AND ".join(f"{name(column)} = {value}" for column, value in same.items())
    return f"DELETE FROM {name(fact_type.label)} WHERE {where}"


def derived_from(fact_type: FactType) -> list[FactType]:
    """The facts that are computed from such ones, and about the same."""
    return [d for d in FACT_TYPES if d.derived_from == fact_type.label and d.about is fact_type.about]


def derived_go(fact_type: FactType, derived: FactType) -> dict[str, str]:
    """Triggers, by name, for the time of a write: what is computed from a fact that changes or goes would be a lie.

    A prediction stays what was predicted (`FactType.derived_from`).
    """
    has_origin = "origin" in {p.name for p in derived.identity}
    measured = f" AND origin = {_MEASURED_NUMBER}" if has_origin else ""
    triggers = {}
    for event, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")):
        key = ("window", *subject_columns(fact_type))
        same = " AND ".join(f"{name(column)} = {row}.{name(column)}" for column in key)
        trigger = name(f"{derived.label} goes with {fact_type.label} {event}")
        triggers[trigger] = (
            f"CREATE TEMP TRIGGER IF NOT EXISTS {trigger} AFTER {event} ON main.{name(fact_type.label)}"
            f" BEGIN DELETE FROM {name(derived.label)} WHERE {same}{measured}; END"
        )
    return triggers


def _merged(table: str, column: Property) -> str:
    old, new = f"{name(table)}.{name(column.name)}", f"excluded.{name(column.name)}"
    if column.name == "valid_to":
        return new
    if column.merge is Merge.LAST:
        return f"coalesce({new}, {old})"
    function = "min" if column.merge is Merge.LEAST else "max"
    return f"{function}(coalesce({old}, {new}), coalesce({new}, {old}))"


def _node_table(node_type: NodeType) -> str:
    columns = [f"{_declared(node_type.key)} PRIMARY KEY", *map(_optional, node_type.properties)]
    return f"CREATE TABLE {name(node_type.label)} ({', '.join(columns)})"


def _edge_table(edge_type: EdgeType) -> list[str]:
    key = edge_type.key
    columns = ["id INTEGER PRIMARY KEY"] if described(edge_type) else []
    for end, node_type in zip(edge_type.ends, (edge_type.source, edge_type.target), strict=True):
        columns.append(f"{_declared(end)} REFERENCES {name(node_type.label)}")
    columns += [f"{_optional(p)} NOT NULL" for p in key[2:]]
    columns += [_optional(p) for p in edge_type.properties if p not in key]
    columns.append("provenance INTEGER NOT NULL REFERENCES provenance")
    unique, without = ("UNIQUE", "") if described(edge_type) else ("PRIMARY KEY", " WITHOUT ROWID")
    table = name(edge_type.table)
    return [
        f"CREATE TABLE {table} ({', '.join(columns)}, {unique} ({names(p.name for p in key)})){without}",
        f"CREATE INDEX {name(edge_type.table + ' back')} ON {table} (target, source)",
    ]


def _fact_table(fact_type: FactType) -> str:
    about = fact_type.about
    columns = ['"window" INTEGER NOT NULL REFERENCES "window"']
    if isinstance(about, EdgeType):
        columns.append(f"subject INTEGER NOT NULL REFERENCES {name(about.table)}")
    else:
        columns += [f"{_declared(p)} REFERENCES {name(about.label)}" for p in fact_type.subject]
    columns += [_fact_column(p) for p in (*fact_type.identity, *fact_type.values)]
    columns.append("provenance INTEGER NOT NULL REFERENCES provenance")
    key = names(fact_key(fact_type))
    return f"CREATE TABLE {name(fact_type.label)} ({', '.join(columns)}, PRIMARY KEY ({key})) WITHOUT ROWID"


def _fact_column(column: Property) -> str:
    if column.datatype is not Datatype.STRING:
        return _declared(column)
    return f"{name(column.name)} INTEGER{' NOT NULL' if column.required else ''} REFERENCES word"


def _optional(column: Property) -> str:
    return f"{name(column.name)} {_SQL_TYPE[column.datatype]}"


def _declared(column: Property) -> str:
    return _optional(column) + (" NOT NULL" if column.required else "")


def holds(edge_type: EdgeType, moment_us: int | None) -> tuple[str, tuple[int, ...]]:
    """The condition under which an edge held at a moment (None: holds as far as is known), and its parameters."""
    if edge_type.history is History.STATED:
        if moment_us is None:
            return "valid_to IS NULL", ()
        return "valid_from <= ? AND (valid_to IS NULL OR valid_to > ?)", (moment_us, moment_us)
    if edge_type.history is History.SEEN and moment_us is not None:
        seen = "(first_seen IS NULL OR first_seen <= ?) AND (last_seen IS NULL OR last_seen >= ?)"
        return seen, (moment_us, moment_us)
    return "TRUE", ()
