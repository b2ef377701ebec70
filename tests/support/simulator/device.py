"""A client device: it makes random requests, repeats those that got no answer, and knows what it may expect.

What one does with a refusal is of no interest here: the next request is another one. Few ids, few names and few
different chunks, so that requests get into each other's way.
"""

import asyncio
import base64
import hashlib
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moorage.core.ids import format_hash
from simulator.history import History, Operation
from simulator.network import Answered, Asked, NoAnswerError
from simulator.witness import Violation
from simulator.world import World

FILES = tuple(f"f{number}" for number in range(7))
DIRECTORIES = ("d0", "d1", "d2")
NAMES = tuple("abcdef")
SPARE = range(9, 14)  # numbers of chunks that only `save_spare` uses
ATTEMPTS = 8
REPEATS_LATER = 0.2  # of the requests with a key that were acknowledged


def chunk_of(number: int) -> bytes:
    """Some are small enough to be packed, some have an object of their own."""
    return f"chunk {number};".encode() * (1 + number % 4 * 3)


@dataclass
class Device:
    """One client of `user`. `versions` is what it last heard of each file."""

    world: World
    history: History
    user: str
    id: str
    rng: random.Random
    versions: dict[str, int] = field(default_factory=dict)
    later: set["asyncio.Task[None]"] = field(default_factory=set)
    keys: float = 0.4  # of the requests that can have one, those with an idempotency key
    dawdles: float = 0.0  # of the saves, those that stand open for longer than the collector's grace
    more: list[tuple[Callable[[], Awaitable[Any]], int]] = field(
        default_factory=list
    )  # deeds with their weights
    _count: int = 0

    def __post_init__(self) -> None:
        self.root = f"root:{self.user}"
        self._bearer = f"Bearer {self.world.access_token(self.user)}"

    async def prepare(self) -> None:
        """Some directories to begin with."""
        for directory_id, parent in zip(DIRECTORIES, (self.root, DIRECTORIES[0], self.root), strict=True):
            op = self.begin("make_directory", directory_id)
            body = {"path": f"/{directory_id}", "parent_dir_id": parent}
            await self.insist(op, "l1", Asked("PUT", f"/create_directory/{directory_id}"), body)

    async def run(self, steps: int, think: Callable[[random.Random], float]) -> None:
        deeds = [(getattr(self, kind), weight) for kind, weight in WEIGHTS.items()] + self.more
        for _ in range(steps):
            await asyncio.sleep(think(self.rng))
            deed, _ = self.rng.choices(deeds, [weight for _, weight in deeds])[0]
            try:
                await deed()
            except Violation as violation:
                self.world.fail(violation)
        if self.later:
            await asyncio.wait(self.later)

    # --- versions of files

    async def save(self) -> None:
        file_id = self._file()
        base = await self._base_of(file_id)
        parts = [chunk_of(self.rng.randrange(9)) for _ in range(self.rng.choice([0, 1, 1, 2, 3, 5]))]
        form = self.rng.choice(["planned", "planned", "named", "short", "unnamed", "reuse"])
        if form == "unnamed":
            parts = list(dict.fromkeys(parts)) or [chunk_of(0)]
        await self.save_as(file_id, base, parts, form, self._place_of_new())

    async def save_spare(self) -> None:
        """Chunks that were stored and left out of their version: the next version names them while a collection
        finds that nothing holds them.
        """
        file_id = self._file()
        base = await self._base_of(file_id)
        parts = [chunk_of(number) for number in self.rng.sample(SPARE, 3)]
        op = await self.save_as(file_id, base, parts, "spare", self._place_of_new())
        if not op.acknowledged:
            return
        form = self.rng.choice(["planned", "raced"])
        if form == "planned":
            await self._have_collected()
        await self.save_as(file_id, base + 1, parts, form, {})

    async def _have_collected(self) -> None:
        """A collection begins, and is somewhere on its way."""
        self.world.collector_wanted.set()
        await asyncio.sleep(self.rng.uniform(0.0, 0.2))

    async def save_as(
        self, file_id: str, base: int, parts: Sequence[bytes], form: str, place: Mapping[str, str]
    ) -> Operation:
        """A new version, in one of the forms that the protocol has: `planned`, `named` (so too, with names of its
        own), `short`, `unnamed` (so too, and the commit names nothing), `reuse` (short, in the hope that the chunks
        are held already), `raced` (so too, and a collection begins before the commit), `spare` (short, and the commit
        names the first chunk alone).
        """
        op = self.begin("save", file_id)
        update: dict[str, Any] = {"client_version": base, **place}
        names = {part: f"c{self._count}.{number}" for number, part in enumerate(dict.fromkeys(parts))}
        if form in {"planned", "named"}:
            update["chunks"] = [self._entry(part, names if form == "named" else {}) for part in parts]
        answered = await self.insist(op, "l1", Asked("POST", f"/files/{file_id}/update"), update)
        if answered is None or answered.status != 200:
            self._learn_conflict(file_id, answered)
            return op
        await self._dawdle()
        begun = answered.json()
        token = begun["upload_token"]
        wanted = (
            parts
            if form in {"short", "unnamed", "reuse", "raced", "spare"}
            else self._required(begun["required_chunks"], parts, names)
        )
        if form in {"reuse", "raced"}:
            for part in parts:
                self.history.blobs[hashlib.sha256(part).digest()] = part
        elif not await self._store(op, token, wanted):
            return op
        await self._dawdle()
        commit: dict[str, Any] = {"upload_token": token, "new_version": base + 1, "attrs": {"type": op.id}}
        if form == "spare":
            parts = parts[:1]
        if form == "raced":
            await self._have_collected()
        if form in {"short", "reuse", "raced", "spare"}:
            commit["chunks"] = [format_hash(hashlib.sha256(part).digest()) for part in parts]
        await self._commit(op, file_id, base + 1, commit, parts, names)
        return op

    async def _dawdle(self) -> None:
        """The user shuts the laptop, now and then."""
        if self.rng.random() < self.dawdles:
            await asyncio.sleep(self.rng.uniform(1.0, 2.5) * self.world.limits.grace)

    async def _commit(
        self,
        op: Operation,
        file_id: str,
        version: int,
        commit: dict[str, Any],
        parts: Sequence[bytes],
        names: Mapping[bytes, str],
    ) -> None:
        headers = self._key()
        asked = Asked("POST", f"/files/{file_id}/commit", headers=headers)
        digests = [hashlib.sha256(part).digest() for part in parts]
        for _ in range(4):
            answered = await self.insist(op, "l1", asked, commit)
            if answered is None:
                self.history.check_once(op, file_id)
                return
            if answered.status == 200:
                self.versions[file_id] = version
                self.history.check_commit(op, file_id, answered.json()["version"], digests)
                self._maybe_again(op, "l1", asked, commit, answered)
                return
            if op.refusal != "missing_chunks":
                break
            missing = self._required(answered.json()["missing_chunks"], parts, names)
            if not await self._store(op, commit["upload_token"], missing):
                return
            if self.rng.random() < 0.5:
                continue
            asked = Asked("POST", asked.path, headers=self._key())
        self._learn_conflict(file_id, answered)
        self.history.check_refused_commit(op, file_id, version)

    async def batch(self) -> None:
        files = self.rng.sample(FILES, self.rng.choice([2, 3]))
        bases = {file_id: await self._base_of(file_id) for file_id in files}
        parts = {file_id: [chunk_of(self.rng.randrange(9)) for _ in range(2)] for file_id in files}
        await self.save_together(bases, parts)

    async def save_together(
        self, bases: Mapping[str, int], parts: Mapping[str, Sequence[bytes]]
    ) -> Operation:
        files = list(bases)
        op = self.begin("batch", "+".join(files))
        update = {
            "files": [
                {
                    "file_id": file_id,
                    "client_version": bases[file_id],
                    "chunks": [self._entry(part, {}) for part in parts[file_id]],
                    **self._place_of_new(),
                }
                for file_id in files
            ]
        }
        answered = await self.insist(op, "l1", Asked("POST", "/files:batch_update"), update)
        if answered is None or answered.status != 200 or answered.json()["upload_token"] is None:
            return op
        begun = answered.json()
        going = [each["file_id"] for each in begun["files"] if each["status"] == "proceed"]
        everything = [part for file_id in going for part in parts[file_id]]
        if not await self._store(
            op, begun["upload_token"], self._required(begun["required_chunks"], everything, {})
        ):
            return op
        commit = {
            "upload_token": begun["upload_token"],
            "files": [
                {"file_id": file_id, "new_version": bases[file_id] + 1, "attrs": {"type": op.id}}
                for file_id in going
            ],
        }
        answered = await self.insist(op, "l1", Asked("POST", "/files:batch_commit"), commit)
        for place, file_id in enumerate(going):
            if answered is None:
                self.history.check_once(op, file_id)
                continue
            result = answered.json()["files"][place]
            if result["status"] == "committed":
                self.versions[file_id] = result["version"]
                digests = [hashlib.sha256(part).digest() for part in parts[file_id]]
                self.history.check_commit(op, file_id, result["version"], digests)
            else:
                self.history.check_refused_commit(op, file_id, bases[file_id] + 1)
        return op

    async def restore(self) -> None:
        file_id = self._file()
        base = await self._base_of(file_id)
        if not base:
            return
        await self.restore_to(file_id, base, self.rng.randint(1, base))

    async def restore_to(self, file_id: str, base: int, version: int) -> Operation:
        op = self.begin("restore", file_id)
        asked = Asked("POST", f"/files/{file_id}/restore", headers=self._key())
        body = {"version": version, "client_version": base}
        answered = await self.insist(op, "l1", asked, body)
        if answered is None or answered.status != 200:
            self._learn_conflict(file_id, answered)
            return op
        made = self.history.witness.versions.get((self.user, file_id, answered.json()["version"]))
        # It may stand already, by the same request of another device of the user.
        if made is None or made.upload != f"restore:{version}" or made.time > op.end:
            raise Violation("what was acknowledged survives", f"{op}: {made}")
        self._maybe_again(op, "l1", asked, body, answered)
        return op

    # --- the tree

    async def make_directory(self) -> None:
        directory_id, name = self.rng.choice(DIRECTORIES), self.rng.choice(NAMES)
        parent = self._parent()
        op = self.begin("make_directory", directory_id)
        asked = Asked("PUT", f"/create_directory/{directory_id}", headers=self._key())
        body = {"path": f"/{name}", "parent_dir_id": parent}
        answered = await self.insist(op, "l1", asked, body)
        if answered is not None and answered.status == 200:
            self.history.check_live_at(op, directory_id, parent, name)
            self._maybe_again(op, "l1", asked, body, answered)

    async def make_file(self) -> None:
        file_id, name, parent = self.rng.choice(FILES), self.rng.choice(NAMES), self._parent()
        op = self.begin("make_file", file_id)
        asked = Asked("PUT", f"/create_file/{file_id}", headers=self._key())
        body = {"parent_dir_id": parent, "name": name}
        answered = await self.insist(op, "l1", asked, body)
        if answered is not None and answered.status == 200:
            self.history.check_live_at(op, file_id, parent, name)
            self._maybe_again(op, "l1", asked, body, answered)

    async def move(self) -> None:
        node_id = self._one_of(FILES + DIRECTORIES, live=True)
        body: dict[str, Any] = {"parent_dir_id": self._parent(), "name": self.rng.choice(NAMES)}
        if self.rng.random() < 0.3:
            body["replace"] = {"id": self.rng.choice(FILES)}
        op = self.begin("move", node_id)
        asked = Asked("POST", f"/move/{node_id}", headers=self._key())
        answered = await self.insist(op, "l1", asked, body)
        if answered is not None and answered.status == 200:
            self.history.check_live_at(op, node_id, body["parent_dir_id"], body["name"])
            self._maybe_again(op, "l1", asked, body, answered)

    async def delete_file(self) -> None:
        file_id = self._file()
        body: dict[str, Any] = {"client_version": await self._base_of(file_id)}
        if self.rng.random() < 0.5:
            body["client_id"] = self.id
        await self.delete_as("delete_file", file_id, body)

    async def delete_directory(self) -> None:
        directory_id = self._one_of(DIRECTORIES, live=True)
        await self.delete_as("delete_directory", directory_id, {"recursive": self.rng.random() < 0.8})

    async def delete_as(self, kind: str, node_id: str, body: dict[str, Any]) -> Operation:
        """`kind` is delete_file or delete_directory."""
        op = self.begin(kind, node_id)
        asked = Asked("DELETE", f"/{kind}/{node_id}", headers=self._key())
        answered = await self.insist(op, "l1", asked, body)
        if answered is None or answered.status != 200:
            self._learn_conflict(node_id, answered)
            return op
        version = answered.json()["server_version"]
        if not asked.headers:  # under a key the answer may be of long ago
            self.history.check_deleted(op, node_id, version)
        self.versions[node_id] = version
        self._maybe_again(op, "l1", asked, body, answered)
        return op

    async def undelete(self) -> None:
        node_id = self._one_of(FILES + DIRECTORIES, live=False)
        body: dict[str, Any] = {}
        if self.rng.random() < 0.5:
            body = {"parent_dir_id": self._parent(), "name": self.rng.choice(NAMES)}
        await self.undelete_to(node_id, body)

    async def undelete_to(self, node_id: str, body: dict[str, Any]) -> Operation:
        op = self.begin("undelete", node_id)
        asked = Asked("POST", f"/undelete/{node_id}", headers=self._key())
        answered = await self.insist(op, "l1", asked, body)
        if answered is not None and answered.status == 200:
            place = answered.json()
            self.history.check_live_at(op, node_id, place["parent_dir_id"], place["name"])
            self._maybe_again(op, "l1", asked, body, answered)
        return op

    # --- reading

    async def read_metadata(self) -> None:
        file_id = self._file()
        op = self.begin("read_metadata", file_id)
        answered = await self.insist(op, "l1", Asked("GET", f"/files/{file_id}/metadata"))
        self._check_read(op, file_id, answered)

    async def read_chunks(self) -> None:
        file_id = self._file()
        op = self.begin("read_chunks", file_id)
        answered = await self.insist(op, "l2", Asked("GET", f"/files/{file_id}/chunks"))
        self._check_read(op, file_id, answered)
        if answered is None or answered.status != 200 or not answered.json()["chunks"]:
            return
        listing = answered.json()
        chunk = self.rng.choice(listing["chunks"])
        asked = Asked("GET", f"/chunks/{chunk['chunk_id']}")
        got = await self.insist(op, "block", asked, bearer=f"Bearer {listing['download_token']}")
        if (
            got is not None
            and got.status == 200
            and format_hash(hashlib.sha256(got.body).digest()) != chunk["hash"]
        ):
            raise Violation("bytes match their hash", f"{op}: {chunk['chunk_id']}")

    async def read_content(self) -> None:
        file_id = self._file()
        await self.read_whole(file_id)

    async def read_whole(self, file_id: str) -> Answered | None:
        op = self.begin("read_content", file_id)
        answered = await self.insist(op, "block", Asked("GET", f"/files/{file_id}/content"))
        if answered is not None and answered.status in {200, 404, 410}:
            self.history.check_content(op, file_id, answered.body if answered.status == 200 else None)
        return answered

    def _check_read(self, op: Operation, file_id: str, answered: Answered | None) -> None:
        if answered is None:
            return
        version = answered.json()["version"] if answered.status == 200 else None
        self.history.check_read(op, file_id, version)
        if version is not None:
            self.versions[file_id] = version

    # --- parts

    def begin(self, kind: str, node_id: str) -> Operation:
        self._count += 1
        op = Operation(f"{self.id}.{self._count}", self.user, kind, node_id, self.world.loop.now())
        return self.history.begin(op)

    async def insist(
        self, op: Operation, role: str, asked: Asked, body: Any = None, *, bearer: str = ""
    ) -> Answered | None:
        """Ask until somebody answers for good; None when nobody does. Notes it in `op`."""
        op.unsure, op.status, op.refusal = False, 0, ""
        whole = self._request(asked, body, bearer)
        for attempt in range(ATTEMPTS):
            answered: Answered | None = None
            try:
                answered = await self.world.ask(role, whole)
            except NoAnswerError:
                op.unsure = True
            op.end = self.world.loop.now()
            if answered is not None and answered.status not in {429, 503}:
                op.status = answered.status
                if answered.status >= 400:
                    op.refusal = answered.json()["error"]
                self.world.note(f"{op}")
                return answered
            op.unsure = True
            await asyncio.sleep(self.rng.uniform(0, 0.3 * 2**attempt))
        self.world.note(f"{op}")
        return None

    def _request(self, asked: Asked, body: Any, bearer: str) -> Asked:
        headers = {"authorization": bearer or self._bearer, **asked.headers}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return Asked(asked.method, asked.path, asked.query, headers, data)

    def _key(self) -> dict[str, str]:
        """An idempotency key, now and then."""
        if self.rng.random() < self.keys:
            return {"idempotency-key": f"{self.id} {self._count}"}
        return {}

    def _maybe_again(self, op: Operation, role: str, asked: Asked, body: Any, first: Answered) -> None:
        """Under a key the same request is answered the same, however much later (within a day)."""
        if not asked.headers or self.rng.random() > REPEATS_LATER:
            return
        work = self._again(op, role, asked, body, first)
        task = asyncio.get_running_loop().create_task(work)
        self.later.add(task)
        task.add_done_callback(self.later.discard)

    async def _again(self, op: Operation, role: str, asked: Asked, body: Any, first: Answered) -> None:
        await asyncio.sleep(self.rng.uniform(0, 600))
        again = Operation(f"{op.id} again", op.namespace, op.kind, op.node, self.world.loop.now())
        answered = await self.insist(again, role, asked, body)
        if answered is not None and (answered.status, answered.body) != (first.status, first.body):
            told = f"{op}: first {first.body!r}, then {answered.status} {answered.body!r}"
            self.world.fail(Violation("the same again is answered the same", told))

    async def _store(self, op: Operation, token: str, parts: Sequence[bytes]) -> bool:
        """In one call, or one by one; whether all of it is stored."""
        wanted = list(dict.fromkeys(parts))
        for part in wanted:
            self.history.blobs[hashlib.sha256(part).digest()] = part
        together = self.rng.random() < 0.6
        calls: list[Awaitable[Answered | None]] = []
        if together and wanted:
            body = json.dumps([_chunk_form(part) for part in wanted]).encode()
            calls.append(
                self.insist(op, "block", Asked("POST", "/store_chunk"), body, bearer=f"Bearer {token}")
            )
        else:
            for part in wanted:
                asked = Asked("PUT", f"/chunks/{format_hash(hashlib.sha256(part).digest())}")
                calls.append(self.insist(op, "block", asked, part, bearer=f"Bearer {token}"))
        for call in calls:
            answered = await call
            if answered is None or answered.status != 200:
                for rest in calls[calls.index(call) + 1 :]:
                    rest.close()  # type: ignore[attr-defined]
                return False
        return True

    def _required(
        self, ids: Sequence[str], parts: Sequence[bytes], names: Mapping[bytes, str]
    ) -> list[bytes]:
        """The chunks that the server asks for, by whichever of their ids."""
        known: dict[str, bytes] = {}
        for part in parts:
            known[format_hash(hashlib.sha256(part).digest())] = part
            if part in names:
                known[names[part]] = part
        unknown = [each for each in ids if each not in known]
        if unknown:
            raise Violation("what is required is what was named", f"{self.id}: {unknown}")
        return [known[each] for each in ids]

    def _entry(self, part: bytes, names: Mapping[bytes, str]) -> dict[str, Any]:
        entry = {"hash": format_hash(hashlib.sha256(part).digest()), "size": len(part)}
        return {**entry, "chunk_id": names[part]} if part in names else entry

    async def _base_of(self, file_id: str) -> int:
        """The version to build on: what the device remembers, or asks for."""
        if self.rng.random() < 0.6:
            op = self.begin("read_metadata", file_id)
            answered = await self.insist(op, "l1", Asked("GET", f"/files/{file_id}/metadata"))
            self._check_read(op, file_id, answered)
            if answered is not None and answered.status == 404:
                return 0
        return self.versions.get(file_id, 0)

    def _learn_conflict(self, node_id: str, answered: Answered | None) -> None:
        if answered is not None and answered.status == 409:
            version = answered.json().get("server_version")
            if version is not None:
                self.versions[node_id] = version

    def _place_of_new(self) -> dict[str, str]:
        if self.rng.random() < 0.5:
            return {}
        return {"parent_dir_id": self._parent(), "name": self.rng.choice(NAMES)}

    def _parent(self) -> str:
        return self.rng.choice([self.root, self._one_of(DIRECTORIES, live=True)])

    def _file(self) -> str:
        return self._one_of(FILES, live=True)

    def _one_of(self, node_ids: Sequence[str], *, live: bool) -> str:
        """Mostly one of those that are (or are not) live, so that much of what is asked can be done."""
        state = self.world.witness.namespaces.get(self.user)
        if state is not None and self.rng.random() < 0.75:
            fitting = [i for i in node_ids if i in state.nodes and state.is_readable(i) is live]
            if fitting:
                return self.rng.choice(fitting)
        return self.rng.choice(node_ids)


def _chunk_form(part: bytes) -> dict[str, Any]:
    digest = format_hash(hashlib.sha256(part).digest())
    return {"chunk_id": digest, "metadata": {"hash": digest}, "data": base64.b64encode(part).decode()}


WEIGHTS = {
    "save": 14,
    "save_spare": 3,
    "batch": 3,
    "restore": 3,
    "make_directory": 4,
    "make_file": 2,
    "move": 5,
    "delete_file": 5,
    "delete_directory": 2,
    "undelete": 5,
    "read_metadata": 3,
    "read_chunks": 3,
    "read_content": 5,
}
