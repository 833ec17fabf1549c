"""The command line: parse, one call, print. Data goes to stdout, progress and notices to stderr.

What a command needs is imported when it runs, so that help is quick and an answer needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from app.options import MOST_ID, Command, Length, Time, answered_by, common, filters
from app.options import selection as selected
from app.output import Cell, Format, Row, as_text, object_as_text
from app.progress import progress
from app.settings import (
    CONFIG_NAME,
    LAKE_NAME,
    MODELS_NAME,
    RDF_NAME,
    TRACEBACK_VARIABLE,
    atlas_key,
    bound_memory,
    default_home,
    neo4j_credentials,
)
from domain.application import Application
from domain.errors import EmptyError, InputError, NotFoundError, QoetwinError, StoreError
from domain.number import many
from domain.selection import Selection
from domain.window import written_out

if TYPE_CHECKING:
    from ingest.atlas import AtlasSource
    from ingest.lake import Lake
    from ingest.probes import Probes
    from ingest.quarantine import Quarantine
    from kg.schema import NodeType
    from kg.store import GraphStore
    from twin.building import Built
    from twin.ingestion import Ingested, IngestedTable


def main() -> None:
    """Run the command line. An error that a user can meet is one line on stderr, and exit status 1."""
    if not sys.warnoptions:
        # Warnings of libraries are for those who develop with them; the tests make them errors.
        warnings.simplefilter("ignore")
        sys.warnoptions.append("ignore")  # for the processes that are started from here
    bound_memory()
    try:
        cli(standalone_mode=True, prog_name="qoetwin")
    except QoetwinError as error:
        _notice(f"qoetwin: {error.line()}")
        sys.exit(1)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        if isinstance(error, OSError):
            line = QoetwinError(error.strerror or str(error), where=str(error.filename or "a file")).line()
        else:
            line = QoetwinError(
                "this is a defect of qoetwin",
                found=f"{type(error).__name__}: {error}",
                next_step=f"please report it; {TRACEBACK_VARIABLE}=1 shows where",
            ).line()
        _notice(f"qoetwin: {line}")
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="qoetwin")
def cli() -> None:
    """A knowledge-graph QoE digital twin of the Internet.

    RIPE Atlas measurements in; out come the state of each path by window, the quality of five applications, and
    forecasts of RTT, loss and jitter beside their baselines. Start with: qoetwin demo
    """


@cli.group()
def ingest() -> None:
    """Measurements -> lake."""


@ingest.command("files")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@common
def ingest_files_command(paths: tuple[Path, ...], home: Path | None, store: str, form: Format) -> None:
    """Read files of Atlas results, or all files in folders; - is standard input.

    What a file is, its content tells: NDJSON, a JSON array or JSON objects one after the other; plain, gzip, bzip2, xz or zstd; by itself or in a
    tar or zip. A file that was read before is not read again.
    """
    from twin.ingestion import ingest_files

    before = perf_counter()
    with progress(_notice) as report:
        ingested = ingest_files(_lake(home), paths, stdin=sys.stdin.buffer, report=report)
    _write_ingested(ingested, perf_counter() - before, form)


_measurements = click.option(
    "--measurement",
    "-m",
    "measurements",
    multiple=True,
    type=click.IntRange(1, MOST_ID),
    help="Atlas measurement id.",
)
_probes = click.option(
    "--probe", "probes", multiple=True, type=click.IntRange(1, MOST_ID), help="Only this probe."
)


@ingest.command("atlas")
@_measurements
@click.option("--target", help="Measurements of this name or address, beside those that are named.")
@click.option("--tag", "tags", multiple=True, help="Measurements with this tag, likewise.")
@click.option(
    "--type", "kind", type=click.Choice(["ping", "traceroute"]), help="Of those: of this type only."
)
@click.option("--af", type=click.Choice(["4", "6"]), help="Of those: over this address family only.")
@click.option("--from", "start", type=Time(), help="First moment (ISO 8601).")
@click.option("--to", "stop", type=Time(), help="First moment no longer wanted. Default: now.")
@click.option("--latest", is_flag=True, help="The latest result of each probe, instead of a span of time.")
@_probes
@answered_by
@common
def ingest_atlas_command(
    measurements: tuple[int, ...],
    target: str | None,
    tags: tuple[str, ...],
    kind: str | None,
    af: str | None,
    start: datetime | None,
    stop: datetime | None,
    latest: bool,
    probes: tuple[int, ...],
    server: str,
    certificate: Path | None,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Pull results through the Atlas API. Public measurements need no key; for others set QOETWIN_ATLAS_KEY.

    --probe by itself means all measurements that the probe takes part in.
    """
    from domain.observation import ResultType
    from twin.ingestion import ingest_atlas, ingest_latest

    found = target is not None or bool(tags) or (bool(probes) and not measurements)
    if not measurements and not found:
        raise click.UsageError("say of which measurements: -m ID, --target NAME, --tag TAG or --probe ID")
    if not found and (kind is not None or af is not None):
        raise click.UsageError("--type and --af choose among what --target, --tag and --probe find")
    source = _source(server, certificate)
    before = perf_counter()
    with progress(_notice) as report:
        lake = _lake(home)
        if found:
            ids = [
                *source.find_measurements(
                    target=target,
                    tags=tags,
                    probe_ids=() if target is not None or tags else probes,
                    kind=None if kind is None else ResultType(kind),
                    af=None if af is None else int(af),
                )
            ]
            if not ids:
                asked = " ".join(word for word in (target, *tags, *map(str, probes)) if word)
                raise NotFoundError("no such measurement", where=server, found=f"none for {asked!r}")
            measurements = tuple(dict.fromkeys([*measurements, *ids]))
            _notice(many(len(measurements), "measurement"))
        if latest:
            if start is not None or stop is not None:
                raise click.UsageError("--latest is no span of time: leave out --from and --to")
            ingested = ingest_latest(lake, source, measurements, probes=probes, report=report)
        else:
            if start is None:
                raise click.UsageError("say of when: --from, with or without --to, or --latest")
            if stop is not None and start >= stop:
                raise click.UsageError("--to must be later than --from")
            stop = datetime.now(UTC) if stop is None else stop
            if start >= stop:
                raise click.UsageError("--from is in the future")
            ingested = ingest_atlas(lake, source, measurements, start, stop, probes=probes, report=report)
    _write_ingested(ingested, perf_counter() - before, form)


