"""`moorage users`: the life cycle of users, with the admin token."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click
import msgspec

from moorage.admin import Admin, Connection
from moorage.cli.accounts import password_option, read_password
from moorage.cli.output import format_when, print_json, print_table
from moorage.cli.running import json_option, open_transport, run_command, told_errors
from moorage.core.errors import LocalFileError
from moorage.core.wire import UserAnswer


@click.group()
@click.option(
    "--connection",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(".moorage/connection.json"),
    show_default=True,
    help="A JSON file with `url` and `admin_token`, as `moorage up` writes it.",
)
@click.pass_context
def users(context: click.Context, connection: Path) -> None:
    """Add, list, change and remove users. Needs the admin token."""
    context.obj = connection


@users.command("add")
@click.argument("name")
@password_option
@json_option
@click.pass_obj
def add_user(connection: Path, name: str, password_stdin: bool, as_json: bool) -> None:
    """Add a user."""
    with told_errors(as_json=as_json):
        password = read_password(from_stdin=password_stdin, is_new=True)

    async def work(admin: Admin) -> Sequence[UserAnswer]:
        return [await admin.put_user(name, password=password)]

    _administer(connection, work, f"{name} is added.", as_json=as_json)


@users.command("list")
@json_option
@click.pass_obj
def list_users(connection: Path, as_json: bool) -> None:
    """List all users."""

    async def work(admin: Admin) -> Sequence[UserAnswer]:
        return [user async for user in admin.list_users()]

    found = _administer(connection, work, None, as_json=as_json)
    if not as_json:
        rows = [
            (user.username, user.server_key, format_when(user.created), "disabled" if user.disabled else "")
            for user in found
        ]
        print_table(("name", "cluster", "created", ""), rows)


@users.command("password")
@click.argument("name")
@password_option
@json_option
@click.pass_obj
def set_password(connection: Path, name: str, password_stdin: bool, as_json: bool) -> None:
    """Give a user a new password. Logins of before end within a minute."""
    with told_errors(as_json=as_json):
        password = read_password(from_stdin=password_stdin, is_new=True)

    async def work(admin: Admin) -> Sequence[UserAnswer]:
        await admin.set_password(name, password)
        return [await admin.get_user(name)]

    _administer(connection, work, f"{name} has a new password.", as_json=as_json)


@users.command("disable")
@click.argument("name")
@json_option
@click.pass_obj
def disable_user(connection: Path, name: str, as_json: bool) -> None:
    """Let a user in no more, from a minute on. Their files stay."""
    _set_disabled(connection, name, True, f"{name} is disabled.", as_json=as_json)


@users.command("enable")
@click.argument("name")
@json_option
@click.pass_obj
def enable_user(connection: Path, name: str, as_json: bool) -> None:
    """Let a disabled user in again."""
    _set_disabled(connection, name, False, f"{name} is enabled.", as_json=as_json)


@users.command("remove")
@click.argument("name")
@click.confirmation_option(prompt="Nobody will be able to log in as this user again. Go on?")
@json_option
@click.pass_obj
def remove_user(connection: Path, name: str, as_json: bool) -> None:
    """Remove a user for good."""

    async def work(admin: Admin) -> Sequence[UserAnswer]:
        user = await admin.get_user(name)
        await admin.delete_user(name)
        return [user]

    _administer(connection, work, f"{name} is removed.", as_json=as_json)


def _set_disabled(connection: Path, name: str, disabled: bool, said: str, *, as_json: bool) -> None:
    async def work(admin: Admin) -> Sequence[UserAnswer]:
        await admin.get_user(name)  # one who is not there is not to be added
        return [await admin.put_user(name, disabled=disabled)]

    _administer(connection, work, said, as_json=as_json)


def _administer(
    connection: Path,
    work: Callable[[Admin], Awaitable[Sequence[UserAnswer]]],
    said: str | None,
    *,
    as_json: bool,
) -> Sequence[UserAnswer]:
    async def administer() -> Sequence[UserAnswer]:
        async with open_transport() as transport:
            return await work(Admin(transport, _read_connection(connection)))

    changed = run_command(administer, as_json=as_json)
    if as_json:
        print_json(changed)
    elif said is not None:
        click.echo(said)
    return changed


def _read_connection(path: Path) -> Connection:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Connection)
    except OSError as error:
        raise LocalFileError(
            f"{path} cannot be read ({error.strerror}): `--connection` names the file that `moorage up` wrote."
        ) from None
    except msgspec.MsgspecError:
        raise LocalFileError(f'{path} must be {{"url": "…", "admin_token": "…"}} in JSON.') from None
