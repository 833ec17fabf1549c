from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InputError, NotFoundError, TruncatedError
from ingest.probes import probes_table, read_probes

PROBE = {
    "id": 5, "type": "Probe", "geometry": {"type": "Point", "coordinates": [35.5, 33.9]}, "asn_v4": 64500,
    "asn_v6": None, "country_code": "lb", "address_v4": "192.0.2.5", "address_v6": "2001:DB8::5",
    "prefix_v4": "192.0.2.0/24", "prefix_v6": "2001:db8::/32", "is_anchor": False, "description": "a probe",
    "status": {"id": 1, "name": "Connected", "since": "2023-01-15T12:39:05Z"},
}  # fmt: skip
ANCHOR = {
    "id": 900, "type": "Anchor", "fqdn": "lb-bey.anchors.example", "probe": 6, "ip_v4": "192.0.2.6", "as_v4": 64501,
    "ip_v6": None, "as_v6": None, "country": "LB", "geometry": {"type": "Point", "coordinates": [35.5, 33.9]},
}  # fmt: skip


def row(one: Any) -> Any:
    (found,) = probes_table([one]).table.to_pylist()
    return found


def test_a_probe_object_of_the_api() -> None:
    assert row(PROBE) == {
        "probe_id": 5,
        "latitude": 33.9,
        "longitude": 35.5,
        "asn_v4": 64500,
        "asn_v6": None,
        "country": "LB",
        "address_v4": "192.0.2.5",
        "address_v6": "2001:db8::5",
        "prefix_v4": "192.0.2.0/24",
        "prefix_v6": "2001:db8::/32",
        "is_anchor": False,
        "name": "a probe",
        "status": "Connected",
        "synthetic": False,
        "host": None,
    }


def test_an_anchor_object_of_the_api_is_the_probe_it_names() -> None:
    anchor = row(ANCHOR | {"synthetic": True})
    assert (anchor["probe_id"], anchor["is_anchor"], anchor["name"]) == (6, True, "lb-bey.anchors.example")
    assert (anchor["asn_v4"], anchor["address_v4"], anchor["country"]) == (64501, "192.0.2.6", "LB")
    assert anchor["synthetic"] is True


