from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from domain.errors import DataError
from gnn import difference
from gnn.difference import Difference, Outcome, compare, holm


def paired(generator, *, clusters=40, largest=20, gain=0.0, shared=1.0):
    """Errors of two models; what a cluster does to one, it does in part to the other."""
    sizes = generator.integers(1, largest, size=clusters)
    number = np.repeat(np.arange(clusters), sizes)
    moved = shared * generator.normal(size=clusters)[number] + generator.normal(size=len(number))
    reference = 10.0 + generator.exponential(2.0, size=len(number))
    return {"reference": reference, "model": reference + moved - gain}, number


def resampled_by_hand(errors, clusters, resamples, generator):
    """Mean differences and ratios, cluster by cluster."""
    labels = np.unique(clusters)
    means, ratios = [], []
    for _ in range(resamples):
        cells = np.concatenate([np.flatnonzero(clusters == k) for k in generator.choice(labels, len(labels))])
        model, reference = errors["model"][cells], errors["reference"][cells]
        means.append((model - reference).mean())
        ratios.append(model.mean() / reference.mean())
    return np.quantile(means, [0.025, 0.975]), np.quantile(ratios, [0.025, 0.975])


def test_the_interval_is_that_of_a_bootstrap_cluster_by_cluster():
    errors, clusters = paired(np.random.default_rng(1), gain=0.3)
    found = compare(errors, clusters, "reference", np.random.default_rng(2))["model"]
    mean, ratio = resampled_by_hand(errors, clusters, 2000, np.random.default_rng(3))
    near = 0.08 * (mean[1] - mean[0])
    assert found.mean == pytest.approx((errors["model"] - errors["reference"]).mean())
    assert (found.ci_low, found.ci_high) == pytest.approx(mean, abs=near)
    assert found.ratio == pytest.approx(errors["model"].mean() / errors["reference"].mean())
    assert (found.ratio_low, found.ratio_high) == pytest.approx(ratio, abs=near / 10.0)


def test_the_interval_is_scipys_percentile_interval_of_a_ratio_of_sums():
    errors, clusters = paired(np.random.default_rng(4))
    sums = np.bincount(clusters, weights=errors["model"] - errors["reference"])
    counts = np.bincount(clusters)
    theirs = stats.bootstrap(
        (sums, counts),
        lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    found = compare(errors, clusters, "reference", np.random.default_rng(6))["model"]
    near = 0.08 * (theirs.high - theirs.low)
    assert (found.ci_low, found.ci_high) == pytest.approx((theirs.low, theirs.high), abs=near)


def test_the_test_is_scipys_on_the_mean_of_each_cluster():
    errors, clusters = paired(np.random.default_rng(7), gain=0.5)
    gained = errors["model"] - errors["reference"]
    means = np.array([gained[clusters == k].mean() for k in np.unique(clusters)])
    found = compare(errors, clusters, "reference", np.random.default_rng(8))["model"]
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(means).pvalue)
    plus, minus = (stats.rankdata(np.abs(means))[sign].sum() for sign in (means > 0, means < 0))
    assert found.rank_correlation == pytest.approx((plus - minus) / (plus + minus))


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    inside = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        errors, clusters = paired(generator, gain=0.4)
        found = compare(errors, clusters, "reference", generator)["model"]
        inside += found.ci_low <= -0.4 <= found.ci_high
    assert 0.90 <= inside / 300 <= 0.98  # percentile intervals of few clusters are a little short


def test_two_equal_models_are_tied_nineteen_times_in_twenty():
    tied = 0
    for seed in range(300):
        generator = np.random.default_rng(1000 + seed)
        errors, clusters = paired(generator)
        tied += compare(errors, clusters, "reference", generator)["model"].outcome is Outcome.TIED
    assert tied / 300 >= 0.93


@pytest.mark.parametrize(("gain", "outcome"), [(1.0, Outcome.BETTER), (-1.0, Outcome.WORSE)])
def test_a_model_that_gains_is_better_and_one_that_loses_is_worse(gain, outcome):
    errors, clusters = paired(np.random.default_rng(9), gain=gain)
    assert compare(errors, clusters, "reference", np.random.default_rng(0))["model"].outcome is outcome


