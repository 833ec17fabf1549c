"""What nodes take from those they hear, and the gradients that come back."""

from __future__ import annotations

import pytest
import torch

from gnn.hearing import Table

NODES, HEARERS, K, C = 7, 5, 3, 4


def scene():
    generator = torch.Generator().manual_seed(0)
    heard = torch.randint(0, NODES + 1, (HEARERS, K), generator=generator)
    heard[0] = NODES  # hears nobody
    values = torch.randn(NODES + 1, C, dtype=torch.double, generator=generator).requires_grad_()
    weight = torch.randn(HEARERS, K, dtype=torch.double, generator=generator).requires_grad_()
    return Table(heard, NODES), values, weight


def test_rows_and_sums_are_those_of_indexing():
    table, values, weight = scene()
    torch.testing.assert_close(table.rows(values), values[table.heard])
    torch.testing.assert_close(table.sums(values), values[table.heard].sum(dim=1))
    weighted = (weight[..., None] * values[table.heard]).sum(dim=1)
    torch.testing.assert_close(table.sums(values, weight), weighted)


def test_gradients_are_those_of_small_differences():
    table, values, weight = scene()
    assert torch.autograd.gradcheck(table.rows, values)
    assert torch.autograd.gradcheck(table.sums, values)
    assert torch.autograd.gradcheck(table.sums, (values, weight))


@pytest.mark.parametrize("heard", [torch.full((3, 2), NODES), torch.zeros((3, 2), dtype=torch.int64)])
def test_a_table_turned_around_names_every_place_once_in_the_order_of_who_is_heard(heard):
    place, first = Table(heard, NODES).turned()
    assert sorted(place.tolist()) == list(range(6))
    ends = [*first[1:].tolist(), 6]
    for node, (start, end) in enumerate(zip(first.tolist(), ends, strict=True)):
        assert (heard.flatten()[place[start:end]] == node).all()