@pytest.mark.parametrize(
    "write",
    [
        lambda ones: json.dumps({"count": 2, "next": None, "previous": None, "results": ones}),
        json.dumps,
        lambda ones: "\n".join(json.dumps(one) for one in ones),
        lambda ones: json.dumps({str(number): one for number, one in enumerate(ones)}),
        lambda ones: json.dumps({"a2p": {}, "prb_meta": {str(number): one for number, one in enumerate(ones)}}),
        lambda _: "prb_id,lat,lon,country,is_anchor\n5,33.9,35.5,LB,False\n6,33.9,35.5,LB,True\n",
        lambda _: "id;x\n".replace(";", ",") + "5,1\n6,1\n",
    ],
)  # fmt: skip
def test_every_form_of_a_list_of_probes_is_read(tmp_path: Path, write: Any) -> None:
    for name, pack in (("plain", bytes), ("packed", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack(write([PROBE, ANCHOR]).encode()))
        assert read_probes(path).table.column("probe_id").to_pylist() == [5, 6]


def test_one_object_alone_is_a_list_of_one(tmp_path: Path) -> None:
    path = tmp_path / "probe.json"
    path.write_text(json.dumps(PROBE, indent=2))
    assert read_probes(path).table.num_rows == 1


def test_what_cannot_be_is_none_and_bad_positions_are_counted() -> None:
    odd = probes_table(
        [
            {"id": 1, "latitude": 91.0, "longitude": 3.0, "country_code": "LBN", "asn_v4": 0},
            {"id": 2, "latitude": 0.0, "longitude": 0.0, "asn_v4": "AS64500", "address_v4": "2001:db8::1"},
            {"id": 3, "latitude": 5.0},
            {"id": 4, "geometry": None, "prefix_v4": "x", "is_anchor": "perhaps"},
            {"id": 5, "geometry": {"coordinates": ["35.5", True]}},
            {"latitude": 1.0, "longitude": 1.0},
            {"id": 0},
            7,
        ]
    )
    rows = odd.table.to_pylist()
    assert [(one["latitude"], one["longitude"]) for one in rows] == [(None, None), (0.0, 0.0)] + [
        (None, None)
    ] * 3
    assert (rows[0]["country"], rows[0]["asn_v4"]) == (None, None)
    assert (rows[1]["asn_v4"], rows[1]["address_v4"]) == (64500, None)
    assert (rows[3]["prefix_v4"], rows[3]["is_anchor"]) == (None, None)
    assert (odd.read, odd.refused, odd.bad_positions) == (8, 3, 3)
    assert (
        odd.bad_values == 3
    )  # LBN, an IPv6 address for an IPv4 one, the prefix x; an AS 0 is an unknown one
    assert (odd.without_position, odd.without_as) == (4, 4)


def test_results_and_measurements_are_no_probes_although_they_have_ids(tmp_path: Path) -> None:
    path = tmp_path / "other"
    others = [
        {"id": 1001, "type": "ping"},
        {"msm_id": 1, "prb_id": 2, "type": "ping"},
        {"msm_id": 1, "prb_id": 2},
    ]
    path.write_text(json.dumps(others))
    with pytest.raises(InputError, match="without probes"):
        read_probes(path)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", InputError, "not a list of probes"),
        (b"\x89PNG\x00", InputError, "not a list of probes"),
        (b"name,lat\nx,1\n", InputError, "not a list of probes"),
        (b'{"a": ', InputError, "not a list of probes"),
        (b"[]", InputError, "without probes"),
        (gzip.compress(b"prb_id\n5\n", mtime=0)[:-9], TruncatedError, "cut"),
    ],
)
def test_what_is_no_list_of_probes_is_one_error(
    tmp_path: Path, content: bytes, error: type[Exception], words: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        read_probes(path)
    assert str(path) in str(caught.value)
    with pytest.raises(NotFoundError):
        read_probes(tmp_path / "none")


_value = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.floats(), max_size=2)
)


@given(st.dictionaries(st.sampled_from([*PROBE, *ANCHOR, "lat", "lon"]), _value))
def test_no_object_breaks_the_reader(changes: dict[str, Any]) -> None:
    probes = probes_table([PROBE | changes, ANCHOR | changes])
    probes.table.validate(full=True)
    assert probes.table.num_rows + probes.refused == probes.read == 2


@pytest.mark.recorded
@pytest.mark.parametrize(
    ("name", "rows", "with_position", "with_asn_v4", "with_country"),
    [
        ("probes/probes.csv.gz", 21_756, 18_477, 13_385, 13_917),
        ("probes/emileaben-atlas-mesh-msm_state-2023.json.gz", 672, 672, 672, 672),
        ("mesh/anchors.json.gz", 500, 500, 500, 500),
    ],
)
def test_recorded_lists_have_the_counts_of_their_readme(
    recorded: Path, name: str, rows: int, with_position: int, with_asn_v4: int, with_country: int
) -> None:
    probes = read_probes(recorded / "atlas" / name)
    table = probes.table
    known = {name: rows - table.column(name).null_count for name in ("latitude", "asn_v4", "country")}
    assert table.num_rows == rows
    assert list(known.values()) == [with_position, with_asn_v4, with_country]
    assert (probes.refused, probes.bad_positions) == (0, 0)


@pytest.mark.parametrize("begin", [b'[{"id": 5, "name": "', b'prb_id,lat\n5,"'])
def test_what_is_larger_than_any_list_of_probes_is_refused_before_it_is_all_read(
    tmp_path: Path, begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.probes._MOST_BYTES", 4 << 20)
    path = tmp_path / "probes"
    path.write_bytes(gzip.compress(begin + b"9" * (40 << 20), 1))
    tracemalloc.start()
    with pytest.raises(InputError, match="a list that is too large"):
        read_probes(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
