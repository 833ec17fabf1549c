"""Jobs over splits and seeds, and the document that comes of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from domain.errors import LeakError
from gnn.comparison import Job, run, run_all
from gnn.protocols import protocol_named
from gnn.report import REFERENCE, breakdowns, conclusion, curves, out_of_range, rows_and_gains, worst_pairs
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
            assert len({row["cells"] for row in whole}) == 1
            (reference,) = [row for row in whole if row["verdict"] == REFERENCE]
            assert reference["kind"] == "baseline"
            assert (reference["ci_low"], reference["ratio"], reference["tied_with_best"]) == (
                None,
                None,
                True,
            )


def test_a_variant_that_ran_in_one_job_is_compared_in_that_job_and_says_so(done):
    rows, _ = rows_and_gains(done, CASES, 0)
    (variant,) = [r for r in rows if (r["model"], r["target"], r["case"]) == ("sage/plain", "rtt", CASES[0])]
    assert (variant["splits"], variant["seeds"]) == (1, 1)
    assert variant["ratio"] is not None
    assert "difference" in variant["stated"]
    (whole,) = [r for r in rows if (r["model"], r["target"], r["case"]) == ("sage", "rtt", CASES[0])]
    assert whole["splits"] == 2
    assert variant["cells"] < whole["cells"]


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
    assert whole["range"]["in_range"] + whole["range"]["out_of_range"] == sum(one.test_cells for one in done)
    assert {one["model"] for one in whole["curves"]} == {"sage", "mlp", "sage/plain"}


def test_the_conclusion_names_the_best_model_the_best_baseline_and_what_the_graph_gives(done):
    rows, _ = rows_and_gains(done, CASES, 0)
    text = conclusion(rows, CASES[0], synthetic=True)
    assert "mean absolute RTT error of" in text
    assert "of the best baseline, " in text
    assert "The same network without the graph comes to" in text
    assert text.endswith("say nothing about the accuracy on the Internet.")


def test_two_processes_come_to_what_one_does():
    jobs = [job(split=split, models=("last-value", "mlp")) for split in (1, 2)]
    heard = []
    aside = run_all(jobs, 2, lambda what, number, of: heard.append(what))
    here = run_all(jobs, 1, unheard)
    for one, other in zip(aside, here, strict=True):
        for key in here[0].scored:
            np.testing.assert_array_equal(one.scored[key].errors, other.scored[key].errors)
    assert len(heard) == 4


def test_a_leak_in_one_process_ends_the_comparison_with_its_name():
    arrays = job().arrays
    leaking = replace(job(models=("last-value",)), protocol=_ShowsAll())
    with pytest.raises(LeakError):
        run(replace(leaking, arrays=arrays), unheard)


class _ShowsAll(type(protocol_named("forecast"))):
    """A forecast that shows the window it asks about: as past, of a window later."""

    def splits(self, arrays, *, seed):
        return tuple(
            replace(split, sealed=np.zeros_like(split.sealed)) for split in super().splits(arrays, seed=seed)
        )
