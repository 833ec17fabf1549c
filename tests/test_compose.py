"""docker-compose.yml and Dockerfile say what the code expects. There may be no Docker here: they are read, not run."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click

from app.cli import cli
from app.scheduler import GRACE_S
from app.settings import NEO4J_PASSWORD_VARIABLE, NEO4J_USER_VARIABLE
from domain.credentials import ATLAS_KEY_VARIABLE
from tests.neo4j.server import version

ROOT = Path(__file__).parents[1]


def read_yaml(lines: list[str], depth: int = 0) -> dict[str, Any]:
    """The subset of YAML that the file keeps to: mappings by indentation; lists, and quotes, as JSON has them."""
    found: dict[str, Any] = {}
    while lines and len(lines[0]) - len(lines[0].lstrip()) == depth:
        match = re.fullmatch(r" *([\w-]+):(?: (.+))?", lines.pop(0))
        assert match is not None
        key, value = match[1], match[2]
        assert key not in found, key
        if value is None:
            found[key] = read_yaml(lines, depth + 2)
        else:
            found[key] = json.loads(value) if value[0] in '["{' else value
    return found


def services() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = read_yaml(lines)
    assert not lines, lines[0]
    assert set(whole) == {"services", "volumes"}
    mounted = {mount.partition(":")[0] for one in whole["services"].values() for mount in one["volumes"]}
    assert {name for name in mounted if not name.startswith("./")} == set(whole["volumes"])
    found: dict[str, Any] = whole["services"]
    return found


def test_the_image_is_of_the_version_that_is_tested() -> None:
    major_minor = ".".join(version().split(".")[:2])
    assert services()["neo4j"]["image"] == f"neo4j:{major_minor}-community"


def test_no_password_is_in_the_file_and_nothing_listens_beyond_this_machine() -> None:
    found = services()
    assert found["neo4j"]["environment"]["NEO4J_AUTH"].startswith("neo4j/${NEO4J_PASSWORD:?")
    for name in ("qoetwin", "scheduler"):
        assert found[name]["environment"][NEO4J_PASSWORD_VARIABLE] == "${NEO4J_PASSWORD:?}"
    assert found["scheduler"]["environment"][ATLAS_KEY_VARIABLE] == "${QOETWIN_ATLAS_KEY:-}"
    assert all(port.startswith("127.0.0.1:") for one in found.values() for port in one.get("ports", ()))
    # The image takes every NEO4J_… variable for a setting, and does not start with one that it does not know.
    assert NEO4J_PASSWORD_VARIABLE not in found["neo4j"]["environment"]


def test_qoetwin_waits_for_a_healthy_server_and_runs_a_command_that_there_is() -> None:
    found = services()
    assert found["qoetwin"]["depends_on"] == {"neo4j": {"condition": "service_healthy"}}
    assert found["neo4j"]["healthcheck"]["test"][0] == "CMD-SHELL"
    chosen = parameters(found["qoetwin"]["command"])
    assert chosen["store"] == "bolt://neo4j:7687"
    home = str(chosen["home"])
    assert f"qoetwin-data:{home}" in found["qoetwin"]["volumes"]
    assert set(found["qoetwin"]["environment"]) == {NEO4J_USER_VARIABLE, NEO4J_PASSWORD_VARIABLE}
    assert f"-g qoetwin {home}" in (ROOT / "Dockerfile").read_text()


def parameters(arguments: list[str]) -> dict[str, Any]:
    """What the command line makes of arguments."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    # The names of help are kept with the command once it has parsed: they are those of the whole command line.
    with click.Context(command, **cli.context_settings) as context:
        command.parse_args(context, list(arguments))
        return context.params


def test_the_scheduler_writes_to_neo4j_and_is_asked_how_it_is_doing_where_it_keeps_its_home() -> None:
    found = services()
    scheduler = found["scheduler"]
    assert scheduler["depends_on"] == found["qoetwin"]["depends_on"]
    assert scheduler["build"] == found["qoetwin"]["build"]
    chosen = parameters(scheduler["command"])
    assert (chosen["store"], chosen["once"]) == ("bolt://neo4j:7687", False)
    assert scheduler["command"][0] == "schedule"
    home, config = str(chosen["home"]), str(chosen["config"])
    assert scheduler["volumes"] == [f"qoetwin-schedule:{home}", f"./qoetwin.toml:{config}:ro"]
    assert f"-g qoetwin {home}" in (ROOT / "Dockerfile").read_text()
    (how, program, *asked), entry = scheduler["healthcheck"]["test"], "qoetwin"
    assert (how, program) == ("CMD", entry)
    asked_of = parameters(asked)
    assert (str(asked_of["home"]), str(asked_of["config"]), asked_of["check"]) == (home, config, True)
    # It is killed only long after it was told to stop, and comes back after the machine does.
    assert scheduler["restart"] == "unless-stopped"
    assert int(scheduler["stop_grace_period"].removesuffix("s")) > 2 * GRACE_S
    # `docker compose up` without a name is the demo, whose measurements are synthetic.
    assert scheduler["profiles"] == ["scheduler"]
    assert "profiles" not in found["qoetwin"]


def test_a_stream_beside_the_scheduler_as_the_manual_has_it_keeps_the_same_home() -> None:
    (text,) = re.findall(r"```yaml\n(.+?)```", (ROOT / "docs" / "schedule.md").read_text(), re.DOTALL)
    ((name, stream),) = read_yaml(text.splitlines())["services"].items()
    scheduler = services()["scheduler"]
    assert name not in services()
    (volume,) = stream["volumes"]
    kept, _, home = volume.partition(":")
    assert f"{kept}:{parameters(scheduler['command'])['home']}" in scheduler["volumes"]
    assert stream["depends_on"] == ["scheduler"], "whose image has the folder, and so the volume its owner"
    command = stream["command"]
    assert command[:2] == ["ingest", "stream"]
    for key in ("build", "profiles", "restart", "stop_grace_period"):
        assert stream[key] == scheduler[key]
    assert stream["environment"].items() <= scheduler["environment"].items()
    assert (parameters(command)["measurements"], str(parameters(command)["home"])) == ((1001,), home)


def test_the_image_of_qoetwin_holds_every_package_and_does_not_run_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    sent = (ROOT / ".dockerignore").read_text().split()
    for package in packages:
        assert f"COPY {package} {package}\n" in text
        assert f"!{package}" in sent
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1:] == ["qoetwin"]
    arguments = services()["qoetwin"]["build"]["args"]
    assert set(arguments) == set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
