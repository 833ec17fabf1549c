"""The comparison's tables: what applies to no row has no column, and what is the same in all rows is said once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from app.comparison_document import Document, PaperFigures, Row, TargetName
from app.comparison_words import (
    GIVEN,
    KINDS,
    TARGETS,
    cases_of,
    decimals,
    figure,
    interval,
    minute,
    probability,
    ratio,
    rows_of,
    share,
    signed,
    targets_of,
    title,
    verdict,
    whole,
)
from app.figures import NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Head of a column: a name, or the mark of a `kind` in place of it, and a unit. Words stand left, numbers right."""

    text: str
    unit: str = ""
    words: bool = False
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell: `best` of its column; `kind` puts that mark before it; `under` and `why` are further, smaller lines."""

    text: str
    best: bool = False
    kind: str = ""
    under: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of words and numbers."""

    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column of figures: what it shows, how, and which end of it is best."""

    head: Head
    value: Callable[[Row], float | None]
    words: Callable[[float | None], str] = figure
    best: Callable[[Iterable[float]], float] | None = min


_FIGURES: tuple[_Column, ...] = (
    _Column(head=Head(text="MAE", unit="ms"), value=lambda row: row.mae_ms),
    _Column(head=Head(text="MedAE", unit="ms"), value=lambda row: row.medae_ms),
    _Column(
        head=Head(text="median relative error"), value=lambda row: row.median_relative_error, words=share
    ),
    _Column(head=Head(text="RMSE", unit="ms"), value=lambda row: row.rmse_ms),
    _Column(head=Head(text="Huber"), value=lambda row: row.huber),
    _Column(head=Head(text="R²"), value=lambda row: row.r2, words=decimals, best=max),
    _Column(head=Head(text="Brier"), value=lambda row: row.brier),
    _Column(head=Head(text="log loss"), value=lambda row: row.log_loss),
    _Column(head=Head(text="AUC"), value=lambda row: row.auc, words=decimals, best=max),
    _Column(head=Head(text="MAE", unit="ratio"), value=lambda row: row.loss_mae),
    _Column(head=Head(text="RMSE", unit="ratio"), value=lambda row: row.loss_rmse),
    _Column(head=Head(text="MAE", unit="QoE points"), value=lambda row: row.qoe_mae_points),
    _Column(
        head=Head(text="covered", unit="by 90 %"), value=lambda row: row.coverage_90, words=share, best=None
    ),
    _Column(head=Head(text="width", unit="ms"), value=lambda row: row.width_90_ms, best=None),
    _Column(
        head=Head(text="width", unit="to best baseline"),
        value=lambda row: row.width_against_best,
        words=ratio,
        best=None,
    ),
    _Column(head=Head(text="interval score", unit="ms"), value=lambda row: row.interval_score_ms),
)
_COUNTS: tuple[tuple[str, str, Callable[[Row], int | None]], ...] = (
    ("cells", "{} cells", lambda row: row.cells),
    ("left out", "{} left out, as some model did not predict them", lambda row: row.cells_left_out),
    ("clusters", "{} clusters", lambda row: row.clusters),
    ("seeds", "seeds: {}", lambda row: row.seeds),
    ("splits", "splits: {}", lambda row: row.splits),
)
"""Name of the column where it differs, and what is said where it does not."""

_COSTS: tuple[_Column, ...] = (
    _Column(head=Head(text="epochs"), value=lambda row: row.epochs, words=whole, best=None),
    _Column(
        head=Head(text="epochs to converge"), value=lambda row: row.epochs_to_converge, words=whole, best=None
    ),
    _Column(head=Head(text="learning", unit="s"), value=lambda row: row.fit_seconds, best=None),
    _Column(head=Head(text="predicting", unit="s"), value=lambda row: row.predict_seconds, best=None),
    _Column(
        head=Head(text="memory, most", unit="MB"),
        value=lambda row: row.peak_memory_mb,
        words=whole,
        best=None,
    ),
    _Column(head=Head(text="parameters"), value=lambda row: row.parameters, words=whole, best=None),
)


def figure_tables(document: Document) -> list[Table]:
    """Every model on every target, a table each target and case."""
    return [
        _figure_table(document, target, case)
        for target in targets_of(document.rows)
        for case in cases_of(document, [row.case for row in document.rows if row.target == target])
    ]


def _figure_table(document: Document, target: TargetName, case: str) -> Table:
    own = rows_of(document, target, case)
    same = [says.format(whole(of(own[0]))) for _, says, of in _COUNTS if len({of(row) for row in own}) == 1]
    counts = [
        _Column(head=Head(text=name), value=of, words=whole, best=None)
        for name, _, of in _COUNTS
        if len({of(row) for row in own}) > 1
    ]
    figures = _columns(_FIGURES, own)
    others = _columns(counts, own)
    return Table(
        title=title(document, target, case),
        says="; ".join(same),
        heads=(
            Head(text="model", words=True),
            *(head for head, _ in figures),
            Head(text="against the best baseline", unit="difference, 95 %", words=True),
            Head(text="p", unit="Holm"),
            *(head for head, _ in others),
        ),
        rows=tuple(
            (
                Cell(text=row.model, kind=row.kind, under=(row.stated or "") if target == "rtt" else ""),
                *(cells[index] for _, cells in figures),
                Cell(
                    text=verdict(row),
                    best=row.verdict == "better",
                    under=interval(row.ci_low, row.ci_high, signed).replace(NOTHING, ""),
                    why=row.verdict_why,
                ),
                Cell(text=probability(row.p_holm)),
                *(cells[index] for _, cells in others),
            )
            for index, row in enumerate(own)
        ),
    )


def _columns(columns: Iterable[_Column], rows: Sequence[Row]) -> list[tuple[Head, list[Cell]]]:
    """Columns in which there is something. Best is what reads as the best: what is equal in print is equally best."""
    filled: list[tuple[Head, list[Cell]]] = []
    for column in columns:
        values = [column.value(row) for row in rows]
        known = [value for value in values if value is not None]
        if not known:
            continue
        best = column.words(column.best(known)) if column.best is not None and len(known) > 1 else None
        filled.append(
            (column.head, [Cell(text=text, best=text == best) for text in map(column.words, values)])
        )
    return filled


def qoe_tables(document: Document) -> list[Table]:
    """How far QoE scores are off when one metric is predicted and the others are as measured: a table a case, a column a metric."""
    tables: list[Table] = []
    for case in cases_of(document, [row.case for row in document.rows]):
        found = {
            (row.model, row.target): row.qoe_mae_points
            for target in TARGETS
            for row in rows_of(document, target, case)
            if row.qoe_mae_points is not None
        }
        kinds: dict[str, str] = {
            row.model: row.kind for target in TARGETS for row in rows_of(document, target, case)
        }
        models = [model for model in kinds if any(name == model for name, _ in found)]
        targets = [target for target in TARGETS if any(of == target for _, of in found)]
        if not models:
            continue
        least = {
            target: figure(min(points for (_, of), points in found.items() if of == target))
            for target in targets
        }
        texts = {key: figure(points) for key, points in found.items()}
        tables.append(
            Table(
                title=case if len(document.cases) > 1 else "",
                heads=(
                    Head(text="model", words=True),
                    *(Head(text=TARGETS[target], unit="QoE points") for target in targets),
                ),
                rows=tuple(
                    (
                        Cell(text=model, kind=kinds[model]),
                        *(
                            Cell(
                                text=texts.get((model, target), NOTHING),
                                best=texts.get((model, target)) == least[target],
                            )
                            for target in targets
                        ),
                    )
                    for model in models
                ),
            )
        )
    return tables


def quantile_tables(document: Document) -> list[Table]:
    """The share of cells at or below each bound, a table a case: what is hardly off the diagonal is read in percent."""
    observed: dict[tuple[str, str, str], tuple[float | None, ...]] = {
        (one.model, one.case, one.of): one.observed for one in document.quantiles
    }
    nominal = next((one.nominal for one in document.quantiles), ())
    if len(nominal) != 3:
        return []
    low, middle, high = (NOTHING if level is None else f"{100.0 * level:g}\u00a0%" for level in nominal)
    tables: list[Table] = []
    for case in cases_of(document, [one.case for one in document.quantiles]):
        own = [
            row
            for row in rows_of(document, "rtt", case)
            if all((row.model, case, of) in observed for of in ("raw", "calibrated"))
        ]
        if own:
            tables.append(
                Table(
                    title="Cells at or below" if len(document.cases) < 2 else f"Cells at or below: {case}",
                    heads=(
                        Head(text="model", words=True),
                        Head(text=low, unit="before calibration"),
                        Head(text=low, unit="after it"),
                        Head(text=middle, unit="the point"),
                        Head(text=high, unit="before calibration"),
                        Head(text=high, unit="after it"),
                    ),
                    rows=tuple(
                        (
                            Cell(text=row.model, kind=row.kind),
                            *(
                                Cell(text=share(observed[row.model, case, of][index]))
                                for of, index in (
                                    ("raw", 0),
                                    ("calibrated", 0),
                                    ("raw", 1),
                                    ("raw", 2),
                                    ("calibrated", 2),
                                )
                            ),
                        )
                        for row in own
                    ),
                )
            )
    return tables


def cost_table(document: Document) -> Table | None:
    """What each model took: a row a model, and a row a case where the cases differ."""
    took = {(row.model, row.case): row for row in reversed(document.rows)}
    once = {row.model: row for row in reversed(document.rows)}
    differ = any(_cost(row) != _cost(once[model]) for (model, _), row in took.items())
    models = list(dict.fromkeys(row.model for row in document.rows))
    cases = cases_of(document, [row.case for row in document.rows])
    rows = (
        [took[model, case] for model in models for case in cases if (model, case) in took]
        if differ
        else [once[model] for model in models]
    )
    columns = _columns(_COSTS, rows)
    if not columns:
        return None
    several = differ and len(cases) > 1
    return Table(
        title="",
        heads=(
            Head(text="model", words=True),
            *([Head(text="case", words=True)] if several else []),
            *(head for head, _ in columns),
        ),
        rows=tuple(
            (
                Cell(text=row.model, kind=row.kind),
                *([Cell(text=row.case)] if several else []),
                *(cells[index] for _, cells in columns),
            )
            for index, row in enumerate(rows)
        ),
    )


def _cost(row: Row) -> tuple[float | None, ...]:
    return tuple(column.value(row) for column in _COSTS)


def worst_table(document: Document) -> Table | None:
    """The pairs with the most summed error of a model, as the document orders them."""
    if not document.worst:
        return None
    several = len(document.cases) > 1
    of = ", ".join(dict.fromkeys(pair.model for pair in document.worst))
    beside = ", ".join(dict.fromkeys(pair.baseline for pair in document.worst))
    return Table(
        title=f"Errors of {of}",
        says=f"beside those of {beside}",
        heads=(
            Head(text="probe", words=True),
            Head(text="target", words=True),
            *([Head(text="case", words=True)] if several else []),
            Head(text="cells"),
            Head(text="error", unit="ms"),
            Head(text="the baseline's", unit="ms"),
            Head(text="measured", unit="ms, mean"),
            Head(text="predicted", unit="ms, mean"),
            Head(text="why", words=True),
        ),
        rows=tuple(
            (
                Cell(text=str(pair.probe)),
                Cell(text=pair.target, under=f"IPv{pair.af}"),
                *([Cell(text=pair.case)] if several else []),
                Cell(text=whole(pair.cells)),
                Cell(text=figure(pair.mae_ms)),
                Cell(text=figure(pair.baseline_mae_ms)),
                Cell(text=figure(pair.measured_ms)),
                Cell(text=figure(pair.predicted_ms)),
                Cell(text=pair.why),
            )
            for pair in document.worst
        ),
    )


def range_table(document: Document) -> Table | None:
    """Why cells were outside what had been learned."""
    if not document.range.reasons:
        return None
    return Table(
        title="",
        heads=(Head(text="reason", words=True), Head(text="cells"), Head(text="MAE", unit="ms")),
        rows=tuple(
            (Cell(text=why.reason), Cell(text=whole(why.cells)), Cell(text=figure(why.mae_ms)))
            for why in document.range.reasons
        ),
    )


def finding_table(document: Document) -> Table | None:
    """What moved with hidden values."""
    if not document.audit.findings:
        return None
    return Table(
        title="",
        heads=tuple(
            Head(text=name, words=True) for name in ("model", "what", "name", "hidden values were", "window")
        ),
        rows=tuple(
            tuple(
                Cell(text=text)
                for text in (
                    finding.model,
                    finding.kind,
                    finding.name,
                    finding.tampering or NOTHING,
                    NOTHING if finding.window is None else str(finding.window),
                )
            )
            for finding in document.audit.findings
        ),
    )


def split_table(document: Document) -> Table | None:
    """What was learned on, and what was asked."""
    if not document.splits:
        return None
    return Table(
        title="",
        heads=(
            Head(text="split", words=True),
            Head(text="learned on"),
            Head(text="validated on"),
            Head(text="calibrated on"),
            Head(text="tested on"),
            Head(text="test cells"),
        ),
        rows=tuple(
            (
                Cell(text=minute(part.name)),
                *(
                    Cell(text=whole(count))
                    for count in (
                        part.fit_rows,
                        part.validation_rows,
                        part.calibration_rows,
                        part.test_rows,
                        part.test_cells,
                    )
                ),
            )
            for part in document.splits
        ),
    )


def paper_table(document: Document) -> Table | None:
    """The paper's figures, quoted, above ours, of which each model may stand twice: with the answer and without."""
    if document.paper is None:
        return None
    kinds = {row.model: str(row.kind) for row in document.rows}
    sides = [("quoted", document.paper.quoted), ("ours", document.paper.ours)]
    return Table(
        title="",
        heads=(
            Head(text="whose", words=True),
            Head(text="model", words=True),
            Head(text="was given", words=True),
            *(Head(text=name) for name in ("R²", "MAE", "RMSE", "Huber", "epochs")),
        ),
        rows=tuple(
            (
                Cell(text=whose),
                Cell(text=one.model, kind=kinds.get(one.model, "") if whose == "ours" else ""),
                Cell(text=GIVEN[one.features]),
                *_paper_figures(one),
            )
            for whose, side in sides
            for one in side
        ),
    )


