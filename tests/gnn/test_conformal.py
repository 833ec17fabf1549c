from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from domain.errors import ArtefactError
from gnn import conformal
from gnn.conformal import (
    COVERAGE,
    GROUPS,
    LEAST_CELLS,
    LEVELS,
    Calibration,
    calibrate,
    equal_parts,
    next_alpha,
    reliability,
)


def paths(generator, count, *, scale=1.0):
    """What is said of RTT, and a truth with more and more skewed noise the longer the path."""
    said = generator.uniform(5.0, 200.0, size=count)
    noise = generator.lognormal(0.0, 1.0, size=count) - 1.0
    return said, said + scale * 0.05 * said**1.3 * noise


def calibrated_on(said, truth, *, low=None, high=None, case=None, **more):
    return calibrate(
        truth,
        said if low is None else low,
        said,
        said if high is None else high,
        np.zeros(len(said), dtype=np.int64) if case is None else case,
        **more,
    )


def covered(truth, bounds):
    """The share of cells inside."""
    return float(((bounds[0] <= truth) & (truth <= bounds[1])).mean())


def width(bounds):
    return float((bounds[1] - bounds[0]).mean())


def alpha_after(misses, cells=None):
    """Alpha after windows that missed so much, of so many cells each."""
    alpha = 1.0 - COVERAGE
    for missed, known in zip(misses, cells or [math.inf] * len(misses), strict=True):
        alpha = next_alpha(alpha, missed, known)
    return alpha


def test_every_group_is_covered_as_often_as_said_when_cells_are_exchangeable():
    by_group = np.zeros((60, GROUPS))
    for seed in range(60):
        generator = np.random.default_rng(seed)
        said, truth = paths(generator, 3000)
        found = calibrated_on(said, truth)
        said, truth = paths(generator, 20_000)
        low, high = found.widen(said, said, said, 0)
        inside = (low <= truth) & (truth <= high)
        group = found.group(said)
        by_group[seed] = np.bincount(group, weights=inside) / np.bincount(group)
    # 300 cells a group: a standard deviation of .017 each, of .0022 over 60 calibrations.
    assert np.abs(by_group.mean(axis=0) - COVERAGE).max() < 0.01
    assert by_group.std() == pytest.approx(0.017, abs=0.004)


def test_choosing_the_narrower_share_costs_little_coverage():
    found_covered = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        said, truth = paths(generator, 5000)
        found = calibrated_on(said, truth)
        said, truth = paths(generator, 20_000)
        found_covered.append(covered(truth, found.widen(said, said, said, 0)))
    assert np.mean(found_covered) == pytest.approx(COVERAGE, abs=0.005)


def test_groups_are_covered_alike_where_one_factor_for_all_leaves_long_paths_out():
    generator = np.random.default_rng(0)
    said, truth = paths(generator, 100_000)
    found = calibrated_on(said, truth)
    half_ms = np.quantile(np.abs(truth - said), COVERAGE)
    said, truth = paths(generator, 100_000)
    group = equal_parts(said)
    low, high = found.widen(said, said, said, 0)
    parts = [group == k for k in range(GROUPS)]
    by_all = [covered(truth[of], (said[of] - half_ms, said[of] + half_ms)) for of in parts]
    by_group = [covered(truth[of], (low[of], high[of])) for of in parts]
    assert min(by_all) < 0.8
    assert 0.88 < min(by_group) <= max(by_group) < 0.92


def test_skewed_noise_gets_narrower_intervals_than_one_score_for_both_sides_would_give():
    generator = np.random.default_rng(1)
    said, truth = paths(generator, 20_000)
    found = calibrated_on(said, truth)
    group = found.group(said)
    half_ms = np.array([np.quantile(np.abs(truth - said)[group == k], COVERAGE) for k in range(GROUPS)])
    said, truth = paths(generator, 20_000)
    both = half_ms[found.group(said)]
    ours, theirs = found.widen(said, said, said, 0), (said - both, said + both)
    assert covered(truth, ours) == pytest.approx(covered(truth, theirs), abs=0.01)
    assert width(ours) < 0.9 * width(theirs)


