"""The command line: its contract with those who parse it, and what it does with bad input."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.lake import Lake
from testbed.server import TestbedServer
from tests.app.conftest import Cli

INGEST_KEYS = ["results_read", "observations", "duplicates", "quarantined", "seconds"]
QOE_KEYS = [
    "application",
    "group_by",
    "group",
    "score",
    "score_low",
    "score_high",
    "mos",
    "paths",
    "measured",
    "predicted",
    "limiting_metric",
    "window_start",
    "window_end",
    "model",
]
ROW_KEYS = [
    "model",
    "kind",
    "target",
    "mae_ms",
    "medae_ms",
    "median_relative_error",
    "rmse_ms",
    "r2",
    "brier",
    "log_loss",
    "auc",
    "loss_mae",
    "coverage_90",
    "width_90_ms",
    "ci_low",
    "ci_high",
    "tied_with_best",
    "epochs",
    "fit_seconds",
    "parameters",
]


def test_the_whole_way_on_files_and_what_machines_read_of_it(
    qoetwin: Cli, records: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert qoetwin("probes", "load", records / "probes.json", "--home", home).code == 0
    ingested = qoetwin("ingest", "files", records, "--home", home, "--format", "json")
    assert ingested.code == 1, "probes.json is in that folder too, and is not of results"
    assert "probes.json" in ingested.err
    first = json.loads(ingested.out)
    assert set(INGEST_KEYS) <= set(first)
    assert first["results_read"] == first["observations"] > 1000
    again = json.loads(
        qoetwin("ingest", "files", records / "results.ndjson.bz2", "--home", home, "--format", "json").out
    )
    assert (again["observations"], again["duplicates"]) == (0, first["observations"])
    built = qoetwin("graph", "build", "--window", "1h", "--home", home, "--format", "json")
    assert built.code == 0
    assert json.loads(built.out)["PathState"] == json.loads(built.out)["states"] > 100
    assert "synthetic" in built.err
    trained = qoetwin(
        "train", "sage", "--quick", "--protocol", "forecast", "--home", home, "--format", "json"
    )
    assert trained.code == 0, trained.err
    report = json.loads(trained.out)
    assert {"protocol", "seed", "dataset_hash", "audit", "rows"} <= set(report)
    assert (report["audit"]["passed"], report["audit"]["findings"]) == (True, [])
    assert set(ROW_KEYS) <= set(report["rows"][0])
    kinds = {row["model"]: row["kind"] for row in report["rows"]}
    assert kinds["sage"] == "gnn"
    assert kinds["last-value"] == kinds["boosting-around"] == "baseline"
    assert "synthetic" in trained.err
    assert sorted(path.name for path in (home / "models" / "sage-forecast").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]


def test_the_api_gives_what_the_files_give(
    qoetwin: Cli, atlas: TestbedServer, built: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    server = ["--server", atlas.address, "--certificate", atlas.certificate]
    measurements = [part for one in atlas.campaign.measurements for part in ("-m", one.msm_id)]
    span = ["--from", "2026-01-05", "--to", "2026-01-07"]
    assert qoetwin("ingest", "atlas", *measurements, *span, *server, "--home", home).code == 0
    assert qoetwin("probes", "sync", *server, "--home", home).code == 0
    assert qoetwin("graph", "build", "--window", "1h", "--home", home).code == 0
    ask = ["qoe", "all", "--group-by", "country", "--format", "json", "--home"]
    assert json.loads(qoetwin(*ask, home).out) == json.loads(qoetwin(*ask, built).out)


def test_qoe_says_the_same_in_every_format(qoetwin: Cli, built: Path) -> None:
    ask = ["qoe", "voip", "--group-by", "probe", "--home", built, "--format"]
    rows = json.loads(qoetwin(*ask, "json").out)
    assert set(QOE_KEYS) <= set(rows[0])
    assert [json.loads(line) for line in qoetwin(*ask, "ndjson").out.splitlines()] == rows
    table = list(csv.DictReader(io.StringIO(qoetwin(*ask, "csv").out)))
    assert [float(row["score"]) for row in table] == [row["score"] for row in rows]
    people = qoetwin(*ask, "table").out
    assert all(str(row["group"]) in people for row in rows)
    assert all(row["synthetic"] for row in rows)


def test_data_goes_to_stdout_and_notices_to_stderr(qoetwin: Cli, built: Path) -> None:
    answer = qoetwin("qoe", "web", "--home", built, "--format", "json")
    assert "synthetic" in answer.err
    json.loads(answer.out)


def test_a_pair_never_measured_is_no_error_and_no_number(qoetwin: Cli, built: Path) -> None:
    answer = qoetwin(
        "qoe", "voip", "--probe", 1, "--target", "192.0.2.1", "--home", built, "--format", "json"
    )
    assert answer.code == 0
    (row,) = json.loads(answer.out)
    assert (row["score"], row["paths"]) == (None, 0)
    assert "never measured" in row["reason"]


def test_a_probe_that_is_known_and_has_no_results_is_told_from_one_that_nobody_knows(
    qoetwin: Cli, tmp_path: Path
) -> None:
    ping = {"type": "ping", "af": 4, "msm_id": 1001, "timestamp": 1767571200, "dst_addr": "192.0.2.1", "result": [{"rtt": 1.0}]}  # fmt: skip
    (tmp_path / "one.json").write_text(json.dumps(ping | {"prb_id": 1}))
    (tmp_path / "probes.csv").write_text("prb_id,lat,lon,country\n1,33.9,35.5,LB\n2,33.9,35.5,LB\n3,,,\n")
    home = ["--home", tmp_path / "home"]
    assert qoetwin("ingest", "files", tmp_path / "one.json", *home).code == 0
    assert qoetwin("probes", "load", tmp_path / "probes.csv", *home).code == 0
    assert qoetwin("graph", "build", *home).code == 0

    def reason(probe: int) -> str:
        (row,) = json.loads(qoetwin("qoe", "voip", "--probe", probe, *home, "--format", "json").out)
        return str(row["reason"])

    assert reason(2) == "never measured: the graph knows probe 2, and no path from there"
    assert reason(4) == "never measured: the graph knows no probe 4"
    assert "the graph knows it, and no edge of it" in qoetwin("graph", "show", "AtlasProbe", 3, *home).err
    assert "no such node in the graph" in qoetwin("graph", "show", "AtlasProbe", 4, *home).err


def test_without_an_end_results_are_asked_for_up_to_now(
    qoetwin: Cli, atlas: TestbedServer, tmp_path: Path
) -> None:
    server = ["--server", atlas.address, "--certificate", atlas.certificate]
    ask = ["ingest", "atlas", "-m", 1000001, *server, "--format", "json", "--home"]
    whole = qoetwin(*ask, tmp_path / "one", "--from", "2026-01-05", "--to", "2026-01-07")
    open_ = qoetwin(*ask, tmp_path / "other", "--from", "2026-01-05")
    assert json.loads(open_.out)["observations"] == json.loads(whole.out)["observations"] > 100


def test_quarantine_is_chosen_alike_for_list_and_drop_and_a_dry_run_drops_nothing(
    qoetwin: Cli, tmp_path: Path
) -> None:
    good = {"type": "ping", "af": 4, "msm_id": 1, "prb_id": 1, "timestamp": 1767571200, "dst_addr": "192.0.2.1", "result": []}  # fmt: skip
    home = ["--home", tmp_path / "home"]
    for name, bad in (("a.json", {"type": "dns", "msm_id": 1}), ("b.json", {"type": "ping"})):
        (tmp_path / name).write_text(json.dumps([good, bad]))
        assert qoetwin("ingest", "files", tmp_path / name, *home).code == 0
    quarantine = ["ingest", "quarantine"]
    listed = qoetwin(*quarantine, "list", "--source", "a.json", *home, "--format", "json")
    assert [row["source"] for row in json.loads(listed.out)] == ["a.json"]
    assert listed.err == "1 record chosen\n"
    dry = qoetwin(*quarantine, "drop", "--source", "a.json", "--dry-run", *home, "--format", "json")
    assert (dry.out, dry.err) == (listed.out, "1 record would be dropped; nothing was\n")
    assert qoetwin(*quarantine, "list", *home).err == "2 records in quarantine\n"
    long_ago = qoetwin(*quarantine, "drop", "--before", "2020-01-01", *home, "--format", "json")
    assert json.loads(long_ago.out) == {"dropped": 0, "left": 2}
    dropped = qoetwin(*quarantine, "drop", "--source", "a.json", *home, "--format", "json")
    assert json.loads(dropped.out) == {"dropped": 1, "left": 1}
    dropped = qoetwin(*quarantine, "drop", "--all", *home, "--format", "json")
    assert json.loads(dropped.out) == {"dropped": 1, "left": 0}


def test_the_neighbourhood_of_a_probe_is_shown(qoetwin: Cli, built: Path) -> None:
    rows = json.loads(qoetwin("graph", "show", "--home", built, "--format", "json").out)
    assert all(row["synthetic"] for row in rows)
    assert next(row["count"] for row in rows if row["what"] == "PathState") > 100
    probe = json.loads(qoetwin("qoe", "web", "--group-by", "probe", "--home", built, "--format", "json").out)[
        0
    ]
    around = json.loads(
        qoetwin("graph", "show", "AtlasProbe", probe["group"], "--home", built, "--format", "json").out
    )
    assert {"LOCATED_IN", "COUNTRY", "PART_OF"} <= {row["edge"] for row in around}


# Bad input: one line, the right exit status, nothing half-written.


def written(home: Path) -> list[str]:
    return sorted(path.name for path in home.rglob("*.parquet"))


def assert_one_line(err: str, *words: object) -> None:
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
    for word in words:
        assert str(word) in err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"   \n", "an empty file"),
        (b'{"a": 1}\n', "not Atlas results"),
        (b"<html>Not found</html>", "not JSON"),
        (b"\x00\xff\x00\xff" * 64, "not JSON"),
        (b"prb_id,rtt\n1,2\n", "not JSON"),
        (bz2.compress(b""), "an empty file"),
        (gzip.compress(b"<html>", mtime=0), "not JSON"),
        (lzma.compress(b"[]"), "a file without records"),
        (b'{"msm_id": 1, "prb_id": 1, "timest', "cut before the end of its first record"),
    ],
)
def test_a_file_that_is_not_of_atlas_results_is_one_line_and_lands_nothing(
    qoetwin: Cli, tmp_path: Path, content: bytes, says: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    run = qoetwin("ingest", "files", file, "--home", tmp_path / "home", "--format", "json")
    assert run.code == 1
    assert_one_line(run.err, says, "file", "expected")
    assert json.loads(run.out)["results_read"] == 0
    assert written(tmp_path / "home") == []


def test_a_missing_file_is_one_line_and_the_files_beside_it_are_not_begun(
    qoetwin: Cli, records: Path, tmp_path: Path
) -> None:
    run = qoetwin(
        "ingest", "files", records / "results.ndjson.bz2", tmp_path / "nope", "--home", tmp_path / "home"
    )
    assert (run.code, run.out) == (1, "")
    assert_one_line(run.err, "no such file", "nope")
    assert not (tmp_path / "home").exists()


def cut_in_two(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: cut_in_two(whole),
        lambda whole: cut_in_two(bz2.decompress(whole)),
        lambda whole: cut_in_two(gzip.compress(bz2.decompress(whole))),
        lambda whole: cut_in_two(lzma.compress(bz2.decompress(whole))),
        lambda whole: b"[" + b",".join(bz2.decompress(whole).splitlines()[:50]) + b',{"msm_id": 1',
    ],
    ids=["bz2", "plain", "gzip", "xz", "array"],
)
def test_of_a_cut_file_the_whole_records_land_and_the_cut_is_counted_and_named(
    qoetwin: Cli, records: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    file, home = tmp_path / "cut.ndjson", tmp_path / "home"
    file.write_bytes(damage((records / "results.ndjson.bz2").read_bytes()))
    run = qoetwin("ingest", "files", file, "--home", home, "--format", "json")
    counts = json.loads(run.out)
    assert run.code == 1
    assert_one_line(run.err, "cut.ndjson", "ends in the middle")
    assert counts["observations"] > 0
    assert counts["quarantined"] == 1
    assert counts["results_read"] == counts["observations"] + 1


def test_one_bad_file_among_good_ones_is_named_and_the_good_ones_land(
    qoetwin: Cli, records: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    run = qoetwin(
        "ingest",
        "files",
        bad,
        records / "results.ndjson.bz2",
        "--home",
        tmp_path / "home",
        "--format",
        "json",
    )
    assert run.code == 1
    assert_one_line(run.err, "bad.json")
    assert json.loads(run.out)["observations"] > 1000


@pytest.mark.parametrize("home", ["/dev/null/home", "/proc/home"])
def test_a_home_that_cannot_be_written_is_one_line(qoetwin: Cli, records: Path, home: str) -> None:
    run = qoetwin("ingest", "files", records / "results.ndjson.bz2", "--home", home)
    assert (run.code, run.out) == (1, "")
    assert_one_line(run.err, home, "written")


@pytest.mark.parametrize(
    "command",
    [
        ["qoe", "voip"],
        ["graph", "build"],
        ["graph", "show"],
        ["train", "sage", "--protocol", "forecast"],
        ["probes", "sync"],
    ],
    ids=lambda command: " ".join(command),
)
def test_a_home_that_does_not_exist_is_one_line_that_says_what_to_do_and_is_not_made(
    qoetwin: Cli, tmp_path: Path, command: list[str]
) -> None:
    run = qoetwin(*command, "--home", tmp_path / "nowhere")
    assert (run.code, run.out) == (1, "")
    assert_one_line(run.err, "nowhere", "ingest")
    assert not (tmp_path / "nowhere").exists()


def test_a_lake_without_pings_builds_no_graph(qoetwin: Cli, records: Path, tmp_path: Path) -> None:
    qoetwin("probes", "load", records / "probes.json", "--home", tmp_path)
    run = qoetwin("graph", "build", "--home", tmp_path)
    assert run.code == 1
    assert_one_line(run.err, "no ping", "qoetwin ingest files")
    assert not (tmp_path / "graph.sqlite").exists()


def test_a_graph_file_that_is_no_database_is_one_line(qoetwin: Cli, tmp_path: Path) -> None:
    (tmp_path / "graph.sqlite").write_text("no database")
    run = qoetwin("qoe", "web", "--home", tmp_path)
    assert run.code == 1
    assert_one_line(run.err, "graph.sqlite", "not a database")


def test_an_unknown_country_is_one_line_with_those_that_were_measured(qoetwin: Cli, built: Path) -> None:
    run = qoetwin("qoe", "voip", "--country", "XX", "--home", built)
    assert (run.code, run.out) == (1, "")
    assert_one_line(run.err, "'XX'", "expected a country with measurements")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["qoe", "chess"], "'chess' is not one of"),
        (["qoe", "voip", "--at", "yesterday"], "ISO 8601"),
        (["qoe", "voip", "--at", "2026-01-05", "--from", "2026-01-05"], "choose one"),
        (["qoe", "voip", "--from", "2026-01-06", "--to", "2026-01-05"], "later than --from"),
        (["qoe", "voip", "--area", "95,0,10"], "no place on Earth"),
        (["qoe", "voip", "--area", "here"], "LAT,LON,KM"),
        (["qoe", "voip", "--target", "localhost"], "not an IP address"),
        (["qoe", "voip", "--prefix", "193.0.0.1/21"], "not a prefix"),
        (["qoe", "voip", "--probe", "-3"], "-3"),
        (["qoe", "voip", "--probe", "9223372036854775808"], "9223372036854775808"),
        (["graph", "show", "AtlasProbe", "9" * 20], "a whole number"),
        (["qoe", "voip", "--asn", "0"], "not an AS number"),
        (["qoe", "voip", "--at", "9999-12-31T23:00-05:00"], "not a time"),
        (["qoe", "voip", "--window", "3 weeks"], "not a length of time"),
        (["graph", "build", "--window", "0h"], "not a length of time"),
        (["graph", "show", "Router", "1"], "labels are"),
        (["ingest", "files"], "PATHS"),
        (
            ["ingest", "atlas", "-m", "1001", "--from", "2026-01-06", "--to", "2026-01-05"],
            "later than --from",
        ),
        (["ingest", "atlas", "-m", "1001", "--from", "2126-01-06"], "in the future"),
        (["ingest", "atlas", "-m", "1001", "--to", "2026-01-06"], "say of when: --from"),
        (["ingest", "quarantine", "drop"], "say which"),
        (["ingest", "quarantine", "drop", "--all", "--source", "a"], "--all, by itself"),
        (["qoe"], "APPLICATION"),
        (["fly"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_exit_2_and_says_what_would_be_right(
    qoetwin: Cli, built: Path, arguments: list[str], says: str
) -> None:
    home = ["--home", built] if arguments[0] in ("qoe", "graph") and len(arguments) > 1 else []
    run = qoetwin(*arguments, *home)
    assert (run.code, run.out) == (2, "")
    assert says in run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "chess", "--protocol", "forecast"], "expected boosting or boosting-around or"),
        (
            ["train", "sage", "--protocol", "magic"],
            "expected forecast or imputation or paper or unseen-pair or unseen-probe",
        ),
        (["qoe", "voip", "--store", "postgres"], "expected sqlite"),
    ],
)
def test_an_unknown_name_is_one_line_with_those_there_are(
    qoetwin: Cli, built: Path, arguments: list[str], says: str
) -> None:
    run = qoetwin(*arguments, "--home", built)
    assert (run.code, run.out) == (1, "")
    assert_one_line(run.err, says)


def test_a_probe_alone_means_all_measurements_that_it_takes_part_in(
    qoetwin: Cli, atlas: TestbedServer, tmp_path: Path
) -> None:
    anchor = atlas.campaign.internet.anchors[0].probe_id
    run = qoetwin(
        "ingest", "atlas", "--probe", anchor, "--latest", "--server", atlas.address, "--certificate", atlas.certificate,
        "--home", tmp_path, "--format", "json",
    )  # fmt: skip
    assert run.code == 0, run.err
    found = Lake(tmp_path / "lake").query(
        "SELECT DISTINCT probe_id, msm_id FROM ping UNION SELECT DISTINCT probe_id, msm_id FROM traceroute"
    )
    assert set(found["probe_id"].to_pylist()) == {anchor}
    assert found.num_rows > 1


def ask_api(qoetwin: Cli, home: Path, server: str, *more: object) -> str:
    span = ["--from", "2026-01-05", "--to", "2026-01-06"]
    run = qoetwin("ingest", "atlas", "-m", "1000001", *span, "--server", server, *more, "--home", home)
    assert (run.code, run.out) == (1, "")
    assert written(home) == []
    return run.err


def test_a_certificate_that_nobody_vouches_for_is_one_line(
    qoetwin: Cli, atlas: TestbedServer, tmp_path: Path
) -> None:
    assert_one_line(ask_api(qoetwin, tmp_path, atlas.address), "certificate is not trusted", atlas.address)


def test_a_missing_certificate_file_is_one_line(qoetwin: Cli, atlas: TestbedServer, tmp_path: Path) -> None:
    err = ask_api(qoetwin, tmp_path, atlas.address, "--certificate", tmp_path / "nope.pem")
    assert_one_line(err, "no such file of certificates", "nope.pem")


def test_a_file_that_is_no_certificate_is_one_line(
    qoetwin: Cli, atlas: TestbedServer, tmp_path: Path
) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    assert_one_line(
        ask_api(qoetwin, tmp_path, atlas.address, "--certificate", tmp_path / "bad.pem"), "bad.pem"
    )


def test_a_measurement_that_is_not_there_is_one_line_in_the_words_of_the_api(
    qoetwin: Cli, atlas: TestbedServer, tmp_path: Path
) -> None:
    span = ["--from", "2026-01-05", "--to", "2026-01-06"]
    server = ["--server", atlas.address, "--certificate", atlas.certificate]
    run = qoetwin("ingest", "atlas", "-m", 77, *span, *server, "--home", tmp_path)
    assert run.code == 1
    assert_one_line(run.err, "404", "77")


def test_an_api_that_is_not_there_is_one_line(
    qoetwin: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest.atlas import AtlasSource

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # bound and not listening: nobody answers there
        quick = {"first_wait_s": 0.01}
        monkeypatch.setattr(
            "app.cli._source", lambda server, _certificate: AtlasSource(server=server, **quick)
        )
        assert_one_line(ask_api(qoetwin, tmp_path, address), "does not answer", address)


def test_a_name_too_long_for_a_file_is_one_line(qoetwin: Cli, tmp_path: Path) -> None:
    long = "x" * 300
    for command in (
        ["ingest", "files", long, "--home", tmp_path],
        ["qoe", "voip", "--home", tmp_path / long],
        ["graph", "build", "--home", tmp_path / long],
        ["probes", "load", long, "--home", tmp_path],
    ):
        run = qoetwin(*command)
        assert (run.code, run.out) == (1, "")
        assert_one_line(run.err, long)


def test_a_row_of_probes_that_was_cut_is_refused_and_not_half_a_position(
    qoetwin: Cli, tmp_path: Path
) -> None:
    (tmp_path / "probes.csv").write_text("prb_id,lat,lon,country\n1,33.9,35.5,LB\n2,33.95,3")
    run = qoetwin("probes", "load", tmp_path / "probes.csv", "--home", tmp_path / "home", "--format", "json")
    assert run.code == 0
    assert (json.loads(run.out)["read"], json.loads(run.out)["refused"]) == (2, 1)


def test_what_is_synthetic_says_so_wherever_it_is_shown(
    qoetwin: Cli, records: Path, built: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for command in (
        ["ingest", "files", records / "results.ndjson.bz2", "--home", home],
        ["probes", "load", records / "probes.json", "--home", home],
        ["graph", "build", "--window", "1h", "--home", home],
        ["graph", "show", "--home", built],
        ["graph", "show", "Country", countries(qoetwin, built)[0], "--home", built],
        ["qoe", "web", "--home", built],
        ["train", "last-value", "--protocol", "forecast", "--quick", "--home", built],
    ):
        table = qoetwin(*command)
        assert table.code == 0, table.err
        assert "synthetic" in table.out + table.err, command
        (first, *_) = map(json.loads, qoetwin(*command, "--format", "ndjson").out.splitlines())
        assert first["synthetic"] > 0, command  # true, or how many


def test_a_graph_of_synthetic_results_says_so_also_where_no_probe_is_described(
    qoetwin: Cli, records: Path, tmp_path: Path
) -> None:
    qoetwin("ingest", "files", records / "results.ndjson.bz2", "--home", tmp_path)
    qoetwin("graph", "build", "--window", "1h", "--home", tmp_path)
    shown = json.loads(qoetwin("graph", "show", "--home", tmp_path, "--format", "json").out)
    assert {row["synthetic"] for row in shown} == {True}


def countries(qoetwin: Cli, home: Path) -> list[str]:
    rows = json.loads(qoetwin("qoe", "web", "--group-by", "country", "--home", home, "--format", "json").out)
    return [row["group"] for row in rows]


def test_a_defect_is_one_line_too(qoetwin: Cli, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("twice\nbroken")

    monkeypatch.setattr("twin.qoe.qoe", broken)
    run = qoetwin("qoe", "web", "--home", built)
    assert (run.code, run.out) == (1, "")
    assert_one_line(run.err, "defect of qoetwin", "ZeroDivisionError: twice broken", "QOETWIN_TRACEBACK=1")


def test_the_help_of_train_names_every_model_there_is(qoetwin: Cli) -> None:
    from gnn.registry import PREDICTORS

    text = "".join(qoetwin("train", "--help").out.split())  # lines break at hyphens too
    assert all(name in text for name in PREDICTORS)


def test_an_as_number_may_be_written_with_or_without_as(qoetwin: Cli, built: Path) -> None:
    ask = ["qoe", "voip", "--home", built, "--format", "json"]
    of_one = json.loads(qoetwin(*ask, "--group-by", "asn").out)[0]
    answers = [
        json.loads(qoetwin(*ask, "--asn", f"{prefix}{of_one['group']}").out)[0] for prefix in ("", "AS", "as")
    ]
    assert [(row["paths"], row["score"]) for row in answers] == [(of_one["paths"], of_one["score"])] * 3


def test_the_demo_goes_the_whole_way_and_its_page_shows_it(
    qoetwin: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twin.demo.PROBES", 6)
    monkeypatch.setattr("twin.demo.ANCHORS", 3)
    monkeypatch.setattr("twin.demo.LENGTH", timedelta(days=2))
    first = qoetwin("demo", "--home", tmp_path)
    assert first.code == 0, first.err
    for word in (
        "observations new in the lake",
        "path states",
        "limiting metric",
        "sage",
        "last-value",
        "demo.html",
    ):
        assert word in first.out
    page = (tmp_path / "demo.html").read_text()
    assert "Everything on this page is synthetic" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page), "the page must work without a network"
    for country in countries(qoetwin, tmp_path):
        assert f"<td>{country}</td>" in page
    again = json.loads(qoetwin("demo", "--home", tmp_path, "--format", "json").out)
    assert {row["application"] for row in again} == {"web", "video", "voip", "gaming", "file-transfer"}


def test_the_demo_refuses_a_home_with_real_measurements(qoetwin: Cli, tmp_path: Path) -> None:
    real = {
        "type": "ping",
        "af": 4,
        "msm_id": 1001,
        "prb_id": 1,
        "timestamp": 1767571200,
        "dst_addr": "192.0.2.1",
        "sent": 1,
        "result": [{"rtt": 1.0}],
    }
    (tmp_path / "real.json").write_text(json.dumps([real]))
    assert qoetwin("ingest", "files", tmp_path / "real.json", "--home", tmp_path / "home").code == 0
    run = qoetwin("demo", "--home", tmp_path / "home")
    assert (run.code, run.out) == (1, "")
    assert_one_line(run.err, "real measurements", "--home")
    assert not (tmp_path / "home" / "graph.sqlite").exists()
    assert qoetwin("graph", "build", "--home", tmp_path / "home").code == 0
    (tmp_path / "home" / "lake").rename(tmp_path / "moved")
    assert_one_line(qoetwin("demo", "--home", tmp_path / "home").err, "real measurements", "--home")


def test_a_column_that_no_table_has_is_named_before_a_table_is_read(qoetwin: Cli, tmp_path: Path) -> None:
    for columns in (("--column", "rtt=x"), ("--column", "af=x", "--set", "af=4")):
        ran = qoetwin("ingest", "table", tmp_path / "not there", *columns, "--home", tmp_path)
        assert ran.code == 1
        assert "'rtt'" in ran.err or "both named and stated" in ran.err
        assert ran.out == ""


def test_what_a_table_came_to_is_said_in_the_singular_and_in_the_plural(qoetwin: Cli, tmp_path: Path) -> None:
    nodes, samples, home = tmp_path / "nodes.csv", tmp_path / "samples.csv", tmp_path / "home"
    for count in (1, 2):
        nodes.write_text(
            "id,lat,lon,country\n"
            + "".join(f"{node},1,{node},{'nowhere' if node <= count else 'NL'}\n" for node in (1, 2, 3))
        )
        own = "".join(f"{node},{node},2020-07-19,1\n" for node in range(1, count + 1))
        samples.write_text(f"probe_id,target_id,timestamp,rtt_avg_ms\n1,2,2020-07-19,50\n{own}")
        ran = qoetwin(
            "ingest", "table", samples, "--nodes", nodes, "--set", "af=4", "--home", home / str(count)
        )
        assert ran.code == 0, ran.err
        s = "" if count == 1 else "s"
        assert f"and left out: {count} value{s}: " in ran.err
        assert f"of a node and itself: {count} sample{s}; " in ran.err
