from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as dump_tensors

from domain.errors import ArtefactError, DataError
from gnn import artefact
from gnn.models.graph_predictor import GraphSettings
from gnn.path_graph import PathGraphConfig
from gnn.protocols.forecast import Forecast
from gnn.registry import PREDICTORS, predictor_class

NETWORKS = sorted(
    name for name, at in PREDICTORS.items() if at.startswith("gnn.models.") and name != "ensemble"
)
MODELS = (*NETWORKS, "sage/plain")
NETWORK, OTHER = "sage/plain", "mlp"
SMALL = GraphSettings(graph=PathGraphConfig(neighbours=4, history=12), hidden=8, steps=4)


@pytest.fixture(scope="module")
def small(make_arrays):
    return make_arrays(probes=4, targets=4, windows=30)


def _fitted(name, arrays, protocol, settings=SMALL):
    split = protocol.splits(arrays, seed=0)[-1]
    predictor = predictor_class(name)(replace(settings, pointer="/" not in name))
    _, verdict = predictor.fit(arrays, split, protocol, seed=5)
    card = artefact.card(
        predictor,
        arrays,
        protocol=protocol.name,
        model=name,
        split=split.name,
        seed=5,
        verdict=verdict,
        code_version="0.1.0",
    )
    return predictor, card


@pytest.fixture(scope="module")
def fitted(small):
    return {name: _fitted(name, small, Forecast()) for name in MODELS}


@pytest.fixture
def saved(fitted, tmp_path):
    artefact.save(*fitted[NETWORK], tmp_path)
    return tmp_path


def _predicts_the_same(one, other, arrays, protocol):
    question = protocol.splits(arrays, seed=0)[-1].test
    before, after = one.predict(arrays, question), other.predict(arrays, question)
    for field in fields(before):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
    assert np.isfinite(before.rtt_high_ms).any()


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_predicts_bit_for_bit_what_was_saved(fitted, small, name, tmp_path):
    predictor, card = fitted[name]
    artefact.save(predictor, card, tmp_path / "new" / "folder")
    assert {file.name for file in tmp_path.rglob("*")} == {"new", "folder", "model.json", "model.safetensors"}
    loaded, about = artefact.load(tmp_path / "new" / "folder")
    assert about == card
    assert loaded.calibrated.learned_until_s == predictor.calibrated.learned_until_s
    _predicts_the_same(predictor, loaded, small, Forecast())


def test_so_does_one_whose_intervals_follow_nothing(small, tmp_path):
    predictor, card = _fitted("mlp", small, Forecast())
    predictor.calibrated = replace(predictor.calibrated, learned_until_s=None)
    artefact.save(predictor, card, tmp_path)
    loaded, _ = artefact.load(tmp_path)
    assert loaded.calibrated.learned_until_s is None
    _predicts_the_same(predictor, loaded, small, Forecast())


def test_the_card_says_where_the_model_comes_from(fitted, small):
    _, card = fitted[NETWORK]
    assert card.model == NETWORK
    assert card.seed == 5
    assert card.synthetic
    assert card.window_s == small.window_s
    assert card.data_hash == artefact.data_hash(small)
    assert card.protocol == "forecast"
    assert card.cases == Forecast().cases(small.window_s)
    assert card.split.startswith("from 2019-")
    assert card.audit_passed
    assert min(card.audit_windows, card.audit_perturbed, card.audit_deleted, card.audit_added) > 0
    assert "rtt_lag_1" in card.columns


def test_a_model_fitted_with_other_settings_than_the_usual_is_restored_with_them(small, tmp_path):
    graph = PathGraphConfig(
        history=9, lags=2, moves=1, neighbours=3, buckets=7, jitter_unit_ms=3.0, near_km=100.0
    )
    other = GraphSettings(graph=graph, hidden=8, steps=2, most_deviations=4.0, residual=False)
    predictor, card = _fitted("sage/direct", small, Forecast(), other)
    artefact.save(predictor, card, tmp_path)
    loaded, _ = artefact.load(tmp_path)
    assert loaded.config() == predictor.config() != type(predictor)().config()
    _predicts_the_same(predictor, loaded, small, Forecast())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_setting_of_a_network_and_of_its_graph_is_saved(name):
    graph = {field.name for field in fields(PathGraphConfig)}
    own = {field.name for field in fields(GraphSettings)} - {"graph"}
    assert not graph & own
    assert predictor_class(name)().config().keys() == graph | own


