from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from domain.errors import ArtefactError
from gnn import checkpoint, whole_files
from gnn.checkpoint import ENDING, Checkpoint
from gnn.comparison import Job, run
from gnn.models.graph_predictor import GraphSettings
from gnn.path_graph import PathGraphConfig
from gnn.predictor import Lesson
from gnn.protocols.forecast import Forecast
from gnn.protocols.imputation import Imputation
from gnn.registry import predictor_class
from qoe.profile import load_profile

SETTINGS = GraphSettings(graph=PathGraphConfig(neighbours=4, history=12), hidden=8, steps=24)
"""Two epochs of the windows below."""

FILE = f"sage{ENDING}"


class Interrupted(Exception):  # noqa: N818  nothing is wrong
    """As a power cut would."""


@pytest.fixture(scope="module")
def small(make_arrays):
    return make_arrays(probes=4, targets=4, windows=30)


def _predictor(name="sage", **changes):
    return predictor_class(name)(
        GraphSettings(**{field: getattr(SETTINGS, field) for field in SETTINGS.__slots__} | changes)
    )


def _learn(arrays, folder=None, *, until=None, name="sage", protocol=None, seed=3, **changes):
    """Learn, or as far as an epoch; gives the predictor, what was learned, and the epochs that were told."""
    protocol = Forecast() if protocol is None else protocol
    predictor, told = _predictor(name, **changes), []

    def progress(epoch, _of, _loss):
        told.append(epoch)
        if epoch == until:
            raise Interrupted

    lesson = Lesson(
        arrays=arrays,
        split=protocol.splits(arrays, seed=0)[-1],
        protocol=protocol,
        seed=seed,
        progress=progress,
        checkpoint=folder,
    )
    if until is not None:
        with pytest.raises(Interrupted):
            predictor.learn(lesson)
        return predictor, None, told
    return predictor, predictor.learn(lesson), told


def _same_bits(one, other):
    mine, theirs = one.state(), other.state()
    return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def whole(small):
    """A training that nothing interrupts."""
    return _learn(small)


def test_an_interrupted_training_goes_on_and_ends_with_the_same_bits(small, whole, kept, tmp_path):
    predictor, learned, told = whole
    assert told == [1, 2]
    (tmp_path / FILE).write_bytes(kept)
    again, then, told_then = _learn(small, tmp_path)
    assert told_then == [2]
    assert then == learned
    assert _same_bits(again, predictor)


def test_a_training_interrupted_after_its_last_epoch_runs_no_further_one(small, whole, tmp_path):
    predictor, learned, told = whole
    _learn(small, tmp_path, until=told[-1])
    again, then, told_then = _learn(small, tmp_path)
    assert told_then == []
    assert then == learned
    assert _same_bits(again, predictor)


