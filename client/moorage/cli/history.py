"""`moorage versions`, `restore`, `trash`, `undelete`: what was, and how it comes back."""

import click

from moorage.cli.output import format_size, format_when, print_json, print_table
from moorage.cli.places import find_exact_place, parse_remote
from moorage.cli.running import json_option, open_client, run_command
from moorage.client import Client
from moorage.core.errors import InvalidFieldError, NotFoundError
from moorage.core.ids import parse_id
from moorage.core.wire import NodeAnswer


@click.command()
@click.argument("path")
@json_option
def versions(path: str, as_json: bool) -> None:
    """List the kept versions of a file, newest first."""

    async def work() -> None:
        async with open_client() as client:
            node = await _resolve_file(client, path)
            entries = [entry async for entry in client.list_versions(node.id)]
        if as_json:
            print_json(entries)
            return
        rows = [
            (str(entry.version), format_size(entry.size), format_when(entry.modified)) for entry in entries
        ]
        print_table((">version", ">size", "modified"), rows)

    run_command(work, as_json=as_json)


@click.command()
@click.argument("path")
@click.argument("version", type=click.IntRange(1))
@json_option
def restore(path: str, version: int, as_json: bool) -> None:
    """Make what an older version of a file held its next version. Nothing is lost by it."""

    async def work() -> None:
        async with open_client() as client:
            node = await _resolve_file(client, path)
            new = await client.restore(node.id, version, client_version=node.version or 0)
        if as_json:
            print_json([{"id": node.id, "path": node.path, "version": new}])
        else:
            click.echo(f"{node.path} is at version {new}, with what version {version} held.")

    run_command(work, as_json=as_json)


@click.command()
@json_option
def trash(as_json: bool) -> None:
    """List what is deleted and can be brought back."""

    async def work() -> None:
        async with open_client() as client:
            entries = [entry async for entry in client.list_trash()]
        if as_json:
            print_json(entries)
            return
        rows = [
            (
                format_when(entry.deleted),
                format_size(entry.size or 0) if entry.type == "file" else "",
                entry.name if entry.type == "file" else f"{entry.name}/",
                entry.id,
            )
            for entry in sorted(entries, key=lambda entry: entry.deleted)
        ]
        print_table(("deleted", ">size", "name", "id"), rows)

    run_command(work, as_json=as_json)


@click.command()
@click.argument("what", metavar="ID|NAME")
@click.option("--to", "target", metavar="PATH", help="Not where it was, but as PATH.")
@json_option
def undelete(what: str, target: str | None, as_json: bool) -> None:
    """Bring back what was deleted, a directory with all that was below it. A name will do where it is the only one in
    the trash.
    """

    async def work() -> None:
        async with open_client() as client:
            node_id = await _find_deleted(client, what)
            if target is None:
                node = await client.undelete(node_id)
            else:
                place = await find_exact_place(client, parse_remote(target), make=True)
                node = await client.undelete(node_id, parent_id=place.parent_id, name=place.name)
        if as_json:
            print_json([node])
        else:
            click.echo(f"{node.path} is back.")

    run_command(work, as_json=as_json)


async def _find_deleted(client: Client, what: str) -> str:
    """Its id. What was deleted just now is not in the trash yet, but can be brought back by its id."""
    found = [entry async for entry in client.list_trash() if what in {entry.id, entry.name}]
    if any(entry.id == what for entry in found):
        return what
    if len(found) > 1:
        raise InvalidFieldError(
            f"{len(found)} things called {what} are in the trash: name one by its id, which `moorage trash` lists.",
            field="what",
        )
    try:
        return found[0].id if found else parse_id(what)
    except InvalidFieldError:
        raise NotFoundError(
            f"Nothing called {what} is in the trash: `moorage trash` lists what is."
        ) from None


async def _resolve_file(client: Client, path: str) -> NodeAnswer:
    node = await client.resolve(parse_remote(path))
    if node.type != "file":
        raise InvalidFieldError(f"{node.path} is a directory: only files have versions.", field="path")
    return node
