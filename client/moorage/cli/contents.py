"""`moorage put`, `get`, `cat`: what files hold."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click

from moorage.cli.output import ShownProgress, tell_outcomes
from moorage.cli.places import find_directory, find_place, parse_remote
from moorage.cli.running import FAILED, json_option, open_client, run_command
from moorage.client import Client
from moorage.core.errors import InvalidFieldError
from moorage.core.wire import ChunkEntry, NodeAnswer
from moorage.transfers.downloads import Downloader, Wanted, read_chunk
from moorage.transfers.folders import FolderUpload, build_item, entry_of, prepare_download
from moorage.transfers.local import choose_place, look_at
from moorage.transfers.outcomes import Outcome
from moorage.transfers.uploads import Item, Uploader


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE…", type=click.Path(path_type=Path))
@click.argument("target")
@json_option
def put(sources: tuple[Path, ...], target: str, as_json: bool) -> None:
    """Store files and folders of this machine at TARGET: into it if it is a directory, ends in `/`, or there is more
    than one SOURCE.

    What is there already becomes an older version (`moorage versions`); what is the same is not sent. A command that
    was interrupted goes on when it is given again.
    """

    async def work() -> list[Outcome]:
        async with open_client() as client:
            with ShownProgress("storing", as_json=as_json) as progress:
                into = f"{target.rstrip('/')}/" if len(sources) > 1 else target
                items: list[Item] = []
                outcomes: list[Outcome] = []
                for source in sources:
                    found, refused = await _plan_upload(client, source, into)
                    items += found
                    outcomes += refused
                return outcomes + await Uploader(client, progress).store(items)

    if not tell_outcomes(run_command(work, as_json=as_json), as_json=as_json):
        raise SystemExit(FAILED)


async def _plan_upload(client: Client, source: Path, target: str) -> tuple[list[Item], list[Outcome]]:
    found = await asyncio.to_thread(look_at, source)
    place = await find_place(client, target, found.parts[-1], make=True)
    if found.is_directory:
        directory = await find_directory(client, place.path, make=True)
        folder = FolderUpload(client, source, place.path, directory.node.id, is_new=directory.is_new)
        return await folder.prepare(), folder.outcomes
    there = None if place.there is None else entry_of(place.there)
    return [build_item(client, source, found.size, place.path, place.parent_id, place.name, there)], []


@click.command()
@click.argument("path")
@click.argument("target", default=".", type=click.Path(path_type=Path))
@click.option(
    "--version", type=click.IntRange(1), metavar="N", help="Not the newest version of a file but this one."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are here and differ.")
@json_option
def get(path: str, target: Path, version: int | None, overwrite: bool, as_json: bool) -> None:
    """Fetch a file or a directory of the store: into TARGET if that is a folder, else as TARGET.

    What is here already and the same is not fetched. A command that was interrupted goes on when it is given again.
    """

    async def work() -> list[Outcome]:
        async with open_client() as client:
            node = await client.resolve(parse_remote(path))
            if version is not None and node.type != "file":
                raise InvalidFieldError("Only files have versions.", field="version")
            with ShownProgress("fetching", as_json=as_json) as progress:
                wanted, outcomes = await _plan_download(client, node, target, version)
                downloader = Downloader(client, progress, overwrite=overwrite)
                return outcomes + await downloader.fetch(wanted)

    if not tell_outcomes(run_command(work, as_json=as_json), as_json=as_json):
        raise SystemExit(FAILED)


async def _plan_download(
    client: Client, node: NodeAnswer, target: Path, version: int | None
) -> tuple[list[Wanted], list[Outcome]]:
    is_directory = node.type == "directory"
    name = None if node.parent_dir_id is None else node.name
    place = await asyncio.to_thread(choose_place, target, name, is_directory=is_directory)
    if is_directory:
        return await prepare_download(client, node.id, node.path, place)
    return [Wanted(node.id, node.path, node.size or 0, place, version)], []


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
            newest = node.version or 0
            await _write_out(client, client.list_chunks(node.id, newest if version is None else version))

    run_command(work)


async def _write_out(client: Client, chunks: AsyncIterator[ChunkEntry]) -> None:
    """In order; while one chunk is written the next one is fetched."""
    coming: asyncio.Task[bytes] | None = None
    async for chunk in chunks:
        following = asyncio.ensure_future(read_chunk(client, chunk))
        if coming is not None:
            await asyncio.to_thread(sys.stdout.buffer.write, await coming)
        coming = following
    if coming is not None:
        await asyncio.to_thread(sys.stdout.buffer.write, await coming)
    sys.stdout.buffer.flush()
