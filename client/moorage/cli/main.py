"""The `moorage` command: a group whose subcommands are found by the entry point group `moorage.commands`.

Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted. What went wrong is one sentence on stderr that names the next step.
"""

import sys
from importlib.metadata import EntryPoint, entry_points, version
from io import TextIOWrapper

import click

COMMANDS = "moorage.commands"
_EXTRAS = {"up": "local", "fsck": "local", "scrub": "local"}


class _Discovered(click.Group):
    """Subcommands are loaded when they are asked for: a client's machine has no servers' libraries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *(found.name for found in _discover())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = super().get_command(ctx, cmd_name)
        if known is not None:
            return known
        found = next((found for found in _discover() if found.name == cmd_name), None)
        return None if found is None else _load(found)


def _discover() -> list[EntryPoint]:
    return list(entry_points(group=COMMANDS))


def _load(found: EntryPoint) -> click.Command:
    try:
        command = found.load()
    except ModuleNotFoundError as error:
        return _missing(found.name, error.name or str(error))
    assert isinstance(command, click.Command)
    return command


def _missing(name: str, module: str) -> click.Command:
    """Stands in for a command whose libraries are not installed."""
    extra = f"[{_EXTRAS[name]}]" if name in _EXTRAS else ""
    sentence = f"`moorage {name}` needs {module}, which is not installed: pip install 'moorage{extra}'."

    @click.command(name, help=sentence, context_settings={"ignore_unknown_options": True})
    @click.argument("ignored", nargs=-1, type=click.UNPROCESSED)
    def fail(ignored: tuple[str, ...]) -> None:  # noqa: ARG001 - whatever was asked of it
        raise click.ClickException(sentence)

    return fail


@click.group(cls=_Discovered, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("moorage"), prog_name="moorage")
def main() -> None:
    """Moorage: a self-hosted file store and sync backend.

    Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name that a terminal cannot show is no reason to fail.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