@ingest.command("stream")
@_measurements
@click.option("--for", "lasting", type=Length(of_any=True), help="How long. Default: until it is stopped.")
@click.option(
    "--since",
    type=Time(),
    help="Ask first for what was stored from then on, also when less or nothing was missed (ISO 8601).",
)
@click.option(
    "--catch-up",
    type=Length(of_any=True),
    default="7d",
    show_default=True,
    help="How far back what was missed since the last run is asked for, at most.",
)
@click.option(
    "--stream-server",
    default="atlas-stream.ripe.net",
    show_default=True,
    help="Who streams, HOST or HOST:PORT.",
)
@_probes
@answered_by
@common
def ingest_stream_command(
    measurements: tuple[int, ...],
    lasting: timedelta | None,
    since: datetime | None,
    catch_up: timedelta,
    stream_server: str,
    probes: tuple[int, ...],
    server: str,
    certificate: Path | None,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Listen to results as Atlas stores them, until told to stop (SIGTERM, Ctrl-C). Gaps are filled through the API.

    The home remembers up to when all that was listened to is in the lake: the next run asks the API for what was stored since, however this one
    ends. With --for it waits a minute more at the end, and asks for what was on its way.
    """
    from app.scheduler import stopped_by_signals
    from ingest.heard import Heard
    from ingest.stream import AtlasStreamed, StreamSettings
    from twin.ingestion import ingest as ingest_source

    if not measurements:
        raise click.UsageError("say which measurements: -m ID")
    if since is not None and since > datetime.now(UTC):
        raise click.UsageError("--since is yet to come")
    before = perf_counter()
    with stopped_by_signals(_notice) as stop, progress(_notice) as report:
        lake = _lake(home)
        source = AtlasStreamed(
            _source(server, certificate),
            measurements,
            probes,
            lasting=lasting,
            stop=stop,
            heard=Heard(lake.folder.parent),
            since=since,
            settings=StreamSettings(server=stream_server, catch_up=catch_up),
        )
        if source.missed:
            first = min(gap.start for gap in source.missed)
            _notice(f"asking for what was stored since {_second(first)}, when nobody listened")
        if source.too_long_ago:
            first = min(gap.start for gap in source.too_long_ago)
            _notice(
                f"note: what was missed since {_second(first)} is more than --catch-up; --since asks for it"
            )
        try:
            ingested = ingest_source(lake, source, at_once=True, safe=source.remember, report=report)
        finally:
            if source.remembered is not None:
                _notice(
                    f"all until {_second(source.remembered)} is in the lake; listening to the same again begins there"
                )
    _write_ingested(
        ingested,
        perf_counter() - before,
        form,
        gaps=len(source.gaps),
        ended=source.ended,
        heard_until=source.remembered,
    )


def _second(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@ingest.command("table")
@click.argument("samples", type=click.Path(path_type=Path))
@click.option(
    "--nodes", type=click.Path(path_type=Path), help="The nodes: CSV or Parquet with id, lat, lon …"
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=THEIRS",
    help="Our column NAME is called THEIRS there.",
)
@click.option(
    "--set", "constants", multiple=True, metavar="NAME=VALUE", help="Column NAME is VALUE in every row."
)
@click.option("--as-of", type=Time(), help="When the nodes were so (ISO 8601). Default: now.")
@common
def ingest_table_command(
    samples: Path,
    nodes: Path | None,
    columns: tuple[str, ...],
    constants: tuple[str, ...],
    as_of: datetime | None,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Read RTT samples of other measurements than Atlas's: CSV, Parquet, or a matrix.

    Columns: probe_id, target_id, af, timestamp, rtt_avg_ms; optional: rtt_min_ms, rtt_max_ms, rtt_mdev_ms, sent, received, lost, utilisation_ratio
    (each _ms may be _s or _us). Of nodes: id, lat, lon; optional: asn, country, prefix, address, is_anchor, host, name. What is not there is unknown.
    Read again with more columns named, samples and nodes that are there say more.
    """
    from twin.ingestion import ingest_table

    before = perf_counter()
    with progress(_notice) as report:
        done = ingest_table(
            _lake(home),
            samples,
            nodes,
            columns=_pairs("--column", columns),
            constants=_pairs("--set", constants),
            as_of=as_of,
            report=report,
        )
    about = {
        "faster_than_light": done.faster_than_light,
        "of_itself": done.of_itself,
        "nodes": done.nodes,
        "nodes_without_position": done.nodes_without_position,
        "bad_node_values": len(done.bad_node_values),
    }
    for words in _about_table(done, samples, nodes):
        _notice(f"note: {words}")
    if done.faster_than_light > 0:
        _notice(
            f"note: faster than light in fibre between the places of their nodes: {many(done.faster_than_light, 'sample')}; kept, and in no state"
        )
    _write_ingested(done, perf_counter() - before, form, **about)


_SHOWN = 3


def _about_table(done: IngestedTable, samples: Path, nodes: Path | None) -> Iterator[str]:
    """What of a table was not taken as it may have been meant, and what to do about it."""
    for file, unread in ((samples, done.unread), (nodes, done.unread_of_nodes)):
        if unread:
            yield f"columns of {file} that are not read, as no --column names them: {', '.join(unread)}"
    if done.bad_node_values:
        shown = "; ".join(done.bad_node_values[:_SHOWN]) + (
            "; …" if len(done.bad_node_values) > _SHOWN else ""
        )
        yield f"not understood in {nodes}, and left out: {many(len(done.bad_node_values), 'value')}: {shown}; put right what is wrong (a country is an ISO 3166 code or an English name) and read it again"
    if done.first_refused is not None:
        yield f"the first of {samples} that is no sample is {done.first_refused}; all of them: qoetwin ingest quarantine list --source {samples.name}"
    if done.of_itself > 0:
        yield f"of a node and itself: {many(done.of_itself, 'sample')}; kept, and in no state"
    if done.landed.completed > 0:
        yield f"there before, and saying more now: {many(done.landed.completed, 'sample')}; the graph knows of it after: qoetwin graph build"
    if done.landed.differing > 0:
        yield (
            f"saying otherwise than another of the same nodes and time, which stays: {many(done.landed.differing, 'sample')}; name all columns in one reading, and the "
            "column of times where there is one; what was read wrongly is read anew in another home (--home DIR)"
        )


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    """What NAME=VALUE options say, each name once."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or name in pairs:
            raise click.UsageError(f"{option} {text!r}: expected NAME=VALUE, each name once")
        pairs[name] = value
    return pairs


@ingest.group()
def quarantine() -> None:
    """Records that were not understood. They are kept whole, with reason, source and position."""


def _quarantined(command: Command) -> Command:
    """The options that choose records in quarantine."""
    for option in reversed(
        (
            click.option("--source", help="Of this source, as the list names it."),
            click.option("--reason", help="With this text in the reason."),
            click.option("--before", type=Time(), help="In quarantine since before this time (ISO 8601)."),
        )
    ):
        command = option(command)
    return command


@quarantine.command("list")
@_quarantined
@click.option(
    "--most", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Records to show."
)
@common
def quarantine_list_command(
    source: str | None,
    reason: str | None,
    before: datetime | None,
    most: int,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Show what is in quarantine: where each record came from, and why it was not understood."""
    from ingest.quarantine import QuarantineFilter

    chosen = QuarantineFilter(source=source, reason=reason, before=before)
    found = _lake(home, must_exist=True).quarantine(chosen, most=most)
    _write_quarantine(found, form)
    shown = len(found.records)
    _notice(
        f"{many(found.total, 'record')} {'in quarantine' if chosen == QuarantineFilter() else 'chosen'}"
        + (f", {shown} shown" if shown < found.total else "")
    )


def _write_quarantine(found: Quarantine, form: Format) -> None:
    rows = [asdict(record) for record in found.records]
    if rows or form is not Format.TABLE:
        _out(as_text(rows, form), nl=False)


@quarantine.command("drop")
@_quarantined
@click.option("--all", "everything", is_flag=True, help="Whatever is in quarantine.")
@click.option("--dry-run", is_flag=True, help="Drop nothing, and show what would be dropped.")
@common
def quarantine_drop_command(
    source: str | None,
    reason: str | None,
    before: datetime | None,
    everything: bool,
    dry_run: bool,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Forget records in quarantine: those to which all that is given applies. They cannot be had back from the lake.

    A dropped record that is read again comes into quarantine again; a file that was read to its end is not read again.
    """
    from ingest.quarantine import QuarantineFilter

    chosen = QuarantineFilter(source=source, reason=reason, before=before)
    if (chosen == QuarantineFilter()) != everything:
        raise click.UsageError("say which: --source, --reason or --before; or --all, by itself")
    lake = _lake(home, must_exist=True)
    if dry_run:
        found = lake.quarantine(chosen)
        _write_quarantine(found, form)
        shown = len(found.records)
        _notice(
            f"{many(found.total, 'record')} would be dropped"
            + (f", {shown} shown" if shown < found.total else "")
            + "; nothing was"
        )
        return
    dropped = lake.drop_quarantine(chosen)
    click.echo(object_as_text({"dropped": dropped, "left": lake.quarantine(most=1).total}, form), nl=False)


@quarantine.command("retry")
@common
def quarantine_retry_command(home: Path | None, store: str, form: Format) -> None:
    """Parse what is in quarantine again. What is understood now lands, and leaves it."""
    from twin.ingestion import retry_quarantine

    retried = retry_quarantine(_lake(home, must_exist=True))
    click.echo(object_as_text(asdict(retried), form, title="tried again"), nl=False)
    if retried.observations > 0:
        _notice("note: the graph knows of it after: qoetwin graph build")


@ingest.command("compact")
@common
def ingest_compact_command(home: Path | None, store: str, form: Format) -> None:
    """Put small files of the lake together. Ingestion does so by itself now and then; nothing else changes."""
    gone = _lake(home, must_exist=True).compact()
    click.echo(object_as_text({"files_fewer": gone}, form), nl=False)


@ingest.command("repair")
@common
def ingest_repair_command(home: Path | None, store: str, form: Format) -> None:
    """Look at every page of the lake, and let go of files that are damaged or gone, so that the rest can be used.

    Their records can be ingested again. Exit 1 if there were any.
    """
    found = _lake(home, must_exist=True).repair()
    _out(as_text([{"file": error.where, "found": error.found} for error in found], form), nl=False)
    if found:
        _notice(
            f"{many(len(found), 'file')} let go of; ingest their records again, then: qoetwin graph build"
        )
        sys.exit(1)
    _notice("nothing is damaged")


@cli.group()
def probes() -> None:
    """Probes and anchors: where they are, in which network and country."""


@probes.command("load")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as-of", type=Time(), help="When the list was true (ISO 8601). Default: now.")
@common
def probes_load_command(
    file: Path, as_of: datetime | None, home: Path | None, store: str, form: Format
) -> None:
    """Read a list of probes: API objects (JSON) or CSV with prb_id, lat, lon, asn_v4, country …; plain or compressed."""
    from twin.ingestion import load_probes

    _write_probes(load_probes(_lake(home), file, as_of=as_of), form)


@probes.command("sync")
@answered_by
@common
def probes_sync_command(
    server: str,
    certificate: Path | None,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Ask the Atlas API about the probes that have measured here, and about all anchors."""
    from twin.ingestion import sync_probes

    lake = _lake(home, must_exist=True)
    with progress(_notice) as report:
        synced = sync_probes(lake, _source(server, certificate), report=report)
    _write_probes(synced, form)


@cli.group()
def graph() -> None:
    """The knowledge graph: build it, look at it, ask it, check it, move it."""


@graph.command("build")
@click.option(
    "--window",
    type=Length(),
    default="3h",
    show_default=True,
    help="Length of a window, such as 30m, 3h, 1d.",
)
@click.option(
    "--prefixes",
    type=click.Path(path_type=Path),
    help="Who announces what: CSV prefix,asn, CAIDA prefix-to-AS, MRT or bgpdump -m. Without it, an earlier list stays as it was; else no hop is in an AS.",
)
@click.option(
    "--keep",
    type=Length(of_any=True),
    help="Retention: keep windows of this length only so long before the newest, and delete older ones.",
)
@common
def graph_build_command(
    window: timedelta,
    prefixes: Path | None,
    keep: timedelta | None,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Lake -> layers: topology (NTKG), states by window (NSKG), QoE by application (ASKG)."""
    from kg.schema import ORIGINATE
    from qoe.profile import load_profile
    from twin.building import build_graph, read_origins, summarise_lake

    lake = _lake(home, must_exist=True)
    origins = None if prefixes is None else read_origins(prefixes)
    before = perf_counter()
    with _writing(home), progress(_notice) as report:
        head = lake.manifest.head()
        summary = summarise_lake(
            lake, window, keep=keep, report=report
        )  # before there is a graph to stay empty
        with _open(home, store, create=True) as opened:
            built = build_graph(summary, opened, load_profile(), origins=origins, report=report)
            counts = opened.counts()
        _note_built(_home(home), head, built)
    if built.synthetic:
        _notice("note: this graph holds synthetic measurements of the testbed")
    if built.pruned > 0:
        _notice(f"note: deleted, of windows older than --keep allows: {many(built.pruned, 'fact')}")
    if built.no_longer_said > 0:
        _notice(
            f"note: deleted, as the lists that they followed from were replaced: {many(built.no_longer_said, 'edge or score', 'edges and scores')}"
        )
    if prefixes is None and counts[ORIGINATE.table] > 0:
        _notice(
            "note: prefixes and links between ASes are those of an earlier --prefixes; give a list to renew them"
        )
    click.echo(
        object_as_text(asdict(built) | counts | {"seconds": round(perf_counter() - before, 3)}, form),
        nl=False,
    )


def _note_built(home: Path, head: int, built: Built) -> None:
    """`qoetwin status` tells when the graph was built, by whomever. It is built also when that cannot be written down."""
    from app.schedule_state import ScheduleState

    try:
        ScheduleState(home).graph_built(datetime.now(UTC), head, built.windows_until, by_hand=True)
    except StoreError as error:
        _notice(f"note: the graph is built, and qoetwin status will not tell of it: {error.line()}")


@graph.command("show")
@click.argument("label", required=False)
@click.argument("key", required=False)
@click.option("--hops", type=click.IntRange(1, 4), default=1, show_default=True, help="How far to walk.")
@click.option("--at", type=Time(), help="The graph as it was at this time (ISO 8601).")
@click.option("--against", type=Time(), help="What is otherwise at this time than at --at.")
@click.option(
    "--most",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="Edges to show; with --against, rows of each type and change.",
)
@common
def graph_show_command(
    label: str | None,
    key: str | None,
    hops: int,
    at: datetime | None,
    against: datetime | None,
    most: int,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """What the graph holds; what is around one node, such as: graph show AtlasProbe 6217; what changed between two times."""
    from kg.history import Change, counts_at, differences
    from kg.schema import FACT_TYPES

    if against is not None and (at is None or label is not None):
        raise click.UsageError("--against needs --at, and compares the whole graph: name no node")
    with _open(home, store, create=False) as opened:
        synthetic = opened.holds_synthetic()
        if label is not None:
            node_type, node_key = _node(label, key)
            met = opened.neighbours(node_type, node_key, hops=hops, at=at, most=most)
            rows: list[Row] = [asdict(neighbour) | {"synthetic": synthetic} for neighbour in met]
            known = bool(rows) or node_key in opened.nodes(node_type)[node_type.key.name].to_pylist()
        elif at is not None and against is not None:
            found = differences(opened, at, against, most=most)
            rows = [asdict(row) | {"synthetic": synthetic} for row in found.rows]
        else:
            counts = opened.counts() if at is None else counts_at(opened, at)
            rows = [{"what": what, "count": count, "synthetic": synthetic} for what, count in counts.items()]
    if label is not None and not rows:
        if not known:
            raise NotFoundError("no such node in the graph", where=f"{label} {key}")
        raise NotFoundError("the graph knows it, and no edge of it", where=f"{label} {key}")
    if against is not None:
        for (kind, change), count in found.counts.items():
            shown = sum(row.type == kind and row.change == change for row in found.rows)
            what = "values " if change is Change.CHANGED and kind in {one.label for one in FACT_TYPES} else ""
            _notice(f"{kind}: {count} {what}{change}" + (f", {shown} shown" if shown < count else ""))
        if not rows:
            _notice("nothing changed")
    elif label is not None and len(rows) == most:
        _notice(f"note: stopped at {many(most, 'edge')}; --most shows more")
    _out(as_text(rows, form), nl=False)


def _node(label: str, key: str | None) -> tuple[NodeType, int | str]:
    """The node that LABEL and KEY name."""
    from kg.schema import NODE_TYPES, Datatype

    types = {node_type.label.lower(): node_type for node_type in NODE_TYPES}
    if label.lower() not in types or key is None:
        known = ", ".join(node_type.label for node_type in NODE_TYPES)
        raise click.UsageError(f"a node is named by its label and key; labels are {known}")
    node_type = types[label.lower()]
    if node_type.key.datatype is not Datatype.INTEGER:
        return node_type, key
    if not (key.isdecimal() and int(key) <= MOST_ID):
        raise click.UsageError(f"the key of {node_type.label} is a whole number, not {key!r}")
    return node_type, int(key)


@graph.command("prune")
@click.option("--before", type=Time(), required=True, help="Delete facts of windows that ended by then.")
@click.option("--window", type=Length(), help="Of windows of this length only.")
@click.option(
    "--yes", is_flag=True, help="Do it. Without this, nothing is deleted: it only says what would be."
)
@common
def graph_prune_command(
    before: datetime, window: timedelta | None, yes: bool, home: Path | None, store: str, form: Format
) -> None:
    """Delete states and scores of old windows. Topology stays. What the lake holds comes back with the next build."""
    from twin.building import prune_graph

    with _open(home, store, create=False) as opened, _writing(home):
        pruned = prune_graph(opened, before, window, only_count=not yes)
    rows: list[Row] = [{"what": what, "count": count, "deleted": yes} for what, count in pruned.items()]
    _out(as_text(rows, form), nl=False)
    if not any(pruned.values()):
        _notice("there is nothing that old")
    elif not yes:
        _notice("nothing was deleted; add --yes to delete these")


@graph.command("check")
@common
def graph_check_command(home: Path | None, store: str, form: Format) -> None:
    """Hold the graph against its shapes (SHACL), and say in words what is wrong and where. Exit 1 if anything is."""
    from kg.check import check

    with _open(home, store, create=False) as opened, progress(_notice) as report:
        findings = check(opened, report=report)
    _out(as_text([asdict(finding) for finding in findings], form), nl=False)
    if findings:
        _notice(f"{many(len(findings), 'thing is', 'things are')} wrong")
        sys.exit(1)
    _notice("nothing is wrong")


@graph.command("query")
@click.option(
    "--sparql", help="SELECT, ASK, CONSTRUCT or DESCRIBE; @FILE reads it from a file, - from stdin."
)
@click.option("--cypher", help="A query that only reads, for a graph in Neo4j; @FILE and - likewise.")
@click.option(
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value for ?NAME or $NAME; times in ISO 8601.",
)
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Rows to give."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.001, max=86_400),
    default=60.0,
    show_default=True,
    help="Seconds after which a query is stopped. Making the graph ready for SPARQL is not counted.",
)
@click.option("--from", "start", type=Time(), help="SPARQL: facts of windows that begin then or later.")
@click.option("--to", "end", type=Time(), help="SPARQL: facts of windows that begin before it.")
@common
def graph_query_command(
    sparql: str | None,
    cypher: str | None,
    parameters: tuple[str, ...],
    limit: int,
    timeout_s: float,
    start: datetime | None,
    end: datetime | None,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Ask the graph in SPARQL, or in Cypher where it is in Neo4j. Queries only read.

    docs/questions.md shows some, docs/graph.md says what there is to ask about. The first SPARQL query after a build takes a while: the graph
    is made ready for it; --from and --to make less of it ready.
    """
    if (sparql is None) == (cypher is None):
        raise click.UsageError("give one query: --sparql or --cypher")
    if cypher is not None and (start is not None or end is not None):
        raise click.UsageError("--from and --to are for --sparql; in Cypher, say so in the query")
    if not timeout_s >= 0.001:
        raise click.UsageError("--timeout is a number of seconds")
    if start is not None and end is not None and start >= end:
        raise click.UsageError("--from is not before --to")
    given = _parameters(parameters)
    with _open(home, store, create=False) as opened, progress(_notice) as report:
        if sparql is not None:
            from kg.sparql import query as ask

            answer = ask(
                opened,
                _text_of(sparql),
                given,
                limit=limit,
                timeout_s=timeout_s,
                cache=_cache(_home(home)),
                report=report,
                selection=Selection(start=start, end=end),
            )
        else:
            from kg.neo4j_query import query as ask_cypher
            from kg.neo4j_store import Neo4jStore

            if not isinstance(opened, Neo4jStore):
                raise InputError(
                    "Cypher is for a graph in Neo4j",
                    found=f"--store {store}",
                    expected="--store bolt://HOST:PORT",
                    next_step="ask in SPARQL, which every store answers: --sparql",
                )
            asked = _text_of(cypher or "")
            answer = ask_cypher(opened.connection, asked, given, limit=limit, timeout_s=timeout_s)
    flat = form not in (Format.JSON, Format.NDJSON)  # a cell of a table holds no list
    rows: list[Row] = [
        {name: _cell(value) if flat else value for name, value in zip(answer.columns, row, strict=True)}
        for row in answer.rows
    ]
    _out(as_text(rows, form, columns=list(answer.columns)), nl=False)
    if answer.cut:
        _notice(f"note: stopped at {many(limit, 'row')}; --limit gives more")


def _cell(value: Any) -> Cell:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _text_of(query: str) -> str:
    """A query, from the command line, a file or stdin."""
    if query == "-":
        return sys.stdin.read()
    if not query.startswith("@"):
        return query
    path = Path(query.removeprefix("@"))
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot read the query", where=str(path), found=str(error)) from error


def _parameters(given: tuple[str, ...]) -> dict[str, str | int | float | bool | None]:
    """NAME=VALUE as values: JSON's numbers, booleans and null; anything else is text, and so is what is in double quotes.

    A time is written out to the second, in UTC, as XML Schema has it: a query that compares with half of one finds nothing.
    """
    values: dict[str, str | int | float | bool | None] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"--param is NAME=VALUE, not {one!r}")
        if name in values:
            raise click.UsageError(f"--param gives {name} twice")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text = written_out(text)
        values[name] = text if isinstance(value, dict | list) else value
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in str(values[name])):
            raise click.UsageError(f"--param {name} is no Unicode text: {text!r}")
    return values


_FORMS = ("turtle", "nquads", "jsonld", "graphml", "iyp-csv")


@graph.command("export")
@click.option("--as", "shape", type=click.Choice([*_FORMS, "pyg"]), required=True, help="In which form.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The file (.gz compresses it); for iyp-csv a folder. It is replaced.",
)
@click.option("--window", type=Length(), help="For pyg: windows of this length, where the graph has several.")
@filters
@common
def graph_export_command(
    shape: str,
    out: Path,
    window: timedelta | None,
    home: Path | None,
    store: str,
    form: Format,
    **chosen: Any,
) -> None:
    """Write the graph for other tools: RDF, GraphML, CSV for neo4j-admin and IYP, or tensors for PyTorch Geometric.

    Filters choose paths and windows, for pyg only; the other forms hold everything, and come back with: graph import.
    """
    from kg.sqlite_store import GRAPH_NAME

    selection = selected(**chosen, window=window)
    if shape != "pyg" and selection != Selection():
        raise click.UsageError(f"{shape} holds the whole graph; filters and --window are for pyg")
    if out.name.startswith(GRAPH_NAME) and out.absolute().parent == _home(home).absolute():
        raise click.UsageError(f"--out is the graph itself: {out}")
    with _open(home, store, create=False) as opened, progress(_notice) as report:
        if shape == "pyg":
            from gnn.export import export_pyg

            written = export_pyg(opened, selection, out)
            counts = {**written.nodes, **written.edges, "windows": written.windows}
        else:
            from kg.exchange import export_graph

            counts = export_graph(opened, out, shape, report=report)
    click.echo(object_as_text(counts, form), nl=False)


@graph.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "shape", type=click.Choice(_FORMS), required=True, help="In which form it is.")
@common
def graph_import_command(file: Path, shape: str, home: Path | None, store: str, form: Format) -> None:
    """Read a graph that was exported, here or elsewhere, into this one. Writing the same twice changes nothing."""
    from kg.exchange import read_graph, write

    with progress(_notice) as report:
        found = read_graph(file, shape, report=report)  # before an empty graph is made
        with _writing(home), _open(home, store, create=True) as opened:
            counts = write(opened, found, report)
    click.echo(object_as_text(counts, form), nl=False)


