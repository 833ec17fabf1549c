"""The comparison's page: all of it is there, it is one file that asks for nothing, and whatever the document says, it stays whole."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.comparison_page import comparison_page
from domain.errors import InputError
from tests.app.browser import NoBrowserError, Page, browser_page
from tests.app.comparison_documents import MODELS, comparison_document

VOID = {"meta", "br", "col"}
EVIL = '<script>alert("1")</script>&amp;\'{{ 7 * 7 }}'
CLOSED = {"kind", "target", "verdict", "by", "of", "features"}
"""Keys whose values are of a closed set; `target` of a worst pair is an address, and is not."""


class Read(HTMLParser):
    """A page, read strictly: every element is closed where it was opened."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.heads: list[str] = []
        self.first_paragraph = ""
        self.paragraphs = 0
        self.text = ""
        self.tables = 0
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.paragraphs += tag == "p"
        self.tables += tag == "table"
        if tag == "h2":
            self.heads.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self.open[-1:] == ["h2"]:
            self.heads[-1] += data
        if self.paragraphs == 1 and "p" in self.open:
            self.first_paragraph += data


def read(document: dict[str, Any]) -> Read:
    return Read(comparison_page(document))


def changed(value: Any, change: Callable[[str, Any], Any], key: str = "") -> Any:
    """A copy of a document, each of whose leaves may become another."""
    if isinstance(value, dict):
        return {name: changed(part, change, name) for name, part in value.items()}
    if isinstance(value, list):
        return [changed(part, change, key) for part in value]
    return change(key, value)


def without_numbers(key: str, value: Any) -> Any:
    return None if isinstance(value, float) and key != "seconds" else value


def small() -> dict[str, Any]:
    return comparison_document(
        models={name: MODELS[name] for name in ("gradient-boosting", "mlp", "sage")},
        targets=("rtt", "any_loss"),
    )


def test_the_conclusion_is_the_first_paragraph_and_every_part_follows_in_its_order() -> None:
    document = comparison_document()
    page = read(document)
    assert page.first_paragraph == document["conclusion"]
    assert page.heads == [
        "Against the best baseline",
        "Every model on every target",
        "What the graph adds",
        "The head and the residual",
        "Intervals",
        "Calibration",
        "Where the errors are",
        "Learning",
        "What it costs",
        "The worst pairs",
        "Leakage audit",
        "How this was made",
    ]
    for said in (
        *MODELS,
        *document["notes"],
        document["command"],
        document["dataset_hash"],
        *(pair["why"] for pair in document["worst"]),
        *(f"{name} {version}" for name, version in document["versions"].items()),
    ):
        assert said in page.text


def test_the_page_asks_for_nothing_outside_itself_and_runs_no_script() -> None:
    page = comparison_page(comparison_document(paper=True, synthetic=True))
    attributes = Read(page).attributes
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|<iframe", page)
    assert all(value.startswith("#") for _, name, value in attributes if name in ("href", "src"))
    named = {value for _, name, value in attributes if name == "id"}
    assert {value[1:] for _, name, value in attributes if name == "href"} <= named


def test_a_conclusion_of_several_cases_is_one_paragraph_with_a_line_for_each() -> None:
    document = small()
    document["cases"] = ["next window", "6 h ahead"]
    document["conclusion"] = "Next window. It is tied.\n6 h ahead. It is better.\nThe data is synthetic."
    page = comparison_page(document)
    assert read(document).first_paragraph == document["conclusion"]
    assert page.count("<span><b>6 h ahead.</b> It is better.</span>") == 1


def test_a_tie_in_which_mean_and_ranks_differ_is_explained_wherever_the_verdict_stands() -> None:
    document = small()
    why = "fewer probes gain (41 %) than lose, but those by more"
    for row in (*document["rows"], *document["gains"], *document["heads"]):
        row["verdict_why"] = why if row["model"].startswith("sage") else ""
    page = comparison_page(document)
    for begin, end in (
        ("against", "tables"),
        ("tables", "gains"),
        ("gains", "heads"),
        ("heads", "intervals"),
    ):
        part = page[page.index(f'id="{begin}"') : page.index(f'id="{end}"')]
        assert part.count(f'<small class="why">{why}</small>') == 2


def test_a_row_of_other_cells_is_in_no_table_beside_those_of_all_jobs() -> None:
    document = small()
    alike = comparison_page(document)
    for row in [row for row in document["rows"] if row["model"] == "sage"]:
        document["rows"].append({**row, "model": "sage/plain", "mae_ms": 0.001, "in_all_jobs": False})
    page = comparison_page(document)
    without, own = (text[text.index('id="against"') : text.index('id="heads"')] for text in (alike, page))
    assert own == without
    heads = page[page.index('id="heads"') : page.index('id="intervals"')]
    assert "/plain: a difference from the base" in heads
    assert "14,214 cells" in heads


