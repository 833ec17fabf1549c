"""Convolutions over tables of neighbours, against PyG's own over the same edges."""

from __future__ import annotations

import pytest
import torch

from gnn.hearing import Table
from gnn.models.cheb_net import TableChebConv
from gnn.models.graph_predictor import GraphSettings
from gnn.models.graph_transformer import DegreeEncoding, GraphTransformer, TableTransformerConv
from gnn.models.res_gated_gcn import TableResGatedConv
from gnn.models.sage import TableSageConv
from gnn.models.typed_layers import Heard, TypedLayers
from gnn.tensors import edge_index

NODES, K, D, E = 23, 5, 8, 3

CONVOLUTIONS = {
    "transformer": lambda edge_dim: TableTransformerConv(
        D, D // 2, heads=2, edge_dim=edge_dim, root_weight=False, bias=False
    ),
    "sage": lambda edge_dim: TableSageConv(D, D, root_weight=False, bias=False),
    "cheb": lambda edge_dim: TableChebConv(D, D, K=3, bias=False),
    "cheb of one polynomial": lambda edge_dim: TableChebConv(D, D, K=1, bias=False),
    "cheb of five polynomials": lambda edge_dim: TableChebConv(D, D, K=5, bias=False),
    "gates": lambda edge_dim: TableResGatedConv(D, D, edge_dim=edge_dim, root_weight=False, bias=False),
}
WITH_EDGES = ("transformer", "gates")
cases = pytest.mark.parametrize(
    ("name", "edge_dim"), [(name, None) for name in CONVOLUTIONS] + [(name, E) for name in WITH_EDGES]
)


def scene(seed, *, most=K):
    """Features, a table in which some hear nobody, and edge features."""
    generator = torch.Generator().manual_seed(seed)
    heard = torch.full((NODES, K), NODES)
    for node in range(2, NODES):  # the first two hear nobody
        count = int(torch.randint(0, most + 1, (1,), generator=generator))
        others = torch.randperm(NODES - 1, generator=generator)[:count]
        heard[node, :count] = others + (others >= node)
    heard = heard[:, torch.randperm(K, generator=generator)]  # nobody need not come last
    h = torch.randn(NODES, D, generator=generator)
    return h, heard, torch.randn(NODES, K, E, generator=generator)


def over_edges(convolution, h, heard, edge):
    """PyG's own forward."""
    index = edge_index(heard)
    return convolution(h, index) if edge is None else convolution(h, index, edge[heard < NODES])


@cases
@pytest.mark.parametrize("seed", range(3))
def test_it_gives_the_numbers_and_the_gradients_of_pyg(name, edge_dim, seed):
    torch.manual_seed(seed)
    convolution = CONVOLUTIONS[name](edge_dim).eval()
    h, heard, edge = scene(seed)
    edge = None if edge_dim is None else edge
    found = []
    for way in (
        lambda h, heard, edge: convolution.over_table(h, Table(heard, NODES), edge),
        lambda *given: over_edges(convolution, *given),
    ):
        own, told = h.clone().requires_grad_(), None if edge is None else edge.clone().requires_grad_()
        convolution.zero_grad()
        out = way(own, heard, told)
        (out * torch.linspace(-1.0, 1.0, D)).square().sum().backward()
        inputs = [own.grad] if told is None else [own.grad, told.grad]
        found.append([out, *inputs, *(p.grad for p in convolution.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@cases
def test_who_hears_nobody_gets_zeros_unless_it_is_said_otherwise(name, edge_dim):
    convolution = CONVOLUTIONS[name](edge_dim).eval()
    h, _, edge = scene(0)
    out = convolution.over_table(
        h, Table(torch.full((NODES, K), NODES), NODES), None if edge_dim is None else edge
    )
    torch.testing.assert_close(
        out, over_edges(convolution, h, torch.full((NODES, K), NODES), None if edge_dim is None else edge)
    )
    assert bool((out != 0.0).any()) == convolution.of_alone


@cases
def test_what_is_said_of_nobody_and_its_edge_counts_for_nothing(name, edge_dim):
    convolution = CONVOLUTIONS[name](edge_dim).eval()
    h, heard, edge = scene(1)
    wide = torch.cat([heard, torch.full((NODES, 2), NODES)], dim=1)
    noise = torch.cat(
        [torch.where((heard < NODES)[..., None], edge, 1e3), torch.full((NODES, 2, E), -1e3)], dim=1
    )
    one = convolution.over_table(h, Table(heard, NODES), None if edge_dim is None else edge)
    other = convolution.over_table(h, Table(wide, NODES), None if edge_dim is None else noise)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def layers(name):
    torch.manual_seed(0)
    return TypedLayers(
        relations=("probe", "near"),
        edge_dims={"probe": E},
        convolution=CONVOLUTIONS[name],
        position=DegreeEncoding(relations=("probe", "near"), hidden=D),
        hidden=D,
        layers=2,
        dropout=0.5,
    ).eval()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_typed_layers_are_the_sum_of_their_convolutions_with_a_residual(name):
    network = layers(name)
    h, heard, edge = scene(2)
    _, near, _ = scene(3)
    edge = edge if name in WITH_EDGES else None
    around = {
        "probe": Heard(heard=Table(heard, NODES), edge=edge),
        "near": Heard(heard=Table(near, NODES), edge=None),
    }
    degrees = torch.stack([(one < NODES).float().mean(dim=1) for one in (heard, near)], dim=1)
    wanted = h + network.position.linear(degrees)
    for own, both, norm in zip(network.own, network.heard, network.norms, strict=True):
        told = over_edges(both["probe"], wanted, heard, edge) + over_edges(both["near"], wanted, near, None)
        wanted = wanted + torch.relu(norm(own(wanted) + told))
    torch.testing.assert_close(network(h, around), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_node_is_answered_alike_whoever_it_is_asked_with(name):
    """A window in which nobody hears anybody over some type, alone and beside one in which somebody does."""
    network = layers(name)
    h, heard, edge = scene(2)
    edge = edge if name in WITH_EDGES else None
    nobody = torch.full((NODES, K), NODES)
    alone = network(
        h,
        {
            "probe": Heard(heard=Table(heard, NODES), edge=edge),
            "near": Heard(heard=Table(nobody, NODES), edge=None),
        },
    )
    both = [torch.where(one < NODES, one, 2 * NODES) for one in (heard, nobody)]
    beside = [torch.where(one < NODES, one + NODES, 2 * NODES) for one in (heard, heard)]
    together = network(
        torch.cat([h, h]),
        {
            "probe": Heard(
                heard=Table(torch.cat([both[0], beside[0]]), 2 * NODES),
                edge=None if edge is None else torch.cat([edge, edge]),
            ),
            "near": Heard(heard=Table(torch.cat([both[1], beside[1]]), 2 * NODES), edge=None),
        },
    )
    torch.testing.assert_close(together[:NODES], alone, rtol=1e-4, atol=1e-5)


def test_attention_has_no_weights_that_nothing_asks():
    convolution = GraphTransformer(GraphSettings(hidden=D)).convolution(E)
    h, heard, edge = scene(2)
    convolution.over_table(h, Table(heard, NODES), edge).square().sum().backward()
    assert [name for name, weight in convolution.named_parameters() if weight.grad is None] == []
