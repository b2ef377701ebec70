"""`moorage login` and `logout`."""

import sys
from ipaddress import ip_address
from urllib.parse import urlsplit

import click

from moorage.cli.output import print_json
from moorage.cli.running import json_option, open_transport, run_command, told_errors
from moorage.cli.session_file import forget_session, save_session
from moorage.core.errors import InvalidFieldError
from moorage.core.ids import parse_username
from moorage.session import Session, log_in

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
    with told_errors(as_json=as_json):
        base = parse_url(url)
        parse_username(user, "user")
        password = read_password(from_stdin=password_stdin)

    async def work() -> Session:
        async with open_transport(patience=LOGIN_PATIENCE) as transport:
            session = await log_in(transport, base, user, password)
        save_session(session)
        return session

    session = run_command(work, as_json=as_json)
    if as_json:
        print_json([{"url": base, "username": user, "user_id": session.user_id}])
    else:
        click.echo(f"Logged in to {base} as {user}.")


@click.command()
def logout() -> None:
    """Forget the login of this machine."""
    with told_errors(as_json=False):
        click.echo("Logged out." if forget_session() else "You were not logged in.")


def read_password(*, from_stdin: bool, is_new: bool = False) -> str:
    """Never an argument: those show in the list of processes and the shell's history."""
    if from_stdin:
        try:
            password = sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise InvalidFieldError("The password is not UTF-8.", field="password") from None
        if not password:
            raise InvalidFieldError("There was no password on standard input.", field="password")
        return password
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=is_new, err=True)
    return answer


def parse_url(text: str) -> str:
    """`http(s)://host[:port]`, without a slash at its end. InvalidFieldError for anything more: a name and password in
    an address would be kept and shown.
    """
    wrong = InvalidFieldError(
        "That is not an address of a store: http(s)://HOST or http(s)://HOST:PORT is.", field="url"
    )
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if parts.scheme not in {"http", "https"} or not host or any(rest) or not text.isprintable():
        raise wrong
    if parts.scheme == "http" and not is_loopback(host):
        click.echo(f"Warning: to {host} everything travels unencrypted, the password too.", err=True)
    return f"{parts.scheme}://{parts.netloc}"


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