def test_quantiles_are_drawn_before_calibration_and_after_it() -> None:
    page = comparison_page(small())
    calibration = page[page.index('id="calibration"') : page.index('id="where"')]
    assert "Round-trip time, before calibration" in calibration
    assert "Round-trip time, after it" in calibration
    shares = {one["model"]: one["observed"] for one in small()["quantiles"] if one["of"] == "raw"}
    assert all(f"{100 * level:.1f}\u00a0%" in calibration for level in shares["sage"])


def test_coverage_and_width_stand_by_distance_country_network_hour_and_window() -> None:
    page = comparison_page(small())
    intervals = page[page.index('id="intervals"') : page.index('id="calibration"')]
    for said in (
        "By distance",
        "By country",
        "By network (AS)",
        "Coverage by window",
        "Width by hour of the day",
    ):
        assert said in intervals


def test_errors_stand_in_qoe_points_too_of_each_model_and_by_group() -> None:
    document = small()
    page = comparison_page(document)
    points = page[page.index('id="qoe"') : page.index('id="gains"')]
    for row in document["rows"]:
        if row["qoe_mae_points"] is not None:
            assert f"{row['qoe_mae_points']:#.3g}" in points
    assert "ms; QoE" in page[page.index('id="where"') :]


def test_the_worst_pairs_name_the_model_that_errs_and_the_baseline_beside_it() -> None:
    page = comparison_page(comparison_document())
    worst = page[page.index('id="worst"') : page.index('id="audit"')]
    assert "Errors of graph-transformer" in worst
    assert "beside those of gradient-boosting" in worst


def test_a_page_of_all_models_stays_below_a_megabyte() -> None:
    assert len(comparison_page(comparison_document()).encode()) < 1_000_000


def test_each_model_stands_with_its_verdict_in_words_and_its_shape_on_every_target() -> None:
    document = comparison_document()
    page = comparison_page(document)
    against = page[page.index('id="against"') : page.index('id="tables"')]
    for name, (kind, _) in MODELS.items():
        rows = re.findall(rf'#m-{kind}"[^>]*/></svg>{name}</th>.*?</tr>', against, re.DOTALL)
        assert len(rows) == 4
        verdicts = [
            row["verdict"].replace("reference", "best baseline")
            for row in document["rows"]
            if row["model"] == name
        ]
        assert sum(verdict in row for verdict, row in zip(verdicts, rows, strict=True)) == 4
    assert against.count('class="strong"') == 4


def test_what_is_equal_in_print_is_equally_best() -> None:
    document = small()
    errors = {"gradient-boosting": 3.2001, "mlp": 2.0001, "sage": 2.0002}
    for row in document["rows"]:
        row["mae_ms"] = errors[row["model"]] if row["target"] == "rtt" else None
    page = comparison_page(document)
    tables = page[page.index('id="tables"') : page.index('id="intervals"')]
    assert tables.count("<b>2.00</b>") == 2
    assert "<b>3.20</b>" not in tables


def test_a_model_is_listed_by_its_error_and_one_without_a_figure_comes_last() -> None:
    document = small()
    for row in document["rows"]:
        if row["model"] == "sage":
            row["mae_ms"] = row["ratio"] = row["ratio_low"] = row["ratio_high"] = None
            row["verdict"] = "too few clusters"
    page = comparison_page(document)
    first = page[page.index('id="against"') : page.index("Any loss")]
    assert first.rindex("gradient-boosting</th>") < first.rindex("sage</th>")
    assert first.rindex("mlp</th>") < first.rindex("sage</th>")
    assert "too few clusters" in first


def test_the_page_of_the_papers_set_up_has_no_part_about_predicted_paths() -> None:
    document = comparison_document(paper=True) | {"rows": [], "cases": []}
    page = comparison_page(document)
    assert 'id="paper"' in page
    for part in ("against", "tables", "intervals", "calibration", "where", "curves", "costs", "worst"):
        assert f'id="{part}"' not in page
        assert f'href="#{part}"' not in page


def test_the_papers_figures_stand_beside_ours_as_they_were_printed_under_a_warning() -> None:
    document = comparison_document(paper=True)
    page = comparison_page(document)
    text = Read(page).text
    assert document["paper"]["warning"] in text
    assert "<td>0.9763</td><td>0.075</td><td>–</td>" in page
    assert "it is not expected of ours" in text
    assert page.index(document["conclusion"][:40]) < page.index('id="paper"') < page.index('id="against"')
    assert 'id="paper"' not in comparison_page(comparison_document())


