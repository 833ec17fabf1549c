"""Outside -> lake: what each source gives lands, each result once, and what became of it is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from domain.errors import InputError, QoetwinError, SourceError
from domain.observation import NODE
from domain.progress import Report, unheard
from ingest.batch import Parsed
from ingest.files import STDIN, FileSource, find_files
from ingest.lake import Lake, Landed, Retried
from ingest.lake_files import Kind
from ingest.parse import parse
from ingest.probes import Probes, probes_table, read_probes
from ingest.source import Source
from ingest.summarise import atlas_ids, probes_seen, sampled_nodes, sampled_targets
from ingest.table import NO_NODES, NODE_NAMES, Nodes, TableSource, check_names, read_nodes

if TYPE_CHECKING:  # cousteau, which it imports, is only for those who ask the API
    from ingest.atlas import AtlasSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What became of several sources.

    Attributes:
        landed: the records, counted.
        failures: one for each source that is not (wholly) what it should be. What was whole in it has landed.
    """

    landed: Landed
    failures: tuple[QoetwinError, ...] = ()


def ingest(
    lake: Lake,
    source: Source,
    *,
    at_once: bool = False,
    safe: Callable[[], None] = lambda: None,
    report: Report = unheard,
) -> Ingested:
    """Land what a source gives.

    Args:
        lake: where it lands.
        source: where it comes from.
        at_once: whether each batch is safe as soon as it was given, as the next may be long in coming.
        safe: is called when all that the source gave so far is in the lake: at once, and at the end.
        report: hears how far it is.

    Returns:
        What landed, also when the source failed after that: its error is then the last of the failures.

    Raises:
        SourceError: when the source does not answer as it should, and nothing came before.
        InputError: when probes have ids of nodes of tables that are in the lake: nobody could tell them apart.
        StoreError: when the lake cannot be read or written.
    """
    nodes = sampled_nodes(lake) if lake.files(Kind.SAMPLE) else None
    failed: list[QoetwinError] = []
    with lake.landing() as landing:
        try:
            for parsed in source.read(report):
                if nodes is not None:
                    _refuse_nodes(parsed, nodes, lake)
                landing.add(parsed)
                if at_once:
                    landing.commit()
                    safe()
            landing.commit()
            safe()
        except SourceError as error:
            landing.commit()
            safe()
            if landing.landed == Landed():
                raise
            failed.append(error)
    return Ingested(landed=landing.landed, failures=(*source.failures, *failed))


def _refuse_nodes(parsed: Parsed, nodes: pa.Array, lake: Lake) -> None:
    """InputError when a result is of a probe whose id is that of a node of a table."""
    for table in (parsed.pings, parsed.traceroutes):
        both = table["probe_id"].filter(pc.is_in(table["probe_id"], value_set=nodes)).unique().to_pylist()
        if both:
            raise InputError(
                "probes with ids of nodes of a table that is in this home",
                where=str(lake.folder.parent),
                found=", ".join(map(str, both[:5])) + (" …" if len(both) > 5 else ""),
                expected="ids that no node here has",
                next_step="give the table a home of its own (--home DIR)",
            )


def ingest_files(
    lake: Lake, paths: Sequence[Path], *, stdin: BinaryIO | None = None, report: Report = unheard
) -> Ingested:
    """Land files of Atlas results, and the files in folders. All must be there before any is read.

    A file whose bytes were read to their end before is not read again; its results count as duplicates.

    Args:
        lake: where they land.
        paths: files and folders; `-` is `stdin`.
        stdin: what `-` stands for.
        report: hears how far it is.

    Raises:
        NotFoundError: when a path is not there; nothing has landed.
        InputError: when a folder cannot be read; nothing has landed.
        StoreError: when the lake cannot be read or written.
    """
    found = chain.from_iterable(
        [path] if path == STDIN and stdin is not None else find_files(path) for path in paths
    )
    source = FileSource(
        list(dict.fromkeys(found)), is_known=lambda digest: lake.was_read(digest) is not None, stdin=stdin
    )
    ingested = ingest(lake, source, report=report)
    known = [read for file in source.known if (read := lake.was_read(file.digest)) is not None]
    return Ingested(
        landed=sum((Landed.of(file.counts, observations=0) for file in known), ingested.landed),
        failures=(*ingested.failures, *(failure for file in known for failure in file.failures)),
    )


