"""`moorage ls`, `mkdir`, `mv`, `rm`: the tree, by paths."""

import click

from moorage.cli.output import format_size, format_when, print_json, print_table
from moorage.cli.places import find_directory, find_place, parse_remote
from moorage.cli.running import FAILED, json_option, open_client, run_command, tell_error
from moorage.client import Client
from moorage.core.errors import InvalidFieldError, MoorageError, NameTakenError, NotEmptyError
from moorage.core.text import printable
from moorage.core.wire import FileEntry
from moorage.transfers.folders import entry_of
from moorage.transfers.outcomes import ENDS_ALL


@click.command()
@click.argument("path", default="/")
@json_option
def ls(path: str, as_json: bool) -> None:
    """List a directory of the store, or show one file."""

    async def work() -> None:
        async with open_client() as client:
            node = await client.resolve(parse_remote(path))
            if node.type == "file":
                entries = [entry_of(node)]
            else:
                entries = [entry async for entry in client.list_directory(node.id)]
        if as_json:
            print_json(entries)
            return
        rows = [
            (format_size(entry.size), str(entry.version), format_when(entry.modified), entry.name)
            if isinstance(entry, FileEntry)
            else ("", "", format_when(entry.modified), f"{entry.name}/")
            for entry in entries
        ]
        print_table((">size", ">version", "modified", "name"), rows)

    run_command(work, as_json=as_json)


@click.command()
@click.argument("path")
@json_option
def mkdir(path: str, as_json: bool) -> None:
    """Make a directory, and what is missing on the path to it. One that is there stays as it is."""

    async def work() -> None:
        async with open_client() as client:
            made = await find_directory(client, parse_remote(path), make=True)
        if as_json:
            print_json([made.node])

    run_command(work, as_json=as_json)


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--replace", is_flag=True, help="Take the place of a file that is there; it goes to the trash.")
@json_option
def mv(source: str, target: str, replace: bool, as_json: bool) -> None:
    """Rename or move a file or directory; into TARGET if that is a directory."""

    async def work() -> None:
        async with open_client() as client:
            node = await client.resolve(parse_remote(source))
            place = await find_place(client, target, node.name)
            replaced = None if place.there is None or place.there.id == node.id else place.there
            if replaced is not None and not replace:
                raise NameTakenError(f"{place.path} is there already: `--replace` takes the place of a file.")
            moved = await client.move(
                node.id,
                place.parent_id,
                place.name,
                meta_version=node.meta_version,
                replaced_id=None if replaced is None else replaced.id,
            )
        if as_json:
            print_json([moved])

    run_command(work, as_json=as_json)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("-r", "--recursive", is_flag=True, help="Directories too, with all that is in them.")
@json_option
def rm(paths: tuple[str, ...], recursive: bool, as_json: bool) -> None:
    """Delete files and directories. They stay in the trash for a while: `moorage trash`."""
    failed = False

    async def work() -> None:
        nonlocal failed
        async with open_client() as client:
            for path in paths:
                try:
                    await _delete(client, path, recursive=recursive, as_json=as_json)
                except ENDS_ALL:
                    raise
                except MoorageError as error:
                    if len(paths) == 1:
                        raise
                    failed = True
                    tell_error(error, as_json=as_json)

    run_command(work, as_json=as_json)
    if failed:
        raise SystemExit(FAILED)


async def _delete(client: Client, path: str, *, recursive: bool, as_json: bool) -> None:
    node = await client.resolve(parse_remote(path))
    if node.type == "file":
        answer = await client.delete_file(node.id, node.version or 0)
    else:
        if node.parent_dir_id is None:
            raise InvalidFieldError("The root stays; name what is in it.", field="path")
        try:
            answer = await client.delete_directory(node.id, recursive=recursive)
        except NotEmptyError:
            raise NotEmptyError(f"{node.path} is not empty: `-r` deletes all of it.") from None
    if as_json:
        print_json([{"id": node.id, "path": node.path, "status": answer.status}])
    else:
        click.echo(f"{printable(node.path)} is deleted: `moorage undelete {node.id}` brings it back.")
