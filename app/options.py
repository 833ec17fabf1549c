"""What the options of the command line are: their types, and those that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from app.output import Format
from app.settings import HOME_VARIABLE, STORE_VARIABLE
from domain.errors import InputError
from domain.selection import Area, Selection
from domain.window import parse_duration, parse_length, parse_time

MOST_ID = 2**53 - 1
"""More than Atlas will number, and exact in every format."""

Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value")


class Time(click.ParamType[datetime]):
    """Option type time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """See `click.ParamType.convert`."""
        return value if isinstance(value, datetime) else _or_usage(self, parse_time, value, param, ctx)


class Length(click.ParamType[timedelta]):
    """Option type length: of a window, or of any time (`of_any`)."""

    name = "length"

    def __init__(self, *, of_any: bool = False) -> None:
        self._parse = parse_duration if of_any else parse_length

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """See `click.ParamType.convert`."""
        return value if isinstance(value, timedelta) else _or_usage(self, self._parse, value, param, ctx)


class AreaType(click.ParamType[Area]):
    """Option type lat,lon,km."""

    name = "lat,lon,km"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Area:
        """See `click.ParamType.convert`."""
        try:
            latitude, longitude, radius_km = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not LAT,LON,KM, such as 33.9,35.5,100", param, ctx)
        if not (-90 <= latitude <= 90 and -180 <= longitude <= 180 and 0 < radius_km < float("inf")):
            self.fail(f"{value!r} is no place on Earth with a radius in km", param, ctx)
        return Area(latitude=latitude, longitude=longitude, radius_km=radius_km)


class Address(click.ParamType[str]):
    """Option type address."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType.convert`."""
        from ipaddress import ip_address

        from domain.observation import NODE

        number = value.removeprefix(NODE)
        if number != value and number.isdecimal():
            return f"{NODE}{int(number)}"
        try:
            return ip_address(value).compressed
        except ValueError:
            self.fail(f"{value!r} is not an IP address, nor {NODE} and an id", param, ctx)


class Asn(click.ParamType[int]):
    """Option type asn."""

    name = "asn"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.ParamType.convert`."""
        digits = str(value).upper().removeprefix("AS")
        if not (digits.isdecimal() and 0 < int(digits) < 2**32):
            self.fail(f"{value!r} is not an AS number", param, ctx)
        return int(digits)


class Prefix(click.ParamType[str]):
    """Option type prefix."""

    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType.convert`."""
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


def common(command: Command) -> Command:
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


def filters(command: Command) -> Command:
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
            click.option("--target", "targets", multiple=True, type=Address(), help="To this address."),
            click.option(
                "--asn",
                "asns",
                multiple=True,
                type=Asn(),
                help="From a probe in this AS.",
            ),
            click.option(
                "--target-asn",
                "target_asns",
                multiple=True,
                type=Asn(),
                help="To this AS.",
            ),
            click.option(
                "--country",
                "countries",
                multiple=True,
                help="From a probe in this country (ISO 3166-1 alpha-2).",
            ),
            click.option("--area", type=AreaType(), help="From a probe within KM of a place."),
            click.option(
                "--prefix",
                "prefixes",
                multiple=True,
                type=Prefix(),
                help="From a probe with an address in it.",
            ),
            click.option("--af", type=click.Choice(["4", "6"]), help="Over this address family."),
            click.option(
                "--at",
                type=Time(),
                help="In the windows that hold this time (ISO 8601; UTC unless it says).",
            ),
            click.option("--from", "start", type=Time(), help="In windows that begin at this time or later."),
            click.option("--to", "end", type=Time(), help="In windows that begin before this time."),
        )
    ):
        command = option(command)
    return command


def answered_by(command: Command) -> Command:
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


def selection(*, window: timedelta | None, **chosen: Any) -> Selection:
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
