"""Paths that people type, as places of the store."""

from dataclasses import dataclass

from moorage.client import Client
from moorage.core.errors import InvalidFieldError, NotADirectoryInTheWayError, NotFoundError
from moorage.core.ids import parse_name, parse_path
from moorage.core.wire import NodeAnswer


@dataclass(frozen=True, slots=True)
class Directory:
    """`is_new`: made just now."""

    node: NodeAnswer
    is_new: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a directory, and what has it now."""

    path: str
    parent_id: str
    name: str
    there: NodeAnswer | None


def parse_remote(text: str) -> str:
    """`photos/2023/` as `/photos/2023`. InvalidFieldError where it cannot be a path."""
    return "/" + "/".join(parse_path(text))


async def find_directory(client: Client, path: str, *, make: bool) -> Directory:
    """NotADirectoryInTheWayError for a file; NotFoundError when it is not there and not to be made."""
    node = await (find_node(client, path) if make else client.resolve(path))
    if node is None:
        made = await client.create_directory(client.new_id(), "root", path)
        return Directory(made, is_new=True)
    if node.type != "directory":
        raise NotADirectoryInTheWayError(f"{path} is a file, not a directory.")
    return Directory(node, is_new=False)


async def find_place(client: Client, target: str, name: str, *, make: bool = False) -> Place:
    """Where something goes that is called `name` and shall go to `target`: into it if that is a directory or ends in
    `/`, else exactly there. `make`: directories on the way are made.
    """
    path = parse_remote(target)
    if path == "/" or target.endswith("/"):
        return await _find_in(client, await find_directory(client, path, make=make), path, name)
    meant = await find_node(client, path)
    if meant is not None and meant.type == "directory":
        return await _find_in(client, Directory(meant, is_new=False), path, name)
    parent, _, own = path.rpartition("/")
    directory = await find_directory(client, parent or "/", make=make)
    return Place(path, directory.node.id, own, meant)


async def find_exact_place(client: Client, path: str, *, make: bool) -> Place:
    """As `find_place`, at the path itself whatever is there."""
    parent, _, own = path.rpartition("/")
    directory = await find_directory(client, parent or "/", make=make)
    return await _find_in(client, directory, parent, own)


async def _find_in(client: Client, directory: Directory, path: str, name: str) -> Place:
    """A name in a directory that is there, at `path`."""
    if not name:
        raise InvalidFieldError("The root has no name: say which file or directory is meant.", field="path")
    own = parse_name(name)
    full = f"{path.rstrip('/')}/{own}"
    there = None if directory.is_new else await find_node(client, full)
    return Place(full, directory.node.id, own, there)


async def find_node(client: Client, path: str) -> NodeAnswer | None:
    """What is at a path; None when nothing is."""
    try:
        return await client.resolve(path)
    except NotFoundError:
        return None
