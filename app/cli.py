"""The command line: parse, one call, print. Data goes to stdout, progress and notices to stderr.

What a command needs is imported when it runs, so that help is quick and an answer needs no torch.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import click

from app.output import Cell, Format, Row, as_text, object_as_text
from app.progress import progress
from app.settings import HOME_VARIABLE, STORE_VARIABLE, TRACEBACK_VARIABLE, atlas_key, default_home
from domain.application import Application
from domain.errors import EmptyError, InputError, NotFoundError, QoetwinError
from domain.selection import Area, Selection
from domain.window import parse_length, parse_time

if TYPE_CHECKING:
    from ingest.atlas import AtlasSource
    from ingest.lake import Lake
    from ingest.probes import Probes
    from kg.store import GraphStore
    from twin.pipeline import Ingested, Trained

MOST_ID = 2**53 - 1
"""More than Atlas will number, and exact in every format."""

Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value")


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        return value if isinstance(value, datetime) else _or_usage(self, parse_time, value, param, ctx)


class _Length(click.ParamType[timedelta]):
    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        return value if isinstance(value, timedelta) else _or_usage(self, parse_length, value, param, ctx)


class _Area(click.ParamType[Area]):
    name = "lat,lon,km"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Area:
        try:
            latitude, longitude, radius_km = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not LAT,LON,KM, such as 33.9,35.5,100", param, ctx)
        if not (-90 <= latitude <= 90 and -180 <= longitude <= 180 and 0 < radius_km < float("inf")):
            self.fail(f"{value!r} is no place on Earth with a radius in km", param, ctx)
        return Area(latitude=latitude, longitude=longitude, radius_km=radius_km)


class _Address(click.ParamType[str]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ipaddress import ip_address

        try:
            return ip_address(value).compressed
        except ValueError:
            self.fail(f"{value!r} is not an IP address", param, ctx)


class _Asn(click.ParamType[int]):
    name = "asn"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        digits = str(value).upper().removeprefix("AS")
        if not (digits.isdecimal() and 0 < int(digits) < 2**32):
            self.fail(f"{value!r} is not an AS number", param, ctx)
        return int(digits)


class _Prefix(click.ParamType[str]):
    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ipaddress import ip_network

        try:
            return ip_network(value).compressed
        except ValueError as error:
            self.fail(f"{value!r} is not a prefix, such as 193.0.0.0/21: {error}", param, ctx)


def _or_usage(
    kind: click.ParamType[Value],
    parse: Callable[[str], Value],
    text: str,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> Value:
    """Parse an option; what is wrong with it is wrong usage."""
    try:
        return parse(text)
    except InputError as error:
        kind.fail(error.line(), param, ctx)


def _common(command: Command) -> Command:
    """The options that every command takes."""
    for option in (
        click.option(
            "--format",
            "form",
            type=click.Choice([form.value for form in Format]),
            default=Format.TABLE.value,
            callback=lambda _ctx, _param, value: Format(value),
            show_default=True,
            help="How data is written.",
        ),
        click.option(
            "--store",
            envvar=STORE_VARIABLE,
            default="sqlite",
            show_default=True,
            help=f"Where the graph is kept. Also {STORE_VARIABLE}.",
        ),
        click.option(
            "--home",
            type=click.Path(path_type=Path),
            envvar=HOME_VARIABLE,
            help=f"Folder that holds all that is kept. Also {HOME_VARIABLE}. Default: the user's data folder.",
        ),
    ):
        command = option(command)
    return command


def _filters(command: Command) -> Command:
    """The options that choose paths and times."""
    for option in reversed(
        (
            click.option(
                "--probe",
                "probe_ids",
                multiple=True,
                type=click.IntRange(1, MOST_ID),
                help="Measured by this probe.",
            ),
            click.option("--target", "targets", multiple=True, type=_Address(), help="To this address."),
            click.option(
                "--asn",
                "asns",
                multiple=True,
                type=_Asn(),
                help="From a probe in this AS.",
            ),
            click.option(
                "--target-asn",
                "target_asns",
                multiple=True,
                type=_Asn(),
                help="To this AS.",
            ),
            click.option(
                "--country",
                "countries",
                multiple=True,
                help="From a probe in this country (ISO 3166-1 alpha-2).",
            ),
            click.option("--area", type=_Area(), help="From a probe within KM of a place."),
            click.option(
                "--prefix",
                "prefixes",
                multiple=True,
                type=_Prefix(),
                help="From a probe with an address in it.",
            ),
            click.option("--af", type=click.Choice(["4", "6"]), help="Over this address family."),
            click.option(
                "--at",
                type=_Time(),
                help="In the windows that hold this time (ISO 8601; UTC unless it says).",
            ),
            click.option(
                "--from", "start", type=_Time(), help="In windows that begin at this time or later."
            ),
            click.option("--to", "end", type=_Time(), help="In windows that begin before this time."),
        )
    ):
        command = option(command)
    return command


def _answered_by(command: Command) -> Command:
    """The options that say who speaks the Atlas API."""
    trusted = click.option(
        "--certificate",
        type=click.Path(path_type=Path),
        help="Authorities to trust instead of the system's (PEM).",
    )
    server = click.option(
        "--server", default="atlas.ripe.net", show_default=True, help="Who answers, HOST or HOST:PORT."
    )
    return server(trusted(command))


def _selection(*, window: timedelta | None, **chosen: Any) -> Selection:
    """The selection that the filters state."""
    if chosen["at"] is not None and (chosen["start"] is not None or chosen["end"] is not None):
        raise click.UsageError("--at is one moment, --from and --to are a span: choose one of the two")
    if chosen["start"] is not None and chosen["end"] is not None and chosen["start"] >= chosen["end"]:
        raise click.UsageError("--to must be later than --from")
    return Selection(
        probe_ids=chosen["probe_ids"],
        targets=chosen["targets"],
        asns=chosen["asns"],
        target_asns=chosen["target_asns"],
        countries=tuple(country.upper() for country in chosen["countries"]),
        area=chosen["area"],
        prefixes=chosen["prefixes"],
        af=None if chosen["af"] is None else int(chosen["af"]),
        start=chosen["start"],
        end=chosen["end"],
        at=chosen["at"],
        window_s=None if window is None else int(window.total_seconds()),
    )


def main() -> None:
    """Run the command line. An error that a user can meet is one line on stderr, and exit status 1."""
    if not sys.warnoptions:
        # Warnings of libraries are for those who develop with them; the tests make them errors.
        warnings.simplefilter("ignore")
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
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_common
def ingest_files_command(paths: tuple[Path, ...], home: Path | None, store: str, form: Format) -> None:
    """Read files of Atlas results (NDJSON or a JSON array; plain, gzip, bzip2, xz), or all files in folders."""
    from twin.pipeline import ingest_files

    before = perf_counter()
    with progress(_notice) as report:
        ingested = ingest_files(_lake(home), paths, report=report)
    _write_ingested(ingested, perf_counter() - before, form)


@ingest.command("atlas")
@click.option(
    "--measurement",
    "-m",
    "measurements",
    multiple=True,
    required=True,
    type=click.IntRange(1, MOST_ID),
    help="Atlas measurement id.",
)
@click.option("--from", "start", type=_Time(), required=True, help="First moment (ISO 8601).")
@click.option("--to", "stop", type=_Time(), required=True, help="First moment no longer wanted.")
@click.option("--probe", "probes", multiple=True, type=click.IntRange(1, MOST_ID), help="Only this probe.")
@_answered_by
@_common
def ingest_atlas_command(
    measurements: tuple[int, ...],
    start: datetime,
    stop: datetime,
    probes: tuple[int, ...],
    server: str,
    certificate: Path | None,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Pull results through the Atlas API. Public measurements need no key; for others set QOETWIN_ATLAS_KEY."""
    from twin.pipeline import ingest_atlas

    if start >= stop:
        raise click.UsageError("--to must be later than --from")
    source = _source(server, certificate)
    before = perf_counter()
    with progress(_notice) as report:
        lake = _lake(home)
        ingested = ingest_atlas(lake, source, measurements, start, stop, probes=probes, report=report)
    _write_ingested(ingested, perf_counter() - before, form)


