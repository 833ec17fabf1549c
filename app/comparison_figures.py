"""The comparison's pictures: dot plots that are tables at the same time, and line charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from app.comparison_document import Breakdown, Curve, Document, Gain, HeadGain, Row, TargetName
from app.comparison_tables import Cell, Head
from app.comparison_words import (
    ERRORS,
    cases_of,
    figure,
    interval,
    legend,
    minute,
    probability,
    ratio,
    rough,
    rows_of,
    share,
    shown,
    signed,
    targets_of,
    title,
    verdict,
)
from app.figures import NOTHING
from app.svg import (
    WIDTH,
    Line,
    Mark,
    Scale,
    line_chart,
    linear_scale,
    log_scale,
    ratio_scale,
    strip,
    strip_axis,
)

FAR = 1.25
"""A baseline whose error is so many times the best one's is far from it."""

MOST_GROUPS = 12
"""Countries and networks are many: those with the most cells are drawn."""

FEW_CELLS = 30
"""A share of fewer cells than this is drawn pale."""

SPLIT_STYLES = 6
"""How many colours and dashes there are for splits; after them they begin again."""

_BOUNDS = {"raw": "before calibration", "calibrated": "after it"}
_NAMED = {"distance": "distance", "country": "country", "asn": "network (AS)"}
_IN_ORDER = {"hour": "hour of the day, UTC", "window": "window"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StripRow:
    """A row of a dot plot: a name, a strip a plot, and numbers; `strong` where the row is what others are set against."""

    name: Cell
    strips: tuple[Markup, ...]
    cells: tuple[Cell, ...]
    strong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Strips:
    """A dot plot whose rows are a table's.

    Attributes:
        first: what the rows are.
        plots: head and axis of each column of strips.
        heads: of the columns of numbers.
        ends: what it means to lie left or right, where it means something.
    """

    title: str
    first: str
    plots: tuple[tuple[str, Markup], ...]
    heads: tuple[Head, ...]
    rows: tuple[StripRow, ...]
    ends: tuple[str, str] | None = None
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A line chart with a title."""

    title: str
    svg: Markup
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Pictures with one legend, of (style, text) pairs."""

    title: str
    legend: tuple[tuple[str, str], ...]
    strips: tuple[Strips, ...] = ()
    charts: tuple[Chart, ...] = ()


# Against the best baseline, and against what sees the same without the graph.


def forests(document: Document) -> list[Strips]:
    """The main picture: every model's error as a ratio to the best baseline's, on each target in each case."""
    figures: list[Strips] = []
    for target in targets_of(document.rows):
        own = [row for row in document.rows if row.target == target]
        # A baseline that is far worse would press all others together: it is drawn at the end of the scale.
        near = [row for row in own if row.kind != "baseline" or (row.ratio is not None and row.ratio < FAR)]
        scale = _ratio_scale(near)
        figures += [
            _forest(document, target, case, scale) for case in cases_of(document, [row.case for row in own])
        ]
    return figures


def _ratio_scale(rows: Iterable[Row | Gain]) -> Scale:
    return ratio_scale([value for row in rows for value in (row.ratio, row.ratio_low, row.ratio_high)])


def _forest(document: Document, target: TargetName, case: str, scale: Scale) -> Strips:
    own = sorted(
        rows_of(document, target, case),
        key=lambda row: 1.0 if row.verdict == "reference" else math.inf if row.ratio is None else row.ratio,
    )
    reference = next((row.model for row in own if row.verdict == "reference"), None)
    against = "no best baseline was chosen" if reference is None else f"best baseline: {reference}"
    return Strips(
        title=title(document, target, case),
        says=f"{ERRORS[target]}; {against}",
        first="model",
        plots=(("", strip_axis(scale)),),
        heads=(Head(text="ratio", unit="95 % interval", words=True),),
        ends=("better", "worse"),
        rows=tuple(
            StripRow(
                name=Cell(text=row.model, kind=row.kind),
                strips=(_ratio_strip(row, row.kind, scale),),
                cells=(_ratio_cell(row),),
                strong=row.verdict == "reference",
            )
            for row in own
        ),
    )


def _ratio_strip(row: Row | Gain, style: str, scale: Scale) -> Markup:
    if row.verdict == "reference":
        return strip([Mark(value=1.0, style=style, says=f"{row.model}: best baseline")], scale, level=1.0)
    if row.ratio is None:
        return strip([], scale, level=1.0)
    says = f"{row.model}: {ratio(row.ratio)} ({interval(row.ratio_low, row.ratio_high, ratio)})"
    mark = Mark(value=row.ratio, style=style, low=row.ratio_low, high=row.ratio_high, says=says)
    return strip([mark], scale, level=1.0)


def _ratio_cell(row: Row | Gain) -> Cell:
    if row.ratio is None or row.verdict == "reference":
        return Cell(text=verdict(row))
    return Cell(
        text=f"{ratio(row.ratio)} {verdict(row)}",
        best=row.verdict == "better",
        under=interval(row.ratio_low, row.ratio_high, ratio).replace(NOTHING, ""),
        why=row.verdict_why,
    )


def head_figures(document: Document) -> list[Strips]:
    """A plain head, and one without a residual, each beside the pointer head of the same model on the same cells; of RTT."""
    own = [gain for gain in document.heads if gain.target == "rtt"]
    kinds: dict[str, str] = {row.model: row.kind for row in document.rows}
    scale = _ratio_scale(own)
    return [
        _head_strips(title(document, "rtt", case), [gain for gain in own if gain.case == case], kinds, scale)
        for case in cases_of(document, [gain.case for gain in own])
    ]


def _head_strips(name: str, gains: Sequence[HeadGain], kinds: Mapping[str, str], scale: Scale) -> Strips:
    first = gains[0]
    counts = (
        f"{first.cells:,} cells, {first.clusters:,} clusters, splits: {first.splits}, seeds: {first.seeds}"
    )
    rows = [
        _ratio_row(
            gain,
            Cell(text=gain.over, kind=kinds.get(gain.over, ""), under=_head(gain)),
            Cell(text=figure(gain.error), under=figure(gain.error_over)),
            scale,
        )
        for gain in gains
    ]
    return _ratio_strips(
        name, f"{ERRORS['rtt']}; {counts}", Head(text="error", unit="ms; with the pointer head"), rows, scale
    )


def _head(gain: HeadGain) -> str:
    name = gain.model.removeprefix(gain.over)
    return name if gain.stated is None else f"{name}: {gain.stated}"


def gain_figures(document: Document) -> list[Strips]:
    """What the graph adds: graph models against the MLP, and against boosting."""
    kinds: dict[str, str] = {row.model: row.kind for row in document.rows}
    figures: list[Strips] = []
    for target in targets_of(document.gains):
        own = [gain for gain in document.gains if gain.target == target]
        scale = _ratio_scale(own)
        figures += [
            _gain_strips(
                f"{title(document, target, case)}, over {over}",
                [gain for gain in own if gain.case == case and gain.over == over],
                kinds,
                scale,
            )
            for case in cases_of(document, [gain.case for gain in own])
            for over in dict.fromkeys(gain.over for gain in own if gain.case == case)
        ]
    return figures


def _gain_strips(name: str, gains: Sequence[Gain], kinds: Mapping[str, str], scale: Scale) -> Strips:
    rows = [
        _ratio_row(
            gain,
            Cell(text=gain.model, kind=kinds.get(gain.model, "")),
            Cell(
                text=signed(gain.difference),
                under=interval(gain.ci_low, gain.ci_high, rough).replace(NOTHING, ""),
            ),
            scale,
        )
        for gain in sorted(gains, key=_by_ratio)
    ]
    return _ratio_strips(
        name, ERRORS[gains[0].target], Head(text="difference", unit="95 % interval"), rows, scale
    )


def _ratio_row(gain: Gain, name: Cell, beside: Cell, scale: Scale) -> StripRow:
    return StripRow(
        name=name,
        strips=(_ratio_strip(gain, name.kind or "other", scale),),
        cells=(_ratio_cell(gain), beside, Cell(text=probability(gain.p_holm))),
    )


def _ratio_strips(name: str, says: str, beside: Head, rows: Sequence[StripRow], scale: Scale) -> Strips:
    """Ratios on one axis, each with a figure beside it."""
    return Strips(
        title=name,
        says=says,
        first="model",
        plots=(("", strip_axis(scale)),),
        heads=(Head(text="ratio", unit="95 % interval", words=True), beside, Head(text="p", unit="Holm")),
        ends=("better", "worse"),
        rows=tuple(rows),
    )


def _by_ratio(gain: Gain) -> float:
    return math.inf if gain.ratio is None else gain.ratio


# Intervals: how often they hold the truth, and how wide they are.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Intervals:
    """Coverage and width of one model, in one row of a figure."""

    model: str
    kind: str
    coverage: float | None
    width_ms: float | None


def interval_figures(document: Document) -> list[Strips]:
    """Coverage and width of every model's 90 % interval."""
    figures: list[Strips] = []
    for target in targets_of(document.rows):
        for case in cases_of(document, [row.case for row in document.rows if row.target == target]):
            own = [row for row in rows_of(document, target, case) if row.coverage_90 is not None]
            rows = [
                (
                    Cell(text=row.model, kind=row.kind),
                    [
                        _Intervals(
                            model=row.model, kind=row.kind, coverage=row.coverage_90, width_ms=row.width_90_ms
                        )
                    ],
                    (
                        Cell(
                            text=_percent(row.coverage_90),
                            under=_percent(row.coverage_90_least_decile).replace(NOTHING, ""),
                        ),
                        Cell(
                            text=figure(row.width_90_ms),
                            under=""
                            if row.width_against_best is None
                            else f"{ratio(row.width_against_best)} ×",
                        ),
                    ),
                )
                for row in own
            ]
            least = any(row.coverage_90_least_decile is not None for row in own)
            heads = (
                Head(text="covered", unit="%; least decile" if least else "%"),
                Head(text="width", unit="ms; × best baseline's"),
            )
            if rows:
                figures.append(_interval_strips(title(document, target, case), "model", rows, heads))
    return figures


def decile_groups(document: Document) -> list[Group]:
    """The same by decile of what was predicted: an interval that is right on average may be wrong where it matters."""
    parts = [part for part in document.breakdowns if part.by == "decile" and part.coverage_90 is not None]
    groups: list[Group] = []
    for target in targets_of(parts):
        there = [part for part in parts if part.target == target]
        for case in cases_of(document, [part.case for part in there]):
            own = [part for part in there if part.case == case]
            models = shown(document, target, case, [part.model for part in own])
            if models:
                figures = (_group_intervals("", "decile", own, models),)
                groups.append(
                    Group(title=title(document, target, case), legend=legend(models), strips=figures)
                )
    return groups


def interval_groups(document: Document) -> list[Group]:
    """The same by distance, country, network, hour and window, of one model of each kind."""
    parts = [part for part in document.breakdowns if part.by != "decile" and part.coverage_90 is not None]
    groups: list[Group] = []
    for target in targets_of(parts):
        there = [part for part in parts if part.target == target]
        for case in cases_of(document, [part.case for part in there]):
            own = [part for part in there if part.case == case]
            models = shown(document, target, case, [part.model for part in own])
            if not models:
                continue
            by = {kind: [part for part in own if part.by == kind] for kind in (*_NAMED, *_IN_ORDER)}
            groups.append(
                Group(
                    title=title(document, target, case),
                    legend=legend(models),
                    strips=tuple(
                        _group_intervals(f"By {says}", says, by[kind], models)
                        for kind, says in _NAMED.items()
                        if by[kind]
                    ),
                    charts=tuple(
                        chart
                        for kind, says in _IN_ORDER.items()
                        if by[kind]
                        for chart in _interval_charts(says, by[kind], models)
                    ),
                )
            )
    return groups


def _interval_charts(by: str, parts: Sequence[Breakdown], models: Sequence[Row]) -> tuple[Chart, Chart]:
    """Coverage, with a line at what was promised, and width."""
    covered = {(part.group, part.model): part.coverage_90 for part in parts}
    width = {(part.group, part.model): part.width_90_ms for part in parts}
    names = list(dict.fromkeys(part.group for part in parts))
    coverages = linear_scale(
        [0.85, 0.95, *(covered.get((name, row.model)) for name in names for row in models)]
    )
    widths = linear_scale([0.0, *(width.get((name, row.model)) for name in names for row in models)])
    return (
        _ordered_chart(f"Coverage by {by}", by, "covered", coverages, (names, covered, models), level=0.9),
        _ordered_chart(f"Width by {by}", by, "width, ms", widths, (names, width, models)),
    )


def _group_intervals(name: str, first: str, parts: Sequence[Breakdown], models: Sequence[Row]) -> Strips:
    place = {(part.group, part.model): part for part in parts}
    cells = _cells_of(parts)
    names = list(dict.fromkeys(part.group for part in parts)) if first == "decile" else _most(cells, first)
    rows = []
    for group in names:
        found = [(row, place[group, row.model]) for row in models if (group, row.model) in place]
        rows.append(
            (
                Cell(text=group, under="" if first == "decile" else f"{cells[group]:,} cells"),
                [
                    _Intervals(
                        model=row.model, kind=row.kind, coverage=part.coverage_90, width_ms=part.width_90_ms
                    )
                    for row, part in found
                ],
                tuple(
                    Cell(
                        text=_percent(place[group, row.model].coverage_90),
                        under=figure(place[group, row.model].width_90_ms),
                    )
                    if (group, row.model) in place
                    else Cell(text=NOTHING)
                    for row in models
                ),
            )
        )
    heads = tuple(Head(text=row.model, unit="%; ms", kind=row.kind) for row in models)
    return replace(_interval_strips(name, first, rows, heads), says=_of_how_many(names, cells))


def _percent(value: float | None) -> str:
    return share(value).removesuffix("\u00a0%")


def _interval_strips(
    name: str,
    first: str,
    rows: Sequence[tuple[Cell, Sequence[_Intervals], tuple[Cell, ...]]],
    heads: tuple[Head, ...],
) -> Strips:
    """Two strips a row: coverage with a line at what was promised, and width."""
    every = [one for _, parts, _ in rows for one in parts]
    coverage = linear_scale([0.85, 0.95, *(one.coverage for one in every)], most_ticks=3)
    percent = replace(coverage, ticks=tuple((value, f"{100.0 * value:.4g}") for value, _ in coverage.ticks))
    width = log_scale([one.width_ms for one in every])
    return Strips(
        title=name,
        first=first,
        plots=(("covered, %", strip_axis(percent)), ("width, ms", strip_axis(width))),
        heads=heads,
        rows=tuple(
            StripRow(
                name=head,
                strips=(
                    strip(
                        [
                            Mark(
                                value=one.coverage, style=one.kind, says=f"{one.model}: {share(one.coverage)}"
                            )
                            for one in parts
                            if one.coverage is not None
                        ],
                        coverage,
                        level=0.9,
                    ),
                    strip(
                        [
                            Mark(
                                value=one.width_ms,
                                style=one.kind,
                                says=f"{one.model}: {figure(one.width_ms)} ms",
                            )
                            for one in parts
                            if one.width_ms is not None
                        ],
                        width,
                    ),
                ),
                cells=cells,
            )
            for head, parts, cells in rows
        ),
    )


# Calibration: what was said against what came.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a model said, and what came; `pale` are the points of few cells."""

    model: str
    said: Sequence[float | None]
    came: Sequence[float | None]
    pale: frozenset[int] = frozenset()


def quantile_groups(document: Document) -> list[Group]:
    """Whether as many cells lie at or below a quantile of the RTT as its level says, before calibration and after it."""
    groups: list[Group] = []
    for case in cases_of(document, [one.case for one in document.quantiles]):
        for of, says in _BOUNDS.items():
            told = [
                _Told(model=one.model, said=one.nominal, came=one.observed)
                for one in document.quantiles
                if (one.case, one.of) == (case, of)
            ]
            if told:
                axes = ("level of the quantile", "share of cells at or below it")
                drawn = _calibration(document, "rtt", case, told, axes, linear_scale([0.0, 1.0]))
                groups.append(replace(drawn, title=f"{drawn.title}, {says}"))
    return groups


def reliability_groups(document: Document) -> list[Group]:
    """Whether what is given a probability comes as often as that."""
    groups: list[Group] = []
    for target in targets_of(document.reliability):
        there = [one for one in document.reliability if one.target == target]
        for case in cases_of(document, [one.case for one in there]):
            told = [
                _Told(
                    model=one.model,
                    said=one.predicted,
                    came=one.observed,
                    pale=frozenset(index for index, cells in enumerate(one.cells) if cells < FEW_CELLS),
                )
                for one in there
                if one.case == case
            ]
            scale = linear_scale([0.0, *(value for one in told for value in (*one.said, *one.came))])
            axes = ("predicted probability", "observed share")
            groups.append(_calibration(document, target, case, told, axes, scale))
    return groups


def _calibration(
    document: Document,
    target: TargetName,
    case: str,
    told: Sequence[_Told],
    axes: tuple[str, str],
    scale: Scale,
) -> Group:
    """One model of each kind in front, the others thin and grey behind them."""
    there = {row.model for row in rows_of(document, target, case)}
    told = [one for one in told if one.model in there]
    front = shown(document, target, case, there & {one.model for one in told})
    styles: dict[str, str] = {row.model: row.kind for row in front}
    lines = [
        Line(
            style=styles.get(one.model, "other"),
            x=one.said,
            y=one.came,
            marked=one.model in styles,
            pale=one.pale,
            says=one.model,
        )
        for one in sorted(told, key=lambda one: one.model in styles)
    ]
    name = title(document, target, case)
    svg = line_chart(
        lines,
        x=scale,
        y=scale,
        says=f"{name}: {axes[1]} against {axes[0]}",
        x_says=axes[0],
        y_says=axes[1],
        diagonal=True,
        height=300,
    )
    others = len({one.model for one in told} - set(styles))
    rest = (("other", f"{others} more"),) if others > 0 else ()
    return Group(title=name, legend=(*legend(front), *rest), charts=(Chart(title="", svg=svg),))


# Where the errors are.


def breakdown_groups(document: Document) -> list[Group]:
    """The error by distance, country, network, hour and window, of one model of each kind."""
    parts = [part for part in document.breakdowns if part.by != "decile" and part.mae_ms is not None]
    groups: list[Group] = []
    for target in targets_of(parts):
        there = [part for part in parts if part.target == target]
        for case in cases_of(document, [part.case for part in there]):
            own = [part for part in there if part.case == case]
            models = shown(document, target, case, [part.model for part in own])
            if models:
                groups.append(
                    Group(
                        title=title(document, target, case),
                        legend=legend(models),
                        strips=tuple(
                            _breakdown_strips(says, [part for part in own if part.by == by], models)
                            for by, says in _NAMED.items()
                            if any(part.by == by for part in own)
                        ),
                        charts=tuple(
                            _breakdown_chart(says, [part for part in own if part.by == by], models)
                            for by, says in _IN_ORDER.items()
                            if any(part.by == by for part in own)
                        ),
                    )
                )
    return groups


def _cells_of(parts: Sequence[Breakdown]) -> dict[str, int]:
    """Cells of each group; of models that differ in how many they predict, the most."""
    cells: dict[str, int] = {}
    for part in parts:
        cells[part.group] = max(part.cells, cells.get(part.group, 0))
    return cells


def _most(cells: Mapping[str, int], by: str) -> list[str]:
    """The groups that are drawn: those with the most cells first, but distances have an order of their own."""
    names = list(cells) if by == _NAMED["distance"] else sorted(cells, key=lambda name: -cells[name])
    return names[:MOST_GROUPS]


def _of_how_many(names: Sequence[str], cells: Mapping[str, int]) -> str:
    return f"the {len(names)} of {len(cells)} with the most cells" if len(names) < len(cells) else ""


def _breakdown_strips(by: str, parts: Sequence[Breakdown], models: Sequence[Row]) -> Strips:
    cells = _cells_of(parts)
    names = _most(cells, by)
    points = {(part.group, part.model): part.qoe_mae_points for part in parts}
    in_points = any(value is not None for value in points.values())
    error = {(part.group, part.model): part.mae_ms for part in parts}
    scale = linear_scale(
        [0.0, *(error.get((name, row.model)) for name in names for row in models)], most_ticks=3
    )
    return Strips(
        title=f"By {by}",
        says=_of_how_many(names, cells),
        first=by,
        plots=(("MAE, ms", strip_axis(scale)),),
        heads=tuple(
            Head(text=row.model, unit="ms; QoE" if in_points else "ms", kind=row.kind) for row in models
        ),
        rows=tuple(
            StripRow(
                name=Cell(text=name, under=f"{cells[name]:,} cells"),
                strips=(
                    strip(
                        [
                            Mark(value=value, style=row.kind, says=f"{row.model}: {figure(value)} ms")
                            for row in models
                            for value in [error.get((name, row.model))]
                            if value is not None
                        ],
                        scale,
                    ),
                ),
                cells=tuple(
                    Cell(
                        text=figure(error.get((name, row.model))),
                        under=figure(points.get((name, row.model))) if in_points else "",
                    )
                    for row in models
                ),
            )
            for name in names
        ),
    )


def _breakdown_chart(by: str, parts: Sequence[Breakdown], models: Sequence[Row]) -> Chart:
    names = list(dict.fromkeys(part.group for part in parts))
    error = {(part.group, part.model): part.mae_ms for part in parts}
    scale = linear_scale([0.0, *(error.get((name, row.model)) for name in names for row in models)])
    return _ordered_chart(f"By {by}", by, "MAE, ms", scale, (names, error, models))


def _ordered_chart(
    name: str,
    by: str,
    what: str,
    scale: Scale,
    of: tuple[Sequence[str], Mapping[tuple[str, str], float | None], Sequence[Row]],
    *,
    level: float | None = None,
) -> Chart:
    """A line a model over groups in their order.

    Args:
        name: title.
        by: what the groups are.
        what: is drawn.
        scale: of it.
        of: names of the groups, the value of each group and model, and the models.
        level: a value that is marked.
    """
    names, values, models = of
    lines = [
        Line(
            style=row.kind,
            x=range(len(names)),
            y=[values.get((group, row.model)) for group in names],
            marked=len(names) <= 24,
            says=row.model,
        )
        for row in models
    ]
    svg = line_chart(
        lines,
        x=_indices(len(names)),
        y=scale,
        says=f"{what} by {by}",
        x_says=by,
        y_says=what,
        names=[_short_time(group) for group in names],
        level=level,
    )
    return Chart(title=name, svg=svg)


def _short_time(name: str) -> str:
    """A window's start without its year; what is none stays as it is.

    >>> _short_time("2019-05-12T00:00Z"), _short_time("03")
    ('05-12 00:00', '03')
    """
    told = minute(name)
    return told if told == name else told[5:].removesuffix(" UTC")


def _indices(count: int) -> Scale:
    """Places 0, 1, 2 … with half a place of room at both ends."""
    return Scale(low=-0.5, high=count - 0.5, ticks=())


# Learning.


def curve_group(document: Document) -> Group | None:
    """Validation loss by epoch, a chart a model; a split has the same line in all of them."""
    if not document.curves:
        return None
    splits = list(dict.fromkeys(curve.split for curve in document.curves))
    styles = {split: f"split-{index % SPLIT_STYLES}" for index, split in enumerate(splits)}
    models = dict.fromkeys([row.model for row in document.rows] + [curve.model for curve in document.curves])
    return Group(
        title="",
        legend=(*((styles[split], minute(split)) for split in splits), ("best", "epoch that was kept")),
        charts=tuple(
            _curve_chart(model, own, styles)
            for model in models
            if (own := [curve for curve in document.curves if curve.model == model])
        ),
    )


def _curve_chart(model: str, curves: Sequence[Curve], styles: dict[str, str]) -> Chart:
    losses = [loss for curve in curves for loss in curve.validation if loss is not None]
    longest = max(len(curve.validation) for curve in curves)
    steep = bool(losses) and min(losses) > 0.0 and max(losses) > 10.0 * min(losses)
    every = max(1, math.ceil(longest / WIDTH))  # no more points than a chart is wide
    lines = [
        Line(
            style=styles[curve.split],
            x=range(1, len(curve.validation) + 1, every),
            y=curve.validation[::every],
            marked=False,
            says=f"{minute(curve.split)}, seed {curve.seed}",
        )
        for curve in curves
    ]
    kept = [
        (curve.best_epoch, curve.validation[curve.best_epoch - 1])
        for curve in curves
        if curve.best_epoch is not None and 1 <= curve.best_epoch <= len(curve.validation)
    ]
    lines.append(
        Line(style="best", x=[epoch for epoch, _ in kept], y=[loss for _, loss in kept], joined=False)
    )
    svg = line_chart(
        lines,
        x=linear_scale([0.0, float(longest)]),
        y=log_scale(losses) if steep else linear_scale(losses),
        says=f"{model}: validation loss by epoch",
        x_says="epoch",
        y_says="validation loss, logarithmic" if steep else "validation loss",
    )
    return Chart(title=model, svg=svg)