@cli.command("qoe")
@click.argument(
    "application", metavar="APPLICATION", type=click.Choice([*(one.value for one in Application), "all"])
)
@filters
@click.option(
    "--group-by",
    type=click.Choice(["country", "asn", "probe", "target", "target-asn"]),
    help="A row for each.",
)
@click.option("--window", type=Length(), help="Windows of this length, where the graph has several.")
@common
def qoe_command(
    application: str,
    group_by: str | None,
    window: timedelta | None,
    home: Path | None,
    store: str,
    form: Format,
    **chosen: Any,
) -> None:
    """How good an application is, from where, to where, when. Each path counts once; 100 is perfect, 0 useless.

    APPLICATION is web, video, voip, gaming, file-transfer or all.
    """
    selection = selected(**chosen, window=window)
    from twin.qoe import GroupBy, qoe

    asked = list(Application) if application == "all" else [Application(application)]
    with _open(home, store, create=False) as opened:
        answers = qoe(opened, asked, selection, group_by=None if group_by is None else GroupBy(group_by))
    if any(answer.synthetic for answer in answers):
        _notice("note: synthetic measurements of the testbed are in these scores")
    rows = [asdict(answer) for answer in answers]
    columns = [
        "application",
        "group",
        "score",
        "rtt_ms",
        "loss_ratio",
        "jitter_ms",
        "paths",
        "measured",
        "limiting_metric",
    ]
    columns += [name for name in ("synthetic", "reason") if any(row[name] for row in rows)]
    _out(as_text(rows, form, columns=columns), nl=False)


