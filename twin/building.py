"""Lake -> graph: what is in the lake is summarised by pair and window, and becomes nodes, facts and scores of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from domain.application import Application
from domain.errors import EmptyError
from domain.observation import ResultType
from domain.progress import Report, unheard
from domain.provenance import Provenance
from domain.selection import Selection
from domain.window import Window
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.prefixes import Prefixes, read_prefixes, without_as
from ingest.summarise import (
    hop_links,
    link_states,
    measured_addresses,
    measurement_targets,
    newest_window_end,
    pings_without_pair,
    results_faster_than_light,
    results_without_time,
    sampled_nodes,
    summarise,
)
from kg.build import (
    AS_LINK_SCHEMA,
    add_as_links,
    add_centralities,
    add_end_states,
    add_hops,
    add_link_states,
    add_measurements,
    add_place_scores,
    add_prefixes,
    add_probes,
    add_requirements,
    add_states,
    as_adjacency,
    delete_other_as_links,
    delete_other_states,
    end_states,
    place_scores,
    without_announced,
)
from kg.centrality import CENTRALITY_SEED
from kg.schema import (
    AS_SCORE,
    COUNTRY_SCORE,
    FACT_TYPES,
    LINK_STATE,
    PATH_SCORE,
    PATH_STATE,
    PROBE_STATE,
    TARGET_STATE,
    FactType,
)
from kg.scope import is_node
from kg.store import GraphStore
from qoe.profile import Profile
from twin.scoring import requirements, score_states


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the lake tells the graph, and when it was read into the lake.

    Attributes:
        window: length of a window.
        spans: the windows that it is about, in order.
        whole: whether they are all that the lake holds; else those that were asked for.
        probes: rows of `domain.probe.Probe`: what is known of each, latest.
        probe_history: since when and until when each of it held.
        addresses: of hops and targets in all the lake, and of nodes.
        targets: which probe measured what in which measurement, in those windows.
        hops: which address answered next to which in traceroutes of all the lake.
        states: rows of `domain.path_state.PathState`.
        link_states: rows of `domain.link_state.LinkState`.
        pings_without_pair: pings whose target or family is unknown; they stay in the lake, and are in no state.
        results_without_time: results of which it is not known when they were; likewise (rule `timeless`).
        results_faster_than_light: pings and samples of windows in which one was faster than light; likewise.
        nodes: ids of nodes of tables, which are no probes of Atlas.
        keep_from: windows that ended by then are not wanted in the graph; None keeps all.
        read_at: table of the lake -> when the newest of it was read.
    """

    window: timedelta
    spans: tuple[Window, ...]
    whole: bool
    addresses: pa.Array
    probes: pa.Table
    probe_history: pa.Table
    targets: pa.Table
    hops: pa.Table
    states: pa.Table
    link_states: pa.Table
    pings_without_pair: int
    results_without_time: int
    results_faster_than_light: int
    nodes: pa.Array
    keep_from: datetime | None
    read_at: Mapping[Kind, datetime | None]