@cli.group()
def probes() -> None:
    """Probes and anchors: where they are, in which network and country."""


@probes.command("load")
@click.argument("file", type=click.Path(path_type=Path))
@_common
def probes_load_command(file: Path, home: Path | None, store: str, form: Format) -> None:
    """Read a list of probes: API objects (JSON) or CSV with prb_id, lat, lon, asn_v4, country …; plain or compressed."""
    from twin.pipeline import load_probes

    _write_probes(load_probes(_lake(home), file), form)


@probes.command("sync")
@_answered_by
@_common
def probes_sync_command(
    server: str,
    certificate: Path | None,
    home: Path | None,
    store: str,
    form: Format,
) -> None:
    """Ask the Atlas API about the probes that have measured here, and about all anchors."""
    from twin.pipeline import sync_probes

    lake = _lake(home, must_exist=True)
    with progress(_notice) as report:
        synced = sync_probes(lake, _source(server, certificate), report=report)
    _write_probes(synced, form)


@cli.group()
def graph() -> None:
    """The knowledge graph: build it, look at it."""


@graph.command("build")
@click.option(
    "--window",
    type=_Length(),
    default="3h",
    show_default=True,
    help="Length of a window, such as 30m, 3h, 1d.",
)
@_common
def graph_build_command(window: Any, home: Path | None, store: str, form: Format) -> None:
    """Lake -> layers: topology (NTKG), path states by window (NSKG), QoE by application (ASKG)."""
    from qoe.profile import load_profile
    from twin.pipeline import build_graph, summarise_lake

    lake = _lake(home, must_exist=True)
    before = perf_counter()
    with progress(_notice) as report:
        summary = summarise_lake(lake, window, report=report)  # before there is a graph that would stay empty
        with _open(home, store, create=True) as opened:
            built = build_graph(summary, opened, load_profile(), report=report)
            counts = opened.counts()
    if built.synthetic:
        _notice("note: this graph holds synthetic measurements of the testbed")
    click.echo(
        object_as_text(asdict(built) | counts | {"seconds": round(perf_counter() - before, 3)}, form),
        nl=False,
    )