_protocol = click.option(
    "--protocol",
    required=True,
    help="Who is hidden from whom: forecast, imputation, unseen-pair or unseen-probe; compare also knows paper, which hides nothing.",
)
_seed = click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of all randomness."
)
_window = click.option("--window", type=Length(), help="Windows of this length, where the graph has several.")


@cli.command("train")
@click.argument("model", metavar="MODEL")
@_protocol
@_seed
@click.option("--quick", is_flag=True, help="Few steps: to see that it works.")
@_window
@filters
@common
def train_command(
    model: str,
    protocol: str,
    seed: int,
    quick: bool,
    window: timedelta | None,
    home: Path | None,
    store: str,
    form: Format,
    **chosen: Any,
) -> None:
    """Learn a model on the graph, next to quick baselines, score it on what it has not seen, and save it.

    MODEL is graph-transformer, cheb-net, res-gated-gcn, sage, mlp, ensemble, or a baseline: last-value, ewma, rolling-median, seasonal-median,
    fibre-distance, node-effects, low-rank, vivaldi, nearest-places, nearest-profiles, boosting, boosting-around, stack. Graph models also with a plain head (NAME/plain), and
    without a base (NAME/direct). A model of the same name and protocol is replaced. A training that was interrupted goes on
    where it was.
    """
    from gnn.protocols import protocol_named
    from gnn.registry import require_model

    selection = selected(**chosen, window=window)
    protocol_named(protocol)  # an unknown name is said before anything is read
    require_model(model)
    from twin.learning import train

    folder = _model_folder(home, model, protocol)
    with _open(home, store, create=False) as opened, progress(_notice) as report:
        _make_folder(folder.parent)
        trained = train(
            opened,
            model,
            protocol,
            folder,
            selection=selection,
            seed=seed,
            quick=quick,
            report=report,
        )
    _write_compared(trained.document, form, model_folder=str(trained.folder))
    _notice(f"saved: {trained.folder}")