def ingest_atlas(
    lake: Lake,
    source: AtlasSource,
    measurements: Sequence[int],
    start: datetime,
    stop: datetime,
    *,
    probes: Sequence[int] = (),
    report: Report = unheard,
) -> Ingested:
    """Land the results of measurements that began in `[start, stop)`, through the Atlas API.

    Raises:
        SourceError: when the API does not answer as it should; what came before has landed.
        StoreError: when the lake cannot be read or written.
    """
    # Here, and not above: cousteau is only for those who ask the API.
    from ingest.atlas import AtlasResults

    return ingest(lake, AtlasResults(source, measurements, start, stop, probes), report=report)


def ingest_latest(
    lake: Lake,
    source: AtlasSource,
    measurements: Sequence[int],
    *,
    probes: Sequence[int] = (),
    report: Report = unheard,
) -> Ingested:
    """Land the latest result of each probe of measurements; raises as `ingest_atlas` does."""
    from ingest.atlas import AtlasLatest

    return ingest(lake, AtlasLatest(source, measurements, probes), report=report)


def retry_quarantine(lake: Lake) -> Retried:
    """Parse what is in quarantine again: what is understood now lands, and leaves it.

    Raises:
        StoreError: when the lake cannot be read or written.
    """
    return lake.retry_quarantine(lambda raws: parse(raws, "quarantine"))


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestedTable(Ingested):
    """What became of a table of samples.

    Attributes:
        faster_than_light: samples that are, between the places of their nodes.
        of_itself: samples in which a node measured itself; they are in no state.
        nodes: nodes that took part; of them `nodes_without_position` have none.
        bad_node_values: values in the file of nodes that are none, each with its row and column.
        unread: columns of the samples, and `unread_of_nodes` of the file of nodes, that nobody named.
        first_refused: where the first row that is no sample is, and why it is none; None without one.
    """

    faster_than_light: int
    of_itself: int
    nodes: int
    nodes_without_position: int
    bad_node_values: tuple[str, ...]
    unread: tuple[str, ...]
    unread_of_nodes: tuple[str, ...]
    first_refused: str | None


def ingest_table(
    lake: Lake,
    samples: Path,
    nodes: Path | None = None,
    *,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    as_of: datetime | None = None,
    report: Report = unheard,
) -> IngestedTable:
    """Land a table of anybody's RTT samples (`ingest.table`), and what a file says of the nodes that took part.

    What earlier tables said of nodes holds where this one is silent. A sample that is there already stays, unless it is said
    again with more (`ingest.known_samples`).

    Args:
        lake: where they land.
        samples: CSV, Parquet or a matrix.
        nodes: CSV or Parquet; None where nothing is known of nodes but their ids.
        columns: name of a column -> what it is called in the files.
        constants: name of a column -> what holds of every row.
        as_of: when the nodes were so; None is now.
        report: hears how far it is.

    Raises:
        NotFoundError: when a file is not there.
        InputError: when one is no such table, lacks a column, when ids are those of probes of Atlas in that lake, since nobody
            could tell them apart, or when a node that was a target without an address has one now. Batches before have landed.
        StoreError: when the lake cannot be read or written.
    """
    check_names(columns, constants)
    if nodes is None and (of_nodes := sorted({*columns, *constants} & set(NODE_NAMES))):
        raise InputError(
            "a column of nodes, and no file of nodes",
            found=", ".join(of_nodes),
            next_step="name the file of nodes with --nodes FILE",
        )
    said = NO_NODES if nodes is None else read_nodes(nodes, columns, constants)
    known = _with_earlier(said, lake)
    source = TableSource(samples, nodes=known, columns=columns, constants=constants)
    taken = atlas_ids(lake)
    with lake.landing() as landing:
        for parsed in source.read(report):
            if both := sorted(taken & set().union(*source.measured.values())):
                raise InputError(
                    "nodes with ids of probes of Atlas that are in this home",
                    where=str(samples),
                    found=", ".join(map(str, both[:5])) + (" …" if len(both) > 5 else ""),
                    expected="ids that no probe of Atlas here has",
                    next_step="give the table a home of its own (--home DIR), or number its nodes otherwise",
                )
            landing.add(parsed)
    met = source.nodes()
    lake.merge_probes(met, datetime.now(UTC) if as_of is None else as_of)
    return IngestedTable(
        landed=landing.landed,
        failures=tuple(source.failures),
        faster_than_light=source.faster_than_light,
        of_itself=source.of_itself,
        nodes=met.num_rows,
        nodes_without_position=source.without_position(),
        bad_node_values=known.not_understood,
        unread=source.unread,
        unread_of_nodes=known.unread,
        first_refused=source.first_refused,
    )


