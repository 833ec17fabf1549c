"""What was ingested, as tables -> nodes, edges and facts of the three layers.

Nothing is guessed: a column that is null makes no edge. What is computed here is computed from tables alone, so that it is the same for
every store; sums of floats are taken in sorted order, so that it is the same every time.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from domain.errors import DataError
from domain.provenance import Provenance
from domain.selection import Selection
from kg.centrality import node_centralities, without_links
from kg.schema import (
    AS,
    AS_SCORE,
    ASSIGNED,
    ATLAS_MEASUREMENT,
    ATLAS_PROBE,
    COUNTRY_SCORE,
    HAD_STATUS,
    IN_COUNTRY,
    IP,
    LINK_STATE,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    MEASURED,
    MEASURES,
    METRIC,
    NEXT_AS,
    NEXT_HOP,
    ORIGINATE,
    PART_OF_MEASUREMENT,
    PART_OF_PREFIX,
    PATH_STATE,
    POINT,
    PREFIX,
    PROBE_STATE,
    REQUIRES,
    SCORE_COSTS,
    TARGET_HOST_NAME,
    TARGET_IP,
    TARGET_STATE,
    EdgeType,
    FactType,
)
from kg.scope import is_node, local_among, scopes, without_local
from kg.store import GraphStore
from kg.tables import TIME, fact_schema

_SEEN = ("first_seen", "last_seen")
_STATED = ("valid_from", "valid_to")

AS_LINK_SCHEMA = pa.schema(
    [
        pa.field("source", pa.int64(), nullable=False),
        pa.field("target", pa.int64(), nullable=False),
        pa.field("links", pa.int64(), nullable=False),
        pa.field("traceroutes", pa.int64(), nullable=False),
        pa.field("first_seen", TIME),
        pa.field("last_seen", TIME),
        pa.field("synthetic", pa.bool_(), nullable=False),
    ]
)
"""Columns of `as_adjacency`."""


# NTKG


def add_probes(store: GraphStore, probes: pa.Table, history: pa.Table, provenance: Provenance) -> None:
    """Write probes, and since when and until when they were where.

    Args:
        store: the graph.
        probes: what is known of each; columns of `domain.probe.Probe`.
        history: what was said to hold, by `relation`: "network" (`probe_id`, `af`, `asn`), "place" (`probe_id`,
            `latitude`, `longitude`), "country" (`probe_id`, `country`), "status" (`probe_id`, `status`), "address" (`probe_id`, `af`,
            `address`), "prefix" (`af`, `address`, `prefix`); each from `valid_from` until `valid_to`. It is the whole history of those probes and
            addresses.
        provenance: whose word it is.
    """
    names = ("probe_id", "name", "status", "is_anchor", "synthetic", "host")
    store.upsert_nodes(ATLAS_PROBE, probes.select(names).rename_columns(["id", *names[1:]]))

    def held(relation: str, source: str, target: str, *others: str) -> pa.Table:
        rows = history.filter(pc.equal(history["relation"], relation))
        columns = {source: "source", target: "target"} | {name: name for name in (*others, *_STATED)}
        return _renamed(rows, columns)

    places = history.filter(pc.equal(history["relation"], "place"))
    places = places.append_column("position", _positions(places))
    store.upsert_nodes(POINT, _distinct(places.select(["position", "latitude", "longitude"])))
    store.upsert_edges(
        LOCATED_IN_POINT,
        _renamed(places, {"probe_id": "source", "position": "target"} | {name: name for name in _STATED}),
        provenance,
    )
    store.upsert_edges(IN_COUNTRY, held("country", "probe_id", "country"), provenance)
    store.upsert_edges(HAD_STATUS, held("status", "probe_id", "status"), provenance)
    store.upsert_edges(LOCATED_IN_AS, held("network", "probe_id", "asn", "af"), provenance)
    assigned = held("address", "address", "probe_id", "af")
    within = held("prefix", "address", "prefix")
    add_addresses(store, assigned["source"], within["source"])
    store.upsert_nodes(PREFIX, _with_family(within["target"], "prefix"))
    store.upsert_edges(ASSIGNED, assigned, provenance)
    store.upsert_edges(PART_OF_PREFIX, within, provenance)


def add_measurements(store: GraphStore, targets: pa.Table, provenance: Provenance) -> None:
    """Write who measures what.

    Args:
        store: the graph.
        targets: distinct `msm_id`, `type`, `probe_id`, `target`, `target_name`, `af`, `synthetic`, with `first_seen` and
            `last_seen`.
        provenance: whose word it is.
    """
    measurements = targets.group_by("msm_id").aggregate(
        [("type", "min"), ("af", "min"), ("synthetic", "max")]
    )
    store.upsert_nodes(
        ATLAS_MEASUREMENT,
        _renamed(
            measurements, {"msm_id": "id", "type_min": "type", "af_min": "af", "synthetic_max": "synthetic"}
        ),
    )
    store.upsert_edges(PART_OF_MEASUREMENT, _seen(targets, "probe_id", "msm_id"), provenance)
    addresses = _seen(targets, "msm_id", "target")
    add_addresses(store, addresses["target"])
    store.upsert_edges(TARGET_IP, addresses, provenance)
    named = _seen(targets, "msm_id", "target_name")
    names = pa.array(
        [name for name in named["target"].unique().to_pylist() if not _is_address(name)], pa.string()
    )
    store.upsert_edges(TARGET_HOST_NAME, named.filter(pc.is_in(named["target"], value_set=names)), provenance)


def add_hops(store: GraphStore, links: pa.Table, provenance: Provenance) -> None:
    """Write which address was seen next to which in traceroutes, and the scope of each.

    Args:
        store: the graph.
        links: `from_address`, `to_address`, `count` (of traceroutes), `first_seen`, `last_seen`.
        provenance: whose word it is.
    """
    add_addresses(store, links["from_address"], links["to_address"])
    store.upsert_edges(
        NEXT_HOP,
        _renamed(
            links,
            {"from_address": "source", "to_address": "target", "count": "traceroutes"}
            | {name: name for name in _SEEN},
        ),
        provenance,
    )


def add_prefixes(store: GraphStore, matches: pa.Table, provenance: Provenance) -> int:
    """Write in which announced prefix each address is, and who announces it.

    Where the list of announcements knows the prefix of an address it replaces what was said of that address before; where it
    does not, what others said stays. What an earlier list of that name said goes. Local addresses are in no prefix: one is another machine in
    every network.

    Args:
        store: the graph.
        matches: `address`, `prefix`, `asn`; a row for each AS that announces the longest prefix of an address, nulls
            where there is none.
        provenance: whose word the announcements are.

    Returns:
        How many edges of an earlier list went.
    """
    known = _announced(matches)
    within, originate = _ends(known, "address", "prefix"), _ends(known, "asn", "prefix")
    found_before, announced_before = (
        edges.filter(pc.equal(edges["reference_name"], provenance.reference_name))
        for edges in (store.edges(PART_OF_PREFIX), store.edges(ORIGINATE))
    )
    found_before = found_before.filter(pc.equal(found_before["method"], LONGEST_MATCH))
    gone = _delete_others(store, PART_OF_PREFIX, found_before, within)
    gone += _delete_others(store, ORIGINATE, announced_before, originate)
    add_addresses(store, known["address"])
    store.upsert_nodes(PREFIX, _with_family(known["prefix"], "prefix"))
    # The list names prefixes; that an address is in one is our finding.
    store.upsert_edges(PART_OF_PREFIX, within, _computed(provenance, LONGEST_MATCH))
    store.upsert_edges(ORIGINATE, originate, provenance)
    return gone


LONGEST_MATCH = "longest prefix match"
"""Method of PART_OF edges that follow from a list of announcements."""


def _announced(matches: pa.Table) -> pa.Table:
    """The matches that `add_prefixes` writes."""
    known = _known(matches, ("prefix",))
    return known.filter(pc.invert(pc.is_in(known["address"], value_set=local_among(known["address"]))))


def without_announced(store: GraphStore, history: pa.Table, matches: pa.Table | None) -> pa.Table:
    """The history of probes without what it says of prefixes where a list of announcements knows better.

    Args:
        store: the graph.
        history: see `add_probes`.
        matches: see `add_prefixes`; None: what an earlier list said, which is in the graph, still counts.
    """
    if matches is None:
        edges = store.edges(PART_OF_PREFIX)
        known = edges.filter(pc.equal(edges["method"], LONGEST_MATCH))["source"]
    else:
        known = _announced(matches)["address"]
    told = pc.and_(
        pc.equal(history["relation"], "prefix"), pc.is_in(history["address"], value_set=known.unique())
    )
    return history.filter(pc.invert(told))


def as_adjacency(links: pa.Table, matches: pa.Table) -> pa.Table:
    """Which ASes were seen next to each other: adjacent hops with addresses of two ASes.

    An address whose longest prefix nobody announces, or several ASes do, is of an unknown AS, and a local one is of none; links
    with such an end say nothing.

    Args:
        links: `from_address`, `to_address`, `count`, `first_seen`, `last_seen`, `synthetic`.
        matches: `address`, `prefix`, `asn`; see `add_prefixes`.

    Returns:
        Columns of `AS_LINK_SCHEMA`, sorted: for each ordered pair of ASes the pairs of addresses that it was seen between
        (`links`), and their traceroutes, summed: one that met two of these pairs counts twice. Synthetic if any of it is.
    """
    announced = _known(matches, ("asn",)).group_by("address").aggregate([("asn", "min"), ("asn", "max")])
    single = announced.filter(pc.equal(announced["asn_min"], announced["asn_max"]))
    apart = without_local(links, "from_address", "to_address")
    ends = {
        name: single["asn_min"].take(pc.index_in(apart[column], value_set=single["address"].combine_chunks()))
        for name, column in (("source", "from_address"), ("target", "to_address"))
    }
    seen = pa.table(ends | {name: apart[name] for name in ("count", *_SEEN, "synthetic")})
    seen = seen.filter(pc.not_equal(seen["source"], seen["target"]))  # null where one is unknown: left out
    found = (
        seen.group_by(["source", "target"])
        .aggregate(
            [
                ([], "count_all"),
                ("count", "sum"),
                ("first_seen", "min"),
                ("last_seen", "max"),
                ("synthetic", "any"),
            ]
        )
        .sort_by([("source", "ascending"), ("target", "ascending")])
    )
    names = ("source", "target", "count_all", "count_sum", "first_seen_min", "last_seen_max", "synthetic_any")
    return found.select(names).rename_columns(AS_LINK_SCHEMA.names).cast(AS_LINK_SCHEMA)


def add_as_links(store: GraphStore, as_links: pa.Table, provenance: Provenance) -> None:
    """Write which ASes were seen next to each other.

    Args:
        store: the graph.
        as_links: columns of `AS_LINK_SCHEMA`.
        provenance: whose word it is.
    """
    store.upsert_edges(NEXT_AS, as_links, provenance)


def delete_other_as_links(store: GraphStore, as_links: pa.Table) -> int:
    """Delete the links between ASes that these are not, or are less of: counts and times that are written again only grow.

    Args:
        store: the graph.
        as_links: columns of `AS_LINK_SCHEMA`: all there are by the list of prefixes of now.

    Returns:
        How many are no more.
    """
    before = store.edges(NEXT_AS)
    shrunk = _asked(
        """
        SELECT source, target FROM before JOIN said USING (source, target)
        WHERE before.links > said.links OR before.traceroutes > said.traceroutes
            OR before.first_seen < said.first_seen OR before.last_seen > said.last_seen
        """,
        before=before.select(["source", "target", "links", "traceroutes", *_SEEN]),
        said=as_links,
    )
    store.delete(NEXT_AS, shrunk)
    return _delete_others(store, NEXT_AS, before, as_links)


def add_centralities(store: GraphStore, generator: np.random.Generator) -> None:
    """Compute the centralities of all addresses and ASes of the graph, and write them.

    Args:
        store: the graph, with its hops and AS links.
        generator: draws sources where a graph is too large to be exact (see `kg.centrality`).
    """
    hops = without_local(store.edges(NEXT_HOP), "source", "target")
    store.upsert_nodes(IP, node_centralities(hops, IP.key.name, generator))
    linked = node_centralities(store.edges(NEXT_AS), AS.key.name, generator)
    store.upsert_nodes(AS, linked)
    # Hops stay; but an AS can lose its last link, by another list of prefixes, and is the centre of nothing then.
    before = store.nodes(AS)
    lost = pc.and_(
        pc.is_valid(before["degree"]), pc.invert(pc.is_in(before["asn"], linked["asn"].combine_chunks()))
    )
    store.upsert_nodes(AS, without_links(before.filter(lost)["asn"], AS.key.name))


# NSKG


def delete_other_states(store: GraphStore, fact_type: FactType, said: pa.Table, within: Selection) -> int:
    """Delete the states of windows that are not these: what was measured there is no longer what it was taken for.

    Args:
        store: the graph.
        fact_type: which states.
        said: all of them that there are in those windows, with the columns of their key.
        within: the windows.

    Returns:
        How many went; what is derived from them, and about the same, goes with them.
    """
    return _delete_others(store, fact_type, store.facts(fact_type, within, ()), said)


def add_states(store: GraphStore, states: pa.Table, provenance: Provenance) -> None:
    """Write the states of paths.

    A path was met first at the start of its first window, and last in the last microsecond of its last one: the time
    within a window is not known.

    Args:
        store: the graph.
        states: all columns of the fact type PathState.
        provenance: whose word they are.
    """
    add_addresses(store, states["target"])
    paths = states.group_by(["probe_id", "target", "af"]).aggregate(
        [("window_start", "min"), ("window_end", "max")]
    )
    last = pc.subtract(paths["window_end_max"], pa.scalar(timedelta(microseconds=1), pa.duration("us")))
    measured = _renamed(
        paths, {"probe_id": "source", "target": "target", "af": "af", "window_start_min": "first_seen"}
    )
    store.upsert_edges(MEASURES, measured.append_column("last_seen", last), provenance)
    store.put_facts(PATH_STATE, states, provenance)


def add_end_states(store: GraphStore, states: pa.Table, provenance: Provenance) -> None:
    """Write the states of probes and targets, which are computed from those of paths.

    Args:
        store: the graph.
        states: all columns of the fact type PathState. Of a window that is in it, all paths of a probe or a target are in it,
            real and synthetic, or the states of that probe and target would be of some of its paths.
        provenance: whose word the states of paths are.
    """
    derived = _computed(
        provenance, "ProbeState and TargetState: medians, sums and means over the states of paths"
    )
    store.put_facts(PROBE_STATE, end_states(states, PROBE_STATE), derived)
    store.put_facts(TARGET_STATE, end_states(states, TARGET_STATE), derived)


def end_states(states: pa.Table, fact_type: FactType) -> pa.Table:
    """What the paths of one probe (by family), or to one target, have in common in each window.

    Args:
        states: all columns of PathState.
        fact_type: PROBE_STATE or TARGET_STATE.

    Returns:
        The columns of that fact type, sorted by its key. RTT is the median over the paths of their medians, jitter the mean over
        those that know it, loss that of all packets sent together, of paths that state them. Counts are sums over the paths that
        state them, and null where none does. A path is without reply when it is known that nothing was received on it, for
        whatever reason.
    """
    key = ", ".join(f'"{column.name}"' for column in (*fact_type.subject, *fact_type.identity))
    found = _asked(
        f"""
        SELECT {key}, epoch_us(window_start) AS window_start, epoch_us(window_end) AS window_end,
            count(*) AS paths, count(*) FILTER (received = 0) AS paths_without_reply,
            sum(results)::BIGINT AS results, sum(sent) FILTER (counted)::BIGINT AS sent,
            sum(received) FILTER (counted)::BIGINT AS received, sum(errors)::BIGINT AS errors,
            quantile_cont(rtt_median_ms, 0.5) AS rtt_median_ms,
            CASE WHEN sum(sent) FILTER (counted) > 0
                THEN (sum(sent) FILTER (counted) - sum(received) FILTER (counted)) / (sum(sent) FILTER (counted))::DOUBLE
                END AS loss_ratio,
            list_avg(list_sort(list(jitter_ms) FILTER (jitter_ms IS NOT NULL))) AS jitter_ms,
            bool_or(synthetic) AS synthetic
        FROM (SELECT *, sent IS NOT NULL AND received IS NOT NULL AS counted FROM states)
        GROUP BY {key}, window_start, window_end
        ORDER BY {key}, window_start, window_end
        """,  # noqa: S608 - names of the ontology
        states=states,
    )
    return _typed(found, fact_schema(fact_type))


def add_link_states(store: GraphStore, states: pa.Table, provenance: Provenance) -> None:
    """Write the states of links.

    Args:
        store: the graph.
        states: columns of `domain.link_state.LinkState`.
        provenance: whose word it is.
    """
    add_addresses(store, states["from_address"], states["to_address"])
    store.put_facts(LINK_STATE, states, provenance)


# ASKG


def add_place_scores(
    store: GraphStore, fact_type: FactType, scores: pa.Table, provenance: Provenance, within: Selection
) -> int:
    """Write the scores of the ASes, or of the countries, that probes are in.

    Args:
        store: the graph.
        fact_type: AS_SCORE or COUNTRY_SCORE.
        scores: see `place_scores`.
        provenance: whose word the scores of paths are.
        within: the windows that were scored. What was measured there of other groups goes.

    Returns:
        How many went.
    """
    there = store.facts(fact_type, within, (), among={"origin": [MEASURED]})
    gone = _delete_others(store, fact_type, there, scores)
    store.put_facts(fact_type, scores, provenance)
    return gone


def place_scores(scores: pa.Table, history: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Scores of the ASes and the countries that probes are in: means over their paths, each path once.

    Args:
        scores: the columns of the fact type PathScore, and `synthetic`.
        history: since when and until when probes were where (see `add_probes`). Where a probe was when a window ended counts;
            a path of which that is not known counts in no group.

    Returns:
        Columns of ASScore and of CountryScore, sorted by their keys. Score and costs are means over the paths that have a score; where
        none has, they are null, and `paths` is 0. The limiting metric is the one with the largest mean cost, the
        first of equals, and null where nothing costs anything. Intervals of means are not known from those of paths.

    Raises:
        DataError: when scores of several profiles would be in one mean.
    """
    costs = ", ".join(
        f"list_avg(list_sort(list({cost}) FILTER (score IS NOT NULL))) AS {cost}" for cost in SCORE_COSTS
    )
    most = f"greatest({', '.join(SCORE_COSTS)})"
    limiting = " ".join(f"WHEN {cost} THEN '{cost.removesuffix('_cost_points')}'" for cost in SCORE_COSTS)

    def grouped(fact_type: FactType, relation: str, column: str, family: str) -> pa.Table:
        (subject,) = (column.name for column in fact_type.subject)
        found = _asked(
            f"""
            WITH held AS (
                SELECT probe_id, af AS family, {column} AS place, epoch_us(valid_from) AS since,
                    epoch_us(valid_to) AS until
                FROM history WHERE relation = '{relation}'
            ),
            means AS (
                SELECT place AS {subject}, window_start, window_end, application, origin,
                    count(score) AS paths, count(*) - count(score) AS paths_without_score,
                    list_avg(list_sort(list(score) FILTER (score IS NOT NULL))) AS score,
                    NULL::DOUBLE AS score_low, NULL::DOUBLE AS score_high, {costs},
                    min(profile) AS profile, max(profile) AS other, bool_or(synthetic) AS synthetic
                FROM scores JOIN held USING (probe_id)
                WHERE {family} AND (since IS NULL OR since < epoch_us(window_end))
                    AND (until IS NULL OR until >= epoch_us(window_end))
                GROUP BY ALL
            )
            SELECT * EXCLUDE (window_start, window_end),
                epoch_us(window_start) AS window_start, epoch_us(window_end) AS window_end,
                CASE WHEN {most} > 0 THEN CASE {most} {limiting} END END AS limiting_metric
            FROM means
            ORDER BY {subject}, window_start, window_end, application, origin
            """,  # noqa: S608 - names of the ontology
            scores=scores,
            history=history,
        )
        mixed = found.filter(pc.not_equal(found["profile"], found["other"]))
        if mixed.num_rows > 0:
            raise DataError(
                "scores of several profiles in one mean",
                found=f"{mixed['profile'][0]} and {mixed['other'][0]}",
                expected="one profile",
                next_step="score all paths of a window with one profile",
            )
        return _typed(found, fact_schema(fact_type))

    return (
        grouped(AS_SCORE, "network", "asn", "family = af"),
        grouped(COUNTRY_SCORE, "country", "country", "true"),
    )