def test_a_model_that_was_given_the_answer_is_told_from_the_same_one_without_it() -> None:
    page = comparison_page(comparison_document(paper=True))
    table = page[page.index('id="paper"') : page.index('class="facts"')]
    given = {r2: words for words, r2 in re.findall(r'<td class="words">([^<]*)</td><td>([^<]*)</td>', table)}
    assert given["0.9312"] == given["0.9871"] == "leaky: the answer, among others"
    assert given["0.2105"] == given["0.1543"] == "honest: no answer"
    assert given["1"] == "the answer, and says it again"
    assert given["0.9763"] == "as in the paper"


def test_where_nothing_is_hidden_the_page_says_that_no_audit_was_run_and_what_leaks() -> None:
    page = read(comparison_document(paper=True)).text
    assert "No leakage audit was run." in page
    assert "not run leakage audit" in page
    section = page[page.rindex("Leakage audit") : page.index("How this was made")]
    assert "Not run." in section
    assert "nothing is hidden" in section
    assert "average RTT" in section
    for said in ("audit failed", "FAILED", "were changed"):
        assert said not in page


def test_jobs_are_counted_and_not_worked_out_from_splits_and_seeds() -> None:
    document = small()
    document["jobs"] = 3
    assert "3 jobs, each of one split and one seed (0, 1, 2)" in read(document).text
    del document["jobs"]
    assert "jobs, each" not in read(document).text


def test_synthetic_data_a_quick_run_and_a_failed_audit_are_said_before_any_figure() -> None:
    plain = comparison_page(comparison_document())
    page = comparison_page(comparison_document(synthetic=True, quick=True, passed=False))
    for said in (
        "Everything on this page is synthetic.",
        "This was a quick run.",
        "The leakage audit failed.",
    ):
        assert said not in plain
        assert page.index(said) < page.index('id="against"')
    assert "rtt_median_ms of neighbours" in page
    assert "FAILED" in page
    assert "passed" in plain


def test_markup_in_any_text_is_shown_and_never_obeyed() -> None:
    def spoil(key: str, value: Any) -> Any:
        return value + EVIL if isinstance(value, str) and key not in CLOSED else value

    document = changed(comparison_document(paper=True, passed=False), spoil)
    for pair in document["worst"]:
        pair["target"] += EVIL
    page = comparison_page(document)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 100
    assert EVIL in Read(page).text


def test_every_figure_may_be_unknown() -> None:
    page = read(changed(comparison_document(paper=True), without_numbers))
    assert len(page.heads) == 12
    assert "None" not in page.text
    assert "nan" not in page.text.split()


def test_there_may_be_nothing_to_draw() -> None:
    document = comparison_document()
    for key in (
        "cases",
        "seeds",
        "notes",
        "splits",
        "rows",
        "gains",
        "heads",
        "breakdowns",
        "curves",
        "reliability",
        "quantiles",
        "worst",
    ):
        document[key] = []
    document["range"] = {"in_range": 0, "out_of_range": 0, "reasons": []}
    document["conclusion"] = ""
    page = read(document)
    assert page.first_paragraph == "No conclusion was drawn."
    assert "No target could be scored." in page.text
    assert "What the graph adds" not in page.heads
    assert "The head and the residual" not in page.heads


@pytest.mark.parametrize("cases", [("half hidden",), ("k = 0", "k = 1", "k = 4", "k = 16")])
@pytest.mark.parametrize(
    "models",
    [
        {"sage": ("gnn", 0.9)},
        {"last-value": ("baseline", 1.0)},
        {f"model-{index}-of-many-with-a-long-name": (("gnn", "mlp", "ensemble", "baseline")[index % 4], 0.8 + index / 40) for index in range(20)},
    ],
    ids=["one network", "one baseline", "twenty"],
)  # fmt: skip
def test_one_model_or_twenty_one_case_or_four(
    models: dict[str, tuple[str, float]], cases: tuple[str, ...]
) -> None:
    page = read(comparison_document(models=models, cases=cases))
    assert all(name in page.text for name in models)
    assert len(cases) == 1 or all(f"Round-trip time: {case}" in page.text for case in cases)


def test_costs_that_differ_between_cases_stand_apart_and_equal_ones_stand_once() -> None:
    document = comparison_document(models={"sage": ("gnn", 0.9)}, cases=("k = 0", "k = 4"), targets=("rtt",))
    costs = ("epochs", "epochs_to_converge", "fit_seconds", "predict_seconds", "peak_memory_mb", "parameters")

    def rows() -> int:
        page = comparison_page(document)
        return page[page.index('id="costs"') : page.index('id="worst"')].count("<tr>") - 1

    assert rows() == 2
    document["rows"][1].update({key: document["rows"][0][key] for key in costs})
    assert rows() == 1


