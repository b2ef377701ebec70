"""The scrubber on real etcd and S3: what it marks, what it unmarks, and that it may be killed anywhere."""

import dataclasses
import hashlib
import itertools

import msgspec
import pytest
import upload_bed
from patient import admit, real_bed
from upload_bed import INCARNATION, digest_of, hash_of

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.fsck.pools import DirectPool
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_DAMAGED,
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    Chunk,
    ScrubState,
)
from moorage_nodes.scrub import scrubber as scrubber_module
from moorage_nodes.scrub.pace import Pace
from moorage_nodes.scrub.scrubber import LostPoolError, Scrubber, ScrubTakenError
from moorage_nodes.stores.contracts import Delete, Txn
from moorage_nodes.tokens import Audience

FAST = 1e12  # bytes a second
_numbers = itertools.count()


@pytest.fixture(scope="module")
async def running_bed(tmp_path_factory, etcd_endpoint, s3_seaweedfs):
    async with real_bed(tmp_path_factory.mktemp("realm"), etcd_endpoint, s3_seaweedfs) as running:
        yield running


@pytest.fixture
async def patient(running_bed, monkeypatch):
    """The only user of the cluster: a scrub goes over all of them."""
    namespace = f"user{next(_numbers)}"
    monkeypatch.setattr(upload_bed, "NAMESPACE", namespace)
    await running_bed.l1.store.transact(Txn(then=(Delete(b"n/", b"n0"), Delete(keys.SCRUB_STATE))))
    return admit(running_bed, namespace)


class Killed(BaseException):
    """The process dies here."""


@dataclasses.dataclass
class Watched(DirectPool):
    """Tells what was read, and may fail."""

    inner: object
    asked: list[str] = dataclasses.field(default_factory=list)
    failures: int = 0
    dies_after: int | None = None

    async def verify(self, namespace, chunks):
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("away")
        if self.dies_after is not None:
            if self.dies_after == 0:
                raise Killed
            self.dies_after -= 1
        self.asked += [chunk.hash for chunk in chunks]
        return await DirectPool(self.inner).verify(namespace, chunks)


def scrubber_of(patient, pool=None) -> Scrubber:
    clock = iter(range(1, 10_000))
    return Scrubber(
        patient.store,
        {"p1": pool or DirectPool(patient.bed.objects)},
        Pace(FAST, lambda: 0.0),
        incarnation=INCARNATION.encode(),
        clock=lambda: next(clock),
    )


async def state_of(patient, data: bytes) -> int:
    return (await patient.bed.l1.chunk(data)).state


async def read(patient, data: bytes):
    return await patient.bed.http.get(f"/chunks/{hash_of(data)}", headers=patient.bed.access())


async def test_what_is_whole_stays_as_it_is(patient):
    await patient.bed.write("f", [b"one", b"two", b""])
    report = await scrubber_of(patient).run()
    assert (report.state.chunks, report.state.bytes, report.state.damaged) == (2, 6, 0)
    assert report.state.finished
    assert await state_of(patient, b"one") == CHUNK_LIVE


@pytest.mark.parametrize("harm", ["flipped", "deleted", "truncated"])
async def test_damage_is_marked_and_refused_and_healed_by_the_next_upload(patient, harm):
    await patient.bed.write("f", [b"precious"])
    assert (await read(patient, b"precious")).content == b"precious"
    name = await patient.object_of(b"precious")
    if harm == "deleted":
        await patient.bed.objects.delete([name])
    else:
        await patient.overwrite(name, b"preciou5" if harm == "flipped" else b"prec")
    report = await scrubber_of(patient).run()
    assert report.damaged == [(patient.namespace, hash_of(b"precious"))]
    assert await state_of(patient, b"precious") == CHUNK_DAMAGED
    answer = await read(patient, b"precious")
    assert (answer.status_code, answer.json()["error"]) == (500, "damaged_chunk")
    part = await patient.bed.http.get(
        f"/chunks/{hash_of(b'precious')}", headers={**patient.bed.access(), "Range": "bytes=0-2"}
    )
    assert (part.status_code, part.json()["error"]) == (500, "damaged_chunk")
    begun = await patient.bed.l1.begin("g", planned=[(None, digest_of(b"precious"), 8)])
    assert begun.required == [hash_of(b"precious")]
    stored = await patient.bed.http.put(
        f"/chunks/{hash_of(b'precious')}", content=b"precious", headers=patient.bed.uploading(begun.id)
    )
    assert stored.status_code == 200
    await patient.bed.l1.commit(begun.id, "g", 1)
    assert (await read(patient, b"precious")).content == b"precious"
    content = await patient.bed.http.get("/files/f/content", headers=patient.bed.access())
    assert content.content == b"precious"
    assert await patient.found(deep=True) == {}


async def test_what_can_be_read_again_is_unmarked(patient):
    await patient.bed.write("f", [b"precious"])
    name = await patient.object_of(b"precious")
    await patient.overwrite(name, b"preciou5")
    await scrubber_of(patient).run()
    assert await patient.found() == {"chunk_damaged": [hash_of(b"precious")]}
    await patient.overwrite(name, b"precious")
    report = await scrubber_of(patient).run()
    assert report.readable == [(patient.namespace, hash_of(b"precious"))]
    assert report.state.number == 2
    assert (await read(patient, b"precious")).content == b"precious"


async def test_a_chunk_that_is_soft_deleted_is_scrubbed_and_a_condemned_one_left_to_the_collector(patient):
    await patient.bed.write("f", [b"soft", b"doomed"])
    for data, state in ((b"soft", CHUNK_SOFT_DELETED), (b"doomed", CHUNK_CONDEMNED)):
        await patient.change(Chunk, keys.chunk(patient.namespace, digest_of(data)), state=state)
    await patient.bed.objects.delete([await patient.object_of(b"soft")])
    report = await scrubber_of(patient).run()
    assert report.damaged == [(patient.namespace, hash_of(b"soft"))]
    assert await state_of(patient, b"doomed") == CHUNK_CONDEMNED


