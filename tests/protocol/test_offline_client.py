"""A client that was away past every deadline comes back to the real `/changes`: it converges, and what was deleted
meanwhile stays deleted.

The client is the model that the sync rule is tested with (tests/support/sync_model): a disk, a memory, the rule itself.
Here its server is a running store, through HTTP.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from black_box.http_client import check_ok
from black_box.store import RunningStore
from black_box.user import User, hash_of, new_user
from sync_model.client import Client, Thing

from moorage.core.sync import ChangesPage, Feed, Kind, RemoteNode, RemoteTree, parse_entry, start_feed
from moorage.core.sync.steps import DeleteLocal, Upload
from moorage.core.wire import ChangeEntry


def content_hash(data: bytes) -> str:
    """What the server calls the content of a file of one chunk: the hash of the ordered chunk digests."""
    return f"sha256_{hashlib.sha256(hashlib.sha256(data).digest()).hexdigest()}"


class RealServer:
    """The model's server, over HTTP. `blobs` are the bytes of contents, by the files' hashes."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.blobs: dict[str, bytes] = {}
        self.made = 0
        self.resets: list[str] = []

    def fresh_id(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix.rstrip('.')}-{self.made}"

    def changes(self, cursor: str | None, limit: int) -> ChangesPage:
        query: dict[str, Any] = {"limit": limit, **({} if cursor is None else {"cursor": cursor})}
        answer = check_ok(self.user.l1.get("/changes", params=query))
        if answer.get("reset"):
            self.resets.append(answer.get("reason", ""))
            return ChangesPage(reset=True, reason=answer.get("reason", ""))
        changes = tuple(map(parse_entry, msgspec.convert(answer["changes"], list[ChangeEntry])))
        return ChangesPage(changes, answer["cursor"], more=answer["more"])

    @property
    def nodes(self) -> Mapping[str, RemoteNode]:
        return _Nodes(self.user)

    @property
    def contents(self) -> Mapping[tuple[str, int], str]:
        return _Contents(self.user)

    def make_directory(self, node_id: str, parent: str, name: str) -> None:
        self.user.make_directory(node_id, f"/{name}", parent)

    def move(self, node_id: str, parent: str, name: str) -> None:
        check_ok(self.user.l1.post(f"/move/{node_id}", json={"parent_dir_id": parent, "name": name}))

    def delete(self, node_id: str, version: int) -> None:
        node = self.user.node(node_id)
        if node["type"] == "directory":
            check_ok(self.user.l1.delete(f"/delete_directory/{node_id}", json={"recursive": False}))
        else:
            check_ok(self.user.l1.delete(f"/delete_file/{node_id}", json={"client_version": version}))

    def commit(self, node_id: str, base: int, content: str, parent: str, name: str) -> int:
        place = {"parent_dir_id": parent, "name": name} if base == 0 else {}
        return self.user.save(node_id, [self.blobs[content]], base, **place)


class _Nodes(Mapping[str, RemoteNode]):
    def __init__(self, user: User) -> None:
        self._user = user

    def __getitem__(self, node_id: str) -> RemoteNode:
        found = self._user.metadata(node_id)
        return RemoteNode("", found["name"], Kind.FILE, found["version"], found["hash"])

    def __contains__(self, node_id: object) -> bool:
        return self._user.l1.get(f"/nodes/{node_id}").status_code == 200

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


class _Contents(Mapping[tuple[str, int], str]):
    def __init__(self, user: User) -> None:
        self._user = user

    def __getitem__(self, key: tuple[str, int]) -> str:
        """Read back, byte for byte."""
        return content_hash(self._user.read_version(*key))

    def __iter__(self) -> Iterator[tuple[str, int]]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


class Laptop:
    """The model's client on the real server."""

    def __init__(self, user: User) -> None:
        self.server: Any = RealServer(user)
        feed: Feed = start_feed(user.root)
        assert isinstance(feed.tree, RemoteTree)
        self.client = Client(feed=feed, pages=3)

    def write(self, path: str, data: bytes) -> None:
        parts = tuple(path.split("/"))
        known = self.client.disk.get(parts)
        content = content_hash(data)
        self.server.blobs[content] = data
        self.client.put(parts, Thing(Kind.FILE, content, known.node if known else None))

    def make(self, path: str) -> None:
        self.client.put(tuple(path.split("/")), Thing(Kind.DIRECTORY))

    def sync(self) -> Any:
        self.client.uploads.clear()
        return self.client.sync(self.server)

    def disk(self) -> dict[str, str]:
        return {"/".join(path): thing.hash for path, thing in self.client.disk.items()}

    def uploaded(self) -> set[bytes]:
        return {self.server.blobs[content] for content in self.client.uploads}

    def id_of(self, path: str) -> str:
        node = self.client.disk[tuple(path.split("/"))].node
        assert node is not None
        return node


