"""Jobs that are through are kept, and found again by nothing but the same job."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec
import pytest

from domain.errors import ArtefactError, LeakError
from gnn.comparison import run
from gnn.kept_jobs import KeptJobs, _packed, kept_jobs
from gnn.protocols import protocol_named
from tests.gnn.test_comparison import TINY, job, unheard

MODELS = ("last-value", "ewma")


@pytest.fixture(scope="module")
def done():
    return run(job(split=1, models=MODELS), unheard)


def test_what_came_of_a_job_comes_back_to_the_last_bit(done, tmp_path):
    KeptJobs(tmp_path).write(job(split=1, models=MODELS), done)
    again = KeptJobs(tmp_path).read(job(split=1, models=MODELS))
    assert type(again) is type(done)
    assert msgspec.msgpack.encode(again, enc_hook=_packed) == msgspec.msgpack.encode(done, enc_hook=_packed)


@pytest.mark.parametrize(
    "other",
    [
        {"split": 2},
        {"split_seed": 1},
        {"seed": 1},
        {"models": MODELS[:1]},
        {"overrides": TINY | {"steps": 7}},
        {"protocol": protocol_named("imputation")},
        "data",
    ],
    ids=str,
)
def test_another_job_is_not_taken_for_it(done, tmp_path, other):
    this = job(split=1, models=MODELS)
    kept = KeptJobs(tmp_path)
    kept.write(this, done)
    if other == "data":
        other = {"arrays": replace(this.arrays, rtt_ms=this.arrays.rtt_ms + 1e-9)}
    assert kept.read(replace(this, **other)) is None
    assert kept.read(this) is not None


def test_a_damaged_one_is_an_error_that_names_the_file(done, tmp_path):
    kept = KeptJobs(tmp_path)
    kept.write(job(split=1, models=MODELS), done)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtefactError, match=file.name):
        kept.read(job(split=1, models=MODELS))
    other = msgspec.msgpack.encode([1, 2])
    file.write_bytes(hashlib.sha256(other).digest() + other)
    with pytest.raises(ArtefactError, match="a damaged job"):
        kept.read(job(split=1, models=MODELS))


def test_jobs_of_other_code_or_libraries_are_not_taken(done, tmp_path, monkeypatch):
    this = job(split=1, models=MODELS)
    KeptJobs(tmp_path).write(this, done)
    monkeypatch.setattr("gnn.kept_jobs.code_hash", lambda: "other")
    assert KeptJobs(tmp_path).read(this) is None
    monkeypatch.undo()
    monkeypatch.setattr("gnn.kept_jobs.version", lambda name: "1.0")
    assert KeptJobs(tmp_path).read(this) is None


def test_jobs_are_filed_under_the_code_that_was_there_at_the_start(done, tmp_path, monkeypatch):
    this = job(split=1, models=MODELS)
    kept = KeptJobs(tmp_path)
    monkeypatch.setattr("gnn.kept_jobs.code_hash", lambda: "changed since")
    kept.write(this, done)
    assert KeptJobs(tmp_path).read(this) is None
    monkeypatch.undo()
    assert KeptJobs(tmp_path).read(this) is not None


def test_left_without_an_error_the_folder_is_gone_and_with_one_the_jobs_stay(done, tmp_path):
    this, folder = job(split=1, models=MODELS), tmp_path / "unfinished"

    def stopped():
        with kept_jobs(folder) as kept:
            kept.write(this, done)
            raise LeakError("stopped")

    with pytest.raises(LeakError):
        stopped()
    with kept_jobs(folder) as kept:
        assert kept.read(this) is not None
    assert not folder.exists()


def test_what_another_comparison_keeps_in_the_folder_stays(done, tmp_path):
    this, other = job(split=1, models=MODELS), job(split=2, models=MODELS)
    KeptJobs(tmp_path).write(other, done)
    with kept_jobs(tmp_path) as kept:
        kept.write(this, done)
    assert kept.read(this) is None
    assert kept.read(other) is not None


def test_two_comparisons_cannot_write_to_one_folder_at_a_time(tmp_path):
    with (
        kept_jobs(tmp_path / "unfinished"),
        pytest.raises(ArtefactError, match="another comparison"),
        kept_jobs(tmp_path / "unfinished"),
    ):
        pass


def test_a_folder_that_cannot_be_is_an_error_before_anything_is_learned(tmp_path):
    (tmp_path / "unfinished").write_text("a file")
    with pytest.raises(ArtefactError, match="cannot be kept"), kept_jobs(tmp_path / "unfinished"):
        pass
