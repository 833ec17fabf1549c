"""`compare` and `predict`, as a user would run them on a small synthetic home."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copytree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as dump_tensors

from app.comparison_document import read_document
from domain.selection import Selection
from kg.schema import PATH_PREDICTION, PATH_STATE
from kg.store import open_store
from tests.app.conftest import Cli, Run

PREDICT_KEYS = (
    *(
        "probe",
        "target",
        "af",
        "window_start",
        "window_end",
        "rtt_ms",
        "rtt_low_ms",
        "rtt_high_ms",
        "loss_ratio",
    ),
    *(
        "any_loss_probability",
        "jitter_ms",
        "jitter_low_ms",
        "jitter_high_ms",
        "model",
        "protocol",
        "in_range",
        "reason",
    ),
)


@pytest.fixture(scope="module")
def home(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose graph may be written to, and that keeps what is trained."""
    return Path(copytree(built, tmp_path_factory.mktemp("learning") / "home"))


def comparing(home: Path, out: Path, *more: str) -> list[str]:
    return [
        *("compare", "--protocol", "forecast", "--models", "last-value,seasonal-median"),
        *("--home", str(home), "--out", str(out), "--format", "json", *more),
    ]


@contextmanager
def in_a_process_group(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a group of its own, of which nothing is left afterwards, whatever becomes of the test."""
    in_a_terminal = (
        "from signal import SIGINT, default_int_handler, signal; signal(SIGINT, default_int_handler)"
    )
    start = [sys.executable, "-c", f"{in_a_terminal}; from app.cli import main; main()", *command]
    with subprocess.Popen(
        start, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for_a_job(process: subprocess.Popen[str], out: Path) -> None:
    while not list((out / "unfinished").glob("*.job")):
        assert process.poll() is None, "it ended before a job was kept"
        time.sleep(0.01)


@pytest.fixture
def trained(qoetwin: Cli, home: Path) -> Path:
    if not (home / "models" / "last-value-forecast").is_dir():
        run = qoetwin("train", "last-value", "--protocol", "forecast", "--quick", "--home", home)
        assert run.code == 0, run.err
    return home


def predicted(qoetwin: Cli, home: Path, *more: object) -> list[dict[str, object]]:
    run = qoetwin("predict", "--model", "last-value", "--home", home, "--format", "json", *more)
    assert run.code == 0, run.err
    rows: list[dict[str, object]] = json.loads(run.out)
    return rows


def test_a_comparison_is_a_page_and_the_figures_that_it_is_drawn_from(
    qoetwin: Cli, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    run = qoetwin(
        *("compare", "--protocol", "forecast", "--models", "last-value,seasonal-median", "--seeds", 2),
        *("--processes", 1, "--home", home, "--out", out, "--format", "json"),
    )
    assert run.code == 0, run.err
    document = json.loads((out / "comparison.json").read_text())
    assert document == json.loads(run.out)
    assert document["command"].startswith("qoetwin compare --protocol forecast")
    assert document["synthetic"]
    assert document["quick"] is False
    assert document["audit"]["passed"]
    assert {row["model"] for row in document["rows"]} == {"last-value", "seasonal-median"}
    assert {row["seeds"] for row in document["rows"]} == {2}
    assert document["jobs"] == len(document["splits"]) * 2 == 6
    (few,) = [note for note in document["notes"] if note.startswith("the tests are of ")]
    assert int(few.split()[4]) < 7
    assert {row["case"] for row in document["rows"]} == set(document["cases"])
    assert read_document(document).protocol == "forecast"
    page = (out / "index.html").read_text()
    assert all(f"{line.partition('. ')[2]}</span>" in page for line in document["conclusion"].splitlines())
    assert "synthetic" in page
    assert {file.name for file in out.iterdir()} == {"comparison.json", "index.html"}


def test_where_a_report_cannot_be_written_it_is_said_before_anything_is_learned(
    qoetwin: Cli, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "report" / "index.html").mkdir(parents=True)
    run = qoetwin(*comparing(home, tmp_path / "report"))
    one_line(run, "a folder that cannot be written")
    assert "a folder of the name index.html" in run.err


def test_a_report_that_finds_no_room_leaves_the_one_before_and_what_was_learned(
    qoetwin: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    assert qoetwin(*comparing(home, out, "--seeds", "1")).code == 0
    before = (out / "comparison.json").read_bytes()

    def full(contents: Mapping[Path, bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gnn.whole_files.write_whole", full)
        run = qoetwin(*comparing(home, out, "--seeds", "1"))
    one_line(run, "the report cannot be written")
    assert (out / "comparison.json").read_bytes() == before
    assert list((out / "unfinished").glob("*.job"))


def test_a_comparison_that_is_killed_goes_on_and_comes_to_the_same_figures(
    qoetwin: Cli, home: Path, tmp_path: Path
) -> None:
    killed, one_process = tmp_path / "killed", ("--seeds", "1", "--processes", "1")
    with in_a_process_group(comparing(home, killed, *one_process)) as process:
        wait_for_a_job(process, killed)
        process.kill()
    assert not (killed / "index.html").exists()
    went_on = qoetwin(*comparing(home, killed, *one_process))
    whole = qoetwin(*comparing(home, tmp_path / "whole", *one_process))
    assert went_on.code == whole.code == 0, went_on.err
    one, other = json.loads(went_on.out), json.loads(whole.out)
    assert any("an interrupted comparison went on: " in note for note in one["notes"])
    assert not (killed / "unfinished").exists()
    for document in (one, other):
        for row in document["rows"]:
            for cost in ("fit_seconds", "predict_seconds", "peak_memory_mb"):
                del row[cost]
    for part in ("rows", "gains", "breakdowns", "quantiles", "reliability", "worst", "splits", "conclusion"):
        assert one[part] == other[part]


def test_an_interrupt_ends_all_processes_of_a_comparison_at_once(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    with in_a_process_group(comparing(home, out, "--seeds", "40", "--processes", "2")) as process:
        wait_for_a_job(process, out)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert "Traceback" not in said
    until = time.monotonic() + 10.0
    while time.monotonic() < until:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a process of the comparison goes on")


def test_nothing_is_compared_without_a_baseline_beside_it(qoetwin: Cli, home: Path) -> None:
    run = qoetwin("compare", "--protocol", "forecast", "--models", "mlp", "--home", home)
    assert (run.code, run.out) == (1, "")
    assert "nothing to compare with; found no baseline among the models" in run.err


def test_the_next_window_is_predicted_for_every_path(qoetwin: Cli, trained: Path) -> None:
    rows = predicted(qoetwin, trained)
    assert set(PREDICT_KEYS) <= set(rows[0])
    with open_store("sqlite", trained, create=False) as store:
        states = store.facts(PATH_STATE, Selection(), ("rtt_median_ms",))
        assert len(rows) == store.pairs().num_rows
    ends = max(states["window_end"].to_pylist())
    assert {row["window_start"] for row in rows} == {f"{ends:%Y-%m-%dT%H:%M:%SZ}"} or all(
        str(row["window_start"]).startswith(f"{ends:%Y-%m-%dT%H:%M}") for row in rows
    )
    known = [row for row in rows if row["in_range"]]
    assert len(known) > 10
    assert all(row["rtt_low_ms"] <= row["rtt_ms"] <= row["rtt_high_ms"] for row in known)  # type: ignore[operator]
    assert all(row["reason"] is None for row in known)


def test_further_ahead_than_a_model_was_trained_for_is_unknown_with_the_reason(
    qoetwin: Cli, trained: Path
) -> None:
    rows = predicted(qoetwin, trained, "--at", "2030-01-01T00:00Z")
    assert {row["rtt_ms"] for row in rows} == {None}
    assert all("further ahead" in str(row["reason"]) for row in rows)


def test_pairs_of_a_file_are_predicted_in_its_order_and_strangers_get_a_reason(
    qoetwin: Cli, trained: Path, tmp_path: Path
) -> None:
    first, second = predicted(qoetwin, trained)[:2]
    file = tmp_path / "pairs.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["probe", "target", "af", "at"])
        for row in (second, first):
            writer.writerow([row["probe"], row["target"], row["af"], row["window_start"]])
        writer.writerow([first["probe"], "192.0.2.254", 4, first["window_start"]])
        writer.writerow([999, first["target"], first["af"], first["window_start"]])
        writer.writerow([999, "192.0.2.254", 4, first["window_start"]])
    rows = predicted(qoetwin, trained, "--pairs", file)
    assert [row["rtt_ms"] for row in rows] == [second["rtt_ms"], first["rtt_ms"], None, None, None]
    assert "no path to this target: nothing says where it is" in str(rows[2]["reason"])
    assert "no path from this probe: nothing says where it is" in str(rows[3]["reason"])
    assert "no path from this probe, and none to this target" in str(rows[4]["reason"])
    refused = qoetwin("predict", "--pairs", file, "--country", "LB", "--home", trained)
    assert refused.code == 2


def test_of_a_pair_that_was_never_measured_it_is_said_which_models_are_asked_about_it(
    qoetwin: Cli, trained: Path, tmp_path: Path
) -> None:
    rows = predicted(qoetwin, trained)
    measured = {(row["probe"], row["target"], row["af"]) for row in rows}
    probe, target, af = next(
        (here["probe"], there["target"], there["af"])
        for here in rows
        for there in rows
        if (here["probe"], there["target"], there["af"]) not in measured
    )
    at = rows[0]["window_start"]
    file = tmp_path / "pairs.csv"
    file.write_text(f"probe,target,af,at\n{probe},{target},{af},{at}\n")
    (row,) = predicted(qoetwin, trained, "--pairs", file)
    assert (row["rtt_ms"], row["in_range"]) == (None, False)
    assert "what a model for unseen-pair is asked about" in str(row["reason"])
    under = ("--protocol", "imputation", "--home", trained)
    assert qoetwin("train", "node-effects", "--quick", *under).code == 0
    run = qoetwin("predict", "--model", "node-effects", "--pairs", file, "--format", "json", *under)
    (row,) = json.loads(run.out)
    assert (
        "under imputation a model is asked about measured windows, of which the last begins" in row["reason"]
    )


def test_a_model_whose_intervals_could_not_be_calibrated_says_so_of_every_answer(
    qoetwin: Cli, trained: Path, tmp_path: Path
) -> None:
    home = Path(copytree(trained, tmp_path / "home"))
    folder = home / "models" / "last-value-forecast"
    arrays = parse_tensors((folder / "model.safetensors").read_bytes())
    for name in ("rtt", "jitter"):
        arrays[f"calibration.{name}.factors"][:] = np.nan
    tensors = dump_tensors(arrays)
    (folder / "model.safetensors").write_bytes(tensors)
    described = json.loads((folder / "model.json").read_text())
    described["tensors_sha256"] = hashlib.sha256(tensors).hexdigest()
    (folder / "model.json").write_text(json.dumps(described))
    answered = [row for row in predicted(qoetwin, home) if row["rtt_ms"] is not None]
    assert answered
    for row in answered:
        assert (row["rtt_low_ms"], row["rtt_high_ms"], row["in_range"]) == (None, None, False)
        assert row["reason"] == "no interval: too few cells were kept to calibrate one"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("probe,target\n1,192.0.2.1\n", "pairs without a column that they need"),
        ("probe,target,af,at\nx,192.0.2.1,4,2026-01-05\n", "a row that names no pair"),
        ("probe,target,af,at\n1,192.0.2.1,4,yesterday\n", "a row that names no pair"),
        ("", "pairs that cannot be read"),
        ("probe,target,af,at\n1,192.0.2.1,9,2026-01-05\n", "a row that names no pair"),
        ("probe,target,af,at\n1,192.0.2.1,4,\n", "found in row 1 as at nothing"),
        (
            "probe,target,af,at\n1,192.0.2.1,4,2026-01-05\n2,,4,2026-01-05\n",
            "found in row 2 as target nothing",
        ),
        ("probe,target,af,at\n1,192.0.2.1,6,2026-01-05\n", "found in row 1 as target and af 192.0.2.1 and 6"),
        ("probe,probe,target,af,at\n1,1,192.0.2.1,4,2026-01-05\n", "or with two of it"),
        ("probe, target, af, at\n1,192.0.2.1,4,2026-01-05\n", "found 'probe', ' target'"),
        ("probe,target,af,at\n1,192.0.2.1,4,9999-12-31T23:59:59-14:00\n", "a time that is out of reach"),
        ("probe,target,af,at\n1,192.0.2.1,4,0001-01-01T00:00:00+14:00\n", "a time that is out of reach"),
        ("probe,target,af,at\n1,192.0.2.1,4,9999-12-31T23:59Z\n", "a time that is out of reach"),
    ],
)
def test_what_is_no_pair_is_one_line(
    qoetwin: Cli, trained: Path, tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(text)
    run = qoetwin("predict", "--model", "last-value", "--pairs", file, "--home", trained)
    assert (run.code, run.out) == (1, "")
    assert says in run.err
    assert "Traceback" not in run.err


def test_predictions_are_kept_in_the_graph_and_are_no_measurements(qoetwin: Cli, trained: Path) -> None:
    with open_store("sqlite", trained, create=False) as store:
        before = store.facts(PATH_STATE)
    rows = predicted(qoetwin, trained, "--write")
    with open_store("sqlite", trained, create=False) as store:
        kept = store.facts(PATH_PREDICTION)
        assert store.facts(PATH_STATE).equals(before)
    told = [row for row in rows if row["rtt_ms"] is not None]
    assert kept.num_rows == len(told)
    assert sorted(kept["rtt_ms"].to_pylist()) == pytest.approx(sorted(row["rtt_ms"] for row in told))  # type: ignore[type-var]
    assert set(kept["model"].to_pylist()) == {"last-value"}
    assert set(kept["synthetic"].to_pylist()) == {True}
    assert kept["seen_until"].equals(kept["window_start"])


def test_a_prediction_of_a_window_that_was_seen_of_others_says_that_it_saw_it(
    qoetwin: Cli, tmp_path: Path
) -> None:
    home, pairs = of_hosts(14, qoetwin, tmp_path, never=(1, 2)), tmp_path / "pairs.csv"
    pairs.write_text("probe,target,af,at\n1,node:2,4,2026-11-02T00:00Z\n")
    under = ("--protocol", "unseen-pair", "--home", home)
    for command in (
        ("train", "node-effects", "--quick", *under),
        ("predict", "--model", "node-effects", "--pairs", pairs, "--write", *under),
    ):
        run = qoetwin(*command)
        assert run.code == 0, run.err
    with open_store("sqlite", home, create=False) as store:
        (row,) = store.facts(PATH_PREDICTION).to_pylist()
    assert row["rtt_ms"] > 0.0
    assert row["seen_until"] == row["window_end"]


def test_a_model_that_was_not_trained_here_is_one_line(qoetwin: Cli, home: Path) -> None:
    run = qoetwin("predict", "--model", "cheb-net", "--protocol", "imputation", "--home", home)
    assert (run.code, run.out) == (1, "")
    assert "that model was not trained here" in run.err
    assert "train it: qoetwin train cheb-net --protocol imputation" in run.err


def one_line(run: Run, says: str, code: int = 1) -> None:
    """What a user meets: a line on stderr, nothing on stdout, no traceback, no defect."""
    assert (run.code, run.out) == (code, "")
    assert says in run.err
    assert "Traceback" not in run.err
    assert "defect" not in run.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "Last-Value"], "no such model; found 'Last-Value'"),
        (["--model", "last-value", "--protocol", "Forecast"], "no such protocol; found 'Forecast'"),
        (["--model", "last-value", "--protocol", "paper"], "the paper's set-up shows what it asks"),
        (["--model", "ewma"], "that model was not trained here"),
        (["--model", "ewma"], "found last-value-forecast"),
        (["--model", "last-value", "--probe", "999"], "the graph knows no probe 999"),
        (["--model", "last-value", "--target", "192.0.2.254"], "no path to predict"),
        (["--model", "last-value", "--country", "XX"], "no probe or node in the graph is in that country"),
        (["--model", "last-value", "--window", "3h"], "trained on windows of another length"),
        (["--model", "last-value", "--at", "9999-12-31T23:59Z"], "a time that is out of reach"),
        (["--model", "last-value", "--at", "0001-01-01T00:00Z"], "a time that is out of reach"),
        (["--model", "last-value", "--from", "2030-01-01"], "no window to predict there"),
        (["--model", "last-value", "--from", "0002-01-01"], "too much to predict at once"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_predicted_is_one_line_that_says_why(
    qoetwin: Cli, trained: Path, arguments: list[str], says: str
) -> None:
    one_line(qoetwin("predict", *arguments, "--home", trained), says)


def test_pairs_of_a_parquet_file_without_a_time_or_with_what_is_none_are_one_line(
    qoetwin: Cli, trained: Path, tmp_path: Path
) -> None:
    file = tmp_path / "pairs.parquet"
    for at in (
        pa.array([None], pa.timestamp("us", "UTC")),
        pa.array([None], pa.string()),
        pa.array([5], pa.int64()),
    ):
        pq.write_table(pa.table({"probe": [1], "target": ["192.0.2.1"], "af": [4], "at": at}), file)
        run = qoetwin("predict", "--model", "last-value", "--pairs", file, "--home", trained)
        one_line(run, "a row that names no pair")
    file.write_text("no parquet")
    run = qoetwin("predict", "--model", "last-value", "--pairs", file, "--home", trained)
    one_line(run, "pairs that cannot be read")


@pytest.fixture
def another(trained: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A home with the same graph, and the folder of its one model, which may be spoilt."""
    home = tmp_path / "another"
    copytree(trained, home, ignore=lambda folder, names: [n for n in names if n == "lake"])
    return home, home / "models" / "last-value-forecast"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format_version": 1}, "train the model again with this version"),
        ({"ontology_version": 1}, "found ontology_version 1"),
        ({"window_s": 5400, "cases": []}, "other cases"),
    ],
)
def test_a_model_of_another_version_is_one_line(
    qoetwin: Cli, another: tuple[Path, Path], changes: dict[str, object], says: str
) -> None:
    home, folder = another
    description = folder / "model.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), **changes}))
    one_line(qoetwin("predict", "--model", "last-value", "--home", home), says)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_damaged_model_is_one_line(qoetwin: Cli, another: tuple[Path, Path], name: str) -> None:
    home, folder = another
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    one_line(qoetwin("predict", "--model", "last-value", "--home", home), "model")


