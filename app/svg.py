"""Small charts as inline SVG: no script and no file beside the page, the same on a screen, on a phone and on paper.

Two kinds. A *strip* is one row of a dot plot: it stands in a table's cell, as wide as that cell, with places in percent, so
that names and numbers stay text of the table. A *line chart* has a size of its own, which fits a phone. What shape and colour
a mark has is a style sheet's and `MARKERS`' business, by the name of its style: never colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 340, 214
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 22, 36
_LETTER = 6.0
"""Width of a letter in an axis, about."""

_NEAR = 0.22
"""Labels of a strip's axis are at least this far apart, as a share of it."""

_NOTHING = 1e-9
"""A logarithmic scale would go down for ever: what is not larger than this lies before its beginning."""

MARKERS = Markup(
    '<svg class="hidden" width="0" height="0" aria-hidden="true" focusable="false"><defs>'
    '<g id="m-baseline"><circle r="4" class="hollow"/></g>'
    '<g id="m-gnn"><path d="M0-5.6 5.6 0 0 5.6-5.6 0Z"/></g>'
    '<g id="m-mlp"><rect x="-4.2" y="-4.2" width="8.4" height="8.4"/></g>'
    '<g id="m-ensemble"><path d="M0-5.6 5.4 4.2H-5.4Z"/></g>'
    '<g id="m-other"><circle r="3.4"/></g>'
    '<g id="m-best"><circle r="2.6"/></g>'
    '<g id="m-beyond"><path d="M-7-4.5 1 0-7 4.5Z"/></g>'
    '<g id="m-before"><path d="M7-4.5-1 0 7 4.5Z"/></g>'
    "</defs></svg>"
)
"""Shapes of the marks, once a page. `beyond` and `before` say that a mark lies outside its scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values to places.

    Attributes:
        low, high: the values at its ends.
        ticks: (value, label), within them.
        logarithmic: equal ratios are equally far apart.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high end, and beyond these what is outside.

        >>> ratio_scale([0.5, 2.0]).place(1.0)
        0.5
        """
        low, high = self.low, self.high
        if self.logarithmic:
            if value <= 0.0:
                return -1.0
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A value on a strip, with its interval if it has one; `says` is what pointing at it shows."""

    value: float
    style: str
    low: float | None = None
    high: float | None = None
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points joined in order; a None breaks the line.

    Attributes:
        style: of the line, and the shape of its marks.
        x, y: as many of each.
        joined: a line from point to point.
        marked: a mark at each point.
        pale: points (by index) that say little.
        says: what pointing at it shows.
    """

    style: str
    x: Sequence[float | None]
    y: Sequence[float | None]
    joined: bool = True
    marked: bool = True
    pale: frozenset[int] = frozenset()
    says: str = ""