def _with_earlier(said: Nodes, lake: Lake) -> Nodes:
    """What a file says of nodes, and what earlier tables of the lake did.

    Raises:
        InputError: when a node that was a target by its id has an address now: its samples would be those of two targets.
    """
    if not lake.files(Kind.SAMPLE):
        return said
    earlier = lake.probes()
    earlier = earlier.filter(pc.is_in(earlier["probe_id"], value_set=sampled_nodes(lake)))
    by_id = {(target, family) for target, family in sampled_targets(lake) if target.startswith(NODE)}
    for node in said.probes.to_pylist():
        for family in (4, 6):
            word, address = f"{NODE}{node['probe_id']}", node[f"address_v{family}"]
            if address is not None and (word, family) in by_id:
                raise InputError(
                    "a node that was measured before its address was known",
                    where=str(lake.folder.parent),
                    found=f"{word}, and now {address}",
                    expected="the same target in all samples of a node",
                    next_step="leave the addresses out, or read all samples with them into another home (--home DIR)",
                )
    return replace(said, earlier=earlier)


def load_probes(lake: Lake, path: Path, *, as_of: datetime | None = None) -> Probes:
    """Keep what a file of probes or anchors says in the lake.

    Args:
        lake: where it is kept.
        path: the file.
        as_of: when it was true; None is now.

    Raises:
        InputError: when it is none, or of the future; nothing has changed.
        StoreError: when the lake cannot be read or written.
    """
    now = datetime.now(UTC)
    if as_of is not None and as_of > now:
        raise InputError(
            "a list of probes that is yet to come true",
            found=as_of.isoformat(),
            expected=f"at most {now:%Y-%m-%dT%H:%M:%SZ}, which is now",
        )
    probes = read_probes(path)
    lake.merge_probes(probes.table, now if as_of is None else as_of)
    return probes


def sync_probes(lake: Lake, source: AtlasSource, *, report: Report = unheard) -> Probes:
    """Merge what the Atlas API says of the probes seen in the lake, and of all anchors, which may be targets.

    Raises:
        SourceError: when the API does not answer as it should; nothing has changed.
        StoreError: when the lake cannot be read or written.
    """
    report("asking for anchors", 0, None)
    objects = list(source.anchors())
    wanted = {*probes_seen(lake), *probes_table(objects).table["probe_id"].to_pylist()}
    report("asking for probes", 0, len(wanted))
    # The probe's own record comes last: it knows the AS of both families, the anchor's knows the addresses.
    objects += source.probes(sorted(wanted))
    probes = probes_table(objects)
    lake.merge_probes(probes.table, datetime.now(UTC))
    report("asking for probes", len(wanted), len(wanted))
    return probes