def _numbers(value: Any, place: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _numbers(part, (*place, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _numbers(part, (*place, index))
    elif isinstance(value, float):
        yield place


def _with(document: dict[str, Any], place: tuple[int | str, ...], value: Any) -> dict[str, Any]:
    new = copy.deepcopy(document)
    there: Any = new
    for part in place[:-1]:
        there = there[part]
    there[place[-1]] = value
    return new


def _in_words(place: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)[1:]


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_number_that_is_none_is_refused_by_its_place(data: st.DataObject) -> None:
    document = small()
    place = data.draw(st.sampled_from(list(_numbers(document))))
    value = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    with pytest.raises(InputError) as refused:
        comparison_page(_with(document, place, value))
    assert refused.value.where == f"comparison.json: {_in_words(place)}"


@pytest.mark.parametrize(
    "place",
    [("rows",), ("paper",), ("data", "from"), ("rows", 2, "verdict"), ("audit", "noise_floor_ms"), ("curves", 0, "best_epoch")],
    ids=_in_words,
)  # fmt: skip
def test_a_missing_key_is_named(place: tuple[int | str, ...]) -> None:
    document = small()
    there: Any = document
    for part in place[:-1]:
        there = there[part]
    del there[place[-1]]
    with pytest.raises(InputError, match="no such key") as refused:
        comparison_page(document)
    assert refused.value.where == f"comparison.json: {_in_words(place)}"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("rows", 0, "mae_ms"), "3.2"),
        (("rows", 0, "kind"), "oracle"),
        (("rows", 0, "cells"), 1.5),
        (("rows",), {}),
        (("synthetic",), 0),
        (("seconds",), None),
        (("notes",), [b"bytes"]),
    ],
    ids=lambda value: _in_words(value) if isinstance(value, tuple) else repr(value),
)
def test_a_value_of_another_type_is_refused(place: tuple[int | str, ...], value: Any) -> None:
    with pytest.raises(InputError):
        comparison_page(_with(small(), place, value))


def test_a_key_that_nobody_knows_is_passed_over() -> None:
    document = small()
    document["rows"][0]["new"] = document["new"] = {"any": ["thing"]}
    assert comparison_page(document) == comparison_page(small())


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_no_figure_however_large_or_small_breaks_the_page(data: st.DataObject) -> None:
    figures = (
        st.none()
        | st.floats(-1e12, 1e12, allow_nan=False)
        | st.sampled_from([0.0, -0.0, 1e-300, 5e-324, 1.0])
    )
    drawn = data.draw(st.lists(figures, min_size=5, max_size=40))
    taken = iter(range(10**9))

    def replace(key: str, value: Any) -> Any:
        return drawn[next(taken) % len(drawn)] if isinstance(value, float) and key != "seconds" else value

    page = comparison_page(changed(small(), replace))
    places = [value for _, name, value in Read(page).attributes if name in ("x", "y", "x1", "x2", "d")]
    assert not any(re.search("nan|inf|e[+-]", place) for place in places)
    assert all(0.0 <= float(place[:-1]) <= 100.0 for place in places if place.endswith("%"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    try:
        with browser_page(tmp_path_factory.mktemp("profile")) as page:
            yield page
    except NoBrowserError as error:
        pytest.skip(f"how the page looks is not measured: {error}")


@pytest.mark.parametrize("width", [380, 768, 1280])
def test_in_a_browser_nothing_is_wider_than_the_screen_and_nothing_is_asked_for(
    browser: Page, width: int, tmp_path: Path
) -> None:
    long = {**MODELS, "a-model-with-a-very-long-name-and-a-residual-on-gradient-boosting": ("gnn", 0.93)}
    path = tmp_path / "index.html"
    path.write_text(
        comparison_page(
            comparison_document(models=long, cases=("k = 0", "k = 4"), paper=True, synthetic=True)
        )
    )
    browser.open(path, width=width)
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.asked_for() == [path.resolve().as_uri()]
    assert browser.complaints() == []
    # Every mark of the main picture is drawn, within the cell that it stands in.
    assert browser.value(
        """[...document.querySelectorAll("#against ~ .grid td.plot use")].slice(0, 100).every(mark => {
            const [own, cell] = [mark, mark.closest("td")].map(one => one.getBoundingClientRect())
            return own.width > 4 && own.left >= cell.left - 1 && own.right <= cell.right + 1 })"""
    )


def test_a_browser_prints_it(browser: Page, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(comparison_page(comparison_document()))
    browser.open(path, width=1280)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert 8 <= int(re.findall(rb"/Count (\d+)", printed)[0]) <= 25