REPORT_FILES = ("comparison.json", "index.html")

UNFINISHED = "unfinished"
"""Folder beside a report in which jobs of its comparison are kept until it is written."""


@cli.command("compare")
@_protocol
@click.option(
    "--models",
    default="all",
    show_default=True,
    help="Names, with commas between; all are those that serve the protocol, and each graph model with two other heads.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=3, show_default=True, help="How many, from --seed on."
)
@_seed
@click.option(
    "--quick", is_flag=True, help="One seed, one split, few models, few steps: to see that all works."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder that gets index.html and comparison.json."
)
@click.option("--processes", type=click.IntRange(min=1), help="Side by side. Default: one a core.")
@_window
@filters
@common
def compare_command(
    protocol: str,
    models: str,
    seeds: int,
    seed: int,
    quick: bool,
    out: Path | None,
    processes: int | None,
    window: timedelta | None,
    home: Path | None,
    store: str,
    form: Format,
    **chosen: Any,
) -> None:
    """Compare models and baselines on the graph, and write the report: a page, and the figures as JSON.

    Each is learned on several splits with several seeds, and set against the best baseline and the network without the graph.
    Interrupted, the same command with the same --out goes on: what is through of it is kept there.
    """
    from gnn.protocols import PAPER, protocol_named
    from gnn.registry import require_model

    selection = selected(**chosen, window=window)
    if protocol != PAPER:
        protocol_named(protocol)
    names = None if models == "all" else [name.strip() for name in models.split(",")]
    if protocol == PAPER and names is not None:
        raise click.UsageError("--protocol paper races the networks of the paper: leave --models out")
    for name in names or ():
        require_model(name)
    if out is not None:
        _make_folder(out, *REPORT_FILES)
    from app.comparison_page import comparison_page
    from gnn.kept_jobs import kept_jobs
    from gnn.whole_files import write_whole
    from twin.learning import compare

    keeping = nullcontext() if out is None else kept_jobs(out / UNFINISHED)
    with _open(home, store, create=False) as opened, keeping as kept, progress(_notice) as report:
        document = compare(
            opened,
            protocol,
            models=names,
            seeds=seeds,
            seed=seed,
            quick=quick,
            processes=processes,
            selection=selection,
            kept=kept,
            report=report,
        )
        document["command"] = shlex.join(["qoetwin", *sys.argv[1:]])
        if out is not None:
            figures, page = (out / name for name in REPORT_FILES)
            whole = json.dumps(document, indent=1, allow_nan=False) + "\n"
            try:
                write_whole({figures: whole.encode(), page: comparison_page(document).encode()})
            except OSError as error:
                raise InputError(
                    "the report cannot be written",
                    where=str(out),
                    found=error.strerror or str(error),
                    next_step="make room, and give the same command again: what was learned is kept",
                ) from error
            _notice(f"written: {page} and {figures}")
    _write_compared(document, form)