@graph.command("show")
@click.argument("label", required=False)
@click.argument("key", required=False)
@click.option("--hops", type=click.IntRange(1, 4), default=1, show_default=True, help="How far to walk.")
@_common
def graph_show_command(
    label: str | None, key: str | None, hops: int, home: Path | None, store: str, form: Format
) -> None:
    """What the graph holds; or what is around one node, such as: graph show AtlasProbe 6217."""
    from kg.schema import NODE_TYPES, Datatype

    with _open(home, store, create=False) as opened:
        synthetic = opened.holds_synthetic()
        if label is None:
            rows: list[Row] = [
                {"what": what, "count": count, "synthetic": synthetic}
                for what, count in opened.counts().items()
            ]
            click.echo(as_text(rows, form), nl=False)
            return
        types = {node_type.label.lower(): node_type for node_type in NODE_TYPES}
        if label.lower() not in types or key is None:
            known = ", ".join(node_type.label for node_type in NODE_TYPES)
            raise click.UsageError(f"a node is named by its label and key; labels are {known}")
        node_type = types[label.lower()]
        whole = node_type.key.datatype is Datatype.INTEGER
        if whole and not (key.isdecimal() and int(key) <= MOST_ID):
            raise click.UsageError(f"the key of {node_type.label} is a whole number, not {key!r}")
        met = opened.neighbours(node_type, int(key) if whole else key, hops=hops)
    if not met:
        raise NotFoundError("the graph has no edge there", where=f"{node_type.label} {key}")
    click.echo(as_text([asdict(neighbour) | {"synthetic": synthetic} for neighbour in met], form), nl=False)


@cli.command("qoe")
@click.argument(
    "application", metavar="APPLICATION", type=click.Choice([*(one.value for one in Application), "all"])
)
@_filters
@click.option(
    "--group-by",
    type=click.Choice(["country", "asn", "probe", "target", "target-asn"]),
    help="A row for each.",
)
@click.option("--window", type=_Length(), help="Windows of this length, where the graph has several.")
@_common
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
    selection = _selection(**chosen, window=window)
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
    click.echo(as_text(rows, form, columns=columns), nl=False)


@cli.command("train")
@click.argument("model", metavar="MODEL")
@click.option("--protocol", required=True, help="Who is hidden from whom: forecast.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all randomness.")
@click.option("--window", type=_Length(), help="Windows of this length, where the graph has several.")
@_filters
@_common
def train_command(
    model: str,
    protocol: str,
    seed: int,
    window: timedelta | None,
    home: Path | None,
    store: str,
    form: Format,
    **chosen: Any,
) -> None:
    """Learn a model on the graph, next to every baseline, score it on windows that it has not seen, and save it.

    MODEL is sage, last-value or seasonal-median. A model of the same name and protocol is replaced.
    """
    from gnn.protocols import protocol_named
    from gnn.registry import predictor_class

    selection = _selection(**chosen, window=window)
    protocol_named(protocol)  # an unknown name is said before anything is read
    predictor_class(model)
    from twin.pipeline import train

    folder = _home(home) / "models" / f"{model}-{protocol}"
    with _open(home, store, create=False) as opened, progress(_notice) as report:
        trained = train(opened, model, protocol, folder, selection=selection, seed=seed, report=report)
    _write_trained(trained, form)