def test_a_clear_gain_in_few_clusters_is_no_finding():
    errors, clusters = paired(np.random.default_rng(10), clusters=29, gain=3.0)
    found = compare(errors, clusters, "reference", np.random.default_rng(0))["model"]
    assert found.ci_high < 0.0
    assert found.outcome is Outcome.TOO_FEW_CLUSTERS


def test_a_mean_that_a_few_large_clusters_win_against_most_is_a_tie():
    clusters = np.concatenate([np.arange(200), np.repeat(np.arange(200, 240), 100)])
    large = clusters >= 200
    errors = {"reference": np.full(len(clusters), 5.0), "model": np.where(large, 4.0, 6.0)}
    found = compare(errors, clusters, "reference", np.random.default_rng(0))["model"]
    assert found.ci_high < 0.0
    assert found.p_holm < 0.05
    assert found.rank_correlation > 0.0
    assert found.outcome is Outcome.TIED
    assert found.why_tied("probes") == "fewer probes gain (17 %) than lose, but those by more"


def changed_by(changes):
    """A model beside its reference, of one cell a cluster, whose errors differ by these."""
    errors = {"reference": np.full(len(changes), 50.0), "model": 50.0 + np.array(changes)}
    return compare(errors, np.arange(len(changes)), "reference", np.random.default_rng(0))["model"]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_where_ranks_are_clear_and_the_mean_is_not_it_is_said_how_many_change_and_who_changes_more(sign):
    found = changed_by([sign * -1.0] * 80 + [sign * 4.3] * 19 + [0.0])
    assert found.ci_low < 0.0 < found.ci_high
    assert found.p_holm < 0.05
    assert found.outcome is Outcome.TIED
    gain, lose = ("gain", "lose") if sign > 0 else ("lose", "gain")
    assert found.why_tied() == f"80 % of the clusters {gain}, but the 19 % that {lose} do so by more"


def test_where_those_that_gain_do_so_by_more_too_the_mean_is_only_said_to_be_open():
    found = changed_by([-1.0] * 59 + [-300.0] + [1.0] * 10 + [25.0])
    assert (found.p_holm < 0.05, found.ci_high > 0.0, found.lost_to_gained < 1.0) == (True, True, True)
    assert found.why_tied() == "85 % of the clusters gain, but the mean error could be the same"


def test_where_the_mean_is_clear_and_about_half_of_the_clusters_gain_that_most_do_is_not_clear():
    found = changed_by([-60.0] * 6 + [-0.1] * 15 + [2.0] * 19)
    assert (found.ci_high < 0.0, found.p_holm > 0.05) == (True, True)
    assert found.why_tied() == "the mean error is lower, but that most clusters gain is not clear (52 % do)"


def test_nothing_is_explained_where_both_ways_of_asking_agree():
    for gain in (1.0, -1.0, 0.0):
        errors, clusters = paired(np.random.default_rng(9), gain=gain)
        found = compare(errors, clusters, "reference", np.random.default_rng(0))["model"]
        assert found.why_tied() == ""


def test_one_of_many_models_needs_more_than_one_alone():
    errors, clusters = paired(np.random.default_rng(11), gain=0.3)
    alone = compare(errors, clusters, "reference", np.random.default_rng(0))["model"]
    others = {f"other {i}": paired(np.random.default_rng(11))[0]["model"] for i in range(40)}
    among = compare({**errors, **others}, clusters, "reference", np.random.default_rng(0))["model"]
    assert alone.outcome is Outcome.BETTER
    assert among.outcome is Outcome.TIED
    assert (among.p_wilcoxon, among.ci_low) == pytest.approx((alone.p_wilcoxon, alone.ci_low))