@cli.command("predict")
@click.option(
    "--model", default="graph-transformer", show_default=True, help="A model that was trained here."
)
@click.option("--protocol", default="forecast", show_default=True, help="What it was trained for.")
@click.option(
    "--pairs",
    "pairs_file",
    type=click.Path(path_type=Path),
    help="CSV or Parquet with probe,target,af,at; in place of the filters.",
)
@click.option("--write/--no-write", default=False, help="Keep the predictions in the graph.")
@_window
@filters
@common
def predict_command(
    model: str,
    protocol: str,
    pairs_file: Path | None,
    write: bool,
    window: timedelta | None,
    home: Path | None,
    store: str,
    form: Format,
    **chosen: Any,
) -> None:
    """Predict RTT, loss and jitter with 90 % intervals, by a model that was trained here.

    Without a time, a forecast is of the window after the last one that was measured.
    """
    from gnn.protocols import protocol_named
    from gnn.registry import require_model

    selection = selected(**chosen, window=window)
    if pairs_file is not None and selection != Selection(window_s=selection.window_s):
        raise click.UsageError("--pairs names paths and times: leave the filters out")
    protocol_named(protocol)
    require_model(model)
    from twin.predicting import predict, read_pairs, write_predictions
    from twin.refresh import keep_fresh

    folder = _model_folder(home, model, protocol)
    wanted = None if pairs_file is None else read_pairs(pairs_file)
    holding = _writing(home) if write else nullcontext()
    with holding, _open(home, store, create=False) as opened, progress(_notice) as report:
        _require_trained(folder, model, protocol)
        told = predict(
            opened, folder, selection, model=model, protocol=protocol, wanted=wanted, report=report
        )
        if write:
            before = opened.revision()
            kept = write_predictions(opened, told)
            keep_fresh(_home(home), before, opened.revision())
    _out(
        as_text(told.rows, form, title=f"{model}, {protocol}{' (synthetic)' if told.synthetic else ''}"),
        nl=False,
    )
    if told.synthetic:
        _notice("note: predicted from synthetic measurements of the testbed")
    if told.card.code_version != version("qoetwin"):
        _notice(
            f"note: the model was trained by qoetwin {told.card.code_version}, and this is {version('qoetwin')}"
        )
    if write:
        _notice(f"kept in the graph: {many(kept, 'prediction')}")


