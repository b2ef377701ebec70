"""`moorage put`, `get`, `cat`: what files hold."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import click

from moorage.cli.output import ShownProgress, tell_outcomes
from moorage.cli.places import find_directory, find_place, parse_remote
from moorage.cli.running import FAILED, json_option, open_client, run_command
from moorage.client import Client
from moorage.core.errors import InvalidFieldError, LocalFileError
from moorage.core.ids import parse_name
from moorage.core.wire import ChunkEntry, NodeAnswer
from moorage.transfers.downloads import Downloader, Wanted, find_chunks, read_chunk
from moorage.transfers.folders import FolderUpload, build_item, entry_of, prepare_download
from moorage.transfers.local import choose_place, look_at, shown
from moorage.transfers.outcomes import Outcome, failed
from moorage.transfers.uploads import Item, Uploader


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE…", type=click.Path(path_type=Path))
@click.argument("target")
@json_option
def put(sources: tuple[Path, ...], target: str, as_json: bool) -> None:
    """Store files and folders of this machine at TARGET.

    A file goes into TARGET if that is a directory or ends in `/`. A folder becomes TARGET, beside what is in it; with a
    `/` at the end, or with more than one SOURCE, it goes into TARGET under its name.

    What is there already becomes an older version (`moorage versions`); what is the same is not sent. A command that
    was interrupted goes on when it is given again.
    """
    outcomes: list[Outcome] = []

    async def work() -> None:
        async with open_client() as client:
            with ShownProgress("storing", as_json=as_json) as progress:
                uploader = Uploader(client, progress, outcomes)
                into = f"{target.rstrip('/')}/" if len(sources) > 1 else target
                items: list[Item] = []
                for source in sources:
                    try:
                        items += await _plan_upload(client, source, into, outcomes)
                    except LocalFileError as error:
                        outcomes.append(failed(shown(source), into, error))
                await uploader.store(items)

    _transfer(work, outcomes, as_json=as_json)


async def _plan_upload(client: Client, source: Path, target: str, outcomes: list[Outcome]) -> list[Item]:
    found = await asyncio.to_thread(look_at, source)
    name = found.parts[-1]
    if not found.is_directory:
        place = await find_place(client, target, name, make=True)
        there = None if place.there is None else entry_of(place.there)
        return [build_item(client, found, place.path, place.parent_id, place.name, there)]
    path = parse_remote(target)
    if path == "/" or target.endswith("/"):
        path = f"{path.rstrip('/')}/{parse_name(name)}"
    directory = await find_directory(client, path, make=True)
    folder = FolderUpload(client, source, path, directory.node.id, outcomes, is_new=directory.is_new)
    return await folder.prepare()


@click.command()
@click.argument("path")
@click.argument("target", default=".")
@click.option(
    "--version", type=click.IntRange(1), metavar="N", help="Not the newest version of a file but this one."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are here and differ.")
@json_option
def get(path: str, target: str, version: int | None, overwrite: bool, as_json: bool) -> None:
    """Fetch a file or a directory of the store.

    A file goes into TARGET if that is a folder or ends in `/`. A directory becomes TARGET, beside what is in it; with a
    `/` at the end, or as `.`, it goes into TARGET under its name.

    What is here already and the same is not fetched. A command that was interrupted goes on when it is given again.
    """
    outcomes: list[Outcome] = []

    async def work() -> None:
        async with open_client() as client:
            node = await client.resolve(parse_remote(path))
            if version is not None and node.type != "file":
                raise InvalidFieldError("Only files have versions.", field="version")
            with ShownProgress("fetching", as_json=as_json) as progress:
                wanted = await _plan_download(client, node, target, version, outcomes)
                await Downloader(client, progress, outcomes, overwrite=overwrite).fetch(wanted)

    _transfer(work, outcomes, as_json=as_json)


async def _plan_download(
    client: Client, node: NodeAnswer, target: str, version: int | None, outcomes: list[Outcome]
) -> list[Wanted]:
    is_directory = node.type == "directory"
    # The server's word for a name is not trusted with a place on this machine.
    name = None if node.parent_dir_id is None else parse_name(node.name)
    place = await asyncio.to_thread(choose_place, target, name, is_directory=is_directory)
    if not is_directory:
        return [Wanted(node.id, node.path, node.size or 0, place, version)]
    return await prepare_download(client, node.id, node.path, place, outcomes)


def _transfer(
    work: Callable[[], Coroutine[Any, Any, None]], outcomes: list[Outcome], *, as_json: bool
) -> None:
    """Run it, and tell what became of each file, also of those that were done when it had to end."""
    try:
        run_command(work, as_json=as_json)
    except SystemExit:
        if outcomes:
            tell_outcomes(outcomes, as_json=as_json)
        raise
    if not tell_outcomes(outcomes, as_json=as_json):
        raise SystemExit(FAILED)


@click.command()
@click.argument("path")
@click.option("--version", type=click.IntRange(1), metavar="N", help="Not the newest version but this one.")
def cat(path: str, version: int | None) -> None:
    """Write what a file of the store holds to standard output."""

    async def work() -> None:
        async with open_client() as client:
            node = await client.resolve(parse_remote(path))
            if node.type != "file":
                raise InvalidFieldError(f"{node.path} is a directory: `moorage ls` lists it.", field="path")
            _, chunks = await find_chunks(client, node.id, version)
            await _write_out(client, [chunk for _, chunk in chunks])

    run_command(work)


async def _write_out(client: Client, chunks: Sequence[ChunkEntry]) -> None:
    """In order; while one chunk is written the next one is fetched."""
    coming = [asyncio.ensure_future(read_chunk(client, chunk)) for chunk in chunks[:1]]
    try:
        for chunk in [*chunks[1:], None]:
            if chunk is not None:
                coming.append(asyncio.ensure_future(read_chunk(client, chunk)))
            if coming:
                data = await coming[0]
                del coming[0]
                await asyncio.to_thread(sys.stdout.buffer.write, data)
        sys.stdout.buffer.flush()
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
