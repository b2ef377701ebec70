"""How every client command runs: with the login of this machine, errors as one sentence, and an exit code that tells."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any, TypeVar

import click

from moorage.cli.output import is_terminal
from moorage.cli.session_file import load_session, save_session
from moorage.client import Client
from moorage.core.errors import InvalidFieldError, LocalFileError, MoorageError, http_status
from moorage.core.retries import PATIENCE
from moorage.core.text import printable
from moorage.session import Session
from moorage.transport import Transport

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130

R = TypeVar("R")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")


def run_command(work: Callable[[], Coroutine[Any, Any, R]], *, as_json: bool = False) -> R:
    """Run it; what is refused is told, and ends the process (`told_errors`)."""
    with told_errors(as_json=as_json):
        return asyncio.run(work())


@contextlib.contextmanager
def told_errors(*, as_json: bool) -> Iterator[None]:
    """What goes wrong in here is one sentence, and the end: 2 for wrong input, 130 for Ctrl-C, else 1."""
    try:
        yield
    except MoorageError as error:
        tell_error(error, as_json=as_json)
        raise SystemExit(WRONG_INPUT if isinstance(error, InvalidFieldError) else FAILED) from None
    except BrokenPipeError:
        raise  # whoever read has enough: click ends quietly
    except OSError as error:
        tell_error(LocalFileError(f"This machine refuses: {error}."), as_json=as_json)
        raise SystemExit(FAILED) from None
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted. What was done by then stays; the same command goes on from there.", err=True)
        raise SystemExit(INTERRUPTED) from None


def tell_error(error: MoorageError, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(error.as_answer()), err=True)
        return
    click.echo(f"Error: {printable(error.detail)}", err=True)
    if http_status(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        for note in getattr(error, "__notes__", ()):
            click.echo(f"The servers' logs have more about it: {printable(note)}.", err=True)


@contextlib.asynccontextmanager
async def open_transport(*, patience: float = PATIENCE) -> AsyncIterator[Transport]:
    """One that says once when it has to wait. LocalFileError when this machine's settings for HTTP cannot be used."""
    told = False

    def tell_waiting(error: MoorageError) -> None:
        nonlocal told
        if not told and is_terminal(sys.stderr):
            told = True
            click.echo(f"{printable(error.detail)} Trying again for a while…", err=True)

    try:
        transport = Transport(patience=patience, on_wait=tell_waiting)
    except (ImportError, OSError, ValueError) as error:
        raise LocalFileError(
            f"The environment's settings for HTTP (proxies, SSL_CERT_FILE) cannot be used: {error}."
        ) from None
    try:
        yield transport
    finally:
        await transport.close()


@contextlib.asynccontextmanager
async def open_client() -> AsyncIterator[Client]:
    """For whoever is logged in. NotLoggedInError when nobody is."""
    session = load_session()
    async with open_transport() as transport:
        yield Client(transport, session, _keep_session)


def _keep_session(session: Session) -> None:
    """A login that cannot be kept is good for this command all the same."""
    try:
        save_session(session)
    except LocalFileError as error:
        click.echo(f"Warning: {error.detail}", err=True)
