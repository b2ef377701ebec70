"""The scrubber: reads every chunk of a cluster again, slowly, and notes in its record what became of it.

It goes by namespace and digest and writes down after each part how far it is, so a scrub that was killed is gone on
with by the next. Each note of progress compares the one before: of two scrubs at once the younger takes over and the
other one ends. Verdicts are written as transactions that compare the record as it was read (metadata/l3/damage.py):
to do a part twice does no harm, and to die between two writes leaves at most a part to be done again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage.core.ids import format_hash
from moorage_nodes.blocks.verifying import Verdict
from moorage_nodes.fsck.pools import Pool
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l3.damage import Verified, plan_damage
from moorage_nodes.metadata.records import CHUNK_CONDEMNED, CHUNK_DAMAGED, Chunk, ScrubState
from moorage_nodes.metadata.scan import scan_namespaces, scan_range
from moorage_nodes.peer_api import MAX_VERIFIED_CHUNKS, VerifiedChunk
from moorage_nodes.scrub.pace import Pace
from moorage_nodes.stores.contracts import (
    Compare,
    KeyValue,
    MetadataStore,
    Put,
    Target,
    Txn,
    prefix_end,
    unchanged,
)

PART_BYTES = 8 * 1024 * 1024  # read between two notes of progress; what a kill costs
NAMED = 200  # damaged chunks that a report names
LOST_TOGETHER = 64  # of one pool and part, and nothing else: then no record is touched
TRIES = 4
RETRY_SECONDS = 1.0  # doubles


class LostPoolError(StoreUnavailableError):
    """So many chunks are lost at once that the bucket itself is more likely to be the wrong one."""

    word = "lost_pool"


class ScrubTakenError(MoorageError):
    """Another scrub has begun and goes on with this one's work."""

    word = "scrub_taken"


@dataclass(slots=True)
class Report:
    """Of the pass that `state` is of; the named chunks, as (namespace, hash), are those that this run found."""

    state: ScrubState
    damaged: list[tuple[str, str]] = field(default_factory=list)
    readable: list[tuple[str, str]] = field(default_factory=list)


