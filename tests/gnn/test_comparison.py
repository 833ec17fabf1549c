"""Jobs over splits and seeds, and the document that comes of them."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from domain.errors import DataError, LeakError
from gnn.comparison import Cost, Job, run
from gnn.conclusion import best_rows, conclusion
from gnn.jobs import run_all
from gnn.predictor import Learned
from gnn.protocols import protocol_named
from gnn.report import (
    ERROR_OF,
    REFERENCE,
    alike,
    breakdowns,
    curves,
    heads,
    out_of_range,
    quantiles,
    rows_and_gains,
    worst_pairs,
)
from gnn.scoring import Target
from qoe.profile import load_profile
from tests.gnn.conftest import synthetic_arrays

MODELS = ("last-value", "seasonal-median", "sage", "mlp", "sage/plain")
TINY = {"neighbours": 4, "hidden": 8, "steps": 6, "lags": 2, "moves": 1, "history": 8}


def job(split=0, seed=0, models=MODELS, protocol="forecast", arrays=None, overrides=TINY):
    rule = protocol_named(protocol)
    return Job(
        arrays=rule.view(synthetic_arrays(probes=8, targets=5, windows=40) if arrays is None else arrays),
        protocol=rule,
        split=split,
        split_seed=0,
        seed=seed,
        models=models,
        profile=load_profile(),
        overrides=overrides,
    )


def unheard(*_):
    pass


@pytest.fixture(scope="module")
def done():
    return run_all([job(split=1, seed=0), job(split=2, seed=0, models=MODELS[:4])], 1, unheard)


CASES = protocol_named("forecast").cases(10800)


def test_every_model_is_scored_on_the_same_cells_beside_one_reference_a_target(done):
    rows, _ = rows_and_gains(done, CASES, 0)
    for case in CASES:
        for target in Target:
            own = [row for row in rows if (row["case"], row["target"]) == (case, target)]
            assert {row["model"] for row in own} == set(MODELS)
            whole = [row for row in own if "/" not in row["model"]]
            for one in done:
                cells = len(one.asked[case, target].cells)
                assert {len(one.scored[row["model"], case, target].errors) for row in whole} == {cells}
            (reference,) = [row for row in whole if row["verdict"] == REFERENCE]
            assert reference["kind"] == "baseline"
            assert (reference["ci_low"], reference["ratio"], reference["tied_with_best"]) == (
                None,
                None,
                True,
            )


def test_the_error_of_a_row_over_that_of_the_best_baseline_is_its_ratio_also_where_jobs_are_not_of_a_size(
    done,
):
    sizes = {len(one.asked[CASES[0], Target.RTT].cells) for one in done}
    assert len(sizes) == 2
    rows, _ = rows_and_gains(done, CASES, 0)
    for row in rows:
        if not row["in_all_jobs"] or row["verdict"] == REFERENCE:
            continue
        best, _ = best_rows(rows, row["case"], row["target"])
        error, of_best = row[ERROR_OF[row["target"]]], best[ERROR_OF[row["target"]]]
        power = 2 if row["target"] == Target.LOSS else 1
        assert (error / of_best) ** power == pytest.approx(row["ratio"])


def test_what_is_shown_of_rtt_by_group_is_of_the_cells_that_all_models_are_scored_on(done):
    for one in done:
        for (_, case), detail in one.details.items():
            for by in ("decile", "hour", "country"):
                cells = sum(values[0] for (kind, _), values in detail.groups.items() if kind == by)
                assert cells == len(one.asked[case, Target.RTT].cells)


def test_a_variant_that_ran_in_one_job_is_compared_in_that_job_and_says_so(done):
    rows, _ = rows_and_gains(done, CASES, 0)
    (variant,) = [r for r in rows if (r["model"], r["target"], r["case"]) == ("sage/plain", "rtt", CASES[0])]
    assert (variant["splits"], variant["seeds"]) == (1, 1)
    assert variant["ratio"] is not None
    assert "difference" in variant["stated"]
    (whole,) = [r for r in rows if (r["model"], r["target"], r["case"]) == ("sage", "rtt", CASES[0])]
    assert whole["splits"] == 2
    assert variant["cells"] < whole["cells"]
    assert (variant["in_all_jobs"], whole["in_all_jobs"]) == (False, True)


def test_a_variant_is_one_in_a_single_job_too_and_where_another_model_says_too_little_in_all(done):
    rows, _ = rows_and_gains(done[:1], CASES, 0)
    assert {row["in_all_jobs"] for row in rows if row["model"] == "sage/plain"} == {False}
    less = [
        replace(one, scored={key: value for key, value in one.scored.items() if key[0] != "mlp"})
        for one in done
    ]
    rows, _ = rows_and_gains(less, CASES, 0)
    assert "mlp" not in {row["model"] for row in rows}
    assert {row["case"] for row in rows if row["model"] == "sage/plain"} == set(CASES)


def test_models_that_err_by_the_same_in_every_cell_are_told(done):
    assert alike(done) == {}
    twice = [
        replace(
            one,
            scored={
                **one.scored,
                **{("twin", *key[1:]): of for key, of in one.scored.items() if key[0] == "mlp"},
            },
        )
        for one in done
    ]
    assert alike(twice) == {("mlp", "twin"): list(CASES)}


def test_a_variant_stands_beside_its_model_on_the_cells_of_the_jobs_that_both_were_in(done):
    found = heads(done, CASES, 0)
    assert {(one["model"], one["over"]) for one in found} == {("sage/plain", "sage")}
    assert len(found) == len(CASES) * len(Target)
    for one in found:
        own, other = (
            done[0].scored[name, one["case"], Target(one["target"])].errors.astype(float)
            for name in ("sage/plain", "sage")
        )
        assert (one["cells"], one["splits"], one["seeds"]) == (len(own), 1, 1)
        assert (one["error"], one["error_over"]) == (
            pytest.approx(own.mean()),
            pytest.approx(other.mean()),
        )
        assert one["difference"] == pytest.approx((own - other).mean(), abs=1e-9)
        assert one["ci_low"] <= one["difference"] <= one["ci_high"]
    assert heads(done[1:], CASES, 0) == []


def test_the_difference_is_that_of_the_mean_errors(done):
    rows, _ = rows_and_gains(done, CASES, 0)
    for model in ("sage", "mlp"):
        (row,) = [r for r in rows if (r["model"], r["target"], r["case"]) == (model, "rtt", CASES[0])]
        (best,) = [r for r in rows if (r["verdict"], r["target"], r["case"]) == (REFERENCE, "rtt", CASES[0])]
        own, other = (
            np.concatenate([one.scored[name, CASES[0], Target.RTT].errors for one in done]).astype(float)
            for name in (model, best["model"])
        )
        assert row["ratio"] == pytest.approx(own.mean() / other.mean())
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["ci_low"] <= own.mean() - other.mean() <= row["ci_high"]


def test_graph_models_are_set_against_the_network_without_the_graph(done):
    _, gains = rows_and_gains(done, CASES, 0)
    assert {(gain["model"], gain["over"]) for gain in gains} == {("sage", "mlp")}
    assert {gain["target"] for gain in gains} == set(map(str, Target))


def test_the_document_is_json_and_holds_no_number_that_is_none(done):
    arrays = job().arrays
    rows, gains = rows_and_gains(done, CASES, 0)
    whole = {
        "rows": rows,
        "gains": gains,
        "breakdowns": breakdowns(done),
        "curves": curves(done),
        "range": out_of_range(done),
        "worst": worst_pairs(arrays, done, CASES[0], "sage", "last-value"),
        "heads": heads(done, CASES, 0),
        "quantiles": quantiles(done),
    }
    json.dumps(whole, allow_nan=False)
    by = {(one["by"], one["model"], one["case"]) for one in whole["breakdowns"]}
    assert {kind for kind, _, _ in by} == {"distance", "country", "asn", "hour", "decile", "window"}
    cells = sum(
        one["cells"]
        for one in whole["breakdowns"]
        if (one["by"], one["model"], one["case"]) == ("hour", "sage", CASES[0])
    )
    assert cells == sum(len(one.asked[CASES[0], Target.RTT].cells) for one in done)
    assert all(pair["why"] for pair in whole["worst"])
    assert {(pair["model"], pair["baseline"]) for pair in whole["worst"]} == {("sage", "last-value")}
    assert whole["range"]["in_range"] + whole["range"]["out_of_range"] == sum(one.test_cells for one in done)
    assert {one["model"] for one in whole["curves"]} == {"sage", "mlp", "sage/plain"}


def test_what_lies_at_or_below_a_quantile_is_counted_over_all_jobs_before_and_after_calibration(done):
    arrays = job().arrays
    kept = {}
    again = run(job(split=1, models=("last-value",)), unheard, kept)
    question = job().protocol.splits(arrays, seed=0)[1].test
    asked = question.cells(arrays).rtt & (question.case == 0)[:, None]
    came = arrays.rtt_ms[question.windows][asked]
    for of, told in (
        ("raw", kept["last-value"].raw(arrays, question)),
        ("calibrated", kept["last-value"].predict(arrays, question)),
    ):
        (own,) = [q for q in quantiles([again]) if (q["of"], q["case"]) == (of, CASES[0])]
        assert own["nominal"] == [0.05, 0.5, 0.95]
        bounds = (told.rtt_low_ms[asked], told.rtt_ms[asked], told.rtt_high_ms[asked])
        wanted = [(came[np.isfinite(bound)] <= bound[np.isfinite(bound)]).mean() for bound in bounds]
        assert own["observed"] == pytest.approx(wanted)
        assert own["cells"] == [int(np.isfinite(bound).sum()) for bound in bounds]
    (both,) = [
        q for q in quantiles(done) if (q["model"], q["of"], q["case"]) == ("sage", "calibrated", CASES[0])
    ]
    parts = [q for one in done for q in quantiles([one]) if q["model"] == "sage"]
    parts = [q for q in parts if (q["of"], q["case"]) == ("calibrated", CASES[0])]
    assert both["cells"] == [sum(of) for of in zip(*(q["cells"] for q in parts), strict=True)]


def test_errors_by_group_are_also_in_qoe_points_and_the_least_decile_is_that_of_the_row(done):
    rows, _ = rows_and_gains(done, CASES, 0)
    (row,) = [r for r in rows if (r["model"], r["target"], r["case"]) == ("sage", "rtt", CASES[0])]
    parts = [one for one in breakdowns(done) if (one["model"], one["case"]) == ("sage", CASES[0])]
    deciles = [one["coverage_90"] for one in parts if one["by"] == "decile"]
    assert len(deciles) == 10
    assert row["coverage_90_least_decile"] == min(deciles)
    windows = [one for one in parts if one["by"] == "window"]
    cells = np.array([one["cells"] for one in windows])
    for key in ("qoe_mae_points", "mae_ms", "coverage_90", "width_90_ms"):
        mean = float(np.average([one[key] for one in windows], weights=cells))
        jobs = [one.scored["sage", CASES[0], Target.RTT] for one in done]
        sizes = [len(one.errors) for one in jobs]
        wanted = float(np.average([getattr(one.metrics, key) for one in jobs], weights=sizes))
        assert mean == pytest.approx(wanted, rel=1e-3)


def test_errors_by_distance_stand_from_near_to_far_and_unknown_distances_last(done):
    bands = ["0 to 500 km", "500 to 1000 km", "1000 to 2000 km", "2000 to 5000 km", "5000 to 10000 km"]
    bands += ["over 10000 km", "unknown"]
    detail = replace(
        done[0].details["sage", CASES[0]],
        groups={("distance", band): np.ones(7) for band in reversed(bands)},
    )
    one = replace(done[0], details={("sage", CASES[0]): detail})
    assert [part["group"] for part in breakdowns([one])] == bands


def test_pairs_without_a_place_are_at_an_unknown_distance():
    arrays = job().arrays
    there = arrays.probe_end
    lost = replace(arrays, probe_end=replace(there, latitude=np.full_like(there.latitude, np.nan)))
    parts = breakdowns([run(job(split=2, models=("last-value",), arrays=lost), unheard)])
    assert {part["group"] for part in parts if part["by"] == "distance"} == {"unknown"}


def test_cells_of_which_nothing_is_said_have_no_error():
    arrays = synthetic_arrays(probes=16, targets=5, windows=12)  # of one target the place is not known
    told = out_of_range(
        [run(job(models=("fibre-distance",), protocol="unseen-pair", arrays=arrays), unheard)]
    )
    (lacking,) = [one for one in told["reasons"] if "the place of" in one["reason"]]
    assert lacking["cells"] > 0
    assert lacking["mae_ms"] is None


def test_a_loss_that_is_no_number_leaves_a_gap_in_its_curve(done):
    cost = done[0].costs["sage"]
    learned = replace(cost.learned, losses=(math.nan, 0.5, math.inf, 0.25), best_epoch=4)
    one = replace(done[0], costs={"sage": replace(cost, learned=learned)})
    (curve,) = curves([one])
    assert curve["validation"] == [None, 0.5, None, 0.25]
    trees = replace(one, costs={"boosting": replace(cost, learned=replace(learned, epochs=None))})
    assert curves([trees]) == []


def test_what_is_made_of_others_costs_what_these_took_too():
    def cost(learning, answering, members=()):
        own = Cost(learned=Learned(epochs=1, seconds=learning), predict_seconds=answering, peak_memory_mb=1.0)
        return own.with_members(members)

    one, other = cost(3.0, 0.5), cost(None, 0.25)
    both = cost(1.0, 0.125, [one, other])
    assert (both.learned.seconds, both.predict_seconds) == (4.0, 0.875)
    assert cost(1.0, 0.0, [both]).learned.seconds == 5.0


def test_models_are_chosen_before_the_test_as_the_best_baseline_is_and_never_among_variants(done):
    rows, _ = rows_and_gains(done, CASES, 0)
    for target in Target:
        best, model = best_rows(rows, CASES[0], target)
        assert best["verdict"] == REFERENCE
        assert model["model"] == "sage"
    lucky = [
        {**row, "mae_ms": 0.0, "calibration_error": 1e9} if row["model"] == "mlp" else row for row in rows
    ]
    assert best_rows(lucky, CASES[0], Target.RTT)[1]["model"] == "sage"
    only = [row for row in rows if row["kind"] != "gnn"]
    assert best_rows(only, CASES[0], Target.RTT)[1]["model"] == "mlp"


def without_calibration(one):
    none = {key: replace(of, calibration_error=math.nan) for key, of in one.scored.items()}
    return replace(one, scored=none)


def test_a_job_without_calibration_cells_chooses_nothing_and_the_others_do(done):
    rows, _ = rows_and_gains([done[0], without_calibration(done[1])], CASES, 0)
    wanted, _ = rows_and_gains(done[:1], CASES, 0)
    for case in CASES:
        chosen, alone = (best_rows(of, case, Target.RTT) for of in (rows, wanted))
        assert [one["model"] for one in chosen] == [one["model"] for one in alone]


def test_where_there_are_no_calibration_cells_at_all_the_test_chooses_nothing_and_the_conclusion_says_so(
    done,
):
    rows, gains = rows_and_gains([without_calibration(one) for one in done], CASES, 0)
    assert rows
    assert best_rows(rows, CASES[0], Target.RTT) == (None, None)
    said = conclusion(rows, gains, CASES, synthetic=False)
    assert said.startswith("No model could be chosen before the test")


def test_the_conclusion_has_a_line_for_every_case_with_all_that_is_asked_of_the_models(done):
    rows, gains = rows_and_gains(done, CASES, 0)
    lines = conclusion(rows, gains, CASES, synthetic=True).splitlines()
    assert len(lines) == len(CASES) + 1
    for line, case in zip(lines, CASES, strict=False):
        assert line.startswith(f"{case[0].upper()}{case[1:]}. sage has a mean absolute RTT error of ")
        for said in (
            "of the best baseline, ",
            "QoE points in the mean",
            "What the graph adds: sage against the same network without the graph",
            "On loss sage has a Brier score of ",
            "The 90 % intervals of sage hold ",
            "(88 to 92 are asked: ",
            "(85 are asked: ",
            "times as wide as those of the best baseline.",
        ):
            assert said in line
    assert lines[-1].endswith("say nothing about the accuracy on the Internet.")


def test_a_tie_is_called_one_with_its_reason_and_too_few_clusters_are_no_verdict(done):
    rows, gains = rows_and_gains(done, CASES, 0)
    verdict = {
        "ratio": 0.9,
        "ratio_low": 0.8,
        "ratio_high": 1.1,
        "verdict": "tied",
        "verdict_why": "few gain",
    }
    tied = [{**row, **verdict} if row["model"] == "sage" else row for row in rows]
    said = conclusion(tied, gains, CASES[:1], synthetic=False)
    assert "a ratio of 0.900 (0.800 to 1.100 at 95 %): tied, as few gain." in said
    few = [{**row, "verdict": "too few clusters"} if row["model"] == "sage" else row for row in rows]
    assert "clusters are too few to tell the two apart (at least 30)" in conclusion(
        few, gains, CASES[:1], synthetic=False
    )


def test_coverage_is_said_to_be_met_only_within_what_is_asked(done):
    rows, gains = rows_and_gains(done, CASES, 0)

    def said(covered, least, **more):
        intervals = {"coverage_90": covered, "coverage_90_least_decile": least}
        return conclusion([{**row, **intervals} for row in rows], gains, CASES[:1], synthetic=False, **more)

    assert "hold 90.0 % of the RTTs (88 to 92 are asked: met), and in each decile" in said(0.90, 0.851)
    assert "at least 85.1 % (85 are asked: met)" in said(0.90, 0.851)
    assert "(88 to 92 are asked: not met)" in said(0.93, 0.9)
    assert "(85 are asked: not met)" in said(0.90, 0.84)
    assert "(85 to 95 are asked: met)" in said(0.93, 0.9, coverage_asked=(0.85, 0.95))


def test_without_a_model_the_conclusion_is_of_the_best_baseline_and_without_a_case_there_is_none(done):
    rows, _ = rows_and_gains(done, CASES, 0)
    only = [row for row in rows if row["kind"] == "baseline"]
    said = conclusion(only, [], CASES[:1], synthetic=False)
    assert said.startswith("The best baseline is ")
    assert "The 90 % intervals of " in said
    assert conclusion([], [], (), synthetic=False) == "Nothing could be scored."


def test_the_worst_pairs_are_told_although_nothing_of_the_case_was_asked_in_one_job(done):
    arrays = job().arrays
    other = replace(done[1], details={key: of for key, of in done[1].details.items() if key[1] != CASES[0]})
    told = worst_pairs(arrays, [done[0], other], CASES[0], "sage", "last-value")
    assert told == worst_pairs(arrays, done[:1], CASES[0], "sage", "last-value")


def test_why_a_pair_is_predicted_badly_is_read_from_its_series(done):
    arrays = job().arrays
    series = np.full(arrays.windows, 100.0)
    series[: arrays.windows // 2 : 1] = np.where(np.arange(arrays.windows // 2) % 2, 100.0, 160.0)
    series[-arrays.windows // 4 :] = np.nan
    rtt = arrays.rtt_ms.copy()
    pair = int(np.argmax(done[0].details["sage", CASES[0]].pairs[1]))
    rtt[:, pair] = series
    (told,) = [
        one
        for one in worst_pairs(replace(arrays, rtt_ms=rtt), done[:1], CASES[0], "sage", "last-value")
        if (one["probe"], one["target"]) == (arrays.probe_id[pair], arrays.target[pair])
    ]
    known = series[np.isfinite(series)]
    low, high = np.quantile(known, [0.1, 0.9])
    moves = f"it moves: eight windows of ten are between {low:.0f} and {high:.0f} ms, half below {np.median(known):.0f}"
    assert (moves in told["why"]) == (high - low > 0.5 * told["mae_ms"])
    assert f"are of {np.median(np.abs(np.diff(known))):.0f} ms or more" in told["why"]
    bias = told["predicted_ms"] - told["measured_ms"]
    assert ("mostly to one side" in told["why"]) == (abs(bias) > 0.7 * told["mae_ms"])


def test_two_processes_come_to_what_one_does():
    jobs = [job(split=split, models=("last-value", "mlp")) for split in (1, 2)]
    heard = []
    aside = run_all(jobs, 2, lambda *told: heard.append(told))
    here = run_all(jobs, 1, unheard)
    for one, other in zip(aside, here, strict=True):
        for key in here[0].scored:
            np.testing.assert_array_equal(one.scored[key].errors, other.scored[key].errors)
    assert len(heard) == 4


def test_a_leak_in_one_process_ends_the_comparison_with_the_name_of_what_leaks():
    clean = job(models=("last-value", "ewma"))
    leaking = replace(clean, models=("ewma",), protocol=_SealsNothing())
    with pytest.raises(LeakError, match="the test asks cells that are not sealed") as refused:
        run_all([clean, leaking], 2, unheard)
    assert refused.value.where == "ewma"


def test_a_process_that_dies_ends_the_comparison_with_a_line_that_says_what_to_do():
    clean = job(models=("last-value",))
    with pytest.raises(DataError, match="a process of the comparison ended before its job did"):
        run_all([clean, replace(clean, protocol=_Dies())], 2, unheard)


def test_a_process_that_dies_while_it_tells_what_came_of_its_job_ends_the_comparison_too(tmp_path):
    """Held open by anybody else, its pipe would never end, and the comparison neither."""
    clean = job(models=("last-value",))
    dying = replace(clean, protocol=_DiesTelling(str(tmp_path / "told")))

    others = set(multiprocessing.active_children())

    def hear(*told):  # nothing is received as long as this goes on
        (tmp_path / "told").touch()
        while len(set(multiprocessing.active_children()) - others) == 2:
            time.sleep(0.01)

    with pytest.raises(DataError, match="a process of the comparison ended before its job did"):
        run_all([clean, dying], 2, hear)


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="this system does not say which processes there are"
)
def test_processes_of_a_comparison_that_is_killed_end_too(tmp_path):
    comparing = f"""
