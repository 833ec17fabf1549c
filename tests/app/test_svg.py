"""Scales and charts: values are where they belong, and ticks are round and apart."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.svg import Line, Mark, Scale, line_chart, linear_scale, log_scale, ratio_scale, strip

values = st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1, max_size=20)
sizes = st.lists(st.none() | st.floats(1e-8, 1e9), min_size=1, max_size=20)


def holds(scale: Scale, given_values: list[float | None]) -> bool:
    return all(-1e-9 <= scale.place(value) <= 1.0 + 1e-9 for value in given_values if value is not None)


@given(values)
def test_a_linear_scale_holds_all_values_and_has_its_ticks_in_order(given_values: list[float | None]) -> None:
    scale = linear_scale(given_values)
    assert holds(scale, given_values)
    ticks = [value for value, _ in scale.ticks]
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 8
    assert len({label for _, label in scale.ticks}) == len(ticks)


@given(sizes)
def test_a_logarithmic_scale_holds_all_values_and_its_ticks_are_apart(
    given_values: list[float | None],
) -> None:
    scale = log_scale(given_values)
    assert holds(scale, given_values)
    places = [scale.place(value) for value, _ in scale.ticks]
    assert all(later - earlier > 0.15 for earlier, later in pairwise(places))


@given(sizes)
def test_a_scale_of_ratios_always_shows_1_and_never_more_than_it_may(
    given_values: list[float | None],
) -> None:
    scale = ratio_scale(given_values)
    assert (1.0, "1") in scale.ticks
    assert 0.2 < scale.low < 1.0 < scale.high < 5.0


def test_a_mark_outside_the_scale_is_an_arrow_at_its_end() -> None:
    scale = ratio_scale([0.9, 1.1])
    drawn = strip(
        [Mark(value=9.0, style="baseline"), Mark(value=0.01, style="gnn"), Mark(value=1.0, style="mlp")],
        scale,
    )
    assert re.findall(r'#m-(\w+)" class="(\w+)" x="([\d.]+)%"', drawn)[:2] == [
        ("beyond", "baseline", "100"),
        ("before", "gnn", "0"),
    ]
    assert "#m-mlp" in drawn


@pytest.mark.parametrize("gap", [0, 2, 4])
def test_a_line_breaks_where_a_value_is_unknown(gap: int) -> None:
    y: list[float | None] = [0.1, 0.2, 0.3, 0.4, 0.5]
    y[gap] = None
    scale = linear_scale([0.0, 4.0])
    chart = line_chart([Line(style="gnn", x=range(5), y=y)], x=scale, y=scale, says="", x_says="", y_says="")
    assert chart.count('class="line gnn"') == (2 if gap == 2 else 1)
    assert chart.count("<use") == 4


def test_names_below_a_chart_never_touch() -> None:
    names = [f"05-{day:02d} {hour:02d}:00" for day in range(1, 29) for hour in (0, 12)]
    scale = Scale(low=-0.5, high=55.5, ticks=())
    y = linear_scale([0.0, 1.0])
    chart = line_chart([], x=scale, y=y, says="", x_says="", y_says="", names=names)
    places = [float(place) for place in re.findall(r'<text x="([\d.]+)" y="193">', chart)]
    assert len(places) >= 3
    assert all(later - earlier >= 6.0 * 11 for earlier, later in pairwise(places))


def test_text_in_a_chart_is_never_markup() -> None:
    scale = linear_scale([0.0, 1.0])
    chart = line_chart(
        [Line(style="gnn", x=[0.0], y=[1.0], says="<b>")], x=scale, y=scale, says='"<i>', x_says="<u>", y_says="<s>", names=["<q>"]
    )  # fmt: skip
    assert not re.search(r"<(b|i|u|s|q)>", chart)


def test_a_logarithmic_scale_of_a_narrow_range_has_ticks_too() -> None:
    for low, high in ((3.2, 4.4), (5.2, 9.6), (1.1, 1.9), (4.1, 4.3), (300.0, 302.0)):
        assert len(log_scale([low, high]).ticks) > 1


def test_a_level_is_drawn_across_a_chart() -> None:
    scale = linear_scale([0.0, 1.0])
    chart = line_chart([], x=scale, y=scale, says="", x_says="", y_says="", level=0.9)
    (path,) = re.findall(r'<path class="level" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', chart)
    assert path[1] == path[3]
    assert float(path[0]) < float(path[2])