def test_of_several_models_those_that_were_through_before_an_interrupt_are_not_learned_again(small, tmp_path):
    folder = tmp_path / "kept" / "here"
    job = Job(
        arrays=small,
        protocol=Forecast(),
        split=0,
        split_seed=0,
        seed=3,
        models=("sage", "last-value"),
        profile=load_profile(),
        overrides={"hidden": 8, "steps": 2},
        checkpoint=folder,
    )

    def until_the_last(_split, model, *_):
        if model == "last-value":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, until_the_last)
    kept = folder / FILE
    written = kept.stat().st_mtime_ns
    with safe_open(kept, framework="np") as opened:
        took = json.loads(opened.metadata()["state"])["numbers"]["seconds"]
    done = run(job, lambda *_: None)
    assert kept.stat().st_mtime_ns == written
    assert done.costs["sage"].learned.losses
    assert done.costs["sage"].learned.seconds > took
    checkpoint.discard(folder)
    assert not folder.exists()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import torch
    torch.set_num_threads(int(sys.argv[2]))  # sums are split among threads, so bits depend on how many
    from tests.gnn import test_checkpoint as these
    from tests.gnn.conftest import synthetic_arrays

    take_place = Path.replace

    def kill_at_the_second(self, target):
        if (Path(sys.argv[1]) / these.FILE).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return take_place(self, target)

    Path.replace = kill_at_the_second
    these._learn(synthetic_arrays(probes=4, targets=4, windows=30), Path(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill so")
def test_a_training_that_is_killed_while_it_is_being_kept_goes_on_from_the_epoch_before(
    small, whole, tmp_path
):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            textwrap.dedent(KILLED),
            str(tmp_path),
            str(torch.get_num_threads()),
        ],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert {file.name for file in tmp_path.iterdir()} == {FILE, f"{FILE}.new"}
    again, _, told = _learn(small, tmp_path)
    assert told == [2]
    assert _same_bits(again, whole[0])


@pytest.fixture(scope="module")
def kept(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    _learn(small, folder, until=1)
    return (folder / FILE).read_bytes()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed"),
        ({"hidden": 16}, "config"),
        ({"name": "cheb-net"}, "model"),
        ({"protocol": Imputation()}, "protocol"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused_and_left_alone(small, kept, tmp_path, changes, named):
    file = tmp_path / f"{changes.get('name', 'sage')}{ENDING}"
    file.write_bytes(kept)
    with pytest.raises(ArtefactError, match=f"another training.*{named}.*delete {tmp_path}"):
        _learn(small, tmp_path, **changes)
    assert file.read_bytes() == kept


def test_the_checkpoint_of_a_training_on_other_data_is_refused(make_arrays, kept, tmp_path):
    (tmp_path / FILE).write_bytes(kept)
    with pytest.raises(ArtefactError, match="another arrays"):
        _learn(make_arrays(probes=4, targets=4, windows=30, seed=1), tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        lambda whole: whole.replace(b'\\"step\\": ', b'\\"step\\":1', 1),
        lambda whole: (2**60).to_bytes(8, "little") + whole[8:],
        lambda whole: b"\x80\x04K\x01.",
    ],
    ids=["empty", "cut short", "a flipped bit", "another step", "a header without end", "a pickle"],
)
def test_a_damaged_checkpoint_is_refused_and_its_folder_named(small, kept, tmp_path, damage):
    assert damage(kept) != kept
    (tmp_path / FILE).write_bytes(damage(kept))
    with pytest.raises(ArtefactError, match=f"damaged checkpoint.*delete {tmp_path}"):
        _learn(small, tmp_path)


def _rewritten(folder, change):
    """Change what is kept, with a digest that fits."""
    with safe_open(folder / FILE, framework="np") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        described = json.loads(opened.metadata()["state"])
    change(described["numbers"], tensors)
    Checkpoint(folder=folder, name="sage", of=described["of"]).write(described["numbers"], tensors)


@pytest.mark.parametrize(
    "change",
    [
        lambda numbers, tensors: tensors.pop("random.torch"),
        lambda numbers, tensors: tensors.update({"optimiser.x.exp_avg": np.zeros(1, dtype=np.float32)}),
        lambda numbers, tensors: tensors.update({"extra": np.zeros(1)}),
        lambda numbers, tensors: tensors.update({"best.loss.last.bias": np.zeros(2)}),
        lambda numbers, tensors: numbers.pop("losses"),
        lambda numbers, tensors: numbers.update(groups=[]),
        lambda numbers, tensors: numbers.update(masks={"bit_generator": "MT19937"}),
        lambda numbers, tensors: numbers["schedule"].update(step="mine"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(small, kept, tmp_path, change):
    (tmp_path / FILE).write_bytes(kept)
    _rewritten(tmp_path, change)
    with pytest.raises(ArtefactError, match=f"delete {tmp_path}"):
        _learn(small, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="cannot be kept"):
        _learn(small, tmp_path / "file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_leaves_the_epoch_that_was_kept(small, kept, tmp_path):
    (tmp_path / FILE).write_bytes(kept)
    (tmp_path / f"{FILE}.new").symlink_to("/dev/full")
    with pytest.raises(ArtefactError, match="No space left"):
        _learn(small, tmp_path)
    assert (tmp_path / FILE).read_bytes() == kept


def test_what_is_not_ours_in_the_folder_stays(tmp_path):
    (tmp_path / "notes").write_text("mine")
    Checkpoint(folder=tmp_path, name="sage", of={}).write({}, {})
    checkpoint.discard(tmp_path)
    checkpoint.discard(tmp_path / "nowhere")
    assert [file.name for file in tmp_path.iterdir()] == ["notes"]


def test_several_files_take_their_places_together_or_not_at_all(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b.new").mkdir()
    with pytest.raises(OSError, match=r"b\.new"):
        whole_files.write_whole({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert (tmp_path / "a").read_bytes() == b"old"
