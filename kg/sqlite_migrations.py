"""How a graph file of an older version becomes one of this version.

Each migration goes from its version straight to the newest, so there is no layout in between to keep alive: the old tables
are put aside, today's are made, the rows are carried over, the old tables go. The store runs it in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable

from kg.schema import (
    APPLICATION,
    AS,
    ASSIGNED,
    ATLAS_MEASUREMENT,
    ATLAS_PROBE,
    COUNTRY,
    HAD_STATUS,
    HOST_NAME,
    IN_COUNTRY,
    IP,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    MEASURES,
    NEXT_HOP,
    PART_OF_MEASUREMENT,
    PART_OF_PREFIX,
    PATH_PREDICTION,
    PATH_SCORE,
    PATH_STATE,
    POINT,
    PREDICTED_TO,
    PREFIX,
    PROBE_STATE,
    PROBE_STATUS,
    TARGET_HOST_NAME,
    TARGET_IP,
    TARGET_STATE,
    EdgeType,
)
from kg.sqlite_layout import SINCE_EVER, ddl, fact_key, name, names


def from_1() -> list[str]:
    """The statements that make a graph of version 1 one of today's.

    Version 1 kept one place, network and country a probe: they become stated edges of which nobody said since when. A
    pair becomes an edge that was seen in its windows. What version 1 computed says so in its provenance.
    """
    nodes = {
        ATLAS_PROBE: "id, name, status, is_anchor, synthetic",
        ATLAS_MEASUREMENT: "id, type, af, synthetic",
        IP: "ip, af",
        PREFIX: "prefix, af",
        AS: "asn",
        COUNTRY: "country_code",
        POINT: "position, latitude, longitude",
        HOST_NAME: "name",
        APPLICATION: "name",
    }
    stated = (ASSIGNED, LOCATED_IN_AS, LOCATED_IN_POINT, IN_COUNTRY, PART_OF_PREFIX)
    seen = (PART_OF_MEASUREMENT, TARGET_IP, TARGET_HOST_NAME, NEXT_HOP)
    edges = (*stated, *seen)
    tables = [
        *("provenance", "pair", "path_state", "path_score"),
        *(node_type.label for node_type in nodes),
        *(edge_type.table for edge_type in edges),
    ]
    return [
        "DROP VIEW pair_place",
        "DROP TRIGGER path_state_changed",
        "DROP INDEX path_state_by_pair",
        "DROP INDEX path_score_by_state",
        *(f"DROP INDEX {name(edge_type.table + ' back')}" for edge_type in edges),
        *(f"ALTER TABLE {name(table)} RENAME TO {_old(table)}" for table in tables),
        *ddl(),
        *_provenance_1(),
        *(
            f"INSERT INTO {name(node_type.label)} ({columns}) SELECT {columns} FROM {_old(node_type.label)}"
            for node_type, columns in nodes.items()
        ),
        *(_stated_1(edge_type) for edge_type in stated),
        *(_seen_1(edge_type) for edge_type in seen),
        *_facts_1(),
        f"INSERT INTO graph SELECT lower(hex(randomblob(8))), 1, ifnull((SELECT max(synthetic) FROM"
        f" (SELECT synthetic FROM provenance UNION ALL SELECT max(synthetic) FROM {_old('path_state')})), 0)",
        # last those that others refer to
        *(f"DROP TABLE {_old(table)}" for table in ("path_score", "path_state", "pair")),
        *(
            f"DROP TABLE {_old(table)}"
            for table in reversed(tables)
            if not table.startswith(("pair", "path_"))
        ),
    ]


def _provenance_1() -> list[str]:
    """Provenance under its old number; of states and of scores, which were computed, under that number plus an offset."""
    columns = (
        "reference_name, reference_org, reference_url_data, reference_time_fetch, reference_time_modification"
    )
    old = _old("provenance")
    copied = f"INSERT INTO provenance (id, {columns}, method, synthetic) SELECT"
    return [
        f"{copied} id, {columns}, NULL, synthetic FROM {old}",
        f"{copied} id + {_OFFSET}, {columns}, 'summarised by window, in graph version 1', synthetic FROM {old}"
        f" WHERE id IN (SELECT provenance FROM {_old('path_state')})",
        f"{copied} id + 2 * {_OFFSET}, {columns}, 'scored, in graph version 1', synthetic FROM {old}"
        f" WHERE id IN (SELECT provenance FROM {_old('path_state')}) AND EXISTS (SELECT 1 FROM {_old('path_score')})",
    ]


def _stated_1(edge_type: EdgeType) -> str:
    # an address says its family itself; version 1 said that of a probe's AS only
    af = {ASSIGNED: "CASE WHEN instr(source, ':') THEN 6 ELSE 4 END", LOCATED_IN_AS: "af"}.get(edge_type)
    there, here = (", af", f", {af}") if af is not None else ("", "")
    return (
        f"INSERT INTO {name(edge_type.table)} (source, target{there}, valid_from, valid_to, provenance)"
        f" SELECT source, target{here}, {SINCE_EVER}, NULL, provenance FROM {_old(edge_type.table)}"
    )


def _seen_1(edge_type: EdgeType) -> str:
    carried = ", traceroutes, first_seen, last_seen" if edge_type is NEXT_HOP else ""
    return (
        f"INSERT INTO {name(edge_type.table)} (source, target{carried}, provenance)"
        f" SELECT source, target{carried}, provenance FROM {_old(edge_type.table)}"
    )


def _facts_1() -> list[str]:
    state = (
        "results, sent, received, duplicates, errors, rtt_min_ms, rtt_mean_ms, rtt_median_ms, rtt_p95_ms,"
        " loss_ratio, jitter_ms, synthetic"
    )
    costs = "score, rtt_cost_points, loss_cost_points, jitter_cost_points"
    words = ("application", "origin", "limiting_metric", "reason", "profile")
    start, end = "window_start_s * 1000000", "(window_start_s + window_s) * 1000000"
    in_window = f'JOIN "window" ON window_start = {start} AND window_end = {end}'
    return [
        f'INSERT INTO "window" (window_start, window_end) SELECT DISTINCT {start}, {end} FROM {_old("path_state")}',
        f"INSERT INTO {name(MEASURES.table)} (id, source, target, af, first_seen, last_seen, provenance)"
        f" SELECT id, probe_id, target, af, min({start}), max({end}), min(provenance) + {_OFFSET}"
        f" FROM {_old('pair')} JOIN {_old('path_state')} ON pair = id GROUP BY id",
        f'INSERT INTO {name(PATH_STATE.label)} ("window", subject, {state}, provenance)'
        f' SELECT "window".id, pair, {state}, provenance + {_OFFSET} FROM {_old("path_state")} {in_window}',
        *(
            f"INSERT INTO word (word) SELECT DISTINCT {word} FROM {_old('path_score')} WHERE {word} IS NOT NULL"
            " ON CONFLICT DO NOTHING"
            for word in words
        ),
        f'INSERT INTO {name(PATH_SCORE.label)} ("window", subject, {costs}, {", ".join(words)}, provenance)'
        f' SELECT "window".id, pair, {costs}, {", ".join(f"(SELECT id FROM word WHERE word = {w})" for w in words)},'
        f" provenance + 2 * {_OFFSET} FROM {_old('path_score')} JOIN {_old('path_state')}"
        f" USING (window_s, window_start_s, pair) {in_window}",
    ]


def _old(table: str) -> str:
    return name(f"version 1 {table}")


_OFFSET = f"(SELECT max(id) FROM {_old('provenance')})"


def from_2() -> list[str]:
    """The statements that make a graph of version 2 one of today's.

    Since version 3 states of paths say how many results are in doubt, which is unknown of older ones, and counts may be unknown;
    nodes of tables have a host, and probes a history of their status, which the next build writes.
    """
    changed = (PATH_STATE, PROBE_STATE, TARGET_STATE)
    made = {fact_type.label: _statement(f"CREATE TABLE {name(fact_type.label)} ") for fact_type in changed}
    statements = [f"ALTER TABLE {name(ATLAS_PROBE.label)} ADD COLUMN {name('host')} TEXT"]
    for fact_type in changed:
        kept = (
            *fact_key(fact_type),
            *(p.name for p in fact_type.values if p.name != "doubtful_results"),
            "provenance",
        )
        old = name(f"version 2 {fact_type.label}")
        statements += [
            f"ALTER TABLE {name(fact_type.label)} RENAME TO {old}",
            made[fact_type.label],
            f"INSERT INTO {name(fact_type.label)} ({names(kept)}) SELECT {names(kept)} FROM {old}",
            f"DROP TABLE {old}",
        ]
    new = (
        f"CREATE TABLE {name(PROBE_STATUS.label)} ",
        f"CREATE TABLE {name(HAD_STATUS.table)} ",
        f"CREATE INDEX {name(HAD_STATUS.table + ' back')} ",
    )
    return [*statements, *map(_statement, new), *from_3()]


def from_3() -> list[str]:
    """The statements that make a graph of version 3 one of today's: since version 4 there are predictions, of paths of their own."""
    new = (
        f"CREATE TABLE {name(PREDICTED_TO.table)} ",
        f"CREATE INDEX {name(PREDICTED_TO.table + ' back')} ",
        f"CREATE TABLE {name(PATH_PREDICTION.label)} ",
    )
    return list(map(_statement, new))


def _statement(beginning: str) -> str:
    """The statement of today's layout that begins so."""
    (found,) = (statement for statement in ddl() if statement.startswith(beginning))
    return found


MIGRATIONS: dict[int, Callable[[], list[str]]] = {1: from_1, 2: from_2, 3: from_3}
"""Version of a file -> the statements that make it one of today's."""