class Scrubber:
    """`clock` gives Unix seconds, `sleep` waits before a store that was away is asked again."""

    def __init__(
        self,
        store: MetadataStore,
        pools: Mapping[str, Pool],
        pace: Pace,
        *,
        incarnation: bytes,
        clock: Callable[[], float],
        on_progress: Callable[[ScrubState], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._pools = pools
        self._pace = pace
        self._incarnation = incarnation
        self._clock = clock
        self._on_progress = on_progress
        self._state = ScrubState()
        self._revision = 0

    async def run(self) -> Report:
        """Go on with the pass that was not finished, or make a new one, to its end.

        `ScrubTakenError`; `StoreUnavailableError` (`LostPoolError`): the next run goes on where this one stopped.
        """
        await self._begin()
        report = Report(self._state)
        begin_at = self._state.namespace
        async for namespace in scan_namespaces(self._store):
            if namespace < begin_at:
                continue
            if namespace != self._state.namespace:
                self._state = replace(self._state, namespace=namespace, digest=b"")
            async for part in self._scan(namespace):
                await self._scrub(namespace, part, report)
        await self._note(replace(self._state, finished=self._now()))
        report.state = self._state
        return report

    async def _begin(self) -> None:
        kv = await self._store.get(keys.SCRUB_STATE)
        self._revision = 0 if kv is None else kv.mod_revision
        state = None if kv is None else records.decode(ScrubState, kv.value)
        if state is None or state.finished:
            state = ScrubState(number=1 if state is None else state.number + 1, started=self._now())
        await self._note(state)

    async def _note(self, state: ScrubState) -> None:
        """Write down how far we are, if nobody else did since."""
        compares = (
            Compare(keys.INCARNATION, Target.VALUE, self._incarnation),
            unchanged(keys.SCRUB_STATE, self._revision),
        )
        put = Put(keys.SCRUB_STATE, records.encode(state))
        result = await self._store.transact(Txn(compares, (put,)))
        if not result.succeeded:
            raise ScrubTakenError("Another scrub has taken over, or this cluster was restored.")
        self._state, self._revision = state, result.revision
        self._on_progress(state)

    async def _scan(self, namespace: str) -> AsyncIterator[list[tuple[KeyValue, Chunk]]]:
        """The chunk records behind the last one that was scrubbed, in parts."""
        start, end = keys.chunk(namespace, b""), prefix_end(keys.chunk(namespace, b""))
        if self._state.digest:
            start = keys.chunk(namespace, self._state.digest) + b"\0"
        part: list[tuple[KeyValue, Chunk]] = []
        size = 0
        async for kvs in scan_range(self._store, start, end):
            for kv in kvs:
                chunk = records.decode(Chunk, kv.value)
                if part and (size + chunk.size > PART_BYTES or len(part) >= MAX_VERIFIED_CHUNKS):
                    yield part
                    part, size = [], 0
                part.append((kv, chunk))
                size += chunk.size
        if part:
            yield part

    async def _scrub(self, namespace: str, part: Sequence[tuple[KeyValue, Chunk]], report: Report) -> None:
        chosen = [
            (kv, chunk)
            for kv, chunk in part
            if chunk.state != CHUNK_CONDEMNED and chunk.pool in self._pools and (chunk.object or chunk.size)
        ]
        verified = await self._verify(namespace, chosen)
        damaged = readable = 0
        for change in plan_damage(verified, self._incarnation):
            if not (await self._store.transact(change.txn)).succeeded:
                continue  # moved, healed or gone meanwhile: the next pass looks at what is there then
            named = report.damaged if change.is_damage else report.readable
            if len(named) < NAMED:
                named.append((namespace, format_hash(change.digest)))
            damaged, readable = damaged + change.is_damage, readable + (not change.is_damage)
        size = sum(chunk.size for _, chunk in chosen)
        await self._note(
            replace(
                self._state,
                digest=part[-1][0].key[-32:],
                chunks=self._state.chunks + len(chosen),
                bytes=self._state.bytes + size,
                damaged=self._state.damaged + damaged,
                readable=self._state.readable + readable,
            )
        )
        await self._pace.spend(size)

    async def _verify(self, namespace: str, chosen: Sequence[tuple[KeyValue, Chunk]]) -> list[Verified]:
        """What is wrong is read twice, so that one bad answer on the way does not count as damage."""
        verified: list[Verified] = []
        for pool in {chunk.pool for _, chunk in chosen}:
            here = [(kv, chunk) for kv, chunk in chosen if chunk.pool == pool]
            verdicts = await self._ask(pool, namespace, here)
            again = [each for each, verdict in zip(here, verdicts, strict=True) if verdict != "ok"]
            second = iter(await self._ask(pool, namespace, again) if again else [])
            verdicts = [verdict if verdict == "ok" else next(second) for verdict in verdicts]
            news = [
                verdict
                for (_, chunk), verdict in zip(here, verdicts, strict=True)
                if chunk.state != CHUNK_DAMAGED
            ]
            if len(news) >= LOST_TOGETHER and set(news) == {"lost"}:
                raise LostPoolError(
                    f"All of {len(news)} chunks are lost in the pool {pool!r}: is it the right bucket? Nothing was "
                    "marked. If they are lost indeed, `fsck --repair` marks them."
                )
            verified += [
                Verified(kv, chunk, verdict == "ok")
                for (kv, chunk), verdict in zip(here, verdicts, strict=True)
            ]
        return verified

    async def _ask(
        self, pool: str, namespace: str, chunks: Sequence[tuple[KeyValue, Chunk]]
    ) -> list[Verdict]:
        questions = [
            VerifiedChunk(
                hash=format_hash(kv.key[-32:]), size=chunk.size, object=chunk.object, offset=chunk.offset
            )
            for kv, chunk in chunks
        ]
        for number in range(TRIES):
            try:
                return await self._pools[pool].verify(namespace, questions)
            except StoreUnavailableError:
                if number == TRIES - 1:
                    raise
                await asyncio.sleep(RETRY_SECONDS * 2**number)
        raise AssertionError("not reached")

    def _now(self) -> int:
        return int(self._clock() * 1000)