def summarise_lake(
    lake: Lake,
    window: timedelta,
    *,
    keep: timedelta | None = None,
    only: Sequence[Window] | None = None,
    report: Report = unheard,
) -> Summary:
    """Summarise what is in the lake by pair and window.

    Args:
        lake: what was ingested.
        window: length of a window.
        keep: retention: only windows that end less than this before the newest one does.
        only: spans of whole windows, in order and apart; None is everything.
        report: hears how far it is.

    Raises:
        EmptyError: when the lake holds no ping of a known pair and time, and no sample.
        StoreError: when the lake cannot be read.
    """
    report("summarising the lake", 0, 2)
    read_at = {kind: lake.landed_at(kind) for kind in (Kind.PROBE, Kind.PING, Kind.TRACEROUTE, Kind.SAMPLE)}
    bounds: Sequence[tuple[datetime | None, datetime | None]] = (
        [(None, None)] if only is None else [(span.start, span.end) for span in only]
    )
    states = pa.concat_tables([summarise(lake, window, *span) for span in bounds])
    if states.num_rows == 0 and only is None:
        raise EmptyError(
            "the lake holds no ping of a known pair and time",
            where=str(lake.folder),
            next_step="ingest some first: qoetwin ingest files PATH, or qoetwin ingest table SAMPLES",
        )
    report("summarising the lake", 1, 2)
    newest = None if keep is None else newest_window_end(lake, window)
    keep_from = None if keep is None or newest is None else newest - keep
    hops = hop_links(lake)
    of_links = _kept(pa.concat_tables([link_states(lake, window, *span) for span in bounds]), keep_from)
    states = _kept(states, keep_from)
    summary = Summary(
        window=window,
        spans=(_span(states, of_links),) if only is None else tuple(only),
        whole=only is None,
        addresses=pa.chunked_array(
            [*hops["from_address"].chunks, *hops["to_address"].chunks, measured_addresses(lake)], pa.string()
        ).unique(),
        probes=lake.probes(),
        probe_history=lake.probe_history(),
        targets=pa.concat_tables([measurement_targets(lake, *span) for span in bounds]),
        hops=hops,
        states=states,
        link_states=of_links,
        pings_without_pair=pings_without_pair(lake),
        results_without_time=results_without_time(lake),
        results_faster_than_light=sum(results_faster_than_light(lake, window, *span) for span in bounds),
        nodes=sampled_nodes(lake),
        keep_from=keep_from,
        read_at=read_at,
    )
    report("summarising the lake", 2, 2)
    return summary


def _span(*facts: pa.Table) -> Window:
    """From the first of their windows to the last."""
    return Window(
        start=min(pc.min(some["window_start"]).as_py() for some in facts if some.num_rows > 0),
        end=max(pc.max(some["window_end"]).as_py() for some in facts if some.num_rows > 0),
    )