def linear_scale(values: Iterable[float | None], *, most_ticks: int = 5) -> Scale:
    """A scale with round ends that holds all values; add 0 to them where lengths are compared.

    >>> [label for _, label in linear_scale([0.0, 9.1]).ticks]
    ['0', '2', '4', '6', '8', '10']
    """
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):  # all the same: some room around it
        room = max(abs(high) * 0.1, 1e-9)
        low, high = low - room, high + room
    step = _round_step((high - low) / most_ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple((index * step, _label(index * step, step)) for index in range(first, last + 1))
    return Scale(low=first * step, high=last * step, ticks=ticks)


def log_scale(values: Iterable[float | None]) -> Scale:
    """A logarithmic scale that holds all values above nearly nothing.

    It has ticks at 1, 2 and 5 of each power of ten as far as they fit, and round ones where there is none or one of these.
    """
    known = [value for value in values if value is not None and value > _NOTHING]
    low, high = _apart(min(known, default=0.1), max(known, default=1.0))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    coarse = _with_ticks(low, high, [step * 10.0**power for step in (1, 2, 5) for power in powers])
    if len(coarse.ticks) > 1:
        return coarse
    return _with_ticks(low, high, [value for value, _ in linear_scale([low, high]).ticks])


def ratio_scale(values: Iterable[float | None], *, most: float = 4.0) -> Scale:
    """A logarithmic scale around 1, from at least 1/`most` to `most`: what lies outside is drawn at its end."""
    known = [value for value in values if value is not None and value > 0.0]
    low = max(min([*known, 0.97]), 1.0 / most)
    high = min(max([*known, 1.03]), most)
    steps = (1.0, 0.5, 2.0, 0.25, 4.0, 0.8, 1.25, 0.7, 1.5, 0.9, 1.1, 3.0, 0.95, 1.05, 0.6, 0.98, 1.02)
    return _with_ticks(low, high, steps)


def strip_axis(scale: Scale) -> Markup:
    """The labels of a strip's scale, for the head of its column."""
    labels = Markup("").join(
        Markup('<text x="{}%" y="11">{}</text>').format(_percent(scale.place(value)), label)
        for value, label in scale.ticks
    )
    return Markup('<svg class="axis" width="100%" height="14" aria-hidden="true">{}</svg>').format(labels)


def strip(marks: Sequence[Mark], scale: Scale, *, level: float | None = None) -> Markup:
    """One row of a dot plot.

    Args:
        marks: drawn in this order.
        scale: of the whole column.
        level: a value that is marked by a line through all rows.
    """
    parts = [_upright(scale.place(value), "grid") for value, _ in scale.ticks]
    if level is not None and scale.low <= level <= scale.high:
        parts.append(_upright(scale.place(level), "level"))
    parts += [_interval(mark, scale) for mark in marks if mark.low is not None and mark.high is not None]
    parts += [_dot(mark, scale) for mark in marks]
    # The row's other cells say the same in numbers: to who hears the page, the picture is a repetition.
    return Markup('<svg class="strip" aria-hidden="true">{}</svg>').format(Markup("").join(parts))


def line_chart(
    lines: Sequence[Line],
    *,
    x: Scale,
    y: Scale,
    says: str,
    x_says: str,
    y_says: str,
    names: Sequence[str] = (),
    diagonal: bool = False,
    level: float | None = None,
    height: int = HEIGHT,
) -> Markup:
    """A line chart.

    Args:
        lines: drawn in this order.
        x: its scale.
        y: its scale.
        says: what it shows, for those who do not see it.
        x_says: below its axis.
        y_says: above its axis.
        names: of x at 0, 1, 2 …, in place of its ticks, as many as fit.
        diagonal: draw where y is x.
        level: a value of y that is marked by a line across.
        height: of the whole; all charts are `WIDTH` wide.
    """
    frame = _Frame(x=x, y=y, height=height)
    bottom = height - _BOTTOM
    parts = [Markup('<text class="says" x="2" y="12">{}</text>').format(y_says)]
    for value, label in y.ticks:
        at = _number(frame.y_of(value))
        parts.append(
            Markup(
                '<path class="grid" d="M{} {}H{}"/><text class="end" x="{}" y="{}" dy="4">{}</text>'
            ).format(_LEFT, at, WIDTH - _RIGHT, _LEFT - 6, at, label)
        )
    for value, label in _named_ticks(names) if names else x.ticks:
        at = _number(frame.x_of(value))
        half = (
            _LETTER * len(label) / 2.0
        )  # a long label at an end keeps clear of the other axis, and of the edge
        middle = _number(min(max(frame.x_of(value), _LEFT - 6.0 + half), WIDTH - half))
        parts.append(
            Markup('<path class="grid" d="M{} {}v4"/><text x="{}" y="{}">{}</text>').format(
                at, bottom, middle, bottom + 15, label
            )
        )
    parts.append(
        Markup('<text x="{}" y="{}">{}</text>').format(
            _number((_LEFT + WIDTH - _RIGHT) / 2.0), height - 4, x_says
        )
    )
    if diagonal:
        ends = max(x.low, y.low), min(x.high, y.high)
        parts.append(_path("level", [(frame.x_of(value), frame.y_of(value)) for value in ends]))
    if level is not None:
        parts.append(_path("level", [(frame.x_of(value), frame.y_of(level)) for value in (x.low, x.high)]))
    parts += [_line(line, frame) for line in lines]
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, says, Markup("").join(parts)
    )


