"""`moorage login` and `logout`."""

import sys
from ipaddress import ip_address
from urllib.parse import urlsplit

import click

from moorage.cli.output import print_json
from moorage.cli.running import json_option, open_transport, run_command
from moorage.cli.session_file import forget_session, save_session
from moorage.core.errors import InvalidFieldError
from moorage.session import log_in

LOGIN_PATIENCE = 10.0  # seconds; a person waits

password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input instead of asking."
)


@click.command()
@click.argument("url")
@click.option("-u", "--user", prompt="User", help="The user's name.")
@password_option
@json_option
def login(url: str, user: str, password_stdin: bool, as_json: bool) -> None:
    """Log in to the store at URL. The other commands work there until `moorage logout`.

    The password is not kept, the tokens that it gave are, in a file that only you can read.
    """

    async def work() -> None:
        base = parse_url(url)
        password = read_password(from_stdin=password_stdin)
        async with open_transport(patience=LOGIN_PATIENCE) as transport:
            session = await log_in(transport, base, user, password)
        save_session(session)
        if as_json:
            print_json([{"url": base, "username": user, "user_id": session.user_id}])
        else:
            click.echo(f"Logged in to {base} as {user}.")

    run_command(work, as_json=as_json)


@click.command()
def logout() -> None:
    """Forget the login of this machine."""
    click.echo("Logged out." if forget_session() else "You were not logged in.")


def read_password(*, from_stdin: bool, is_new: bool = False) -> str:
    """Never an argument: those show in the list of processes and the shell's history."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\n")
        if not password:
            raise InvalidFieldError("There was no password on standard input.", field="password")
        return password
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=is_new, err=True)
    return answer


def parse_url(text: str) -> str:
    """`http(s)://host[:port]`, without what is behind it."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/") or parts.query:
        raise InvalidFieldError(
            f"{text} is not an address of a store: that is http(s)://HOST or http(s)://HOST:PORT.",
            field="url",
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        click.echo(f"Warning: to {parts.netloc} everything travels unencrypted, the password too.", err=True)
    return f"{parts.scheme}://{parts.netloc}"


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