def test_bounds_that_are_too_wide_come_in_and_keep_their_shape():
    generator = np.random.default_rng(2)
    said = generator.uniform(20.0, 100.0, size=20_000)
    spread = generator.uniform(0.1, 3.0, size=20_000)
    truth = said + spread * generator.normal(size=20_000)
    low, high = said - 4.0 * spread, said + 4.0 * spread
    half = 10_000
    found = calibrated_on(said[:half], truth[:half], low=low[:half], high=high[:half])
    ours = found.widen(low[half:], said[half:], high[half:], 0)
    assert covered(truth[half:], ours) == pytest.approx(COVERAGE, abs=0.01)
    assert width(ours) == pytest.approx(2.0 * 1.645 * spread.mean(), rel=0.05)
    assert np.corrcoef(ours[1] - ours[0], spread[half:])[0, 1] > 0.99


def test_the_bound_is_the_ranked_score_of_the_textbook():
    generator = np.random.default_rng(3)
    moved = generator.permutation(np.arange(-49.0, 50.0))  # 99 cells: rank 95 of 99 on each side
    said = np.full(99, 500.0)
    found = calibrated_on(said, said + moved, least_width_ms=1.0)
    low, high = found.widen(said[:1], said[:1], said[:1], 0)
    assert (low[0], high[0]) == pytest.approx((500.0 - 45.0, 500.0 + 45.0))


def test_few_cells_borrow_from_neighbours_and_never_from_another_case():
    generator = np.random.default_rng(4)
    said, truth = paths(generator, 6000)
    case = np.where(np.arange(6000) < 250, 3, 1)
    truth[case == 3] = said[case == 3]  # a case that is never wrong
    found = calibrated_on(said, truth, case=case)
    assert found.cases.tolist() == [1, 3]
    assert found.cells[0].sum() == 5750
    assert (found.cells[1] >= LEAST_CELLS).all()
    assert found.cells[1].max() <= 250
    low, high = found.widen(said[:250], said[:250], said[:250], 3)
    assert (high - low) == pytest.approx(found.least_width_ms)


def test_a_case_that_was_not_calibrated_has_no_interval():
    said, truth = paths(np.random.default_rng(5), 1000)
    found = calibrated_on(said, truth, case=np.full(1000, 4))
    for unknown in (0, 3, 5):
        assert np.isnan(found.widen(said, said, said, unknown)).all()
    assert np.isfinite(found.widen(said, said, said, 4)).all()


def drifting(generator, windows=200, cells=60):
    """Noise that nearly doubles."""
    said = generator.uniform(50.0, 200.0, size=(windows, cells))
    growth = np.linspace(1.0, 1.8, windows)[:, None]
    return said, said + growth * generator.normal(size=(windows, cells))


def test_alpha_that_adapts_keeps_the_coverage_under_drift_where_a_fixed_one_does_not():
    generator = np.random.default_rng(6)
    said = generator.uniform(50.0, 200.0, size=5000)
    found = calibrated_on(said, said + generator.normal(size=5000))
    said, truth = drifting(generator)
    alpha, fixed, following = 1.0 - COVERAGE, [], []
    for t in range(len(said)):
        fixed.append(covered(truth[t], found.widen(said[t], said[t], said[t], 0)))
        following.append(covered(truth[t], found.widen(said[t], said[t], said[t], 0, alpha)))
        alpha = next_alpha(alpha, 1.0 - following[-1])
    assert np.mean(fixed[50:]) < 0.8
    assert 0.88 < np.mean(following[50:]) < 0.92


def test_alpha_grows_back_when_intervals_miss_less_than_they_may():
    assert alpha_after([0.0] * 20) > 0.15
    assert alpha_after([0.1] * 20) == pytest.approx(0.1)
    assert alpha_after([0.3] * 5) < 0.06


def test_windows_without_cells_change_nothing_and_windows_of_few_change_little():
    assert next_alpha(0.1, np.nan) == next_alpha(0.1, 0.5, cells=0) == 0.1
    moved = [0.1 - next_alpha(0.1, 0.5, cells=cells) for cells in (1, 20, 1000)]
    assert moved == sorted(moved)
    assert moved[0] < 0.1 * moved[2]
    assert alpha_after([0.5, 0.2], [20, 1e9]) == pytest.approx(0.1 - 0.05 * (0.4 / 2.0 + 0.1))