def test_a_predictor_that_was_not_fitted_is_not_saved(fitted, tmp_path):
    with pytest.raises(DataError, match="not fitted"):
        artefact.save(predictor_class("sage")(SMALL), fitted["sage"][1], tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_data_hash_follows_every_array(arrays):
    before = artefact.data_hash(arrays)
    assert before == artefact.data_hash(replace(arrays, rtt_ms=arrays.rtt_ms.copy()))
    asn = arrays.probe_end.asn.copy()
    asn[0] += 1
    received = arrays.received.copy()
    received[0, 0] -= 1
    target = arrays.target.copy()
    target[0] = "198.51.100.1"
    others = [
        replace(arrays, probe_end=replace(arrays.probe_end, asn=asn)),
        replace(arrays, received=received),
        replace(arrays, target=target),
        replace(arrays, synthetic=False),
        replace(arrays, window_s=3600),
    ]
    assert len({before, *map(artefact.data_hash, others)}) == 6


def _described(folder):
    return json.loads((folder / "model.json").read_text())


def _rewrite(folder, **changes):
    described = _described(folder) | changes
    (folder / "model.json").write_text(json.dumps(described))


def _rewrite_tensors(folder, change):
    state = parse_tensors((folder / "model.safetensors").read_bytes())
    change(state)
    tensors = dump_tensors(state)
    (folder / "model.safetensors").write_bytes(tensors)
    _rewrite(folder, tensors_sha256=hashlib.sha256(tensors).hexdigest())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format_version": 1}, "format_version 1.*train the model again"),
        ({"format_version": 99}, "format_version"),
        ({"ontology_version": 0}, "ontology_version 0.*train the model again"),
        ({"format": "other"}, "format"),
        ({"units": {"rtt": "s"}}, "units"),
        ({"model": "oracle"}, "oracle"),
        ({"model": "sage/../../oracle"}, "no such model"),
        ({"protocol": "oracle"}, "oracle"),
        ({"cases": ["next window"]}, "other cases"),
        ({"cases": [1]}, "cases"),
        ({"learned_until_s": "now"}, "learned_until_s"),
        ({"config": {"hidden": 8}}, "settings"),
        ({"config": {"hidden": "8"}}, "settings"),
        ({"seed": "five"}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": -1}, "seed"),
        ({"audit_windows": -1}, "audit_windows"),
        ({"audit_passed": False}, "audit_passed"),
        ({"window_s": 0}, "window_s"),
        ({"learned_until_s": 10**30}, "learned_until_s"),
        ({"code_version": "1\n\x1b[31m"}, "code_version"),
        ({"columns": [1, 2]}, "columns"),
        ({"tensors_sha256": "0"}, "damaged"),
        ({"surprise": 1}, "surprise"),
        ({"columns": ["rtt_lag_1"]}, "shape"),
    ],
)
def test_a_description_that_is_not_ours_is_refused(saved, changes, named):
    _rewrite(saved, **changes)
    with pytest.raises(ArtefactError, match=named):
        artefact.load(saved)


def test_settings_out_of_range_are_refused(saved):
    _rewrite(saved, config=_described(saved)["config"] | {"hidden": -8})
    with pytest.raises(ArtefactError, match="hidden"):
        artefact.load(saved)


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("hidden", 4000, "another shape"),
        ("hidden", 50_000_000, "out of its range: hidden"),
        ("layers", 10_000_000, "out of its range: layers"),
        ("neighbours", 10**9, "out of its range: neighbours"),
    ],
)
def test_a_setting_that_would_fill_memory_or_take_for_ever_is_refused_before_it_does(
    saved, setting, value, named
):
    _rewrite(saved, config=_described(saved)["config"] | {setting: value})
    with pytest.raises(ArtefactError, match=named):
        artefact.load(saved)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(saved, name):
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises(ArtefactError, match=f"no file {name}"):
        artefact.load(saved)


def test_arrays_that_are_longer_than_any_model_are_not_read_whole(saved, monkeypatch):
    monkeypatch.setattr(artefact, "MOST_TENSORS", 100)
    with pytest.raises(ArtefactError, match="of more than 100 bytes"):
        artefact.load(saved)


@pytest.mark.parametrize("name", ["model", "seed", "split", "cases", "audit_added", "learned_until_s"])
def test_a_description_that_lacks_something_is_refused(saved, name):
    described = _described(saved)
    del described[name]
    (saved / "model.json").write_text(json.dumps(described))
    with pytest.raises(ArtefactError, match=name):
        artefact.load(saved)