def _paper_figures(one: PaperFigures) -> tuple[Cell, ...]:
    """With the digits they are quoted with, four at most."""
    texts = [
        NOTHING if value is None else f"{value:.4g}".replace("-", "−")
        for value in (one.r2, one.mae, one.rmse, one.huber)
    ]
    return tuple(Cell(text=text) for text in (*texts, whole(one.epochs)))


def fact_rows(document: Document) -> list[tuple[str, str]]:
    """A figure, and what it counts."""
    data, kinds = document.data, {row.model: row.kind for row in document.rows}
    counts = [(name, sum(kind == of for kind in kinds.values())) for of, name in KINDS.items()]
    models = ", ".join(f"{count} {_plural(name, count)}" for name, count in counts if count)
    seeds = ", ".join(map(str, document.seeds))
    return [
        *([(f"{len(kinds)}", f"models: {models}")] if kinds else []),
        (f"{data.pairs:,}", f"pairs of {data.probes:,} probes and {data.targets:,} targets"),
        (f"{data.windows:,}", f"windows of {data.window_s / 3600.0:g} h with {data.cells:,} measured cells"),
        *(
            [
                (
                    f"{document.jobs:,}",
                    f"{_plural('job', document.jobs)}, each of one split and one seed ({seeds})",
                )
            ]
            if document.jobs is not None
            else []
        ),
        (_audited(document), "leakage audit"),
    ]


def _audited(document: Document) -> str:
    if document.paper is not None:
        return "not run"
    return "passed" if document.audit.passed else "FAILED"


def _plural(name: str, count: int) -> str:
    return name if count == 1 else f"{name}s"
