"""Documentation that cannot rot: the manual, README's commands, the paths that README and the decisions name."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from shutil import copytree

import click
import pytest

from app.cli import cli
from app.comparison_document import read_document
from app.manual import manual
from kg.schema import PATH_PREDICTION
from kg.store import open_store
from tests.app.conftest import Cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_manual_is_what_the_command_line_says_today() -> None:
    assert (ROOT / "docs" / "commands.md").read_text() == manual(), "run: make docs"


def commands(group: click.Group, path: str = "qoetwin") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_every_command_and_option_has_a_help_text() -> None:
    for path, command in commands(cli):
        assert command.help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{path} {parameter.name}"


def block_after(heading: str) -> list[str]:
    """The lines of the first bash block after a heading of README."""
    text = README.split(f"## {heading}", 1)[1]
    return text.split("```bash\n", 1)[1].split("```", 1)[0].splitlines()


def test_the_commands_of_readme_for_own_records_do_what_it_says(
    records: Path, tmp_path: Path, qoetwin: Cli, built: Path
) -> None:
    activate, *commands = block_after("With your own records")
    assert activate == "source .venv/bin/activate"
    assert [command.split()[0] for command in commands] == ["qoetwin"] * 5
    answers = json.loads(
        qoetwin("qoe", "voip", "--group-by", "country", "--home", built, "--format", "json").out
    )
    # The synthetic records have other countries, and two days of them are too short for windows of three hours.
    script = "\n".join(commands).replace("LB", answers[0]["group"])
    environment = os.environ | {
        "QOETWIN_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=records,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout[done.stdout.rindex("\n[") :]
    assert json.loads(last)[0]["score"] > 0.0


def test_the_commands_of_readme_for_the_graph_do_what_it_says(
    qoetwin: Cli, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = json.loads(qoetwin("qoe", "web", "--group-by", "probe", "--home", built, "--format", "json").out)[
        0
    ]["group"]
    monkeypatch.chdir(tmp_path)
    for command in block_after("The graph"):
        program, *arguments = shlex.split(command.replace("6217", str(probe)))
        assert program == "qoetwin"
        ran = qoetwin(*arguments, "--home", built)
        assert ran.code == 0, ran.err
    assert (tmp_path / "graph.ttl.gz").stat().st_size > 1000
    assert (tmp_path / "graph.safetensors").stat().st_size > 1000


def test_the_commands_of_readme_for_learning_do_what_it_says(
    qoetwin: Cli, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(copytree(built, tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    few = {"steps": 2, "rounds": 3, "bound_rounds": 3, "cells": 2000, "redraws": 1}
    monkeypatch.setattr("twin.learning.QUICK_SETTINGS", few)  # the commands are tested, not the models
    ask = ("qoe", "voip", "--group-by", "country", "--home", home, "--format", "json")
    country = json.loads(qoetwin(*ask).out)[0]["group"]
    said = {}
    for command in block_after("Learn, compare, predict"):
        program, *arguments = shlex.split(command.replace("LB", country), comments=True)
        assert program == "qoetwin"
        ran = qoetwin(*arguments, "--home", home)
        assert ran.code == 0, ran.err
        said[next(one for one in ("--out", "--quick", "--format", "--write") if one in arguments)] = ran
    assert list(said) == ["--out", "--quick", "--format", "--write"], (
        "a line of README that is not looked at here"
    )
    document = json.loads((tmp_path / "report" / "comparison.json").read_text())
    assert read_document(document).protocol == "imputation"
    page = unescape(re.sub(r"<[^>]+>", "", (tmp_path / "report" / "index.html").read_text()))
    for line in document["conclusion"].splitlines():
        assert line in page
    assert "saved: " in said["--quick"].err
    rows = list(csv.DictReader(said["--format"].out.splitlines()))
    assert rows
    assert all(float(row["rtt_low_ms"]) <= float(row["rtt_ms"]) <= float(row["rtt_high_ms"]) for row in rows)
    with open_store("sqlite", home, create=False) as store:
        kept = store.facts(PATH_PREDICTION)
    assert kept.num_rows > len(rows)
    assert f"kept in the graph: {kept.num_rows} predictions" in said["--write"].err


def test_every_path_that_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_command_that_a_document_names_exists(document: str) -> None:
    known = {path for path, _ in commands(cli)}
    named = {
        f"qoetwin {first} {second}"
        if f"qoetwin {first} {second}" in known or first in ("ingest", "probes", "graph")
        else f"qoetwin {first}"
        for code in re.findall(r"```bash\n(.*?)```|`([^`\n]+)`", (ROOT / document).read_text(), re.DOTALL)
        for first, seconds in re.findall(r"qoetwin ([a-z]+)(?: ([a-z|]+))?", "".join(code))
        for second in seconds.split("|")
    }
    assert named <= known, named - known


def test_nothing_in_the_documents_is_about_the_machine_they_were_written_on() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        assert not re.search(r"(?<![\w.~])/(root|home|srv|opt|mnt|tmp)/\w|\.\./\w+/data", path.read_text()), (
            path
        )
