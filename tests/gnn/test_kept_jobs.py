"""Jobs that are through are kept, and found again by nothing but the same job."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from domain.errors import ArtefactError
from gnn.comparison import run
from gnn.kept_jobs import KeptJobs, _packed
from gnn.protocols import protocol_named
from tests.gnn.test_comparison import TINY, job, unheard

MODELS = ("last-value", "ewma")


@pytest.fixture(scope="module")
def done():
    return run(job(split=1, models=MODELS), unheard)


def test_what_came_of_a_job_comes_back_to_the_last_bit(done, tmp_path):
    kept = KeptJobs(tmp_path / "unfinished")
    kept.write(job(split=1, models=MODELS), done)
    again = kept.read(job(split=1, models=MODELS))
    assert type(again) is type(done)
    assert msgspec.msgpack.encode(again, enc_hook=_packed) == msgspec.msgpack.encode(done, enc_hook=_packed)
    kept.discard()
    assert not (tmp_path / "unfinished").exists()


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


def test_what_others_keep_in_the_folder_stays(done, tmp_path):
    kept = KeptJobs(tmp_path)
    kept.write(job(split=1, models=MODELS), done)
    (tmp_path / "mine.txt").write_text("mine")
    kept.discard()
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