from dataclasses import replace
from gnn.jobs import run_all
from tests.gnn.test_comparison import _EndsNever, job
if __name__ == "__main__":
    endless = replace(job(models=("last-value",)), protocol=_EndsNever({str(tmp_path)!r}))
    run_all([endless, endless], 2, print)
"""
    script = tmp_path / "comparing.py"
    script.write_text(comparing)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": root}) as parent:
        while len(started := list(tmp_path.glob("*.pid"))) < 2:
            assert parent.poll() is None
            time.sleep(0.01)
        parent.kill()
    until = time.monotonic() + 10.0
    while time.monotonic() < until and any(Path("/proc", file.stem).exists() for file in started):
        time.sleep(0.01)
    assert not [file for file in started if Path("/proc", file.stem).exists()]


def test_a_failure_that_cannot_be_sent_is_told_in_words():
    clean = job(models=("last-value",))
    with pytest.raises(
        DataError, match="a job of the comparison failed; found _UnsendableError: what was wrong"
    ):
        run_all([clean, replace(clean, protocol=_FailsOddly())], 2, unheard)


class _UnsendableError(Exception):
    def __init__(self, said):
        super().__init__(said)
        self.held = threading.Lock()


class _FailsOddly(type(protocol_named("forecast"))):
    def splits(self, arrays, *, seed):
        raise _UnsendableError("what was wrong")


class _Dies(type(protocol_named("forecast"))):
    """A forecast under which the process is killed, as one that fills memory is."""

    def splits(self, arrays, *, seed):
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class _DiesTelling(type(protocol_named("forecast"))):
    """A forecast whose failure is more than a pipe holds, and under which the process is killed while it tells it."""

    file: str

    def splits(self, arrays, *, seed):
        while not Path(self.file).exists():
            time.sleep(0.01)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
        raise ValueError("x" * 10_000_000)


@dataclass(frozen=True)
class _EndsNever(type(protocol_named("forecast"))):
    """A forecast that writes down the process it is in, and goes on for ever."""

    folder: str

    def splits(self, arrays, *, seed):
        Path(self.folder, f"{os.getpid()}.pid").touch()
        while True:
            time.sleep(1.0)


class _SealsNothing(type(protocol_named("forecast"))):
    """A forecast whose test is there while models learn."""

    def splits(self, arrays, *, seed):
        return tuple(
            replace(split, sealed=np.zeros_like(split.sealed)) for split in super().splits(arrays, seed=seed)
        )