@cli.command("schedule")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Which sources, when. Default: qoetwin.toml in the home.",
)
@click.option(
    "--once",
    is_flag=True,
    help="Run each source once, now, due or not, and end: for cron and systemd timers.",
)
@click.option("--only", "names", multiple=True, metavar="NAME", help="With --once: only this source.")
@common
def schedule_command(
    config: Path | None, once: bool, names: tuple[str, ...], home: Path | None, store: str, form: Format
) -> None:
    """Keep lake and graph up to date from the sources in qoetwin.toml, until SIGTERM or Ctrl-C.

    Each source is asked from where it was left, however long ago, and what was fetched twice lands once. A source that fails is told, and
    tried again; the others go on. With --once, exit 1 when one failed. How it is doing: qoetwin status
    """
    from app.config import read_config
    from app.jobs import Outcome, Runner
    from app.scheduler import keep_running, run_once, stopped_by_signals
    from kg.store import scheme_of

    if names and not once:
        raise click.UsageError("--only is for --once")
    folder = _home(home)
    chosen = read_config(folder / CONFIG_NAME if config is None else config)
    for name in names:
        chosen.source_named(name)
    scheme_of(store)  # a kind of store that there is not is said before anything runs
    with stopped_by_signals(_notice) as stop:
        runner = Runner(
            chosen,
            folder,
            lambda: _open(home, store, create=True),
            now=lambda: datetime.now(UTC),
            say=_notice,
            stop=stop,
        )
        if once:
            outcomes = run_once(runner, names)
            whole = outcomes is not None
            failed = outcomes is None or any(one in (Outcome.FAILED, Outcome.STOPPED) for one in outcomes)
        else:
            whole, failed = keep_running(runner, folder, _notice), False
    if stop.is_set() and not (whole and _all_threads_ended()):
        # What does not come to its end now is done again the next time; the interpreter would wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(failed))
    if failed:
        sys.exit(1)


def _all_threads_ended() -> bool:
    return not any(thread.name.startswith("qoetwin-") for thread in threading.enumerate())


@cli.command("status")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Which sources, when. Default: qoetwin.toml in the home.",
)
@click.option("--check", is_flag=True, help="Exit 1 when the last run of a source, or of the graph, failed.")
@common
def status_command(config: Path | None, check: bool, home: Path | None, store: str, form: Format) -> None:
    """How the schedule is doing: of each source its last success, lag, counts, next run and last error; what lake and graph hold.

    json gives one object, with a list of sources; csv and ndjson give the sources only. Counts are of all runs; last_… of the
    last one. A source may run while this is asked.
    """
    from app.config import read_config
    from app.status import status

    folder = _home(home)
    place = folder / CONFIG_NAME if config is None else config
    found = status(
        folder, None if config is None and not place.exists() else read_config(place), datetime.now(UTC)
    )
    if form is Format.JSON:
        about, rows = (
            json.loads(text) for text in (object_as_text(found.home, form), as_text(found.sources, form))
        )
        click.echo(json.dumps(about | {"sources": rows}, indent=2))
    elif form is Format.TABLE:
        columns = [
            "source", "kind", "running", "last_success", "lag_s", "observations", "quarantined", "next_run",
        ]  # fmt: skip
        if found.sources:
            _out(as_text(found.sources, form, columns=columns), nl=False)
        home_failed = ("graph", found.home["graph_last_error_at"], found.home["graph_last_error"])
        about = {name: value for name, value in found.home.items() if not name.startswith("graph_last_error")}
        click.echo(object_as_text(about, form), nl=False)
        for what, when, line in (
            *((row["source"], row["last_error_at"], row["last_error"]) for row in found.sources),
            home_failed,
        ):
            if line is not None:
                _out(f"\n{what}, last failed {when:%Y-%m-%dT%H:%M:%SZ}: {line}")
        for row in found.sources:
            if row["last_passed_over"] is not None:
                _out(
                    f"\n{row['source']}, {row['passed_over']} passed over; the last: {row['last_passed_over']}"
                )
    else:
        _out(as_text(found.sources, form), nl=False)
    if check and found.failing:
        sys.exit(1)


@cli.command("demo")
@common
def demo_command(home: Path | None, store: str, form: Format) -> None:
    """The whole way on a synthetic Internet: measure, remember, learn, answer. Takes one to three minutes, needs no network."""
    from twin.demo import refuse_real_lake, run_demo

    folder = default_home() / "demo" if home is None else home
    lake = _lake(folder)
    refuse_real_lake(lake)  # before an empty graph is made beside it
    with _open(folder, store, create=True) as opened, progress(_notice) as report:
        demo = run_demo(lake, opened, folder / MODELS_NAME, report=report)
        _note_built(folder, lake.manifest.head(), demo.built)
    from app.demo_page import count_rows, quality_rows, write_page
    from app.figures import figure_rows

    page = folder / "demo.html"
    write_page(demo, page, command=f"{sys.argv[0]} demo --home {folder}")
    if form is not Format.TABLE:
        _out(as_text(quality_rows(demo), form), nl=False)
        return
    counts: list[Row] = [
        {"step": step, "what": what, "count": count} for step, what, count in count_rows(demo)
    ]
    _out(as_text(counts, form, title="What each step read and wrote (synthetic)"))
    _out(
        as_text(
            quality_rows(demo), form, title="Quality of experience by application and country (synthetic)"
        )
    )
    _out(
        as_text(
            figure_rows(demo.trained.document),
            form,
            title="The next window, forecast; SAGE beside its baselines (synthetic)",
        )
    )
    click.echo(f"{demo.trained.document['conclusion']}\n")
    click.echo(f"All of this, and a plot: {page}")
    click.echo(f"Ask on: {sys.argv[0]} qoe voip --group-by asn --home {folder}")


# What commands share


