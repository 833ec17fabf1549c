from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as dump_tensors

from domain.errors import ArtefactError
from gnn import artefact
from gnn.models.graph_predictor import GraphSettings
from gnn.path_graph import PathGraphConfig
from gnn.predictor import Kind
from gnn.protocols.forecast import Forecast
from gnn.registry import PREDICTORS, predictor_class

GNNS = sorted(name for name in PREDICTORS if predictor_class(name).kind is Kind.GNN)
NETWORK, BASELINE = GNNS[0], min(PREDICTORS.keys() - set(GNNS))


@pytest.fixture(scope="module")
def fitted(arrays):
    found = {}
    split = Forecast().split(arrays)
    for name in PREDICTORS:
        kind = predictor_class(name)
        predictor = kind(GraphSettings(hidden=8, epochs=1)) if kind.kind is Kind.GNN else kind()
        _, verdict = predictor.fit(arrays, split, seed=5)
        card = artefact.card(
            predictor, arrays, protocol="forecast", horizon=1, seed=5, verdict=verdict, code_version="0.1.0"
        )
        found[name] = (predictor, card)
    return found


@pytest.fixture
def saved(fitted, tmp_path):
    artefact.save(*fitted[NETWORK], tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", sorted(PREDICTORS))
def test_a_loaded_model_predicts_bit_for_bit_what_was_saved(fitted, arrays, name, tmp_path):
    predictor, card = fitted[name]
    artefact.save(predictor, card, tmp_path / "new" / "folder")
    loaded, about = artefact.load(tmp_path / "new" / "folder")
    assert about == card
    question = Forecast().split(arrays).test
    before, after = predictor.predict(arrays, question), loaded.predict(arrays, question)
    for field in fields(before):
        one, other = getattr(before, field.name), getattr(after, field.name)
        np.testing.assert_array_equal(one, other)


def test_the_card_says_where_the_model_comes_from(fitted, arrays):
    _, card = fitted[NETWORK]
    assert card.seed == 5
    assert card.synthetic
    assert card.audit_passed
    assert card.window_s == arrays.window_s
    assert card.data_hash == artefact.data_hash(arrays)
    assert "rtt_lag_1" in card.columns


@pytest.mark.parametrize("name", sorted(PREDICTORS))
def test_a_model_fitted_with_other_settings_than_the_usual_is_restored_with_them(arrays, name, tmp_path):
    kind = predictor_class(name)
    graph = PathGraphConfig(history=9, lags=2, moves=1, buckets=7, jitter_unit_ms=3.0, near_km=100.0)
    other = GraphSettings(graph=graph, hidden=8, epochs=1, least_width_ms=0.3, most_deviations=4.0)
    predictor = kind(other) if kind.kind is Kind.GNN else kind(windows=5)
    split = Forecast().split(arrays)
    _, verdict = predictor.fit(arrays, split, seed=5)
    card = artefact.card(
        predictor, arrays, protocol="forecast", horizon=1, seed=5, verdict=verdict, code_version="0.1.0"
    )
    artefact.save(predictor, card, tmp_path)
    loaded, _ = artefact.load(tmp_path)
    assert loaded.config() == predictor.config() != kind().config()
    one, again = predictor.predict(arrays, split.test), loaded.predict(arrays, split.test)
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(again, field.name))


@pytest.mark.parametrize("name", GNNS)
def test_every_setting_of_a_network_and_of_its_graph_is_saved(name):
    graph = {field.name for field in fields(PathGraphConfig)}
    own = {field.name for field in fields(GraphSettings)} - {"graph"}
    assert not graph & own
    assert predictor_class(name)().config().keys() == graph | own


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
        ({"format_version": 99}, "format_version"),
        ({"format": "other"}, "format"),
        ({"units": {"rtt": "s"}}, "units"),
        ({"model": "oracle"}, "oracle"),
        ({"config": {"hidden": 8}}, "settings"),
        ({"config": {"hidden": "8"}}, "settings"),
        ({"seed": "five"}, "seed"),
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
    ("change", "named"),
    [
        (lambda state: state.pop("mean"), "mean"),
        (lambda state: state.update(extra=np.zeros(1)), "extra"),
        (lambda state: state.update(mean=np.zeros(3)), "shape"),
        (lambda state: state.update(mean=state["mean"].astype(np.float32)), "float32"),
    ],
)
def test_other_arrays_than_its_kind_has_are_refused(saved, change, named):
    _rewrite_tensors(saved, change)
    with pytest.raises(ArtefactError, match=named):
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
        artefact.save(*fitted[BASELINE], saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    assert artefact.load(saved)[1] == fitted[NETWORK][1]
    artefact.save(*fitted[BASELINE], saved)
    assert artefact.load(saved)[1] == fitted[BASELINE][1]


def test_arrays_that_came_without_their_description_are_refused(fitted, saved, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    artefact.save(*fitted[BASELINE], other)
    (other / "model.safetensors").replace(
        saved / "model.safetensors"
    )  # as a kill between the two would leave it
    with pytest.raises(ArtefactError, match="saving may have been cut short"):
        artefact.load(saved)
    artefact.save(*fitted[BASELINE], saved)
    assert artefact.load(saved)[1] == fitted[BASELINE][1]