@given(st.lists(st.one_of(st.floats(0.0, 1.0), st.just(np.nan)), max_size=60))
def test_alpha_stays_where_factors_are_kept(misses):
    assert 1.0 - LEVELS[-1] <= alpha_after(misses) <= 1.0 - LEVELS[0]


@pytest.fixture(scope="module")
def found():
    """Calibrated on quantiles that are far too narrow, for two cases."""
    generator = np.random.default_rng(7)
    said, truth = paths(generator, 9000)
    return calibrated_on(said, truth, low=0.99 * said, high=1.02 * said, case=np.arange(9000) % 2)


@given(
    raw=st.lists(st.floats(0.0, 500.0), min_size=3, max_size=3),
    case=st.integers(0, 1),
    alphas=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6),
)
@settings(max_examples=100)
def test_a_smaller_alpha_never_narrows(found, raw, case, alphas):
    alphas = np.sort(alphas)
    low, high = found.widen(*(np.full(len(alphas), value) for value in raw), case, alphas)
    assert (np.diff(low) >= -1e-9).all()
    assert (np.diff(high) <= 1e-9).all()


@given(raw=st.lists(st.floats(0.0, 1000.0), min_size=3, max_size=3), alpha=st.floats(0.0, 1.0))
def test_an_interval_holds_its_middle_is_not_below_zero_and_not_too_narrow(found, raw, alpha):
    low, high = (float(bound) for bound in found.widen(*(np.array(value) for value in raw), 0, alpha))
    assert 0.0 <= low <= raw[1] < high
    half = found.least_width_ms / 2.0
    assert high - raw[1] >= half * (1.0 - 1e-9)
    assert raw[1] - low >= min(half, raw[1]) * (1.0 - 1e-9)


def test_in_other_units_the_interval_scales():
    said, truth = paths(np.random.default_rng(8), 5000)
    case = np.zeros(5000, dtype=np.int64)
    raw = (0.95 * said, said, 1.2 * said)
    scaled = tuple(10.0 * bound for bound in raw)
    before = np.array(calibrate(truth, *raw, case).widen(*raw, case))
    exact = np.array(calibrate(10.0 * truth, *scaled, case, least_width_ms=1.0).widen(*scaled, case))
    about = np.array(calibrate(10.0 * truth, *scaled, case).widen(*scaled, case))
    assert exact == pytest.approx(10.0 * before, rel=1e-9)
    assert about == pytest.approx(10.0 * before, rel=0.02)


def test_each_cell_may_have_its_own_case_and_each_window_its_own_alpha(found):
    said = np.linspace(10.0, 190.0, 12).reshape(3, 4)
    case, alpha = np.array([[0, 1, 0, 1]]), np.array([[0.05], [0.1], [0.2]])
    low, high = found.widen(said, said, said, case, alpha)
    for q in range(3):
        for p in range(4):
            one = np.array([said[q, p]])
            alone = found.widen(one, one, one, int(case[0, p]), float(alpha[q, 0]))
            assert (low[q, p], high[q, p]) == (alone[0][0], alone[1][0])


def test_between_two_levels_the_interval_lies_between_theirs(found):
    one = np.array([80.0])
    narrow, between, wide = (found.widen(one, one, one, 0, alpha)[1][0] for alpha in (0.07, 0.065, 0.06))
    assert between == pytest.approx((narrow + wide) / 2.0)


def test_what_was_saved_is_taken_back_bit_for_bit(found):
    state = found.state()
    assert {values.dtype for values in state.values()} == {np.dtype(np.float64)}
    again = Calibration.from_state(load(save(state)))
    for name, values in again.state().items():
        assert values.tobytes() == state[name].tobytes()
    said = np.linspace(1.0, 300.0, 50)
    assert np.array_equal(found.widen(said, said, said, 1), again.widen(said, said, said, 1))


@pytest.mark.parametrize(
    "damage",
    [
        {"factors": None},
        {"other": np.zeros(3)},
        {"cases": np.zeros(5)},
        {"edges_ms": np.zeros(8)},
        {"levels": np.zeros(())},
    ],
)
def test_a_state_that_does_not_fit_together_is_refused(found, damage):
    state = {name: values for name, values in {**found.state(), **damage}.items() if values is not None}
    with pytest.raises(ArtefactError, match="fit together"):
        Calibration.from_state(state)