def test_a_model_that_another_program_version_trained_predicts_and_says_so(
    qoetwin: Cli, another: tuple[Path, Path]
) -> None:
    home, folder = another
    description = folder / "model.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), "code_version": "0.0.1"}))
    run = qoetwin("predict", "--model", "last-value", "--home", home)
    assert run.code == 0, run.err
    assert "trained by qoetwin 0.0.1" in run.err


@pytest.mark.parametrize("name", ["ewma-forecast", "last-value-imputation"])
def test_a_model_in_the_folder_of_another_is_not_taken_for_it(
    qoetwin: Cli, another: tuple[Path, Path], name: str
) -> None:
    home, folder = another
    folder.rename(folder.with_name(name))
    model, _, protocol = name.rpartition("-")
    run = qoetwin("predict", "--model", model, "--protocol", protocol, "--home", home)
    one_line(run, "another model than its folder says")


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_learned(
    qoetwin: Cli, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        run = qoetwin(
            "compare", "--protocol", "forecast", "--models", "last-value", "--home", home, "--out", out
        )
        one_line(run, "a folder that cannot be written")
        assert "learning" not in run.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare", "--protocol", "forecast", "--seeds", "0"], "0 is not in the range"),
        (["compare", "--protocol", "forecast", "--seeds", "-2"], "-2 is not in the range"),
        (["train", "last-value", "--protocol", "forecast", "--seed", "-1"], "-1 is not in the range"),
        (["compare", "--protocol", "paper", "--models", "sage"], "leave --models out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_of_learning_is_exit_2(qoetwin: Cli, home: Path, arguments: list[str], says: str) -> None:
    one_line(qoetwin(*arguments, "--home", home), says, code=2)


@pytest.mark.parametrize(
    ("protocol", "says"),
    [
        ("forecast", "too few windows to learn from"),
        ("imputation", "too few windows to learn from"),
        ("unseen-pair", "too few pairs of hosts"),
        ("unseen-probe", "too few probes to hide"),
        ("paper", "too few hosts for the paper's split"),
    ],
)
def test_too_little_is_one_line_under_every_protocol(
    qoetwin: Cli, home: Path, protocol: str, says: str
) -> None:
    probe = json.loads(qoetwin("qoe", "web", "--group-by", "probe", "--home", home, "--format", "json").out)
    few = ("--probe", probe[0]["group"], "--from", "2026-01-05T00:00Z", "--to", "2026-01-05T03:00Z")
    one_line(qoetwin("compare", "--protocol", protocol, *few, "--home", home), says)
    if protocol != "paper":
        one_line(qoetwin("train", "node-effects", "--protocol", protocol, *few, "--home", home), says)


@pytest.fixture
def mesh(qoetwin: Cli, tmp_path: Path) -> Path:
    """A home in which twelve hosts measured each other once."""
    return of_hosts(12, qoetwin, tmp_path)


def of_hosts(count: int, qoetwin: Cli, folder: Path, never: tuple[int, ...] = ()) -> Path:
    """A home in which so many hosts, whose places nobody knows, measured each other once, by a table; but these two never."""
    home, table = folder / "home", folder / "pings.csv"
    hosts = range(1, count + 1)
    rows = [
        f"{one},{other},{10 * abs(one - other)},2026-11-02T00:00Z,4"
        for one in hosts
        for other in hosts
        if one != other and not (one in never and other in never)
    ]
    table.write_text("probe_id,target_id,rtt_avg_ms,timestamp,af\n" + "\n".join(rows) + "\n")
    for command in (("ingest", "table", table), ("graph", "build", "--window", "1h")):
        run = qoetwin(*command, "--home", home)
        assert run.code == 0, run.err
    return home


@pytest.mark.parametrize(
    "command",
    [
        ("train", "last-value", "--protocol", "unseen-pair"),
        ("compare", "--models", "node-effects,last-value", "--protocol", "unseen-pair"),
    ],
    ids=["train", "compare"],
)
def test_a_model_that_needs_the_past_of_a_pair_is_refused_where_pairs_were_never_met(
    qoetwin: Cli, mesh: Path, command: tuple[str, ...]
) -> None:
    run = qoetwin(*command, "--home", mesh)
    assert run.code == 1
    assert (
        "nothing to say of pairs that were never measured: last-value; found protocol unseen-pair" in run.err
    )


def test_where_nothing_can_be_scored_the_comparison_says_so_and_the_page_is_written(
    qoetwin: Cli, mesh: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    command = ("compare", "--protocol", "unseen-pair", "--models", "fibre-distance,nearest-places")
    run = qoetwin(*command, "--seeds", 1, "--processes", 1, "--home", mesh, "--out", out)
    assert run.code == 0, run.err
    assert "Nothing could be scored." in run.err
    assert "defect" not in run.err
    assert run.out.startswith("unseen-pair\n")
    document = json.loads((out / "comparison.json").read_text())
    assert (document["cases"], document["rows"]) == ([], [])
    assert "Nothing could be scored." in (out / "index.html").read_text()


def test_where_each_seed_draws_its_own_split_there_is_one_job_a_seed(
    qoetwin: Cli, mesh: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    command = ("compare", "--protocol", "unseen-pair", "--models", "node-effects", "--seeds", 3)
    run = qoetwin(*command, "--processes", 1, "--home", mesh, "--out", out, "--format", "json")
    assert run.code == 0, run.err
    assert json.loads(run.out)["jobs"] == 3
    assert "<b>3</b> jobs, each of one split and one seed (0, 1, 2)" in (out / "index.html").read_text()


def test_the_papers_set_up_is_compared_without_an_audit_and_says_so(qoetwin: Cli, tmp_path: Path) -> None:
    home, out = of_hosts(20, qoetwin, tmp_path), tmp_path / "report"
    run = qoetwin("compare", "--protocol", "paper", "--quick", "--home", home, "--out", out)
    assert run.code == 0, run.err
    assert "leakage audit: not run" in run.err
    document = json.loads((out / "comparison.json").read_text())
    assert (document["audit"]["passed"], document["audit"]["models"], document["jobs"]) == (False, 0, 1)
    page = (out / "index.html").read_text()
    for said in (
        "No leakage audit was run.",
        "leaky: the answer, among others",
        "honest: no answer",
        "as in the paper",
    ):
        assert said in page


def test_what_was_learned_in_few_steps_says_so(qoetwin: Cli, home: Path) -> None:
    run = qoetwin(
        "train", "last-value", "--protocol", "forecast", "--quick", "--home", home, "--format", "json"
    )
    assert run.code == 0, run.err
    assert json.loads(run.out)["quick"] is True
