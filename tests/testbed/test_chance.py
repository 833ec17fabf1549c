from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from testbed.chance import Purpose, bell, draw, exponential, fluctuation, uniform

MANY = np.arange(200_000)


def test_draws_have_the_moments_that_they_claim() -> None:
    bits = draw(3, Purpose.LOST, MANY)
    assert abs(uniform(bits).mean() - 0.5) < 0.003
    assert abs(exponential(bits).mean() - 1.0) < 0.01
    assert abs(exponential(bits).var() - 1.0) < 0.03
    assert abs(bell(bits).mean()) < 0.01
    assert abs(bell(bits).var() - 1.0) < 0.01


def test_seeds_purposes_and_keys_do_not_share_draws() -> None:
    drawn = [draw(seed, purpose, 5, MANY[:2000]) for seed in (1, 2) for purpose in Purpose]
    assert len(np.unique(np.concatenate(drawn))) == 2 * len(Purpose) * 2000


def test_neighbouring_keys_are_uncorrelated() -> None:
    values = uniform(draw(3, Purpose.LOST, MANY))
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.01


def test_fluctuations_have_unit_variance_and_a_memory_of_minutes_to_hours() -> None:
    at_s = np.arange(0, 400 * 86_400, 300)
    path = fluctuation(11, np.full(at_s.shape, 4), at_s)
    assert abs(path.mean()) < 0.05
    assert abs(path.var() - 1.0) < 0.05
    near, far = np.corrcoef(path[:-1], path[1:])[0, 1], np.corrcoef(path[:-288], path[288:])[0, 1]
    assert near > 0.8
    assert abs(far) < 0.05


@given(
    link=st.integers(0, 10_000),
    at_s=st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=40),
    data=st.data(),
)
def test_a_fluctuation_is_the_same_alone_and_in_company(
    link: int, at_s: list[int], data: st.DataObject
) -> None:
    times = np.array(at_s)
    together = fluctuation(5, np.full(times.shape, link), times)
    place = data.draw(st.integers(0, len(at_s) - 1))
    assert fluctuation(5, np.array([link]), times[place : place + 1])[0] == together[place]