def test_paths_that_never_move_get_the_resolution_of_the_clock():
    said = np.full(500, 20.0)
    found = calibrated_on(said, said, low=said - 5.0, high=said + 5.0)
    low, high = found.widen(np.array([15.0]), np.array([20.0]), np.array([25.0]), 0)
    assert (low[0], high[0]) == pytest.approx((19.95, 20.05))


@pytest.mark.parametrize(("cells", "known"), [(0, False), (5, False), (18, False), (19, True)])
def test_too_few_cells_give_no_interval(cells, known):
    said, truth = paths(np.random.default_rng(9), cells)
    found = calibrated_on(said, truth)
    one = np.array([50.0])
    assert np.isfinite(found.widen(one, one, one, 0)).all() == known
    again = Calibration.from_state(found.state())
    assert np.array_equal(again.widen(one, one, one, 0), found.widen(one, one, one, 0), equal_nan=True)


def test_an_alpha_smaller_than_cells_can_tell_takes_the_widest_that_is_known():
    said, truth = paths(np.random.default_rng(10), 50)
    found = calibrated_on(said, truth)
    one = np.array([50.0])
    widest = found.widen(one, one, one, 0, 0.001)
    assert np.isfinite(widest).all()
    assert widest[1][0] >= found.widen(one, one, one, 0)[1][0]


def test_what_is_not_predicted_stays_so_and_what_is_not_known_teaches_nothing():
    said, truth = paths(np.random.default_rng(11), 1000)
    clean = calibrated_on(said, truth)
    more = [np.append(values, [np.nan, 50.0]) for values in (said, truth)]
    more[1][-1] = np.nan
    found = calibrated_on(more[0], more[1])
    assert np.array_equal(found.factors, clean.factors)
    low, high = found.widen(
        np.array([np.nan, 40.0, np.nan]), np.array([np.nan, 50.0, 50.0]), np.array([60.0, 60.0, 60.0]), 0
    )
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False, True]


def test_crossed_quantiles_are_put_in_order(found):
    middle = np.array([50.0])
    crossed = found.widen(np.array([60.0]), middle, np.array([40.0]), 0)
    assert np.array_equal(crossed, found.widen(middle, middle, middle, 0))


@given(
    st.lists(st.one_of(st.integers(0, 6).map(float), st.just(np.nan)), max_size=40),
    st.integers(1, 10),
)
def test_equal_values_are_in_one_part_and_larger_ones_in_no_earlier(values, parts):
    values = np.array(values)
    part = equal_parts(values, parts)
    known = np.isfinite(values)
    assert (part[~known] == -1).all()
    assert ((part[known] >= 0) & (part[known] < parts)).all()
    ascending = np.argsort(values[known])
    assert (np.diff(part[known][ascending]) >= 0).all()
    assert len(np.unique(values[known])) >= len(np.unique(part[known]))


def test_distinct_values_fall_into_parts_of_equal_size():
    values = np.random.default_rng(13).permutation(1000).astype(float)
    assert np.bincount(equal_parts(values)).tolist() == [100] * 10


def test_a_probability_that_is_true_lies_on_the_diagonal():
    generator = np.random.default_rng(14)
    probability = generator.beta(0.5, 4.0, size=50_000)
    found = reliability(probability, generator.random(50_000) < probability)
    assert found.cells.tolist() == [5000] * 10
    assert (np.diff(found.predicted) > 0.0).all()
    assert found.observed == pytest.approx(found.predicted, abs=0.02)


def test_equal_probabilities_share_a_bin_and_none_are_no_bins():
    found = reliability(np.array([0.1] * 30 + [0.7] + [np.nan]), np.array([True] * 3 + [False] * 29))
    assert found.cells.tolist() == [30, 1]
    assert found.observed.tolist() == [0.1, 0.0]
    assert len(reliability(np.zeros(0), np.zeros(0, dtype=np.bool_)).cells) == 0


def test_the_target_is_one_of_the_levels_and_they_ascend():
    assert COVERAGE in LEVELS
    assert (np.diff(LEVELS) > 0.0).all()
    assert (LEVELS[0], LEVELS[-1]) == (0.5, 0.999)
    assert conformal.SHAPED_CELLS * min(conformal.SHARES) * (1.0 - COVERAGE) >= 1.0  # such a rank exists
