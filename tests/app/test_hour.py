"""An hour of the schedule on an Atlas that misbehaves ends in a lake that is the truth; and what `look_back` is for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from app.jobs import Outcome
from domain.observation import ResultType
from testbed.faults import FaultKind
from tests.app.hour import END, FAR, MINUTE, OUT_OF_STEP, START, Hour, Play, configuration
from tests.ingest.as_rows import rows


def test_an_hour_of_faults_stops_and_downtime_ends_in_a_lake_and_a_graph_that_are_the_truth(
    tmp_path: Path,
) -> None:
    outcome = Play(Hour(), tmp_path).play()
    assert outcome["wrong"] == []
    met = {name.partition(",")[0] for name in outcome["faults_met"]}
    assert met >= {
        FaultKind.BUSY,
        FaultKind.ERROR,
        FaultKind.BAD_GATEWAY,
        FaultKind.CUT,
        FaultKind.WRONG_JSON,
    }
    assert outcome["outcomes"].keys() >= {Outcome.DONE, Outcome.FAILED, Outcome.STOPPED}
    assert outcome["results"] == {"pings": 315, "traceroutes": 90, "quarantined": 2}
    assert outcome["windows_written"] < outcome["windows_if_built_anew_each_time"]


def test_what_is_stored_within_look_back_of_its_time_is_had_and_what_comes_later_may_be_missed(
    tmp_path: Path,
) -> None:
    look_back = timedelta(minutes=20)
    play = Play(Hour(habits=OUT_OF_STEP, faults=0.0, seed=8), tmp_path)
    with play.atlas:
        (play.home / "qoetwin.toml").write_text(configuration(play.atlas, 7 * MINUTE, look_back))
        runner = play.runner()
        for minute in (0, 7, 14, 21, 49, 56, 63, 240):
            play.clock.advance(START + minute * MINUTE - play.clock.now())
            assert runner.run("pings", only_due=True) is Outcome.DONE, play.said
        asked = runner.state.coverage("pings").keys()
        wanted = play.atlas.expected(ResultType.PING, START - FAR, END + FAR)
    found = {(row["msm_id"], row["probe_id"], row["timestamp"]) for row in rows(play.lake.query("FROM ping"))}
    # How long after it began, by the probe's clock, a result was there to be had; old firmware does not tell.
    delays = {
        (row["msm_id"], row["probe_id"], row["timestamp"]): row["stored_timestamp"] - row["timestamp"]
        for row in wanted
        if row["msm_id"] in asked and row["stored_timestamp"] is not None
    }
    assert {one for one, delay_s in delays.items() if delay_s <= look_back.total_seconds()} <= found
    assert any(delay_s < -FAR.total_seconds() / 10 for delay_s in delays.values()), "clocks that are ahead"
    missed = delays.keys() - found
    assert missed, "clocks that are behind by more, and what is stored late"