def _round_step(step: float) -> float:
    """The next 1, 2 or 5 of a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(step_ for step_ in (power, 2.0 * power, 5.0 * power, 10.0 * power) if step_ >= step * 0.999)


def _label(value: float, step: float) -> str:
    """As many decimals as the step has."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > 4 or abs(value) >= 1e7:
        return f"{value:.3g}".replace("-", "−")
    return f"{value:,.{decimals}f}".replace("-", "−")


def _apart(low: float, high: float) -> tuple[float, float]:
    """Ends of a logarithmic scale, with a little room around what lies between."""
    room = max((high / low) ** 0.04, 1.02)
    return low / room, high * room


def _with_ticks(low: float, high: float, steps: Sequence[float]) -> Scale:
    """Ticks in the order of their importance, as long as they do not stand in each other's way."""
    low, high = _apart(low, high)
    bare = Scale(low=low, high=high, ticks=(), logarithmic=True)
    chosen: list[float] = []
    for step in steps:
        if low <= step <= high and all(
            abs(bare.place(step) - bare.place(other)) >= _NEAR for other in chosen
        ):
            chosen.append(step)
    return Scale(
        low=low,
        high=high,
        ticks=tuple((step, f"{step:g}") for step in sorted(chosen)),
        logarithmic=True,
    )


def _percent(place: float) -> str:
    return f"{100.0 * min(1.0, max(0.0, place)):.2f}".rstrip("0").rstrip(".")


def _upright(place: float, style: str) -> Markup:
    at = _percent(place)
    return Markup('<line class="{}" x1="{}%" x2="{}%" y1="0" y2="100%"/>').format(style, at, at)


def _interval(mark: Mark, scale: Scale) -> Markup:
    low = scale.low if mark.low is None else mark.low
    high = scale.high if mark.high is None else mark.high
    return Markup('<line class="interval {}" x1="{}%" x2="{}%" y1="50%" y2="50%"/>').format(
        mark.style, _percent(scale.place(low)), _percent(scale.place(high))
    )


def _dot(mark: Mark, scale: Scale) -> Markup:
    place = scale.place(mark.value)
    shape = "beyond" if place > 1.0 + 1e-9 else "before" if place < -1e-9 else mark.style
    return Markup('<use href="#m-{}" class="{}" x="{}%" y="50%"><title>{}</title></use>').format(
        shape, mark.style, _percent(place), mark.says
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where values are in a line chart; what lies outside a scale is at its end."""

    x: Scale
    y: Scale
    height: int

    def x_of(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, self.x.place(value)))

    def y_of(self, value: float) -> float:
        room = self.height - _TOP - _BOTTOM
        return self.height - _BOTTOM - room * min(1.0, max(0.0, self.y.place(value)))


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _named_ticks(names: Sequence[str]) -> list[tuple[float, str]]:
    """The first name, and every so many after it."""
    widest = _LETTER * max(map(len, names))
    each = 1.5 * widest + 4.0  # the first may have to move by half its width
    every = math.ceil(len(names) * each / (WIDTH - _LEFT - _RIGHT))
    return [(float(index), name) for index, name in enumerate(names) if index % every == 0]


def _path(style: str, points: Sequence[tuple[float, float]]) -> Markup:
    d = "".join(f"{'L' if index else 'M'}{_number(x)} {_number(y)}" for index, (x, y) in enumerate(points))
    return Markup('<path class="{}" d="{}"/>').format(style, d)


def _line(line: Line, frame: _Frame) -> Markup:
    runs: list[list[tuple[float, float]]] = [[]]
    marks: list[Markup] = []
    for index, (here, there) in enumerate(zip(line.x, line.y, strict=True)):
        if here is None or there is None:
            runs.append([])
            continue
        at = frame.x_of(here), frame.y_of(there)
        runs[-1].append(at)
        if line.marked:
            marks.append(
                Markup('<use href="#m-{}" class="{}{}" x="{}" y="{}"/>').format(
                    line.style,
                    line.style,
                    " pale" if index in line.pale else "",
                    _number(at[0]),
                    _number(at[1]),
                )
            )
    paths = [_path(f"line {line.style}", run) for run in runs if line.joined and len(run) > 1]
    return Markup("<g><title>{}</title>{}{}</g>").format(
        line.says, Markup("").join(paths), Markup("").join(marks)
    )
