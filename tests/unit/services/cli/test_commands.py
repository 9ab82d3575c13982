"""The commands follow from the table of services."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from services.cli import commands
from services.cli.app import make_app
from services.cli.commands import load_commands
from services.registry import BY_NAME, SERVICES


@pytest.mark.parametrize("name", [service.name for service in SERVICES if service.commands])
def test_a_service_adds_the_commands_that_its_row_names(name: str) -> None:
    assert set(load_commands(name)) == set(BY_NAME[name].commands)


def test_no_two_services_have_the_same_command() -> None:
    names = [*load_commands("suite"), *(command for service in SERVICES for command in service.commands)]
    assert len(names) == len(set(names))


def test_the_help_lists_the_commands_of_every_service() -> None:
    help_text = CliRunner().invoke(make_app(), ["--help"]).output
    listed = [line.split()[0] for line in help_text.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed[:8] == ["up", "cluster", "count", "get", "replay", "status", "trace", "migrate"]
    assert set(listed) >= {command for service in SERVICES for command in service.commands}


def test_the_help_of_up_names_every_service() -> None:
    help_text = CliRunner().invoke(make_app(), ["up", "--help"], terminal_width=200).output
    assert all(service.name in help_text for service in SERVICES)


def test_a_row_and_a_module_are_all_that_a_command_of_a_new_service_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add_commands(app: typer.Typer) -> None:
        app.command("greet")(lambda: typer.echo("hello"))

    module = ModuleType("services.cli.toy")
    module.add_commands = add_commands  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = replace(BY_NAME["query"], name="toy", commands=("greet",))
    monkeypatch.setattr(commands, "SERVICES", (*SERVICES, row))
    assert CliRunner().invoke(make_app(), ["greet"]).output == "hello\n"
    assert "\n  greet\n" in CliRunner().invoke(make_app(), ["--help"]).output


def test_a_mistyped_command_is_told_the_one_that_is_like_it() -> None:
    mistyped = CliRunner().invoke(make_app(), ["cuont"])
    assert mistyped.exit_code == 2
    assert "No such command 'cuont'. Did you mean 'count'" in mistyped.output