async def test_a_chunk_that_is_stored_anew_meanwhile_is_left_alone(patient):
    """The record is compared as it was read: the verdict is of the old copy."""
    await patient.bed.write("f", [b"precious"])
    name = await patient.object_of(b"precious")
    await patient.bed.objects.delete([name])

    class Racing(DirectPool):
        async def verify(self, namespace, chunks):
            verdicts = await super().verify(namespace, chunks)
            await patient.change(
                Chunk, keys.chunk(patient.namespace, digest_of(b"precious")), object="other/call.0"
            )
            return verdicts

    report = await scrubber_of(patient, Racing(patient.bed.objects)).run()
    assert report.damaged == []
    assert await state_of(patient, b"precious") == CHUNK_LIVE


async def test_a_scrub_that_was_killed_is_gone_on_with(patient, monkeypatch):
    """At every place where it may die: each chunk is read, few twice, and all damage found."""
    monkeypatch.setattr(scrubber_module, "PART_BYTES", 8)
    parts = [f"part{number:04}".encode() for number in range(12)]
    await patient.bed.write("f", parts)
    for part in (parts[3], parts[9]):
        kv = await patient.store.get(keys.chunk(patient.namespace, digest_of(part)))
        chunk = records.decode(Chunk, kv.value)
        await patient.put(kv.key, msgspec.structs.replace(chunk, offset=chunk.offset + 1))
    pool = Watched(patient.bed.objects)
    deaths = 0
    for life in range(40):
        pool.dies_after = 1 + life % 3
        try:
            report = await scrubber_of(patient, pool).run()
        except Killed:
            deaths += 1
            continue
        break
    assert deaths >= 4
    assert report.state.number == 1
    assert (report.state.chunks, report.state.damaged) == (12, 2)
    assert set(pool.asked) == {hash_of(part) for part in parts}
    assert {await state_of(patient, part) for part in (parts[3], parts[9])} == {CHUNK_DAMAGED}


async def test_of_two_scrubs_the_younger_goes_on(patient, monkeypatch):
    monkeypatch.setattr(scrubber_module, "PART_BYTES", 8)
    await patient.bed.write("f", [f"part{number:04}".encode() for number in range(6)])
    younger = scrubber_of(patient)

    class Interrupted(DirectPool):
        async def verify(self, namespace, chunks):
            if not reports:
                reports.append(await younger.run())
            return await super().verify(namespace, chunks)

    reports = []
    with pytest.raises(ScrubTakenError):
        await scrubber_of(patient, Interrupted(patient.bed.objects)).run()
    assert reports[0].state.chunks == 6
    assert reports[0].state.finished


async def test_a_store_that_is_away_for_a_moment_is_no_damage(patient, monkeypatch):
    monkeypatch.setattr(scrubber_module, "RETRY_SECONDS", 0.01)
    await patient.bed.write("f", [b"precious"])
    pool = Watched(patient.bed.objects, failures=2)
    assert (await scrubber_of(patient, pool).run()).state.damaged == 0
    pool.failures = 99
    with pytest.raises(StoreUnavailableError):
        await scrubber_of(patient, pool).run()
    assert await state_of(patient, b"precious") == CHUNK_LIVE


async def test_a_bucket_that_has_nothing_at_all_is_not_believed(patient):
    await patient.bed.write("f", [f"part{number:04}".encode() for number in range(100)])
    await patient.bed.objects.delete([await patient.object_of(b"part0000")])
    with pytest.raises(LostPoolError):
        await scrubber_of(patient).run()
    assert await state_of(patient, b"part0000") == CHUNK_LIVE


async def test_the_pace_is_kept():
    now, slept = [0.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(100, lambda: now[0], sleep)
    for _ in range(10):
        await pace.spend(50)
    assert now[0] == pytest.approx(5.0)
    now[0] += 60  # what was not read in a pause is not made up for, but for a second's worth
    for _ in range(4):
        await pace.spend(50)
    assert sum(slept) == pytest.approx(6.0)


async def test_only_a_checker_may_have_chunks_read_again(patient):
    await patient.bed.write("f", [b"precious"])
    chunk = await patient.bed.l1.chunk(b"precious")
    body = {
        "namespace": patient.namespace,
        "chunks": [
            {"hash": hash_of(b"precious"), "size": 8, "object": chunk.object, "offset": chunk.offset},
            {"hash": hash_of(b"other"), "size": 8, "object": chunk.object, "offset": chunk.offset},
            {"hash": hash_of(b"precious"), "size": 8, "object": chunk.object, "offset": chunk.offset + 1},
            {"hash": "sha256_" + hashlib.sha256(b"").hexdigest(), "size": 0, "object": "", "offset": 0},
        ],
    }
    internal = patient.bed.serving.internal
    for role, audience, status in (
        ("check", "moorage:checker", 200),
        ("l1", "moorage:service:block", 401),
    ):
        token = patient.bed.realm.signer(role).sign(Audience(audience), role, 60)
        answer = await patient.bed.http.post(
            f"{internal}/internal/verify", json=body, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == status, answer.text
        if status == 200:
            assert answer.json()["verdicts"] == ["ok", "damaged", "lost", "ok"]


async def test_progress_is_in_etcd(patient):
    await patient.bed.write("f", [b"precious"])
    await scrubber_of(patient).run()
    kv = await patient.store.get(keys.SCRUB_STATE)
    state = records.decode(ScrubState, kv.value)
    assert (state.number, state.namespace, state.chunks) == (1, patient.namespace, 1)
