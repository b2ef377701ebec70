"""The `moorage` group: subcommands found by entry point, and clear words for what is not installed."""

import re
from importlib.metadata import EntryPoint, version

import click
import pytest
from click.testing import CliRunner

from moorage.cli import main as cli


def run(*arguments: str):
    return CliRunner().invoke(cli.main, list(arguments))


def test_up_is_found():
    assert re.search(r"up +Run a whole Moorage on this machine", run("--help").stdout)
    assert "--data" in run("up", "--help").stdout


def test_the_version_is_that_of_the_distribution():
    assert run("--version").stdout == f"moorage, version {version('moorage')}\n"


def test_an_unknown_command_is_wrong_input():
    result = run("upp")
    assert result.exit_code == 2
    assert "No such command 'upp'" in result.stderr


def test_a_command_without_its_libraries_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    missing = EntryPoint("up", "not_installed_here.command:up", cli.COMMANDS)
    monkeypatch.setattr(cli, "entry_points", lambda group: [missing] if group == cli.COMMANDS else [])
    result = run("up", "--data", "x")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: `moorage up` needs not_installed_here, which is not installed: pip install 'moorage[local]'.\n"
    )
    assert run("--help").exit_code == 0


def test_a_command_is_loaded_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    loaded = []
    monkeypatch.setattr(cli, "_load", lambda found: loaded.append(found.name) or click.Command(found.name))
    assert run("--version").exit_code == 0
    assert loaded == []
