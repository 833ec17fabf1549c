"""`compare` and `predict`, as a user would run them on a small synthetic home."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from shutil import copytree

import pytest

from app.comparison_document import read_document
from domain.selection import Selection
from kg.schema import PATH_PREDICTION, PATH_STATE
from kg.store import open_store
from tests.app.conftest import Cli

PREDICT_KEYS = (
    *(
        "probe",
        "target",
        "af",
        "window_start",
        "window_end",
        "rtt_ms",
        "rtt_low_ms",
        "rtt_high_ms",
        "loss_ratio",
    ),
    *(
        "any_loss_probability",
        "jitter_ms",
        "jitter_low_ms",
        "jitter_high_ms",
        "model",
        "protocol",
        "in_range",
        "reason",
    ),
)


@pytest.fixture(scope="module")
def home(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose graph may be written to, and that keeps what is trained."""
    return Path(copytree(built, tmp_path_factory.mktemp("learning") / "home"))


@pytest.fixture
def trained(qoetwin: Cli, home: Path) -> Path:
    if not (home / "models" / "last-value-forecast").is_dir():
        run = qoetwin("train", "last-value", "--protocol", "forecast", "--home", home)
        assert run.code == 0, run.err
    return home


def predicted(qoetwin: Cli, home: Path, *more: object) -> list[dict[str, object]]:
    run = qoetwin("predict", "--model", "last-value", "--home", home, "--format", "json", *more)
    assert run.code == 0, run.err
    rows: list[dict[str, object]] = json.loads(run.out)
    return rows


def test_a_comparison_is_a_page_and_the_figures_that_it_is_drawn_from(
    qoetwin: Cli, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    run = qoetwin(
        *("compare", "--protocol", "forecast", "--models", "last-value,seasonal-median", "--seeds", 2),
        *("--processes", 1, "--home", home, "--out", out, "--format", "json"),
    )
    assert run.code == 0, run.err
    document = json.loads((out / "comparison.json").read_text())
    assert document == json.loads(run.out)
    assert document["command"].startswith("qoetwin compare --protocol forecast")
    assert document["synthetic"]
    assert document["audit"]["passed"]
    assert {row["model"] for row in document["rows"]} == {"last-value", "seasonal-median"}
    assert {row["seeds"] for row in document["rows"]} == {2}
    assert {row["case"] for row in document["rows"]} == set(document["cases"])
    assert read_document(document).protocol == "forecast"
    page = (out / "index.html").read_text()
    assert all(f"{line.partition('. ')[2]}</span>" in page for line in document["conclusion"].splitlines())
    assert "synthetic" in page


def test_nothing_is_compared_without_a_baseline_beside_it(qoetwin: Cli, home: Path) -> None:
    run = qoetwin("compare", "--protocol", "forecast", "--models", "mlp", "--home", home)
    assert (run.code, run.out) == (1, "")
    assert "nothing to compare with; found no baseline among the models" in run.err


def test_the_next_window_is_predicted_for_every_path(qoetwin: Cli, trained: Path) -> None:
    rows = predicted(qoetwin, trained)
    assert set(PREDICT_KEYS) <= set(rows[0])
    with open_store("sqlite", trained, create=False) as store:
        states = store.facts(PATH_STATE, Selection(), ("rtt_median_ms",))
        assert len(rows) == store.pairs().num_rows
    ends = max(states["window_end"].to_pylist())
    assert {row["window_start"] for row in rows} == {f"{ends:%Y-%m-%dT%H:%M:%SZ}"} or all(
        str(row["window_start"]).startswith(f"{ends:%Y-%m-%dT%H:%M}") for row in rows
    )
    known = [row for row in rows if row["in_range"]]
    assert len(known) > 10
    assert all(row["rtt_low_ms"] <= row["rtt_ms"] <= row["rtt_high_ms"] for row in known)  # type: ignore[operator]
    assert all(row["reason"] is None for row in known)


def test_further_ahead_than_a_model_was_trained_for_is_unknown_with_the_reason(
    qoetwin: Cli, trained: Path
) -> None:
    rows = predicted(qoetwin, trained, "--at", "2030-01-01T00:00Z")
    assert {row["rtt_ms"] for row in rows} == {None}
    assert all("further ahead" in str(row["reason"]) for row in rows)


def test_pairs_of_a_file_are_predicted_in_its_order_and_strangers_get_a_reason(
    qoetwin: Cli, trained: Path, tmp_path: Path
) -> None:
    first, second = predicted(qoetwin, trained)[:2]
    file = tmp_path / "pairs.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["probe", "target", "af", "at"])
        for row in (second, first):
            writer.writerow([row["probe"], row["target"], row["af"], row["window_start"]])
        writer.writerow([first["probe"], "192.0.2.254", 4, first["window_start"]])
    rows = predicted(qoetwin, trained, "--pairs", file)
    assert [row["rtt_ms"] for row in rows] == [second["rtt_ms"], first["rtt_ms"], None]
    assert "nothing says where they are" in str(rows[2]["reason"])
    refused = qoetwin("predict", "--pairs", file, "--country", "LB", "--home", trained)
    assert refused.code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("probe,target\n1,192.0.2.1\n", "pairs without a column that they need"),
        ("probe,target,af,at\nx,192.0.2.1,4,2026-01-05\n", "a pair that is none"),
        ("probe,target,af,at\n1,192.0.2.1,4,yesterday\n", "a pair that is none"),
        ("", "pairs that cannot be read"),
    ],
)
def test_what_is_no_pair_is_one_line(
    qoetwin: Cli, trained: Path, tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(text)
    run = qoetwin("predict", "--model", "last-value", "--pairs", file, "--home", trained)
    assert (run.code, run.out) == (1, "")
    assert says in run.err
    assert "Traceback" not in run.err


def test_predictions_are_kept_in_the_graph_and_are_no_measurements(qoetwin: Cli, trained: Path) -> None:
    with open_store("sqlite", trained, create=False) as store:
        before = store.facts(PATH_STATE)
    rows = predicted(qoetwin, trained, "--write")
    with open_store("sqlite", trained, create=False) as store:
        kept = store.facts(PATH_PREDICTION)
        assert store.facts(PATH_STATE).equals(before)
    told = [row for row in rows if row["rtt_ms"] is not None]
    assert kept.num_rows == len(told)
    assert sorted(kept["rtt_ms"].to_pylist()) == pytest.approx(sorted(row["rtt_ms"] for row in told))  # type: ignore[type-var]
    assert set(kept["model"].to_pylist()) == {"last-value"}
    assert set(kept["synthetic"].to_pylist()) == {True}


def test_a_model_that_was_not_trained_here_is_one_line(qoetwin: Cli, home: Path) -> None:
    run = qoetwin("predict", "--model", "cheb-net", "--protocol", "imputation", "--home", home)
    assert (run.code, run.out) == (1, "")
    assert "no readable model" in run.err
