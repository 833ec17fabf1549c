"""The API source against the testbed, which answers badly on order: every fault is survived, or told in one clear line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest

from domain.errors import InputError, NotFoundError, SourceError, UnreachableError, UntrustedError
from domain.observation import ResultType
from domain.progress import unheard
from domain.window import parse_time
from ingest.atlas import AtlasLatest, AtlasResults, AtlasSource
from ingest.batch import Batch
from ingest.parse import parse_batch
from testbed.certificate import Certificate
from testbed.faults import Fault, FaultKind, Faults, Place
from testbed.habits import Habits
from testbed.internet import SyntheticInternet
from testbed.server import TestbedServer
from tests.ingest.as_rows import assert_same, once

START = parse_time("2026-01-05T00:00Z")
STOP = START + timedelta(hours=3)
INTERNET = SyntheticInternet.generate(3, 12, 2)
HABITS = Habits(old_firmware_ratio=0.5, bad_clock_ratio=0.2, late_ratio=0.1, odd_ratio=0.2)
KEY = "0123-not-a-real-key"
BROKEN = (
    Fault(kind=FaultKind.BUSY),
    Fault(kind=FaultKind.BUSY, retry_after="2"),
    Fault(kind=FaultKind.ERROR),
    Fault(kind=FaultKind.BAD_GATEWAY, retry_after="1"),
    Fault(kind=FaultKind.HANG, seconds=0.4),
    Fault(kind=FaultKind.CUT),
    Fault(kind=FaultKind.WRONG_JSON),
)
DISORDER = (Fault(kind=FaultKind.SHUFFLED), Fault(kind=FaultKind.TWICE), Fault(kind=FaultKind.PAGE_TWICE))


@contextmanager
def synthetic_atlas(faults: Faults | None = None, **more: Any) -> Iterator[TestbedServer]:
    settings = {
        "events": (),
        "habits": HABITS,
        "ping_interval": timedelta(minutes=20),
        "traceroute_interval": timedelta(hours=1),
    }
    with TestbedServer(INTERNET, START, STOP, faults=faults, **{**settings, **more}) as server:
        yield server


def asking(server: TestbedServer, **settings: Any) -> AtlasSource:
    chosen: dict[str, Any] = {
        "verify": server.certificate,
        "timeout_s": 0.3,
        "first_wait_s": 0.0,
        "sleep": lambda _seconds: None,
    }
    return AtlasSource(server=server.address, **{**chosen, **settings})


def everything(server: TestbedServer, source: AtlasSource) -> AtlasResults:
    ids = [one["id"] for one in source.measurements()]
    far = timedelta(hours=3)  # clocks may be wrong by two
    return AtlasResults(source, ids, START - far, STOP + far)


def assert_the_truth_is_read(server: TestbedServer, source: AtlasSource) -> None:
    job = everything(server, source)
    found = list(job.read(unheard))
    assert job.failures == []
    assert [row for parsed in found for row in parsed.quarantined.to_pylist()] == []
    far = timedelta(hours=3)
    for kind, name in ((ResultType.PING, "pings"), (ResultType.TRACEROUTE, "traceroutes")):
        assert_same(once(found, name), server.expected(kind, START - far, STOP + far))


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: f"{fault.kind}-{fault.retry_after}")
def test_a_fault_that_passes_costs_nothing_but_time(fault: Fault) -> None:
    faults = Faults.listed({(Place.LISTING, 0): fault, (Place.RESULTS, 0): fault, (Place.RESULTS, 3): fault})
    with synthetic_atlas(faults) as server:
        assert_the_truth_is_read(server, asking(server))
    assert len(faults.met) == 3


def test_every_other_answer_bad_or_in_disorder_gives_the_truth() -> None:
    faults = Faults.seeded(4, 0.5, (*BROKEN, *DISORDER))
    with synthetic_atlas(faults) as server:
        source = asking(server, attempts=30, timeout_s=0.25, slice_length=timedelta(hours=2))
        assert_the_truth_is_read(server, source)
    assert {fault.kind for _, _, fault in faults.met} >= {fault.kind for fault in (*BROKEN, *DISORDER[:2])}


def test_a_listing_that_grows_while_it_is_read_gives_each_object_once() -> None:
    faults = Faults.listed({(Place.LISTING, number): DISORDER[2] for number in (1, 2)})
    with synthetic_atlas(faults) as server:
        ids = [one["id"] for one in asking(server).measurements(page_size=2)]
        assert ids == [one.msm_id for one in server.campaign.measurements]
    assert len(faults.met) == 2


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: f"{fault.kind}-{fault.retry_after}")
def test_a_fault_that_stays_is_one_clear_line(fault: Fault) -> None:
    faults = Faults.seeded(1, 1.0, [fault], [Place.RESULTS])
    with synthetic_atlas(faults) as server:
        source = asking(server, attempts=2, timeout_s=0.2)
        with pytest.raises(SourceError) as told:
            list(everything(server, source).read(unheard))
    assert "\n" not in str(told.value)
    assert (told.value.where or "").startswith("https://127.0.0.1:")
    assert len(faults.met) == 2


def test_a_server_that_drips_is_not_waited_for_without_end() -> None:
    faults = Faults.seeded(1, 1.0, [Fault(kind=FaultKind.DRIP, seconds=0.02)], [Place.RESULTS])
    with synthetic_atlas(faults) as server:
        source = asking(server, attempts=2, answer_timeout_s=0.3)
        begun = datetime.now(UTC)
        with pytest.raises(UnreachableError, match=r"more to come after 0\.3 s"):
            list(everything(server, source).read(unheard))
        assert datetime.now(UTC) - begun < timedelta(seconds=3)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_wait_that_the_server_asks_for_is_kept(form: str) -> None:
    at = datetime.now(UTC) + timedelta(seconds=90)
    asked = "90" if form == "seconds" else format_datetime(at, usegmt=True)
    faults = Faults.listed({(Place.RESULTS, 0): Fault(kind=FaultKind.BUSY, retry_after=asked)})
    waited: list[float] = []
    with synthetic_atlas(faults) as server:
        source = asking(server, sleep=waited.append, first_wait_s=1.0)
        list(source.results(server.campaign.measurements[0].msm_id, START, STOP))
    (wait_s,) = waited
    assert 85.0 < wait_s <= 93.0


def test_a_wait_that_is_too_long_is_told_at_once() -> None:
    faults = Faults.seeded(1, 1.0, [Fault(kind=FaultKind.BUSY, retry_after="7200")], [Place.RESULTS])
    told = pytest.raises(SourceError, match=r"Atlas asks to slow down.*asked again in 7200 s.*later")
    with synthetic_atlas(faults) as server, told:
        list(asking(server).results(server.campaign.measurements[0].msm_id, START, STOP))
    assert len(faults.met) == 1


@pytest.mark.parametrize("words", ["soon", "-5", "", "1e3", "Mon, 99 Foo 2026"])
def test_a_retry_after_that_says_nothing_is_as_if_there_were_none(words: str) -> None:
    faults = Faults.listed({(Place.RESULTS, 0): Fault(kind=FaultKind.BUSY, retry_after=words)})
    with synthetic_atlas(faults) as server:
        assert list(asking(server).results(server.campaign.measurements[0].msm_id, START, STOP))


@pytest.mark.parametrize(
    ("kind", "says"), [(Certificate.EXPIRED, "expired"), (Certificate.OTHER_HOST, "127.0.0.1")]
)
def test_a_certificate_that_is_expired_or_another_s_is_not_trusted(kind: Certificate, says: str) -> None:
    with synthetic_atlas(certificate=kind) as server, pytest.raises(UntrustedError, match=says):
        list(asking(server).probes())
    assert server.faults.asked(Place.LISTING) == 0


def test_slices_shrink_until_answers_fit_and_no_result_is_lost_or_twice() -> None:
    with synthetic_atlas() as server:
        msm_id = server.campaign.measurements[1].msm_id
        whole = [record for batch in asking(server).results(msm_id, START, STOP) for record in batch.records]
        size = sum(map(len, whole))
        asked_before = server.faults.asked(Place.RESULTS)
        sliced: list[Batch] = list(asking(server, most_bytes=size // 6).results(msm_id, START, STOP))
        assert sorted(record for batch in sliced for record in batch.records) == sorted(whole)
        assert all(len(batch.data) <= size // 6 for batch in sliced)
        assert len(sliced) > 6
        assert server.faults.asked(Place.RESULTS) - asked_before < 60


def test_a_single_second_that_is_too_large_is_read_all_the_same() -> None:
    with synthetic_atlas() as server:
        msm_id = server.campaign.measurements[0].msm_id
        whole = [record for batch in asking(server).results(msm_id, START, STOP) for record in batch.records]
        moments_s = [orjson.loads(record)["timestamp"] for record in whole]
        first = datetime.fromtimestamp(min(moments_s), tz=UTC)
        source = asking(server, most_bytes=10)
        found = list(source.results(msm_id, first, first + timedelta(seconds=2)))
        assert sum(map(len, found)) == sum(moment <= min(moments_s) + 1 for moment in moments_s)


def test_a_measurement_that_is_refused_fails_alone() -> None:
    with synthetic_atlas() as server:
        good = server.campaign.measurements[0].msm_id
        for job in (
            AtlasResults(asking(server), [77, good, 78], START, STOP),
            AtlasLatest(asking(server), [77, good, 78]),
        ):
            assert sum(parsed.observations for parsed in job.read(unheard)) > 0
            assert [type(failure) for failure in job.failures] == [NotFoundError, NotFoundError]
            assert "/measurements/77/" in str(job.failures[0])
        with pytest.raises(InputError, match="aware"):
            AtlasResults(asking(server), [good], STOP, START)


def test_the_latest_results_are_those_of_the_end() -> None:
    with synthetic_atlas(habits=Habits()) as server:
        source, measurement = asking(server), server.campaign.measurements[0]
        (latest,) = source.latest(measurement.msm_id)
        assert len(latest) == len(measurement.participants)
        some = [INTERNET.hosts[number].probe_id for number in measurement.participants[:3]]
        (few,) = source.latest(measurement.msm_id, some)
        assert sorted(parse_batch(few).pings["probe_id"].to_pylist()) == sorted(some)


def test_measurements_are_found_by_target_type_family_tag_and_probe() -> None:
    with synthetic_atlas(habits=Habits()) as server:
        source = asking(server)
        anchor, other = INTERNET.anchors
        everything = list(source.find_measurements())
        known = {one["id"]: one for one in source.measurements()}
        assert everything == [one.msm_id for one in server.campaign.measurements]
        by_name = list(source.find_measurements(target=anchor.name, kind=ResultType.PING, af=4))
        by_address = list(source.find_measurements(target=anchor.address_v4, kind=ResultType.PING))
        assert by_name == by_address
        assert len(by_name) == 1
        tagged = source.find_measurements(tags=["mesh", str(other.probe_id)], ongoing=True)
        assert {known[one]["target"] for one in tagged} == {other.name}
        # An anchor does not measure itself; asked for both, each measurement comes once.
        of_probe = source.find_measurements(probe_ids=[anchor.probe_id])
        assert {known[one]["target"] for one in of_probe} == {other.name}
        of_both = source.find_measurements(probe_ids=[anchor.probe_id, other.probe_id], af=4)
        assert sorted(of_both) == [one for one in everything if known[one]["af"] == 4]


def test_the_key_is_in_nothing_that_anybody_sees(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    errors: list[Exception] = []
    shown: list[object] = []
    for fault in (*BROKEN, Fault(kind=FaultKind.DRIP, seconds=0.02)):
        with synthetic_atlas(Faults.seeded(1, 1.0, [fault], [Place.RESULTS])) as server:
            source = asking(server, api_key=KEY, attempts=1, timeout_s=0.2, answer_timeout_s=0.2)
            job = everything(server, source)
            with pytest.raises(SourceError) as told:
                list(job.read(unheard))
            errors.append(told.value)
            shown += [source, job, vars(job)]
    with synthetic_atlas() as server:
        source = asking(server, api_key=KEY)
        for batch in source.results(server.campaign.measurements[0].msm_id, START, STOP):
            shown += [batch.source, batch.data]
        with pytest.raises(NotFoundError) as missing:
            list(source.results(5, START, STOP))
        errors.append(missing.value)
    for error in errors:
        seen: BaseException | None = error
        while seen is not None:
            shown += [repr(seen), str(seen), seen.args]
            seen = seen.__cause__ or seen.__context__
    out, err = capfd.readouterr()
    for text in (*map(repr, shown), caplog.text, out, err):
        assert KEY not in text
