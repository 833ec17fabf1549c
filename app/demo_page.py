"""The demo as one HTML page that works offline, and as tables for a terminal. Both show the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from app.figures import NOTHING, figure_rows
from app.output import Row
from domain.application import Application
from domain.number import many
from kg.schema import MEASURES
from twin.demo import SEED, WINDOW, Demo
from twin.qoe import Answer

# Okabe and Ito's palette: told apart by colour-blind people, and in this order by lightness too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def count_rows(demo: Demo) -> list[tuple[str, str, int]]:
    """What each step read or wrote: step, what, how many."""
    landed = demo.ingested.landed
    return [
        ("measure", "measurements of the synthetic Atlas", demo.measurements),
        ("measure", "results read through its API", landed.results_read),
        ("land", "observations new in the lake", landed.observations),
        ("land", "duplicates", landed.duplicates),
        ("land", "records in quarantine", landed.quarantined),
        ("land", "probes and anchors", demo.counts["AtlasProbe"]),
        ("build topology (NTKG)", "addresses", demo.counts["IP"]),
        ("build topology (NTKG)", "adjacent hops", demo.counts["IP NEXT_HOP IP"]),
        ("build state (NSKG)", "paths (probe, target, family)", demo.counts[MEASURES.table]),
        ("build state (NSKG)", "path states by window", demo.built.states),
        ("build applications (ASKG)", "scores", demo.built.scores),
        ("build applications (ASKG)", "scores unknown, with a reason", demo.built.unknown_scores),
        ("export", "windows, a PyTorch Geometric graph each", demo.trained.exported.windows),
        ("export", "nodes of the first tested one: paths", demo.trained.exported.nodes),
        (
            "export",
            "its edges: paths that share a host, network or country, or are near",
            sum(demo.trained.exported.edges.values()),
        ),
    ]


def quality_rows(demo: Demo) -> list[Row]:
    """Application x country: score, paths, limiting metric."""
    return [
        {
            "application": str(answer.application),
            "country": _country(answer),
            "score": answer.score,
            "paths": answer.paths,
            "limiting_metric": answer.limiting_metric,
            "synthetic": answer.synthetic,
        }
        for answer in demo.answers
    ]


def write_page(demo: Demo, path: Path, *, command: str) -> None:
    """Write the page.

    Args:
        demo: what it shows.
        path: where.
        command: what makes it again.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("app"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    document = demo.trained.document
    rows = figure_rows(document)
    page = environment.get_template(
        "demo.html"
    ).render(
        span=f"{demo.built.windows_from:%d %b %Y} to {demo.built.windows_until:%d %b %Y} UTC",
        window=f"{WINDOW.total_seconds() / 3600:g} h",
        profile=next(answer.profile for answer in demo.answers if answer.profile is not None),
        counts=count_rows(demo),
        applications=[str(application) for application in Application],
        quality=_matrix(demo.answers),
        happenings=demo.happenings,
        plot=Markup(_plot(demo)),  # noqa: S704  # made by plotly from numbers and our own words
        conclusion=document["conclusion"],
        audit=f"{'passed' if document['audit']['passed'] else 'failed'}, {many(document['audit']['windows'], 'window')} perturbed",
        figures=[name for name in rows[0] if name != "kind"],
        models=[row | {"is_model": row["kind"] != "baseline"} for row in rows],
        seed=SEED,
        data_hash=demo.trained.card.data_hash[:12],
        version=version("qoetwin"),
        command=command,
    )
    path.write_text(page, encoding="utf-8")


def _matrix(answers: Sequence[Answer]) -> list[dict[str, object]]:
    """A row a country, a cell an application."""
    by_country: dict[str, dict[Application, Answer]] = {}
    for answer in answers:
        by_country.setdefault(_country(answer), {})[answer.application] = answer
    return [
        {
            "country": country,
            "paths": cells[Application.WEB].paths,
            "cells": [
                {
                    "score": NOTHING if cells[a].score is None else f"{cells[a].score:.1f}",
                    "limit": cells[a].limiting_metric or "",
                    "colour": _shade(cells[a].score),
                }
                for a in Application
            ],
        }
        for country, cells in by_country.items()
    ]


def _country(answer: Answer) -> str:
    return "unknown" if answer.group is None else str(answer.group)


def _shade(score: float | None) -> str:
    """From white (100) to a strong blue (50 and below): one hue, told by lightness."""
    if score is None:
        return "#ffffff"
    depth = min(1.0, (100.0 - score) / 50.0)
    return f"rgba(0, 114, 178, {0.55 * depth:.2f})"


def _plot(demo: Demo) -> str:
    """Score by application over time, with what happened marked."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for application, colour, dash in zip(Application, _COLOURS, _DASHES, strict=True):
        own = [a for a in demo.over_time if a.application is application and a.score is not None]
        figure.add_scatter(
            x=[answer.window_start for answer in own],
            y=[answer.score for answer in own],
            name=str(application),
            line={"color": colour, "dash": dash},
            hovertemplate="%{y:.1f}",
        )
    for happening in demo.happenings:
        figure.add_vrect(
            x0=happening.start,
            x1=happening.end,
            fillcolor="#000",
            opacity=0.07,
            line_width=0,
            annotation_text=happening.what,
            annotation_position="top left",
        )
    figure.update_layout(
        template="plotly_white",
        height=420,
        margin={"l": 55, "r": 10, "t": 30, "b": 40},
        hovermode="x unified",
        legend={"orientation": "h", "y": -0.15},
        yaxis={"title": "score (synthetic)"},
    )
    html: str = figure.to_html(
        full_html=False, include_plotlyjs="inline", config={"displaylogo": False, "responsive": True}
    )
    return html
