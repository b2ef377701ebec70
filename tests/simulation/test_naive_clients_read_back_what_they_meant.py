"""Clients that call their chunks the same in every file and every version, in all forms of updates and over two
processes: what each file holds, and what every name means, is what a list of (name, bytes) per file says.
"""

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from namespace_checks import check_namespace
from upload_bed import NAMESPACE, Bed, commit_of, digest_of, entry, hash_of, make_cluster

from moorage.core.errors import ConflictError
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1 import commit as commit_module
from moorage_nodes.metadata.l1 import preparation, segments, targets, uploads
from moorage_nodes.metadata.l1.uploads import FileUpdate
from moorage_nodes.metadata.l1.versions import plan_restore
from moorage_nodes.stores.contracts import Delete
from moorage_nodes.stores.memory import MemoryStore

FILES = ("f", "g", "h")
NAMES = tuple(f"chunk_{number}" for number in range(6))
STEPS = 60
SEEDS = [*range(8), None]
"""None is a new one, printed. It is no part of a test's name: all workers of a run must agree on those."""

Chunks = tuple[tuple[str, bytes], ...]


@dataclass
class Model:
    """`versions`: of each file, the contents of version 1 and up. `names`: what each name means."""

    versions: dict[str, list[Chunks]] = field(default_factory=lambda: {each: [] for each in FILES})
    names: dict[str, bytes] = field(default_factory=dict)

    def current(self, file_id: str) -> Chunks:
        return self.versions[file_id][-1] if self.versions[file_id] else ()

    def edit(self, file_id: str, sent: Sequence[tuple[str, bytes]]) -> None:
        """The short form: what differs in place and new names behind; without a difference, what was sent."""
        current, latest = self.current(file_id), dict(sent)
        if any(name in latest and latest[name] != data for name, data in current):
            known = {name for name, _ in current}
            kept = [(name, latest.get(name, data)) for name, data in current]
            added = [(name, data) for name, data in latest.items() if name not in known]
            self.put(file_id, [*kept, *added], latest)
        else:
            self.put(file_id, list(latest.items()), latest)

    def put(self, file_id: str, chunks: Sequence[tuple[str, bytes]], given: dict[str, bytes]) -> None:
        """A new version; `given`: the names that it gave bytes."""
        self.versions[file_id].append(tuple(chunks))
        self.names.update(given)