def tree_of(user: User, directory: str = "root", above: str = "") -> dict[str, str]:
    """Every path of the account, as its listings tell."""
    found: dict[str, str] = {}
    answer = check_ok(user.l1.get(f"/list_directory/{directory}"))
    for each in answer["directories"]:
        found[above + each["name"]] = ""
        found |= tree_of(user, each["id"], f"{above}{each['name']}/")
    for each in answer["files"]:
        found[above + each["name"]] = user.metadata(each["id"])["hash"]
    return found


def wait_until_deleted(user: User, *node_ids: str) -> None:
    """Acknowledged, or past the deadline: the deletion is over and the node in the trash."""
    deadline = time.monotonic() + 90
    while not set(node_ids) <= {each["id"] for each in check_ok(user.l1.get("/trash"))["trash"]}:
        assert time.monotonic() < deadline, "the deletion does not end"
        time.sleep(0.2)


def collect(store: RunningStore, file: Path) -> None:
    """A collection for which everything is long ago: the trash lets go, the feed is cut."""
    (settings,) = store.settings("gc")
    settings["gc"] |= {"grace": 1}
    settings["cluster"] |= {"upload_idle": 1, "retained_deleted": 0, "retained_feed": 1}
    file.write_text(json.dumps(settings))
    time.sleep(1.2)
    command = [Path(sys.executable).with_name("moorage-nodes"), "gc", "--settings", file, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_a_client_that_was_away_past_the_deadline_converges_and_brings_nothing_back(
    frail_store: RunningStore, tmp_path: Path
):
    user = new_user(frail_store, "away")
    laptop = Laptop(user)
    laptop.make("work")
    laptop.make("old")
    for name in ("deleted", "kept", "changed here", "changed there", "changed on both"):
        laptop.write(f"work/{name}", f"first of {name}".encode())
    laptop.write("old/one", b"below a deleted directory")
    laptop.write("old/two", b"below it, changed here")
    laptop.sync()
    assert laptop.disk() == tree_of(user)
    ids = {path: laptop.id_of(path) for path in laptop.disk()}

    # Away. Another device works on; people work on here, without a connection.
    check_ok(user.l1.delete(f"/delete_file/{ids['work/deleted']}", json={"client_version": 1}))
    check_ok(user.l1.delete(f"/delete_directory/{ids['old']}", json={"recursive": True}))
    user.save(ids["work/changed there"], [b"theirs"], 1)
    user.save(ids["work/changed on both"], [b"theirs of both"], 1)
    user.save("other", [b"new there"], parent_dir_id=ids["work"], name="new there")
    laptop.write("work/changed here", b"mine")
    laptop.write("work/changed on both", b"mine of both")
    laptop.write("old/two", b"mine below it")
    laptop.write("work/new here", b"new here")
    wait_until_deleted(user, ids["work/deleted"], ids["old"])

    # Back, while the feed still tells of it.
    early = Laptop(user)
    early.client.feed, early.client.synced = laptop.client.feed, dict(laptop.client.synced)
    early.client.fetch(early.server)
    assert early.server.resets == []
    assert early.client.feed.tree.is_gone(ids["work/deleted"])

    # Or only after the trash has let go and the feed was cut: nothing tells of the deletions any more.
    collect(frail_store, tmp_path / "gc.json")
    collect(frail_store, tmp_path / "gc.json")
    plan = laptop.sync()
    assert laptop.server.resets == ["expired"]
    assert sum(isinstance(step, DeleteLocal) for step in plan.steps) >= 2
    assert laptop.uploaded() == {b"mine", b"mine of both", b"mine below it", b"new here"}
    assert laptop.disk() == tree_of(user)
    for gone in ("work/deleted", "old/one"):
        assert gone not in laptop.disk()
    assert laptop.disk()["work/changed there"] == content_hash(b"theirs")
    assert laptop.disk()["work/changed on both"] == content_hash(b"theirs of both")
    copies = {path for path in laptop.disk() if "conflicted copy" in path}
    assert {laptop.disk()[path] for path in copies} == {
        content_hash(b"mine of both"),
        content_hash(b"mine below it"),
    }
    again = laptop.sync()
    assert not [step for step in again.steps if isinstance(step, Upload | DeleteLocal)]
    assert again.steps == ()
    assert user.read_version(ids["work/changed here"], 2) == b"mine"
    assert hash_of(b"mine") in {chunk["hash"] for chunk in user.chunks(ids["work/changed here"])}

    # And whatever the collector took away meanwhile, the store is whole.
    settings = frail_store.data / "run" / "check-main.json"
    command = [
        Path(sys.executable).with_name("moorage-nodes"),
        "fsck",
        "--settings",
        settings,
        "--deep",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