@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=8),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20, deadline=None)
def test_neither_the_order_of_cells_nor_the_labels_of_clusters_matter(sizes, seed):
    generator = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    # Whole numbers, whose sums do not depend on their order.
    errors = {name: generator.integers(0, 4, len(clusters)).astype(float) for name in ("a", "b", "c")}
    relabelled = generator.permutation(1000)[: len(sizes)][clusters]
    order = generator.permutation(len(clusters))
    before = compare(errors, clusters, "b", np.random.default_rng(seed))
    after = compare(
        {name: errors[name][order] for name in ("c", "b", "a")},
        relabelled[order],
        "b",
        np.random.default_rng(seed),
    )
    assert before == after


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_in_other_units_the_difference_scales_and_the_ratio_stays(seed):
    errors, clusters = paired(np.random.default_rng(seed), clusters=10)
    before = compare(errors, clusters, "reference", np.random.default_rng(0))["model"]
    after = compare(
        {name: 4.0 * error for name, error in errors.items()}, clusters, "reference", np.random.default_rng(0)
    )["model"]
    assert (after.ci_low, after.ci_high) == pytest.approx((4.0 * before.ci_low, 4.0 * before.ci_high))
    assert (after.ratio, after.ratio_high) == pytest.approx((before.ratio, before.ratio_high))
    assert after.p_wilcoxon == before.p_wilcoxon


def test_one_cluster_says_nothing_and_says_so():
    errors = {"reference": np.array([1.0, 3.0]), "model": np.array([2.0, 4.0])}
    found = compare(errors, np.array([7, 7]), "reference", np.random.default_rng(0))["model"]
    assert (found.mean, found.ci_low, found.ci_high, found.p_wilcoxon) == (1.0, 1.0, 1.0, 1.0)
    assert found.outcome is Outcome.TOO_FEW_CLUSTERS


def test_a_model_that_is_its_reference_is_tied_with_it():
    error = np.random.default_rng(0).exponential(size=80)
    found = compare({"a": error, "b": error.copy()}, np.arange(80) // 2, "a", np.random.default_rng(0))["b"]
    assert found == Difference(
        mean=0.0,
        ci_low=0.0,
        ci_high=0.0,
        ratio=1.0,
        ratio_low=1.0,
        ratio_high=1.0,
        p_wilcoxon=1.0,
        p_holm=1.0,
        rank_correlation=0.0,
        clusters=40,
        gaining=0.0,
        losing=0.0,
        lost_to_gained=None,
    )
    assert found.outcome is Outcome.TIED


def test_a_reference_without_error_has_no_ratio():
    error = np.zeros(40)
    found = compare({"a": error, "b": error + 1.0}, np.arange(40), "a", np.random.default_rng(0))["b"]
    assert (found.ratio, found.ratio_low, found.ratio_high) == (None, None, None)
    assert found.outcome is Outcome.WORSE


def test_a_reference_alone_is_compared_with_nothing():
    assert compare({"a": np.ones(3)}, np.arange(3), "a", np.random.default_rng(0)) == {}


@pytest.mark.parametrize(
    ("errors", "clusters"),
    [
        ({"a": np.zeros(0), "b": np.zeros(0)}, np.zeros(0, dtype=np.int64)),
        ({"a": np.ones(3), "b": np.array([1.0, np.nan, 1.0])}, np.arange(3)),
        ({"a": np.ones(3), "b": np.ones(2)}, np.arange(3)),
        ({"b": np.ones(3)}, np.arange(3)),
    ],
)
def test_what_cannot_be_compared_is_refused(errors, clusters):
    with pytest.raises(DataError):
        compare(errors, clusters, "a", np.random.default_rng(0))


def test_many_clusters_are_drawn_a_part_at_a_time(monkeypatch):
    errors, clusters = paired(np.random.default_rng(12))
    at_once = compare(errors, clusters, "reference", np.random.default_rng(0))
    monkeypatch.setattr(difference, "MOST_DRAWN", 40 * 7)
    assert compare(errors, clusters, "reference", np.random.default_rng(0)) == at_once


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0.0, 1.0), max_size=6))
def test_holm_keeps_the_order_and_lies_between_the_value_and_bonferroni(p):
    adjusted = holm(p)
    assert list(adjusted) == list(p)
    for name, value in p.items():
        assert value <= adjusted[name] <= min(1.0, len(p) * value)
    ascending = sorted(p, key=lambda name: p[name])
    assert all(adjusted[one] <= adjusted[next_one] for one, next_one in pairwise(ascending))