@cli.command("demo")
@_common
def demo_command(home: Path | None, store: str, form: Format) -> None:
    """The whole way on a synthetic Internet: measure, remember, learn, answer. Takes one to three minutes, needs no network."""
    from twin.demo import refuse_real_lake, run_demo

    folder = default_home() / "demo" if home is None else home
    lake = _lake(folder)
    refuse_real_lake(lake)  # before an empty graph is made beside it
    with _open(folder, store, create=True) as opened, progress(_notice) as report:
        demo = run_demo(lake, opened, folder / "models", report=report)
    from app.demo_page import count_rows, quality_rows, write_page
    from app.figures import figure_rows

    page = folder / "demo.html"
    write_page(demo, page, command=f"{sys.argv[0]} demo --home {folder}")
    if form is not Format.TABLE:
        click.echo(as_text(quality_rows(demo), form), nl=False)
        return
    counts: list[Row] = [
        {"step": step, "what": what, "count": count} for step, what, count in count_rows(demo)
    ]
    click.echo(as_text(counts, form, title="What each step read and wrote (synthetic)"))
    click.echo(
        as_text(
            quality_rows(demo), form, title="Quality of experience by application and country (synthetic)"
        )
    )
    click.echo(
        as_text(
            figure_rows(demo.trained.evaluation),
            form,
            title="The next window, forecast; SAGE beside its baselines (synthetic)",
        )
    )
    click.echo(f"{demo.trained.evaluation.conclusion}\n")
    click.echo(f"All of this, and a plot: {page}")
    click.echo(f"Ask on: {sys.argv[0]} qoe voip --group-by asn --home {folder}")


# What commands share


def _notice(text: str) -> None:
    click.echo(text, err=True)


def _write_ingested(ingested: Ingested, seconds: float, form: Format) -> None:
    """Say what landed; what failed is a line each, and then the whole has failed."""
    click.echo(
        object_as_text(asdict(ingested.landed) | {"seconds": round(seconds, 3)}, form, title="ingested"),
        nl=False,
    )
    for failure in ingested.failures:
        _notice(f"qoetwin: {failure.line()}")
    if ingested.failures:
        sys.exit(1)
    if ingested.landed.synthetic > 0:
        _notice(f"note: {ingested.landed.synthetic} of the results are synthetic")
    if ingested.landed.quarantined > 0:
        _notice(
            f"note: {ingested.landed.quarantined} records were not understood, and are kept in quarantine"
        )


def _write_probes(probes: Probes, form: Format) -> None:
    counts = {
        "read": probes.read,
        "refused": probes.refused,
        "without_position": probes.without_position,
        "without_as": probes.without_as,
        "bad_positions": probes.bad_positions,
        "synthetic": sum(probes.table["synthetic"].to_pylist()),
    }
    click.echo(object_as_text(counts, form, title="probes"), nl=False)
    if probes.refused > 0:
        _notice(f"note: no probes, and refused: {probes.refused} of the rows or objects")
    _notice("note: the graph knows of it after: qoetwin graph build")


def _write_trained(trained: Trained, form: Format) -> None:
    """The figures: an object in json, rows that carry what they are about in csv and ndjson, what matters in a table."""
    evaluation = trained.evaluation
    audit = evaluation.verdicts[trained.card.model]
    about: dict[str, Cell] = {
        "protocol": evaluation.protocol,
        "seed": evaluation.seed,
        "dataset_hash": trained.card.data_hash,
        "synthetic": evaluation.synthetic,
        "audit_passed": audit.passed,
    }
    if evaluation.synthetic:
        _notice(
            "note: learned and scored on synthetic measurements of the testbed; no figure is a claim of accuracy"
        )
    if form is Format.JSON:
        report = {
            **about,
            "audit": {"passed": audit.passed, "findings": [asdict(finding) for finding in audit.findings]},
            "conclusion": evaluation.conclusion,
            "model_folder": str(trained.folder),
            "rows": [row.as_json() for row in evaluation.rows],
        }
        click.echo(json.dumps(report, indent=2, allow_nan=False))
        return
    if form is Format.TABLE:
        from app.figures import figure_rows

        title = f"{evaluation.protocol}{' (synthetic)' if evaluation.synthetic else ''}"
        click.echo(as_text(figure_rows(evaluation), form, title=title), nl=False)
    else:
        click.echo(as_text([{**row.as_json(), **about} for row in evaluation.rows], form), nl=False)
    _notice(f"leakage audit: {'passed' if audit.passed else 'failed'}, {len(audit.windows)} windows")
    _notice(evaluation.conclusion)
    _notice(f"saved: {trained.folder}")


def _home(home: Path | None) -> Path:
    return default_home() if home is None else home


def _lake(home: Path | None, *, must_exist: bool = False) -> Lake:
    from ingest.lake import Lake

    folder = _home(home) / "lake"
    if must_exist and not folder.is_dir():
        raise EmptyError(
            "there is nothing in this home yet",
            where=str(_home(home)),
            next_step="ingest something first: qoetwin ingest files PATH",
        )
    return Lake(folder)


def _open(home: Path | None, store: str, *, create: bool) -> GraphStore:
    from kg.store import open_store

    return open_store(store, _home(home), create=create)


def _source(server: str, certificate: Path | None) -> AtlasSource:
    from ingest.atlas import AtlasSource

    return AtlasSource(
        server=server, verify=True if certificate is None else certificate, api_key=atlas_key()
    )