def _kept(facts: pa.Table, keep_from: datetime | None) -> pa.Table:
    """The facts of windows that end after that."""
    if keep_from is None:
        return facts
    return facts.filter(pc.greater(facts["window_end"], pa.scalar(keep_from, facts["window_end"].type)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """A list of announced prefixes, and whose word it is."""

    prefixes: Prefixes
    provenance: Provenance

    @property
    def words(self) -> str:
        """Which list it is, in words."""
        since = self.provenance.reference_time_modification
        return self.provenance.reference_name + ("" if since is None else f" of {since:%Y-%m-%dT%H:%M:%SZ}")


def read_origins(path: Path) -> Origins:
    """Read who announces which prefix, from any of the forms of `ingest.prefixes`. A routing table says itself of when it is.

    Raises:
        InputError: when it is no such list; says in which line.
    """
    prefixes = read_prefixes(path)
    return Origins(
        prefixes=prefixes,
        provenance=Provenance(
            reference_name="prefixes",
            reference_org="unknown",
            reference_url_data=None,
            reference_time_fetch=datetime.now(UTC),
            reference_time_modification=prefixes.at or datetime.fromtimestamp(path.stat().st_mtime, UTC),
            method=None,
            synthetic=False,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build wrote to the graph.

    Attributes:
        states: path states.
        scores: five a state; `unknown_scores` of them have no value, with a reason.
        link_states: states of links; `link_states_known` of them have enough probes and ASes behind them to say anything.
        addresses_without_as: hops and targets whose prefix nobody, or several, announce by the list given; None without one.
        pings_without_pair, results_without_time, results_faster_than_light: results of the lake that are in no state; see
            `Summary`.
        doubtful_results: results in states whose time is in doubt (rule `untimely`): forecasts leave their states out.
        pruned: facts deleted, as they are older than retention allows.
        no_longer_said: prefixes, links between ASes, and scores of ASes and countries deleted, as they followed from a list of
            prefixes or of probes that was replaced; and states of windows built again that were found to be none.
        windows_from, windows_until: the span of the windows.
        synthetic: True when any of it comes from the testbed.
    """

    states: int
    scores: int
    unknown_scores: int
    link_states: int
    link_states_known: int
    addresses_without_as: int | None
    pings_without_pair: int
    results_without_time: int
    results_faster_than_light: int
    doubtful_results: int
    pruned: int
    no_longer_said: int
    windows_from: datetime
    windows_until: datetime
    synthetic: bool


def build_graph(
    summary: Summary,
    store: GraphStore,
    profile: Profile,
    *,
    origins: Origins | None = None,
    report: Report = unheard,
) -> Built:
    """Bring the three layers of the graph up to what the lake holds.

    Args:
        summary: what the lake holds.
        store: the graph.
        profile: how quality is scored.
        origins: who announces which prefix; None leaves hops where an earlier list had them, or in no AS.
        report: hears how far it is.

    Raises:
        StoreError: when the graph cannot be written.
    """
    states, hops = summary.states, summary.hops
    addresses = summary.addresses.filter(pc.invert(is_node(summary.addresses)))
    matches = None if origins is None else origins.prefixes.match(addresses)
    measured = summary.targets["type"]
    pings = summary.targets.filter(pc.equal(measured, str(ResultType.PING)))
    traceroutes = summary.targets.filter(pc.equal(measured, str(ResultType.TRACEROUTE)))

    history = without_announced(store, summary.probe_history, matches)

    def add_known_probes(probes: pa.Table, provenance: Provenance) -> None:
        own = history.filter(pc.equal(history["synthetic"], provenance.synthetic))
        of_them = pc.is_in(own["probe_id"], value_set=probes["probe_id"].combine_chunks())
        theirs = own.filter(of_them)["address"].unique()  # a prefix is an address's, and no probe's
        own = own.filter(
            pc.or_(of_them, pc.and_(pc.is_null(own["probe_id"]), pc.is_in(own["address"], value_set=theirs)))
        )
        add_probes(store, probes, own, provenance)

    as_links = AS_LINK_SCHEMA.empty_table() if matches is None else as_adjacency(hops, matches)
    as_link_method = None if origins is None else f"{AS_LINK_METHOD} in {origins.words}"
    of_table = {True: Kind.SAMPLE, False: Kind.PING}
    steps: Sequence[tuple[str, pa.Table, Callable[[pa.Table, Provenance], None], Kind, str | None]] = (
        ("probes", _of_nodes(summary, summary.probes, False), add_known_probes, Kind.PROBE, None),
        ("nodes", _of_nodes(summary, summary.probes, True), add_known_probes, Kind.SAMPLE, None),
        ("measurements", pings, partial(add_measurements, store), Kind.PING, None),
        ("measurements", traceroutes, partial(add_measurements, store), Kind.TRACEROUTE, None),
        ("hops", _met(hops, summary.link_states), partial(add_hops, store), Kind.TRACEROUTE, HOP_METHOD),
        ("networks", as_links, partial(add_as_links, store), Kind.TRACEROUTE, as_link_method),
        *(
            ("states", _of_nodes(summary, states, sampled), partial(add_states, store), kind, STATE_METHOD)
            for sampled, kind in of_table.items()
        ),
        ("links", summary.link_states, partial(add_link_states, store), Kind.TRACEROUTE, LINK_METHOD),
    )
    synthetic_too = any(pc.any(some["synthetic"]).as_py() for some in (states, hops, summary.targets))
    measured_by = [
        kind for sampled, kind in of_table.items() if _of_nodes(summary, states, sampled).num_rows > 0
    ] or [Kind.PING]
    together = _provenance(summary, *measured_by, method=STATE_METHOD, synthetic=synthetic_too)
    window_s = int(summary.window.total_seconds())
    unknown_scores = no_longer_said = 0
    of_ases, of_countries = [], []
    with store.transaction():  # a graph that is half new would answer, and falsely
        if matches is not None and origins is not None:
            said_by = replace(origins.provenance, synthetic=synthetic_too)
            no_longer_said += add_prefixes(store, matches, said_by)
            no_longer_said += delete_other_as_links(store, as_links)
        if not summary.whole:
            no_longer_said += _delete_other_states(store, summary)
        for what, table, write, kind, method in steps:
            report(f"writing {what}", 0, 1)
            for synthetic in (False, True):
                part = table.filter(pc.equal(table["synthetic"], synthetic))
                if part.num_rows > 0:
                    write(part, _provenance(summary, kind, method=method, synthetic=synthetic))
            report(f"writing {what}", 1, 1)
        # Of what several paths make together, real and synthetic ones are not told apart: it is synthetic if any is.
        add_end_states(store, states, together)
        method = f"score under {profile.label}"
        mean = replace(together, method=f"{method}; mean over paths, each once")
        for part in whole_windows(states, MOST_SCORED):
            report("writing scores", part.first, states.num_rows)
            scores = score_states(part.rows, profile)
            unknown_scores += scores["score"].null_count
            for sampled, kind in of_table.items():
                for synthetic in (False, True):
                    own = _of_nodes(summary, scores, sampled)
                    own = own.filter(pc.equal(own["synthetic"], synthetic))
                    if own.num_rows > 0:
                        said_by = _provenance(summary, kind, method=method, synthetic=synthetic)
                        store.put_facts(PATH_SCORE, own, said_by)
            by_as, by_country = place_scores(scores, summary.probe_history)
            of_ases.append(by_as)
            of_countries.append(by_country)
        for span in summary.spans:
            within = Selection(start=span.start, end=span.end, window_s=window_s)
            for fact_type, found in ((AS_SCORE, of_ases), (COUNTRY_SCORE, of_countries)):
                own = _in_span(pa.concat_tables(found), span)
                no_longer_said += add_place_scores(store, fact_type, own, mean, within)
        report("writing scores", states.num_rows, states.num_rows)
        add_requirements(store, *requirements(profile))
    report("computing centralities", 0, 1)
    add_centralities(store, np.random.default_rng(CENTRALITY_SEED))
    report("computing centralities", 1, 1)
    pruned = 0
    if summary.keep_from is not None:
        pruned = sum(store.prune(fact_type, summary.keep_from, window_s) for fact_type in FACT_TYPES)
    links = summary.link_states
    return Built(
        states=states.num_rows,
        scores=states.num_rows * len(Application),
        unknown_scores=unknown_scores,
        link_states=links.num_rows,
        link_states_known=links.num_rows - links["rtt_diff_median_ms"].null_count,
        addresses_without_as=None if matches is None else without_as(matches),
        pings_without_pair=summary.pings_without_pair,
        results_without_time=summary.results_without_time,
        results_faster_than_light=summary.results_faster_than_light,
        doubtful_results=pc.sum(states["doubtful_results"], min_count=0).as_py(),
        pruned=pruned,
        no_longer_said=no_longer_said,
        windows_from=summary.spans[0].start,
        windows_until=summary.spans[-1].end,
        synthetic=synthetic_too,
    )


MOST_SCORED = 100_000
"""States that are scored at once: scores are five times as many rows, with words in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """Some of the rows of a table, from row `first` on."""

    first: int
    rows: pa.Table


def whole_windows(states: pa.Table, most: int) -> Iterator[_Windows]:
    """A table in parts of whole windows: at most so many rows each, unless one window alone has more.

    Args:
        states: rows sorted by `window_start`.
        most: rows of a part.
    """
    starts = states["window_start"].cast(pa.int64()).to_numpy()
    ends = [*np.flatnonzero(np.diff(starts)) + 1, len(starts)]
    first = last = 0
    for end in ends:
        if end - first > most and last > first:
            yield _Windows(first=first, rows=states.slice(first, last - first))
            first = last
        last = int(end)
    yield _Windows(first=first, rows=states.slice(first))


STATE_METHOD = "RTT (RFC 2681), round-trip loss (RFC 6673) and jitter (RFC 5481) over the packets of a window"
HOP_METHOD = "adjacent answering hops; a silent hop breaks the chain"
AS_LINK_METHOD = "adjacent hops in two ASes, by longest prefix match"
LINK_METHOD = "differential RTT of adjacent hops (Fontugne et al. 2017)"


_NAMES = {
    Kind.PROBE: "atlas.probes",
    Kind.PING: "atlas.ping",
    Kind.TRACEROUTE: "atlas.traceroute",
    Kind.SAMPLE: "table",
}


def _provenance(summary: Summary, *kinds: Kind, method: str | None, synthetic: bool) -> Provenance:
    """Whose word it is. Results of Atlas are the RIPE NCC's wherever a copy was read; of lists of probes and of tables, who knows."""
    name = " and ".join(_NAMES[kind] for kind in kinds)
    if synthetic:
        name, organisation = f"testbed.{name}", "qoetwin testbed (synthetic)"
    else:
        organisation = "RIPE NCC" if {Kind.PROBE, Kind.SAMPLE}.isdisjoint(kinds) else "unknown"
    return Provenance(
        reference_name=name,
        reference_org=organisation,
        reference_url_data=None,
        reference_time_fetch=max(
            (read for kind in kinds if (read := summary.read_at[kind]) is not None), default=None
        ),
        reference_time_modification=None,
        method=method,
        synthetic=synthetic,
    )


def _delete_other_states(store: GraphStore, summary: Summary) -> int:
    """Delete what windows that are built again no longer hold: late data can show that a state was none."""
    said = {
        PATH_STATE: summary.states,
        PROBE_STATE: end_states(summary.states, PROBE_STATE),
        TARGET_STATE: end_states(summary.states, TARGET_STATE),
        LINK_STATE: summary.link_states,
    }
    window_s = int(summary.window.total_seconds())
    return sum(
        delete_other_states(
            store,
            fact_type,
            _in_span(facts, span),
            Selection(start=span.start, end=span.end, window_s=window_s),
        )
        for span in summary.spans
        for fact_type, facts in said.items()
    )


def _met(hops: pa.Table, links: pa.Table) -> pa.Table:
    """The adjacent hops that some states of links are about."""
    ends = ["from_address", "to_address"]
    return hops.join(links.select(ends), ends, join_type="left semi")


def _in_span(facts: pa.Table, span: Window) -> pa.Table:
    """The facts of windows that begin in a span."""
    starts = facts["window_start"]
    bounds = (pa.scalar(bound, starts.type) for bound in (span.start, span.end))
    after, before = (
        compare(starts, bound) for compare, bound in zip((pc.greater_equal, pc.less), bounds, strict=True)
    )
    return facts.filter(pc.and_(after, before))


def _of_nodes(summary: Summary, table: pa.Table, sampled: bool) -> pa.Table:
    """The rows of nodes of tables, or those of probes of Atlas."""
    is_sampled = pc.is_in(table["probe_id"], value_set=summary.nodes)
    return table.filter(is_sampled if sampled else pc.invert(is_sampled))


def prune_graph(
    store: GraphStore, before: datetime, window: timedelta | None, *, only_count: bool
) -> dict[str, int]:
    """Delete the facts of windows that ended by a time (of one length only), or only count them.

    Returns:
        How many, by fact type.

    Raises:
        StoreError: when the graph cannot be written.
    """
    window_s = None if window is None else int(window.total_seconds())

    def old(fact_type: FactType) -> int:
        ends = store.facts(fact_type, Selection(end=before, window_s=window_s), ())["window_end"]
        return int(pc.sum(pc.less_equal(ends, pa.scalar(before, ends.type)), min_count=0).as_py())

    counts = {fact_type.label: old(fact_type) for fact_type in FACT_TYPES}
    if not only_count:
        with store.transaction():
            for fact_type in FACT_TYPES:
                store.prune(fact_type, before, window_s)
    return counts
