"""The pointer head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from gnn.mates import EDGE_COLUMNS
from gnn.path_graph import MATES
from gnn.pointer import MADE_UP, Pointed, PointerHead, edge_features
from gnn.tensors import PAIR

NODES, K, LAGS, D, UNIT_MS = 9, 4, 6, 8, 20.0
LEVELS = torch.tensor([0.05, 0.5, 0.95])
seeds = st.integers(0, 2**16)


def pointed(seed, *, rows=5, candidates=7):
    """Random candidates, of which some are not there."""
    generator = torch.Generator().manual_seed(seed)
    value_ms = 200.0 * torch.rand(rows, candidates, generator=generator)
    score = 2.0 * torch.randn(rows, candidates, generator=generator)
    gone = torch.rand(rows, candidates, generator=generator) < 0.3
    gone[:, 1] = False
    return Pointed(value_ms=value_ms, weight=torch.softmax(score.masked_fill(gone, -torch.inf), dim=1))


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_the_score_is_the_integral_of_the_squared_distance_to_the_step_at_what_came(seed):
    told = pointed(seed)
    came = 200.0 * torch.rand(5, generator=torch.Generator().manual_seed(seed + 1))
    found = told.crps(came, UNIT_MS).numpy()
    edges = np.linspace(-0.5, 4.0, 20_001)  # asinh(200 / 20) is 3.0
    z = (edges[1:] + edges[:-1]) / 2.0
    for row in range(5):
        value, weight = np.arcsinh(told.value_ms[row].numpy() / UNIT_MS), told.weight[row].numpy()
        below = (weight[None, :] * (value[None, :] <= z[:, None])).sum(axis=1)
        step = np.arcsinh(came[row].item() / UNIT_MS) <= z
        assert found[row] == pytest.approx(((below - step) ** 2).sum() * (edges[1] - edges[0]), abs=2e-3)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_quantiles_ascend_and_lie_among_the_candidates_that_are_there(seed):
    told = pointed(seed)
    found = told.quantiles_ms(torch.linspace(0.01, 0.99, 21))
    assert (found.diff(dim=1) >= -1e-4).all()
    there = told.weight > 0.0
    least = told.value_ms.masked_fill(~there, torch.inf).amin(dim=1)
    most = told.value_ms.masked_fill(~there, -torch.inf).amax(dim=1)
    assert (found >= least[:, None] - 1e-4).all()
    assert (found <= most[:, None] + 1e-4).all()


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_who_is_not_there_changes_neither_quantiles_nor_score(seed):
    told = pointed(seed)
    more = Pointed(
        value_ms=torch.cat([told.value_ms, 300.0 * torch.rand(5, 4)], dim=1),
        weight=torch.cat([told.weight, torch.zeros(5, 4)], dim=1),
    )
    came = torch.full((5,), 50.0)
    torch.testing.assert_close(told.quantiles_ms(LEVELS), more.quantiles_ms(LEVELS), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(told.crps(came, UNIT_MS), more.crps(came, UNIT_MS), rtol=1e-4, atol=1e-5)


def test_a_sure_prediction_scores_its_distance_and_quantiles_are_itself():
    sure = Pointed(value_ms=torch.tensor([[30.0, 5.0, 90.0]]), weight=torch.tensor([[1.0, 0.0, 0.0]]))
    wanted = abs(np.arcsinh(30.0 / UNIT_MS) - np.arcsinh(70.0 / UNIT_MS))
    assert sure.crps(torch.tensor([70.0]), UNIT_MS).item() == pytest.approx(wanted, rel=1e-5)
    assert sure.quantiles_ms(LEVELS).tolist() == [[30.0, 30.0, 30.0]]
    assert sure.crps(torch.tensor([30.0]), UNIT_MS).item() == pytest.approx(0.0, abs=1e-6)


def scene(seed=0, *, mates=True, lags=True):
    """Nodes of which some lags are unknown, that hear some mates, of which some tell nothing."""
    generator = torch.Generator().manual_seed(seed)

    def unknown(values, share):
        gone = torch.rand(values.shape, generator=generator) < share
        return values.masked_fill(gone, torch.nan)

    data = HeteroData()
    node = data[PAIR]
    node.lag_ms = unknown(100.0 * torch.rand(NODES, LAGS, generator=generator), 0.3 if lags else 1.0)
    node.lag_age_days = torch.arange(1.0, LAGS + 1.0).expand(NODES, LAGS) / 8.0
    node.now_ms = unknown(100.0 * torch.rand(NODES, generator=generator), 0.4)
    node.base_ms = 100.0 * torch.rand(NODES, generator=generator)
    node.fibre_ms = unknown(50.0 * torch.rand(NODES, generator=generator), 0.2)
    for relation in MATES:
        heard = torch.randint(0, NODES + 1, (NODES, K), generator=generator)
        data[PAIR, relation, PAIR].heard = heard if mates else torch.full_like(heard, NODES)
        data[PAIR, relation, PAIR].edge = unknown(
            torch.randn(NODES, K, len(EDGE_COLUMNS), generator=generator), 0.2
        )
    return torch.randn(NODES, D, generator=generator), data


def head(relations=MATES):
    torch.manual_seed(1)
    made = PointerHead(hidden=D, relations=relations, unit_ms=UNIT_MS, width=6)
    torch.nn.init.normal_(made.made_up.weight)
    return made.eval()


def ask(own, h, data, nodes):
    return own(h, data).of(h[nodes], nodes)


def told_by(data, relation):
    """(N, K) what each mate tells in ms, NaN where nothing."""
    store = data[PAIR, relation, PAIR]
    now = torch.cat([data[PAIR].now_ms, torch.tensor([torch.nan])])
    return now[store.heard] + store.edge[..., EDGE_COLUMNS.index("offset_ms")]


@pytest.mark.parametrize("seed", range(4))
def test_candidates_are_made_up_past_and_told_values_and_those_that_are_unknown_weigh_nothing(seed):
    h, data = scene(seed)
    said = ask(head(), h, data, torch.arange(NODES))
    assert said.value_ms.shape == (NODES, MADE_UP + LAGS + 2 * K)
    torch.testing.assert_close(said.weight.sum(dim=1), torch.ones(NODES))
    known = torch.cat([data[PAIR].lag_ms, *(told_by(data, relation) for relation in MATES)], dim=1)
    there = torch.isfinite(known)
    np.testing.assert_array_equal(said.weight[:, MADE_UP:] > 0.0, there)
    torch.testing.assert_close(
        said.value_ms[:, MADE_UP:][there], known[there].clamp_min(0.0), rtol=1e-4, atol=1e-2
    )
    assert (said.value_ms >= 0.0).all()


@pytest.mark.parametrize(("mates", "lags"), [(True, False), (False, True), (False, False)])
def test_without_a_past_or_mates_something_is_said_all_the_same(mates, lags):
    h, data = scene(mates=mates, lags=lags)
    h.requires_grad_()
    said = ask(head(), h, data, torch.arange(NODES))
    assert said.value_ms.shape[1] == MADE_UP + (LAGS if lags else 0) + 2 * K
    torch.testing.assert_close(said.weight.sum(dim=1), torch.ones(NODES))
    assert torch.isfinite(said.quantiles_ms(LEVELS)).all()
    said.crps(torch.full((NODES,), 40.0), UNIT_MS).sum().backward()
    assert torch.isfinite(h.grad).all()


def test_a_head_without_mates_looks_at_no_other_pair():
    h, data = scene()
    own = head(relations=())
    before = ask(own, h, data, torch.tensor([2]))
    data[PAIR].now_ms = data[PAIR].now_ms + 50.0
    data[PAIR].lag_ms[3:] += 9.0
    after = ask(own, h, data, torch.tensor([2]))
    assert before.value_ms.shape == (1, MADE_UP + LAGS)
    torch.testing.assert_close(before.weight, after.weight, rtol=0.0, atol=0.0)


def test_what_is_asked_of_some_is_what_is_asked_of_all():
    h, data = scene()
    own, some = head(), torch.tensor([5, 0, 7])
    torch.testing.assert_close(
        ask(own, h, data, some).weight, ask(own, h, data, torch.arange(NODES)).weight[some]
    )


def test_windows_of_which_nothing_is_known_of_anybody_change_nothing():
    h, data = scene()
    before = ask(head(), h, data, torch.arange(NODES))
    data[PAIR].lag_ms = torch.cat([data[PAIR].lag_ms, torch.full((NODES, 3), torch.nan)], dim=1)
    data[PAIR].lag_age_days = torch.arange(1.0, LAGS + 4.0).expand(NODES, LAGS + 3) / 8.0
    after = ask(head(), h, data, torch.arange(NODES))
    torch.testing.assert_close(before.weight, after.weight)


def test_edge_features_are_compressed_where_they_are_in_ms_and_masked_where_unknown():
    raw = torch.full((1, len(EDGE_COLUMNS)), 40.0)
    raw[0, 1] = torch.nan
    found = edge_features(raw, UNIT_MS)[0]
    for number, name in enumerate(EDGE_COLUMNS):
        wanted = 0.0 if number == 1 else np.arcsinh(2.0) if name.endswith("_ms") else 40.0
        assert found[number].item() == pytest.approx(wanted)
        assert found[len(EDGE_COLUMNS) + number].item() == float(number != 1)