@dataclass
class World:
    beds: list[Bed]
    rng: random.Random
    model: Model = field(default_factory=Model)

    @property
    def bed(self) -> Bed:
        return self.rng.choice(self.beds)

    def data(self) -> bytes:
        """Few enough values that different chunks often have the same bytes."""
        return f"bytes {self.rng.randrange(12)};".encode()

    def chunks(self, least: int = 1) -> list[tuple[str, bytes]]:
        count = self.rng.randint(least, 5)
        return [(self.rng.choice(NAMES), self.data()) for _ in range(count)]

    async def store(self, upload: str, chunks: Sequence[tuple[str, bytes]]) -> None:
        """In one call or several."""
        cut = self.rng.randint(0, len(chunks))
        for part in (chunks[:cut], chunks[cut:]):
            if part:
                await self.bed.store_chunks(upload, part)

    def file(self) -> tuple[str, int]:
        file_id = self.rng.choice(FILES)
        return file_id, len(self.model.versions[file_id])

    async def edit(self) -> None:
        file_id, base = self.file()
        sent = self.chunks()
        begun = await self.bed.begin(file_id, base)
        assert begun.required == self.ids(file_id)
        await self.store(begun.id, sent)
        await self.bed.commit(begun.id, file_id, base + 1)
        self.model.edit(file_id, sent)

    async def name(self) -> None:
        """Append, shrink, reorder: own names, new ones, and hashes of what the file holds."""
        file_id, base = self.file()
        sent = self.chunks(least=0)
        begun = await self.bed.begin(file_id, base)
        await self.store(begun.id, sent)
        known = {**dict(self.model.current(file_id)), **dict(sent)}
        ids, meant = [], []
        for name in self.rng.choices([*known], k=self.rng.randint(0, 6)) if known else []:
            by_hash = self.rng.random() < 0.2
            ids.append(hash_of(known[name]) if by_hash else name)
            meant.append((hash_of(known[name]) if by_hash else name, known[name]))
        await self.bed.commit(begun.id, file_id, base + 1, ids)
        given = {name: data for name, data in sent if name in ids}
        self.model.put(file_id, meant, given)

    async def plan(self) -> None:
        """The long form."""
        file_id, base = self.file()
        chunks = list(dict(self.chunks(least=0)).items())
        chunks += self.rng.choices(chunks, k=2) if chunks else []
        begun = await self.bed.begin(file_id, base, planned=[entry(data, name) for name, data in chunks])
        required = [(name, data) for name, data in dict(chunks).items() if name in begun.required]
        await self.store(begun.id, required)
        await self.bed.commit(begun.id, file_id, base + 1)
        self.model.put(file_id, chunks, dict(chunks))

    async def batch(self) -> None:
        plans = {each: list(dict(self.chunks(least=0)).items()) for each in FILES}
        begun = await self.bed.begin_batch(
            *(
                FileUpdate(each, len(self.model.versions[each]), [entry(data, name) for name, data in chunks])
                for each, chunks in plans.items()
            )
        )
        wanted = [
            (name, data)
            for required, chunks in zip(begun.required, plans.values(), strict=True)
            for name, data in chunks
            if name in required
        ]
        await self.store(begun.upload_id, wanted)
        order = self.rng.sample(FILES, len(FILES))
        commits = [commit_of(each, len(self.model.versions[each]) + 1) for each in order]
        results = await self.bed.commit_batch(begun.upload_id, *commits)
        assert results == [commit.new_version for commit in commits]
        for each in order:
            self.model.put(each, plans[each], dict(plans[each]))

    async def restore(self) -> None:
        file_id, base = self.file()
        if base:
            version = self.rng.randint(1, base)
            await self.bed.engine.change(NAMESPACE, plan_restore(file_id, version, base))
            self.model.put(file_id, self.model.versions[file_id][version - 1], {})

    async def stale(self) -> None:
        """An upload that another commit overtakes changes nothing."""
        file_id, base = self.file()
        begun = await self.bed.begin(file_id, base)
        await self.store(begun.id, self.chunks())
        sent = self.chunks()
        await self.bed.write(file_id, base, dict(sent))
        self.model.edit(file_id, list(dict(sent).items()))
        with pytest.raises(ConflictError):
            await self.bed.commit(begun.id, file_id, base + 1)
        await self.bed.engine.write_aside(NAMESPACE, [], _end(begun.id))

    def ids(self, file_id: str) -> list[str]:
        """A file's ids as the server tells them: the hash where the name has moved on."""
        return [
            name if self.model.names.get(name) == data else hash_of(data)
            for name, data in self.model.current(file_id)
        ]

    async def check(self) -> None:
        bed = self.bed
        for file_id, versions in self.model.versions.items():
            for number, chunks in enumerate(versions, start=1):
                assert await bed.read(file_id, number) == b"".join(data for _, data in chunks)
            if versions:
                assert await bed.listing(file_id) == self.ids(file_id)
        for name in NAMES:
            assert await bed.meaning(name) == self.model.names.get(name)


def _end(upload: str) -> list[Delete]:
    """As the collector ends an upload that nobody uses any more."""
    return [Delete(keys.upload(NAMESPACE, upload)), Delete(*keys.stored_range(NAMESPACE, upload))]


@pytest.fixture(params=["as they are", "small"])
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small limits nearly every content is a long one: segments, names bound beforehand."""
    if request.param == "small":
        for module in (commit_module, preparation, targets, uploads):
            monkeypatch.setattr(module, "INLINE_ENTRIES", 2)
        monkeypatch.setattr(segments, "SEGMENT_ENTRIES", 2)
        monkeypatch.setattr(preparation, "MAX_PLAN_NAMES", 1)
        monkeypatch.setattr(preparation, "BOUND_TOGETHER", 2)
        monkeypatch.setattr(commit_module, "MAX_PLAN_CALLS", 1)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("seed", SEEDS)
async def test_what_naive_clients_read_back_is_what_they_meant(seed: int | None):
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    print(f"seed {seed}")
    store = MemoryStore()
    await make_cluster(store)
    first = Bed(store, seed=1)
    world = World([first, Bed(store, seed=2, blobs=first.blobs)], random.Random(seed))
    operations = [world.edit, world.name, world.plan, world.batch, world.restore, world.stale]
    for step in range(STEPS):
        operation = world.rng.choices(operations, weights=[5, 3, 3, 1, 1, 1])[0]
        try:
            await operation()
            await world.check()
        except BaseException as error:
            error.add_note(f"seed {seed}, step {step}: {operation.__name__}")
            raise
    assert {digest_of(data) for data in world.model.names.values()} <= first.blobs.keys()
    await check_namespace(store)
