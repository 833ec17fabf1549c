"""The comparison as one HTML file, drawn from `comparison.json` alone.

It asks for no network and no script: tables and pictures are the same on a screen, on a phone and on paper.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.comparison_document import Document, read_document
from app.comparison_figures import (
    FEW_CELLS,
    breakdown_groups,
    curve_group,
    decile_groups,
    forests,
    gain_figures,
    head_figures,
    interval_figures,
    interval_groups,
    quantile_groups,
    reliability_groups,
)
from app.comparison_tables import (
    cost_table,
    fact_rows,
    figure_tables,
    finding_table,
    paper_table,
    qoe_tables,
    quantile_tables,
    range_table,
    split_table,
    worst_table,
)
from app.comparison_words import KINDS, minute, seconds
from app.svg import MARKERS


def comparison_page(document: Mapping[str, object]) -> str:
    """The page as text.

    Args:
        document: `comparison.json`, as `json.loads` gives it.

    Raises:
        InputError: when a key is missing or a value is not what it should be; it says which.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    read = read_document(document)
    environment = Environment(
        loader=PackageLoader("app"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kinds = {row.kind for row in read.rows}
    return environment.get_template("comparison.html").render(
        document=read,
        # The first paragraph is the conclusion, a line a case.
        conclusion=_conclusion(read) or [("", "No conclusion was drawn.")],
        markers=MARKERS,
        kinds=[(kind, says) for kind, says in KINDS.items() if kind in kinds],
        facts=fact_rows(read),
        paper=paper_table(read),
        forests=forests(read),
        tables=figure_tables(read),
        qoe=qoe_tables(read),
        gains=gain_figures(read),
        heads=head_figures(read),
        intervals=interval_figures(read),
        deciles=decile_groups(read),
        interval_groups=interval_groups(read),
        quantile_tables=quantile_tables(read),
        quantiles=quantile_groups(read),
        reliability=reliability_groups(read),
        breakdowns=breakdown_groups(read),
        out_of_range=range_table(read),
        curves=curve_group(read),
        costs=cost_table(read),
        worst=worst_table(read),
        findings=finding_table(read),
        splits=split_table(read),
        few_cells=FEW_CELLS,
        since=minute(read.data.start),
        until=minute(read.data.until),
        created=minute(read.created),
        took=seconds(read.seconds),
    )


def _conclusion(document: Document) -> list[tuple[str, str]]:
    """Its lines: the case that a line begins with, where there are several, and what is said."""
    named = {case.lower() for case in document.cases} if len(document.cases) > 1 else set()
    lines: list[tuple[str, str]] = []
    for line in document.conclusion.splitlines():
        case, dot, rest = line.partition(".")
        lines.append((case + dot, rest) if case.lower() in named else ("", line))
    return [line for line in lines if "".join(line).strip()]