def _out(text: str, *, nl: bool = True) -> None:
    """Write data: to a terminal without what could move its cursor, to anything else as it is."""
    if sys.stdout.isatty():
        text = "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)
    click.echo(text, nl=nl, color=True)  # else click takes out what looks like a colour


def _notice(text: str) -> None:
    click.echo(text, err=True)


def _write_ingested(ingested: Ingested, seconds: float, form: Format, **about: Cell) -> None:
    """Say what landed; what failed is a line each, and then the whole has failed."""
    row: Row = asdict(ingested.landed) | about | {"seconds": round(seconds, 3)}
    click.echo(object_as_text(row, form, title="ingested"), nl=False)
    for failure in ingested.failures:
        _notice(f"qoetwin: {failure.line()}")
    if ingested.failures:
        sys.exit(1)
    if ingested.landed.synthetic > 0:
        _notice(f"note: synthetic: {many(ingested.landed.synthetic, 'result')}")
    if ingested.landed.quarantined > 0:
        _notice(
            f"note: not understood, and kept in quarantine (qoetwin ingest quarantine list): {many(ingested.landed.quarantined, 'record')}"
        )
    if ingested.landed.observations > 0:
        _notice("note: the graph knows of it after: qoetwin graph build")


def _write_probes(probes: Probes, form: Format) -> None:
    counts = {
        "read": probes.read,
        "refused": probes.refused,
        "without_position": probes.without_position,
        "without_as": probes.without_as,
        "bad_positions": probes.bad_positions,
        "bad_values": probes.bad_values,
        "synthetic": sum(probes.table["synthetic"].to_pylist()),
    }
    click.echo(object_as_text(counts, form, title="probes"), nl=False)
    if probes.refused > 0:
        _notice(f"note: no probes, and refused: {probes.refused} of the rows or objects")
    if probes.bad_values > 0:
        _notice(
            f"note: {probes.bad_values} AS numbers, countries, addresses or prefixes cannot be what they are said to be, and were left out"
        )
    _notice("note: the graph knows of it after: qoetwin graph build")


def _make_folder(folder: Path, *files: str) -> None:
    """Before hours of learning, that there will be a place for what comes of it, and for these files in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            if (folder / file).is_dir():
                raise IsADirectoryError(f"a folder of the name {file}")
        (folder / ".written").touch()
        (folder / ".written").unlink()
    except OSError as error:
        raise InputError(
            "a folder that cannot be written",
            where=str(folder),
            found=error.strerror or str(error),
            next_step="choose another one",
        ) from error


def _model_folder(home: Path | None, model: str, protocol: str) -> Path:
    """Where a model is kept; the slash of a variant is none of a path."""
    return _home(home) / MODELS_NAME / f"{model.replace('/', '+')}-{protocol}"


def _require_trained(folder: Path, model: str, protocol: str) -> None:
    if not folder.is_dir():
        there = sorted(one.name for one in folder.parent.glob("*-*") if (one / "model.json").is_file())
        raise NotFoundError(
            "that model was not trained here",
            where=str(folder),
            found=", ".join(there) or "no model",
            next_step=f"train it: qoetwin train {model} --protocol {protocol}; or choose another with --model and --protocol",
        )


def _write_compared(document: Mapping[str, Any], form: Format, **more: Cell) -> None:
    """The figures: an object in json, rows that carry what they are about in csv and ndjson, what matters in a table."""
    audit = document["audit"]
    if document["synthetic"]:
        _notice(
            "note: learned and scored on synthetic measurements of the testbed; no figure is a claim of accuracy"
        )
    if form is Format.JSON:
        click.echo(json.dumps({**document, **more}, indent=2, allow_nan=False))
        return
    if form is Format.TABLE:
        from app.figures import figure_rows, paper_rows

        what = document["cases"][:1] if document["paper"] is None else [document["paper"]["set"]]
        title = ", ".join([document["protocol"], *what]) + (" (synthetic)" if document["synthetic"] else "")
        shown = figure_rows(document) if document["paper"] is None else paper_rows(document)
        _out(as_text(shown, form, title=title), nl=False)
        if document["paper"] is None:
            _notice(
                "better and worse: the interval of the mean leaves out 1, and most clusters gain or lose; where the two disagree it is tied"
            )
    else:
        about = {name: document[name] for name in ("protocol", "seed", "dataset_hash", "synthetic")}
        of = document["rows"] if document["paper"] is None else document["paper"]["ours"]
        rows = [
            {name: value for name, value in row.items() if name not in ("by_split", "r2_by_seed")}
            for row in of
        ]
        _out(as_text([{**row, **about, "audit_passed": audit["passed"]} for row in rows], form), nl=False)
    if document["paper"] is None:
        _notice(
            f"leakage audit: {'passed' if audit['passed'] else 'failed'}, {many(audit['windows'], 'window')}"
        )
    else:
        _notice("leakage audit: not run, as nothing is hidden; the answer is known to be among the inputs")
    for note in document["notes"]:
        _notice(f"note: {note}")
    _notice(document["conclusion"])


def _home(home: Path | None) -> Path:
    return default_home() if home is None else home


def _cache(home: Path) -> Path:
    """Where a graph is kept as SPARQL reads it: in its home, or, where nothing may be written there, in the user's cache."""
    if os.access(home, os.W_OK):
        return home / RDF_NAME
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return own / "qoetwin" / hashlib.sha256(bytes(home.absolute())).hexdigest()[:16]


def _lake(home: Path | None, *, must_exist: bool = False) -> Lake:
    from ingest.lake import Lake

    folder = _home(home) / LAKE_NAME
    if must_exist and not folder.is_dir():
        raise EmptyError(
            "there is nothing in this home yet",
            where=str(_home(home)),
            next_step="ingest something first: qoetwin ingest files PATH",
        )
    return Lake(folder)


@contextmanager
def _writing(home: Path | None) -> Iterator[None]:
    """Nobody else of this home writes to its graph meanwhile, a schedule least of all."""
    from app.schedule_state import GRAPH, held

    told = False
    while True:
        with held(_home(home), GRAPH) as ours:
            if ours:
                yield
                return
        if not told:
            _notice("waiting for another process that writes to the graph")
        told = True


def _open(home: Path | None, store: str, *, create: bool) -> GraphStore:
    from kg.store import open_store

    return open_store(store, _home(home), create=create, credentials=neo4j_credentials())


def _source(server: str, certificate: Path | None) -> AtlasSource:
    from ingest.atlas import AtlasSource

    return AtlasSource(
        server=server, verify=True if certificate is None else certificate, api_key=atlas_key()
    )