@pytest.mark.parametrize("text", ["[]", "null", "[" * 100_000, "{", "\x00", " " * (17 * 2**20)])
def test_a_description_that_is_no_json_object_is_refused(saved, text):
    (saved / "model.json").write_text(text)
    with pytest.raises(ArtefactError):
        artefact.load(saved)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("mean"), "mean"),
        (lambda state: state.update(extra=np.zeros(1)), "extra"),
        (lambda state: state.update(mean=np.zeros(3)), "shape"),
        (lambda state: state.update(mean=state["mean"].astype(np.float32)), "float32"),
        (lambda state: state.update(deviation=0.0 * state["mean"]), "deviation"),
        (
            lambda state: state["network.loss.last.bias"].__setitem__(0, np.nan),
            "no numbers.*network.loss.last.bias",
        ),
        (lambda state: state.pop("calibration.rtt.factors"), "do not fit together: .*rtt"),
        (
            lambda state: [state.pop(name) for name in list(state) if "calibration.jitter" in name],
            "do not fit together: .*jitter",
        ),
        (lambda state: state.update({"calibration.loss.levels": np.zeros(2)}), "calibration.loss.levels"),
        (lambda state: state.update({"calibration.rtt.extra": np.zeros(2)}), "do not fit together: .*rtt"),
        (
            lambda state: state.update(
                {"calibration.rtt.cases": state["calibration.rtt.cases"].astype(np.float32)}
            ),
            "calibration.rtt.cases float32",
        ),
        (lambda state: state["calibration.rtt.levels"].__setitem__(0, np.nan), "makes no sense"),
        (lambda state: state["calibration.rtt.cases"].__setitem__(0, np.nan), "makes no sense"),
        (lambda state: state["calibration.rtt.levels"].__iadd__(5.0), "makes no sense"),
        (lambda state: state["calibration.rtt.cells"].__setitem__(0, -1.0), "makes no sense"),
        (lambda state: state["calibration.rtt.typical_width_ms"].__imul__(-1.0), "makes no sense"),
        (lambda state: state["calibration.rtt.least_width_ms"].__isub__(1e6), "makes no sense"),
        (lambda state: state["calibration.rtt.factors"].fill(np.inf), "makes no sense"),
    ],
)
def test_other_arrays_than_its_kind_has_are_refused(saved, change, named):
    _rewrite_tensors(saved, change)
    with pytest.raises(ArtefactError, match=named):
        artefact.load(saved)


def _with_header(tensors, header):
    """The same numbers under another header."""
    (length,) = np.frombuffer(tensors[:8], dtype="<u8")
    text = json.dumps(header(json.loads(tensors[8 : 8 + int(length)]))).encode()
    return len(text).to_bytes(8, "little") + text + tensors[8 + int(length) :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:4],
        lambda whole: (2**63).to_bytes(8, "little") + whole[8:],
        lambda whole: _with_header(
            whole, lambda header: header | {"mean": header["mean"] | {"dtype": "BF16"}}
        ),
        lambda whole: _with_header(
            whole, lambda header: header | {"mean": header["mean"] | {"dtype": "F8_E4M3"}}
        ),
        lambda whole: _with_header(
            whole, lambda header: header | {"mean": header["mean"] | {"shape": [2**60]}}
        ),
        lambda whole: _with_header(whole, lambda header: []),
        lambda whole: whole + b"more",
    ],
)
def test_arrays_that_are_no_safetensors_are_refused_even_with_their_digest(saved, damage):
    tensors = damage((saved / "model.safetensors").read_bytes())
    (saved / "model.safetensors").write_bytes(tensors)
    _rewrite(saved, tensors_sha256=hashlib.sha256(tensors).hexdigest())
    with pytest.raises(ArtefactError):
        artefact.load(saved)


def test_one_changed_bit_is_seen(saved):
    tensors = bytearray((saved / "model.safetensors").read_bytes())
    tensors[-1] ^= 1
    (saved / "model.safetensors").write_bytes(tensors)
    with pytest.raises(ArtefactError, match="damaged"):
        artefact.load(saved)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"\x80\x04K\x01."])
def test_a_missing_empty_or_pickled_file_is_refused(saved, name, content):
    (saved / name).unlink()
    if content is not None:
        (saved / name).write_bytes(content)
    with pytest.raises(ArtefactError):
        artefact.load(saved)


def test_a_folder_that_cannot_be_written_is_named(fitted, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="cannot be saved"):
        artefact.save(*fitted[NETWORK], tmp_path / "file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_full_disk_leaves_the_model_that_was_there(fitted, saved, name):
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    (saved / f"{name}.new").symlink_to("/dev/full")
    with pytest.raises(ArtefactError, match="No space left"):
        artefact.save(*fitted[OTHER], saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    assert artefact.load(saved)[1] == fitted[NETWORK][1]
    artefact.save(*fitted[OTHER], saved)
    assert artefact.load(saved)[1] == fitted[OTHER][1]


def test_arrays_that_came_without_their_description_are_refused(fitted, saved, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    artefact.save(*fitted[OTHER], other)
    (other / "model.safetensors").replace(
        saved / "model.safetensors"
    )  # as a kill between the two would leave it
    with pytest.raises(ArtefactError, match="saving may have been cut short"):
        artefact.load(saved)
    artefact.save(*fitted[OTHER], saved)
    assert artefact.load(saved)[1] == fitted[OTHER][1]