def add_requirements(
    store: GraphStore, requirements: pa.Table, units: pa.Table, provenance: Provenance
) -> None:
    """Write how much each metric matters to each application.

    Args:
        store: the graph.
        requirements: columns `source` (application), `target` (metric), `profile`, `weight_ratio`, `worst`, `citation`.
        units: columns `name` and `unit` of the metrics.
        provenance: whose word it is.
    """
    store.upsert_nodes(METRIC, units)
    store.upsert_edges(REQUIRES, requirements, provenance)


# What the above share


def add_addresses(store: GraphStore, *columns: pa.ChunkedArray) -> None:
    """Write addresses, with what an address tells of itself: its family and its scope."""
    distinct = pa.chunked_array(
        [chunk for column in columns for chunk in column.chunks], pa.string()
    ).unique()
    store.upsert_nodes(IP, _with_family(distinct, "ip").append_column("scope", scopes(distinct)))


def _with_family(words: pa.Array | pa.ChunkedArray, key: str) -> pa.Table:
    """Distinct addresses or prefixes, as the key of nodes, with their address family; a node without an address has none."""
    distinct = words.unique()
    family = pc.if_else(pc.match_substring(distinct, ":"), 6, 4).cast(pa.int64())
    nobody = pa.scalar(None, pa.int64())
    return pa.table({key: distinct, "af": pc.if_else(is_node(distinct), nobody, family)})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _positions(placed: pa.Table) -> pa.Array:
    """Points as Well-Known Text, longitude first."""
    return pa.array(
        [
            f"POINT({longitude!r} {latitude!r})"
            for latitude, longitude in zip(
                placed["latitude"].to_pylist(), placed["longitude"].to_pylist(), strict=True
            )
        ],
        pa.string(),
    )


