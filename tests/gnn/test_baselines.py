"""What every baseline must do under each protocol it serves, and what each is checked against."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from domain.errors import ArtefactError, DataError
from domain.place import FIBRE_KM_PER_MS, distance_km
from gnn import history
from gnn.audit import audit_answers
from gnn.baselines.boosting import Boosting, BoostingSettings
from gnn.baselines.ewma import HALF_LIVES
from gnn.baselines.fibre_distance import FibreDistance
from gnn.baselines.levels import LevelBaseline, Table, host_effects, least_absolute, of_both_hosts
from gnn.baselines.low_rank import LowRank, factors
from gnn.baselines.nearest_places import NearestPlaces
from gnn.baselines.node_effects import NodeEffects
from gnn.baselines.rolling_median import SPANS
from gnn.baselines.simple import TARGETS
from gnn.baselines.stack import STACKED, weighed
from gnn.baselines.told import told_by_mates
from gnn.baselines.trees import Growth, Trees, grown
from gnn.baselines.vivaldi import STEPS, Vivaldi
from gnn.path_graph import PathGraphConfig, path_graph
from gnn.prediction import NEVER_ANSWERED, NEVER_SENT, Prediction
from gnn.predictor import Kind
from gnn.protocols import PROTOCOLS, protocol_named
from gnn.protocols.forecast import Forecast
from gnn.registry import PREDICTORS, predictor_class
from tests.gnn.anchor_mesh import FIRST_PROBE, anchor_mesh, of_pairs
from tests.gnn.conftest import synthetic_arrays

pytestmark = pytest.mark.usefixtures("few_masks")

TREES = BoostingSettings(rounds=12, bound_rounds=6, cells=1000, redraws=1, least_cells=10)
BASELINES = [name for name in PREDICTORS if predictor_class(name).kind is Kind.BASELINE]
OF_PAST = [name for name in BASELINES if predictor_class(name).needs_past]
EQUIVARIANT = [
    name for name in BASELINES if name not in ("nearest-profiles", "boosting", "boosting-around", "stack")
]
"""The others look at the path graph, whose units are in ms."""

ALIKE = [
    name for name in BASELINES if issubclass(predictor_class(name), LevelBaseline) and name != "node-effects"
]
"""What they do differently from node effects is a fit of levels: they are tried where pairs have met and where they have not, and
node effects under every protocol."""

SERVED = [
    (name, under)
    for name in BASELINES
    for under in sorted(PROTOCOLS)
    if not (under.startswith("unseen") and predictor_class(name).needs_past)
    and not (name in ALIKE and under in ("imputation", "unseen-probe"))
    and not (
        name == "boosting-around" and under == "unseen-pair"
    )  # an unseen probe asks it the same, and more
    and not (name == "stack" and under != "forecast")  # it sees what its members say, which is audited above
]
every = pytest.mark.parametrize("name", BASELINES)
every_served = pytest.mark.parametrize(("name", "under"), SERVED)
however_far_a_fit_has_come = pytest.mark.usefixtures("rough_fits")


@cache
def data(under):
    """Small arrays, as the protocol views them: each part of a split asks something that was measured."""
    if not under.startswith("unseen"):
        return synthetic_arrays(probes=5, targets=4, windows=20)
    if under == "unseen-pair":
        return protocol_named(under).view(anchor_mesh(anchors=20, probes=0, windows=2, families=(4,)))
    # Twenty hosts, each measured with twelve of the others, so that more than the five seen are left of the one that is kept.
    mesh = anchor_mesh(anchors=20, probes=0, windows=1, families=(4,))
    other = np.array([int(one.rsplit(".", 1)[1]) for one in mesh.target])
    near = np.isin((other - (mesh.probe_id - FIRST_PROBE)) % 20, range(1, 7))
    return protocol_named(under).view(of_pairs(mesh, near))


def tenfold(arrays):
    return replace(arrays, rtt_ms=10.0 * arrays.rtt_ms, jitter_ms=10.0 * arrays.jitter_ms)


def uncounted(arrays):
    return replace(
        arrays,
        sent=np.zeros_like(arrays.sent),
        received=np.zeros_like(arrays.received),
        jitter_ms=np.full_like(arrays.jitter_ms, np.nan),
    )


def unfitted(name):
    kind = predictor_class(name)
    return kind(TREES) if issubclass(kind, Boosting) else kind()


def fit(name, arrays, under="forecast", *, members=None):
    protocol = protocol_named(under)
    split = protocol.splits(arrays, seed=0)[-1]
    predictor = unfitted(name)
    predictor.reuse(members or {})
    _, verdict = predictor.fit(arrays, split, protocol, seed=0)
    assert verdict.passed  # of its inputs
    return predictor, split


@cache
def fitted(name, under="forecast", changed=None):
    """Fitted on the arrays, or on what a function makes of them; what others are made of is fitted once."""
    arrays = data(under) if changed is None else changed(data(under))
    return fit(name, arrays, under, members=members_of(name, under, changed))


def members_of(name, under, changed=None):
    return {member: fitted(member, under, changed)[0] for member in predictor_class(name).members}


@every
def test_it_is_documented_cited_and_carries_its_name(name):
    kind = predictor_class(name)
    assert kind.name == name
    assert len(inspect.getdoc(kind)) > 20
    assert len(inspect.getdoc(inspect.getmodule(kind))) > 20
    assert any(year in kind.citation for year in map(str, range(1950, 2030)))


@every_served
@however_far_a_fit_has_come
def test_it_is_audited_and_predicts_physical_numbers_in_order_under_protocols_it_serves(name, under):
    arrays = data(under)
    predictor, split = fitted(name, under)
    told = predictor.raw(arrays, split.test)
    assert {getattr(told, field.name).shape for field in fields(Prediction)} == {
        (len(split.test), arrays.pairs)
    }
    for target in ("rtt", "jitter"):
        low, middle, high = (getattr(told, f"{target}{bound}_ms") for bound in ("_low", "", "_high"))
        known = np.isfinite(middle)
        assert ((low[known] >= 0.0) & (low[known] <= middle[known]) & (middle[known] <= high[known])).all()
    for ratio in (told.any_loss_probability, told.loss_ratio):
        known = np.isfinite(ratio)
        assert ((ratio[known] >= 0.0) & (ratio[known] <= 1.0)).all()
    certain = told.any_loss_probability[np.isfinite(told.any_loss_probability)]
    assert ((certain > 0.0) & (certain < 1.0)).all()
    np.testing.assert_array_equal(told.in_range, np.isfinite(told.rtt_ms))
    np.testing.assert_array_equal(told.reason == "", told.in_range)
    scored = split.test.cells(arrays).rtt & told.in_range
    assert scored.any()
    wrong = np.abs(told.rtt_ms - arrays.rtt_ms[split.test.windows])[scored]
    assert np.median(wrong) < 15.0  # ms; the paths lie between 10 and 120 ms
    audit_answers(predictor, arrays, split.test.part(slice(len(split.test) - 1, None))).require(name)


@every
@however_far_a_fit_has_come
def test_its_state_makes_it_again_bit_for_bit(name):
    under = "forecast"
    predictor, split = fitted(name, under)
    again = type(predictor).configured(predictor.config())
    again.restore(predictor.state(), predictor.columns)
    assert again.columns == predictor.columns
    one, other = (each.raw(data(under), split.test) for each in (predictor, again))
    for field in fields(Prediction):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "stack"])  # it draws nothing
@however_far_a_fit_has_come
def test_the_same_seed_gives_the_same_bits(name):
    one = fitted(name)[0]
    other = fit(name, data("forecast"))[0]
    for key, values in one.state().items():
        np.testing.assert_array_equal(values, other.state()[key])


@pytest.mark.parametrize(
    ("name", "under"),
    [(name, "imputation" if predictor_class(name).needs_past else "unseen-pair") for name in EQUIVARIANT]
    + [("node-effects", "imputation")],
)
@however_far_a_fit_has_come
def test_ten_times_the_milliseconds_are_ten_times_the_prediction(name, under, monkeypatch):
    # Vivaldi starts where light in fibre says, which does not know that milliseconds are ten: its fit is another of the same, once it
    # has come to rest.
    monkeypatch.setattr("gnn.baselines.vivaldi.STEPS", STEPS)
    close = {"rtol": 0.1, "atol": 20.0} if name == "vivaldi" else {"rtol": 1e-6}
    arrays, more = data(under), tenfold(data(under))
    (one, split), (other, _) = fit(name, arrays, under, members={}), fit(name, more, under, members={})
    told, ten = one.raw(arrays, split.test), other.raw(more, split.test)
    for value in ("rtt_ms", "rtt_low_ms", "rtt_high_ms", "jitter_ms", "jitter_high_ms"):
        np.testing.assert_allclose(10.0 * getattr(told, value), getattr(ten, value), **close, err_msg=value)
    np.testing.assert_allclose(told.any_loss_probability, ten.any_loss_probability, rtol=1e-9)


@pytest.mark.parametrize("name", [*OF_PAST, "boosting", "boosting-around"])
@however_far_a_fit_has_come
def test_of_a_pair_never_measured_it_has_nothing_to_say_and_says_why(name):
    arrays = data("forecast")
    sent, rtt = arrays.sent.copy(), arrays.rtt_ms.copy()
    sent[:, 0] = 0
    rtt[:, :2] = np.nan  # pair 0 was never sent to, pair 1 never answered
    changed = replace(
        arrays,
        sent=sent,
        received=np.where(np.isfinite(rtt), arrays.received, 0),
        rtt_ms=rtt,
        jitter_ms=np.where(np.isfinite(rtt), arrays.jitter_ms, np.nan),
    )
    predictor, split = fit(name, changed)
    told = predictor.raw(changed, split.test)
    assert not told.in_range[:, :2].any()
    assert (told.reason[:, 0] == NEVER_SENT).all()
    assert (told.reason[:, 1] == NEVER_ANSWERED).all()
    for value in (told.rtt_ms, told.rtt_low_ms, told.rtt_high_ms, told.jitter_ms):
        assert np.isnan(value[:, :2]).all()
    assert np.isnan(told.any_loss_probability[:, 0]).all()
    assert np.isfinite(told.any_loss_probability[:, 1]).all()  # its loss is known


@every
@however_far_a_fit_has_come
def test_of_paths_whose_packets_nobody_counted_rtt_is_predicted_and_no_loss_and_no_jitter(name):
    arrays = uncounted(data("forecast"))
    predictor, split = fitted(name, changed=uncounted)
    told = predictor.raw(arrays, split.test)
    asked = split.test.cells(arrays).rtt
    assert np.isfinite(told.rtt_ms[asked]).all()
    for unknown in (told.any_loss_probability, told.loss_ratio, told.jitter_ms):
        assert np.isnan(unknown).all()


@every
def test_it_refuses_to_predict_before_it_was_fitted(name):
    with pytest.raises(DataError, match="not fitted"):
        unfitted(name).raw(data("forecast"), Forecast().question(data("forecast"), np.array([5])))


# --- from the pair's own past


@pytest.mark.parametrize("under", ["forecast", "imputation"])
def test_what_is_taken_from_the_past_is_what_pandas_would_take(under):
    arrays = data(under)
    split = fitted("last-value", under)[1]
    for name in OF_PAST:
        predictor, _ = fitted(name, under)
        option = dict(zip(TARGETS, predictor.state()["option"], strict=True))["rtt_ms"]
        told = predictor.raw(arrays, split.test).rtt_ms
        for row in range(0, len(split.test), 5):
            window, until = int(split.test.windows[row]), int(split.test.seen_until[row])
            for pair in (0, 7):
                past = arrays.rtt_ms[:until, pair]
                latest = past[np.isfinite(past)][-1]
                if name == "last-value":
                    expected = latest
                elif name == "rolling-median":
                    recent = past[max(until - SPANS[option], 0) :]
                    expected = np.nanmedian(recent) if np.isfinite(recent).any() else latest
                elif name == "seasonal-median":
                    expected = np.nanmedian(
                        past[np.arange(until) % 8 == window % 8]
                    )  # eight windows of 3 h a day
                else:
                    weight = 0.5 ** (np.arange(until)[::-1] / HALF_LIVES[option])
                    known = np.isfinite(past)
                    expected = np.average(past[known], weights=weight[known])
                np.testing.assert_allclose(told[row, pair], expected)


def test_loss_follows_on_what_the_latest_window_had_drawn_towards_what_all_pairs_do():
    arrays = of_pairs(synthetic_arrays(), np.array([0]))
    losses = [0, 0, 3, None, 2, 0, 0, 4, 0]
    lost = np.array([0 if loss is None else loss for loss in losses])[:, None]
    sent = np.array([0 if loss is None else 10 for loss in losses])[:, None]
    changed = replace(
        arrays,
        window_start_s=arrays.window_start_s[: len(losses)],
        rtt_ms=arrays.rtt_ms[: len(losses)],
        jitter_ms=arrays.jitter_ms[: len(losses)],
        sent=sent,
        received=sent - lost,
    )
    question = Forecast().question(changed, np.arange(1, 10))
    (probability,), (ratio,) = predictor_class("last-value")().losses(changed, question)
    np.testing.assert_allclose(ratio[:, 0], [0, 0, 0.3, 0.3, 0.2, 0, 0, 0.4, 0])
    # No loss was followed by 0, 3, 0, 4, which all pairs are too; three of eight windows were lossy.
    rate = 3.5 / 9.0
    everyone = (2 + rate) / (4 + 1)
    assert probability[-1, 0] == pytest.approx((2 + everyone) / (4 + 1))


def test_the_option_that_erred_least_on_the_validation_windows_is_taken():
    arrays = data("forecast")
    predictor, split = fitted("ewma")
    inputs = predictor.inputs(arrays, split.validation)
    scored = split.validation.cells(arrays).rtt
    truth = arrays.rtt_ms[split.validation.windows]
    wrong = [
        np.abs(inputs.column(predictor.named("rtt_ms", option)) - truth)[scored].mean()
        for option in predictor.options
    ]
    assert int(predictor.state()["option"][0]) == int(np.argmin(wrong))


# --- levels of hosts


def planted(level_of, *, hosts=40, share=0.6, seed=0):
    """A table of all pairs of so many hosts, whose levels are known of some; and those of all."""
    mesh = protocol_named("unseen-pair").view(
        anchor_mesh(anchors=hosts, probes=0, windows=1, families=(4,), measured=1.0)
    )
    table = Table.of(mesh)
    level = level_of(table, np.random.default_rng(seed))
    shown = np.random.default_rng(seed + 1).random(len(level)) < share
    return table, np.where(shown, level, np.nan), level


def off(baseline, table, seen, level):
    hidden = ~np.isfinite(seen)
    return np.abs(baseline.fitted(table, table.seen(seen)) - level)[hidden]


def test_the_fibre_of_a_pair_is_as_long_as_the_great_circle_there_and_back():
    arrays = data("unseen-pair")
    table = Table.of(arrays)
    pair = 17
    kilometres = distance_km(
        *(
            float(getattr(end, axis)[pair])
            for end in (arrays.probe_end, arrays.target_end)
            for axis in ("latitude", "longitude")
        )
    )
    assert table.fibre_ms[pair] == pytest.approx(2.0 * kilometres / FIBRE_KM_PER_MS)


def test_fibre_distance_finds_the_line_whatever_a_few_paths_do():
    table, seen, level = planted(lambda table, _: 7.0 + 1.6 * table.fibre_ms)
    seen[np.flatnonzero(np.isfinite(seen))[::9]] += 500.0
    assert off(FibreDistance(), table, seen, level).max() < 0.1


def test_node_effects_find_an_additive_table():
    def level_of(table, generator):
        delay = generator.exponential(20.0, table.hosts)
        return 5.0 + 1.3 * table.fibre_ms + delay[table.here] + delay[table.there]

    table, seen, level = planted(level_of, hosts=160)  # of a host with few pairs ridge draws more
    wrong = off(NodeEffects(), table, seen, level)
    assert np.median(wrong) < 0.5  # ridge draws a little
    assert np.median(wrong) < 0.1 * np.median(off(FibreDistance(), table, seen, level))


def test_low_rank_finds_what_is_left_when_it_is_of_rank_three():
    def level_of(table, generator):
        one = generator.normal(0.0, 1.0, (table.hosts, 3))
        return 100.0 + 20.0 * (one[table.here] * one[table.there] * [1.0, -1.0, 1.0]).sum(axis=1)

    table, seen, level = planted(level_of, hosts=240, share=0.9)
    assert np.median(off(LowRank(), table, seen, level)) < 0.1 * np.median(
        off(NodeEffects(), table, seen, level)
    )


def test_the_factors_of_low_rank_explain_what_they_are_fitted_to():
    table, seen, _ = planted(lambda table, generator: generator.normal(0.0, 1.0, len(table.here)), hosts=30)
    known = table.seen(seen)
    one, other = factors(
        table, known, 100.0 * np.outer(np.arange(30), np.arange(30))[known.here, known.there] / 841
    )
    told = (one[known.here] * other[known.there] + other[known.here] * one[known.there]).sum(axis=1) / 2.0
    np.testing.assert_allclose(told, 100.0 * (known.here * known.there) / 841, atol=5.0)


def test_vivaldi_finds_planted_coordinates_and_heights():
    def level_of(table, generator):
        place, height = generator.normal(0.0, 50.0, (table.hosts, 2)), generator.exponential(5.0, table.hosts)
        apart = np.linalg.norm(place[table.here] - place[table.there], axis=1)
        return apart + height[table.here] + height[table.there]

    table, seen, level = planted(level_of, hosts=60)
    wrong = off(Vivaldi(), table, seen, level)
    assert np.median(wrong) < 0.05 * np.median(level)
    assert np.median(wrong) < 0.2 * np.median(off(NodeEffects(), table, seen, level))


def test_nearest_places_say_what_a_twin_at_the_same_place_has():
    mesh = anchor_mesh(anchors=12, probes=0, windows=1, families=(4,), noise_ms=0.0, measured=1.0)
    table = Table.of(mesh)  # both directions: each pair has a twin, the other way around
    level = np.round(mesh.rtt_ms[0], 6)
    twin = {
        (int(here), int(there)): pair
        for pair, (here, there) in enumerate(zip(table.here, table.there, strict=True))
    }
    asked = twin[2, 5]
    seen = level.copy()
    seen[asked] = np.nan
    told = NearestPlaces().fitted(table, table.seen(seen))
    others = np.abs(np.median(level) - level[asked])
    assert abs(told[asked] - level[twin[5, 2]]) < max(0.5 * others, 5.0)


def test_what_both_hosts_have_is_drawn_towards_all():
    table, _, _ = planted(lambda table, _: np.ones(len(table.here)), hosts=6)
    level = np.full(len(table.here), np.nan)
    level[0], level[-1] = 1.0, 3.0
    told = of_both_hosts(table, table.seen(level))
    assert told.min() >= 1.0
    assert told.max() <= 3.0
    assert told[0] < 2.0 < told[-1]


def test_a_pair_that_has_a_past_moves_with_the_others_by_what_the_fit_says():
    class Whole(LevelBaseline):
        """Every pair is like the mean of those seen."""

        name, citation = "whole", "2026"

        def fitted(self, table, seen):
            return np.full(len(table.here), seen.level.mean())

    arrays = data("imputation")
    question = protocol_named("imputation").splits(arrays, seed=0)[-1].test.part(slice(0, 1))
    told = Whole().rtt(arrays, question)
    now = question.now(arrays.rtt_ms)
    level = np.where(np.isfinite(now), now, told.stays)
    np.testing.assert_allclose(told.moves, told.stays + np.nanmean(level) - np.nanmean(told.stays), rtol=1e-9)


def test_least_absolute_errors_are_as_few_as_linear_programming_finds():
    generator = np.random.default_rng(0)
    terms = np.column_stack([np.ones(60), generator.normal(size=(60, 2))])
    level = terms @ [3.0, -1.0, 2.0] + generator.standard_cauchy(60)
    from scipy.sparse import csr_array

    found = np.abs(level - terms @ least_absolute(csr_array(terms), level)).sum()
    rows = np.block([[terms, -np.eye(60)], [-terms, -np.eye(60)]])
    best = linprog(
        np.concatenate([np.zeros(3), np.ones(60)]),
        A_ub=rows,
        b_ub=np.concatenate([level, -level]),
        bounds=[(None, None)] * 3 + [(0.0, None)] * 60,
    ).fun
    assert best <= found <= 1.01 * best


def test_host_effects_of_a_table_that_is_alike_everywhere_are_none():
    table, seen, _ = planted(lambda table, _: np.full(len(table.here), 4.0), hosts=8)
    np.testing.assert_allclose(host_effects(table, table.seen(seen)), 4.0)


# --- mates


def test_what_mates_tell_is_their_value_and_the_offset_and_the_steadiest_are_believed():
    arrays = data("unseen-pair")
    question = protocol_named("unseen-pair").splits(arrays, seed=0)[-1].test.part(slice(0, 1))
    graph = path_graph(arrays, question, PathGraphConfig())
    told = told_by_mates(graph)
    asked = question.asked[0] & np.isfinite(arrays.rtt_ms[question.windows[0]])
    believed = told.believed(only_now=np.zeros(question.asked.shape, dtype=np.bool_))
    truth = arrays.rtt_ms[question.windows[0]]
    assert np.median(np.abs(believed[0] - truth)[asked]) < 3.0
    each = np.nanmedian(np.abs(told.rtt_ms[0] - truth[:, None])[asked])
    assert np.median(np.abs(believed[0] - truth)[asked]) < each
    nothing = told.believed(only_now=np.ones(question.asked.shape, dtype=np.bool_))
    assert np.isfinite(nothing[0, asked]).all()  # all mates are seen now


# --- trees


def cells(count=1500, columns=12, seed=0):
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(count, columns)).astype(np.float32)
    numbers[generator.random(numbers.shape) < 0.2] = np.nan
    numbers[:, 3] = np.round(numbers[:, 3])
    said = np.nan_to_num(numbers[:, 0]) + 3.0 * np.isnan(numbers[:, 1]) - 2.0 * (numbers[:, 3] > 0)
    return numbers, said + generator.normal(0.0, 0.3, count)


@pytest.mark.parametrize("loss", ["absolute_error", "quantile", "squared_error", "log_loss"])
def test_trees_read_by_us_say_what_scikit_learn_says(loss):
    numbers, truth = cells()
    if loss == "log_loss":
        model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(numbers, truth > 1.0)
        expected = model.decision_function(numbers)
    else:
        quantile = 0.9 if loss == "quantile" else None
        model = HistGradientBoostingRegressor(loss=loss, quantile=quantile, max_iter=30, random_state=0)
        expected = model.fit(numbers, truth).predict(numbers)
    trees = Trees.of(model, 30)
    np.testing.assert_allclose(trees.sums(numbers), expected, rtol=1e-12, atol=1e-12)
    again = Trees.restored(trees.state(), columns=12, where="here")
    np.testing.assert_array_equal(again.sums(numbers), trees.sums(numbers))
    fewer = np.concatenate([numbers[:700], numbers])
    np.testing.assert_array_equal(trees.sums(fewer)[:700], trees.sums(numbers[:700]))  # in blocks, or not


def test_so_many_trees_are_kept_as_serve_the_cells_kept_best():
    numbers, truth = cells()
    kept = cells(seed=1)
    trees, losses = grown(
        Growth(rounds=120, patience=120, rate=0.3, leaves=31),
        "absolute_error",
        (numbers, truth),
        kept,
        seed=0,
    )
    assert len(losses) == 120
    assert 0 < len(trees.root) < 120
    assert len(trees.root) == 1 + int(np.argmin(losses))
    assert np.abs(trees.sums(kept[0]) - kept[1]).mean() == pytest.approx(min(losses))


def test_where_no_cell_is_kept_a_tenth_of_those_learned_from_says_when_to_stop():
    (numbers, truth), (others, expected) = cells(), cells(seed=1)
    nothing = (numbers[:0], truth[:0])
    growth = Growth(rounds=400, patience=5, rate=0.3)
    trees, losses = grown(growth, "absolute_error", (numbers, truth), nothing, seed=0)
    assert 0 < len(trees.root) <= len(losses) < 400
    alone = np.abs(expected - np.median(truth)).mean()
    assert np.abs(trees.sums(others) - expected).mean() < 0.5 * alone
    again, _ = grown(growth, "absolute_error", (numbers, truth), nothing, seed=0)
    np.testing.assert_array_equal(again.sums(others), trees.sums(others))
    likely, _ = grown(growth, "log_loss", (numbers, truth > 1.0), nothing, seed=0)
    assert ((likely.sums(others) > 0.0) == (expected > 1.0)).mean() > 0.8
    one, _ = grown(growth, "absolute_error", (numbers[:1], truth[:1]), nothing, seed=0)
    np.testing.assert_allclose(one.sums(others), truth[0])


def test_of_windows_that_lose_boosting_learns_how_much_even_where_none_is_kept():
    arrays = data("forecast")
    split = Forecast().splits(arrays, seed=0)[-1]
    received = arrays.received.copy()
    received[split.validation.windows] = arrays.sent[split.validation.windows]
    lossless = replace(arrays, received=received)
    predictor, split = fit("boosting", lossless)
    assert np.nanmax(history.any_loss(lossless)[split.validation.windows]) == 0.0
    told = predictor.raw(lossless, split.test)
    known = np.isfinite(told.any_loss_probability)
    share = told.loss_ratio[known] / told.any_loss_probability[known]
    lossy = lossless.loss_ratio[lossless.loss_ratio > 0.0]
    assert ((share >= lossy.min() / 2.0) & (share <= lossy.max())).all()


def test_with_nothing_to_learn_from_trees_say_nothing_and_with_one_outcome_that_it_is_likely():
    numbers, truth = cells(60)
    none = (numbers[:0], truth[:0])
    silent, _ = grown(Growth(), "absolute_error", none, (numbers, truth), seed=0)
    assert np.isnan(silent.sums(numbers)).all()
    never, _ = grown(Growth(), "log_loss", (numbers, np.zeros(60)), (numbers, np.zeros(60)), seed=0)
    np.testing.assert_allclose(1.0 / (1.0 + np.exp(-never.sums(numbers))), 0.5 / 61.0)


@pytest.mark.parametrize("damage", ["missing", "type", "loop", "column"])
def test_saved_trees_that_lead_nowhere_are_refused(damage):
    numbers, truth = cells()
    model = HistGradientBoostingRegressor(max_iter=5, random_state=0).fit(numbers, truth)
    state = {name: values.copy() for name, values in Trees.of(model, 5).state().items()}
    if damage == "missing":
        del state["value"]
    elif damage == "type":
        state["left"] = state["left"].astype(np.int32)
    elif damage == "loop":
        state["left"][np.flatnonzero(state["left"] != np.arange(len(state["left"])))[-1]] = 0
    else:
        state["column"][0] = 12
    with pytest.raises(ArtefactError):
        Trees.restored(state, columns=12, where="here")


def test_boosting_looks_at_no_other_pair_and_boosting_around_does():
    arrays = data("imputation")
    split = fitted("boosting", "imputation")[1]
    question = split.test.part(slice(0, 1))
    window = int(question.windows[0])
    rtt = arrays.rtt_ms.copy()
    rtt[window, question.seen_now[0]] += 40.0
    changed = replace(arrays, rtt_ms=rtt)
    asked = question.asked
    for name, differs in (("boosting", False), ("boosting-around", True)):
        predictor = fitted(name, "imputation")[0]
        one, other = (predictor.raw(given, question).rtt_ms[asked] for given in (arrays, changed))
        assert (not np.array_equal(one, other, equal_nan=True)) == differs


def test_other_columns_than_those_it_was_fitted_on_are_named():
    predictor, split = fitted("boosting")
    with pytest.raises(DataError, match="probe_betweenness"):
        predictor.raw(replace(data("forecast"), centrality_names=("betweenness",)), split.test)


# --- the stack


def test_the_weights_of_a_stack_find_a_planted_mean():
    generator = np.random.default_rng(0)
    points = generator.normal(0.0, 10.0, (4000, 4))
    truth = points @ [0.7, 0.3, 0.0, 0.0]
    for squared in (False, True):
        weights = weighed(points, truth, squared=squared)
        assert weights.sum() == pytest.approx(1.0)
        np.testing.assert_allclose(weights, [0.7, 0.3, 0.0, 0.0], atol=0.03)


@however_far_a_fit_has_come
def test_a_stack_weighs_on_the_validation_cells_and_is_no_worse_there_than_its_best_member():
    arrays = data("forecast")
    stack, split = fitted("stack")
    question = split.validation
    scored = question.cells(arrays).rtt
    truth = arrays.rtt_ms[question.windows]

    def wrong(name):
        return np.abs(fitted(name)[0].raw(arrays, question).rtt_ms - truth)[scored].mean()

    assert wrong("stack") <= 1.02 * min(wrong(name) for name in STACKED)
    np.testing.assert_allclose(stack.weights.sum(axis=1), 1.0, atol=1e-6)


def test_a_stack_without_its_members_says_which():
    arrays = data("forecast")
    protocol = Forecast()
    with pytest.raises(DataError, match="boosting-around"):
        predictor_class("stack")().fit(arrays, protocol.splits(arrays, seed=0)[-1], protocol, seed=0)
