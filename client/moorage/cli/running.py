"""How every client command runs: with the login of this machine, errors as one sentence, and an exit code that tells."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

import click

from moorage.cli.session_file import load_session, save_session
from moorage.client import Client
from moorage.core.errors import InvalidFieldError, MoorageError, UnauthenticatedError, http_status
from moorage.transport import Transport

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130

R = TypeVar("R")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")


def run_command(work: Callable[[], Coroutine[Any, Any, R]], *, as_json: bool = False) -> R:
    """Run it; what is refused is told, and ends the process: 2 for wrong input, 130 for Ctrl-C, else 1."""
    try:
        return asyncio.run(work())
    except MoorageError as error:
        tell_error(error, as_json=as_json)
        raise SystemExit(WRONG_INPUT if isinstance(error, InvalidFieldError) else FAILED) from None
    except KeyboardInterrupt:
        click.echo("Interrupted. What was done by then stays; the same command goes on from there.", err=True)
        raise SystemExit(INTERRUPTED) from None


def tell_error(error: MoorageError, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(error.as_answer()), err=True)
        return
    click.echo(f"Error: {error.detail}", err=True)
    if isinstance(error, UnauthenticatedError):
        click.echo("`moorage login URL` logs in again.", err=True)
    if http_status(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        for note in getattr(error, "__notes__", ()):
            click.echo(f"The servers' logs have more about it: {note}.", err=True)


@contextlib.asynccontextmanager
async def open_transport(*, patience: float | None = None) -> AsyncIterator[Transport]:
    """One that says once when it has to wait."""
    told = False

    def tell_waiting(error: MoorageError) -> None:
        nonlocal told
        if not told and sys.stderr.isatty():
            told = True
            click.echo(f"{error.detail} Trying again for a minute…", err=True)

    transport = Transport(on_wait=tell_waiting) if patience is None else Transport(patience=patience)
    try:
        yield transport
    finally:
        await transport.close()


@contextlib.asynccontextmanager
async def open_client() -> AsyncIterator[Client]:
    """For whoever is logged in. NotLoggedInError when nobody is."""
    session = load_session()
    async with open_transport() as transport:
        yield Client(transport, session, save_session)