def _known(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The rows in which all those columns are known."""
    for column in columns:
        table = table.filter(pc.is_valid(table[column]))
    return table


def _ends(table: pa.Table, source: str, target: str) -> pa.Table:
    """Distinct known pairs of two columns, as the two ends of edges."""
    known = _known(table, (source, target))
    return _distinct(pa.table({"source": known[source], "target": known[target]}))


def _seen(table: pa.Table, source: str, target: str) -> pa.Table:
    """Distinct known pairs of two columns, as the two ends of edges, with when they were met first and last."""
    known = _known(table, (source, target))
    found = known.group_by([source, target]).aggregate([("first_seen", "min"), ("last_seen", "max")])
    return _renamed(
        found,
        {source: "source", target: "target", "first_seen_min": "first_seen", "last_seen_max": "last_seen"},
    )


def _delete_others(store: GraphStore, kind: EdgeType | FactType, there: pa.Table, said: pa.Table) -> int:
    """Delete of what is there what is not said any more: no row of `said` has its key. Says how many."""
    names = [p.name for p in kind.key]
    there = there.select(names).append_column("row", pa.array(np.arange(there.num_rows)))
    for name in names:
        if name not in said.column_names:  # not said: unknown
            said = said.append_column(name, pa.nulls(said.num_rows, there[name].type))
    same = " AND ".join(f'there."{name}" IS NOT DISTINCT FROM said."{name}"' for name in names)
    gone = _asked(
        f"SELECT there.row FROM there ANTI JOIN said ON {same} ORDER BY there.row",  # noqa: S608 - names of the ontology
        there=there,
        said=said.select(names),
    )
    store.delete(kind, there.take(gone["row"]).select(names))
    return int(gone.num_rows)


def _distinct(table: pa.Table) -> pa.Table:
    return table.group_by(table.column_names).aggregate([])


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    return table.select(list(names)).rename_columns(list(names.values()))


def _computed(provenance: Provenance, method: str) -> Provenance:
    """The same reference, and how it was computed from it."""
    return replace(provenance, method=method)


def _asked(sql: str, **tables: pa.Table) -> pa.Table:
    """The answer of DuckDB over tables, by name."""
    with (
        TemporaryDirectory(prefix="qoetwin-") as spill,
        duckdb.connect(
            # What does not fit into memory goes there, and not into the folder that we happen to be started in.
            config={"autoinstall_known_extensions": False, "temp_directory": spill}
        ) as database,
    ):
        database.execute("SET enable_progress_bar = false")  # printing is the command line's affair
        for name, table in tables.items():
            database.register(name, table)
        try:
            return database.sql(sql).to_arrow_table()
        except duckdb.OutOfMemoryException as error:
            raise DataError(
                "too much for the memory",
                found=", ".join(f"{table.num_rows} {name}" for name, table in tables.items()),
                next_step="build the graph from a shorter time",
            ) from error


def _typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in its schema; times come as microseconds."""
    columns = [
        table[field.name].cast(pa.int64()).cast(field.type)
        if pa.types.is_timestamp(field.type)
        else table[field.name].cast(field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
