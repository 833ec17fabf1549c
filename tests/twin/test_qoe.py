"""The answers: worked out by hand, grouped, and honest about what was never measured."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from domain.application import Application
from domain.errors import EmptyError, UnknownNameError
from domain.provenance import Provenance
from domain.selection import Selection
from kg.predictions import put_predictions
from kg.schema import IN_COUNTRY, LOCATED_IN_AS, PATH_PREDICTION, PATH_SCORE, PATH_STATE
from kg.store import GraphStore, open_store
from kg.tables import fact_schema
from qoe.profile import load_profile
from twin.qoe import Answer, GroupBy, qoe
from twin.scoring import score_states

T0 = datetime(2019, 5, 12, 9, tzinfo=UTC)
H3 = timedelta(hours=3)
SAID = Provenance(
    reference_name="test",
    reference_org="test",
    reference_url_data=None,
    reference_time_fetch=None,
    reference_time_modification=None,
    method=None,
    synthetic=False,
)


def state(
    probe: int, target: str, slot: int, rtt_ms: float | None, loss: float | None, jitter_ms: float | None
) -> dict[str, Any]:
    return {
        "probe_id": probe,
        "target": target,
        "af": 4,
        "window_start": T0 + slot * H3,
        "window_end": T0 + (slot + 1) * H3,
        "results": 1,
        "sent": 10,
        "received": 0 if loss is None else round(10 * (1 - loss)),
        "duplicates": 0,
        "errors": 0,
        "rtt_median_ms": rtt_ms,
        "loss_ratio": loss,
        "jitter_ms": jitter_ms,
        "synthetic": probe == 9,
    }


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GraphStore]:
    rows = [
        state(1, "192.0.2.1", 0, 100.0, 0.03, 20.0),  # a call scores 80
        state(1, "192.0.2.1", 1, 200.0, 0.0, 20.0),  # 100 - 12 - 10 = 78
        state(1, "192.0.2.2", 0, None, 1.0, None),  # nothing came back: 0
        state(2, "192.0.2.1", 0, 50.0, 0.5, None),  # jitter unknown
        state(9, "192.0.2.1", 0, 0.0, 0.0, 0.0),  # perfect, and synthetic
    ]
    states = pa.Table.from_pylist(rows, fact_schema(PATH_STATE))
    with open_store("sqlite", tmp_path, create=True) as opened:
        opened.put_facts(PATH_STATE, states, SAID)
        opened.put_facts(PATH_SCORE, score_states(states, load_profile()), SAID)
        opened.upsert_edges(IN_COUNTRY, pa.table({"source": [1, 2], "target": ["LB", "SY"]}), SAID)
        networks = pa.table({"source": [1, 2], "target": [64500, 64501], "af": [4, 4]})
        opened.upsert_edges(LOCATED_IN_AS, networks, SAID)
        yield opened


def ask(store: GraphStore, selection: Selection, group_by: GroupBy | None = None) -> list[Answer]:
    return qoe(store, [Application.VOIP], selection, group_by=group_by)


def test_a_path_counts_once_however_many_windows_it_was_measured_in(store: GraphStore) -> None:
    (answer,) = ask(store, Selection(probe_ids=(1,)))
    # path to .1: mean of 80 and 78 is 79; path to .2: 0; the mean over the paths is 39.5
    assert answer.score == pytest.approx(39.5)
    assert (answer.paths, answer.measured, answer.predicted) == (2, 2, 0)
    assert answer.window_start == T0
    assert answer.window_end == T0 + 2 * H3


def test_the_limiting_metric_takes_most_points_over_the_paths(store: GraphStore) -> None:
    (answer,) = ask(store, Selection(probe_ids=(1,), targets=("192.0.2.1",), at=T0 + H3))
    assert answer.score == pytest.approx(78.0)
    assert answer.limiting_metric == "rtt"  # 12 points against 10 for jitter
    (perfect,) = ask(store, Selection(probe_ids=(9,)))
    assert (perfect.score, perfect.limiting_metric) == (100.0, None)


def test_a_pair_never_measured_says_so_instead_of_inventing(store: GraphStore) -> None:
    (answer,) = ask(store, Selection(probe_ids=(2,), targets=("192.0.2.2",)))
    assert answer.score is None
    assert answer.reason == "never measured: the graph has no such path"
    assert (answer.paths, answer.measured, answer.predicted, answer.limiting_metric) == (0, 0, 0, None)


@pytest.mark.parametrize("group_by", [None, *GroupBy])
def test_what_is_predicted_changes_no_answer_and_a_pair_only_predicted_was_never_measured(
    store: GraphStore, group_by: GroupBy | None
) -> None:
    unseen = Selection(probe_ids=(2,), targets=("192.0.2.2",))
    before = [ask(store, selection, group_by) for selection in (Selection(), unseen)]
    rows = [
        {"probe_id": probe, "target": target, "af": 4, "window_start": T0, "window_end": T0 + H3}
        | {"model": "graph-transformer", "protocol": "unseen-pair", "rtt_ms": 1.0, "in_range": True}
        | {"predicted_at": T0, "synthetic": False}
        for probe, target in ((1, "192.0.2.1"), (2, "192.0.2.2"), (7, "192.0.2.7"))
    ]
    put_predictions(store, pa.Table.from_pylist(rows, fact_schema(PATH_PREDICTION)), SAID)
    assert [ask(store, selection, group_by) for selection in (Selection(), unseen)] == before


def test_a_filter_on_what_is_not_known_says_so_instead_of_never_measured(store: GraphStore) -> None:
    (answer,) = ask(store, Selection(target_asns=(64500,)))
    assert answer.score is None
    assert answer.reason == "no path is known to match: the target's AS is known of 0 of 4 paths"


def test_a_prefix_that_nothing_is_known_of_says_so(store: GraphStore) -> None:
    (answer,) = ask(store, Selection(prefixes=("192.0.2.0/24",)))
    assert (
        answer.reason == "no path is known to match: an address of the probe or node is known of 0 of 4 paths"
    )


def test_a_length_of_windows_that_was_not_built_is_named_with_those_that_were(store: GraphStore) -> None:
    with pytest.raises(EmptyError, match=r"found 3600 s; expected 10800 s"):
        ask(store, Selection(window_s=3600))


def test_an_answer_says_what_was_measured_in_its_units(store: GraphStore) -> None:
    (answer,) = ask(store, Selection(probe_ids=(1,)))
    # path to .1: 150 ms, .015, 20 ms; path to .2: nothing came back
    assert (answer.rtt_ms, answer.jitter_ms) == (150.0, 20.0)
    assert answer.loss_ratio == pytest.approx((0.015 + 1.0) / 2)
    assert answer.limiting_metric == "loss"  # 50.15 of the 60.5 points: a dead path is a loss, not a delay


def test_a_path_not_measured_at_that_time_says_so(store: GraphStore) -> None:
    (answer,) = ask(store, Selection(probe_ids=(2,), at=T0 + 5 * H3))
    assert answer.score is None
    assert answer.reason == "not measured in that time (1 of 1 paths)"
    assert (answer.paths, answer.measured) == (1, 0)


def test_an_unknown_jitter_makes_an_unknown_score_with_its_reason(store: GraphStore) -> None:
    (answer,) = ask(store, Selection(probe_ids=(2,)))
    assert answer.score is None
    assert answer.reason is not None
    assert answer.reason.startswith("jitter unknown")


def test_groups_come_sorted_with_the_unknown_last_and_what_is_synthetic_says_so(store: GraphStore) -> None:
    answers = ask(store, Selection(), GroupBy.COUNTRY)
    assert [(a.group, a.paths, a.synthetic) for a in answers] == [
        ("LB", 2, False),
        ("SY", 1, False),
        (None, 1, True),
    ]
    assert [a.group for a in ask(store, Selection(), GroupBy.ASN)] == [64500, 64501, None]
    assert [a.group for a in ask(store, Selection(), GroupBy.TARGET)] == ["192.0.2.1", "192.0.2.2"]


def test_paths_without_a_score_are_counted_and_explained_beside_those_with_one(store: GraphStore) -> None:
    (answer,) = ask(store, Selection(targets=("192.0.2.1",)))
    assert (answer.paths, answer.measured) == (3, 2)
    assert answer.score == pytest.approx((79.0 + 100.0) / 2)
    assert answer.reason is not None
    assert "1 of 4 windows" in answer.reason


def test_a_window_without_a_score_is_counted_even_where_its_path_has_others(store: GraphStore) -> None:
    worst = state(1, "192.0.2.1", 2, 90.0, 0.7, None)  # one of the worst hours: too few answers for jitter
    states = pa.Table.from_pylist([worst], fact_schema(PATH_STATE))
    store.put_facts(PATH_STATE, states, SAID)
    store.put_facts(PATH_SCORE, score_states(states, load_profile()), SAID)
    (answer,) = ask(store, Selection(probe_ids=(1,), targets=("192.0.2.1",)))
    assert answer.score == pytest.approx(79.0)
    assert (answer.windows, answer.windows_without_score) == (3, 1)
    assert answer.reason is not None
    assert "jitter unknown" in answer.reason
    assert "1 of 3 windows" in answer.reason
    assert answer.window_end == T0 + 2 * H3  # the span of what is in the score


def test_a_country_without_probes_is_named_with_those_that_have_some(store: GraphStore) -> None:
    with pytest.raises(UnknownNameError, match=r"'XX'.*LB, SY"):
        ask(store, Selection(countries=("XX",)))


def test_all_applications_are_asked_in_their_order(store: GraphStore) -> None:
    answers = qoe(store, list(Application), Selection(probe_ids=(9,)))
    assert [a.application for a in answers] == list(Application)
    assert {a.score for a in answers} == {100.0}
