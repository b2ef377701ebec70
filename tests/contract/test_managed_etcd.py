"""A managed etcd of three real members with TLS everywhere: founded, a member lost and replaced, certificates renewed."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from etcd_cluster import EtcdCluster, etcd_cluster, new_key

from moorage.core.errors import MoorageError, OutcomeUnknownError, StoreUnavailableError
from moorage_nodes.etcd_member.members import Membership
from moorage_nodes.metadata_store import open_metadata_store
from moorage_nodes.metrics import Metrics
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.opening import read_tls
from moorage_operator.reconcile.servers import HttpServers
from moorage_operator.reconcile.space import judge_space
from moorage_operator.resources.pki import Lifetimes, advance_pki

GAP_SECONDS = 30.0
"""The longest that no write may pass: an election and a client's time-outs, on a slow machine."""


@dataclasses.dataclass
class Writer:
    """Writes one key after the other, each until it is acknowledged."""

    store: EtcdStore
    acknowledged: int = 0
    longest: float = 0.0

    async def run(self) -> None:
        while True:
            started = time.monotonic()
            key = b"%09d" % self.acknowledged
            while True:
                try:
                    await self.store.transact(Txn(then=(Put(key, key),)))
                    break
                except (StoreUnavailableError, OutcomeUnknownError):
                    assert time.monotonic() - started < GAP_SECONDS, "no write passes any more"
                    await asyncio.sleep(0.05)
            self.longest = max(self.longest, time.monotonic() - started)
            self.acknowledged += 1
            await asyncio.sleep(0.01)

    async def check(self) -> None:
        """What was acknowledged is there."""
        for number in range(self.acknowledged):
            key = b"%09d" % number
            found = await self.store.get(key)
            assert found is not None, number
            assert found.value == key


@contextlib.asynccontextmanager
async def writing(cluster: EtcdCluster) -> AsyncIterator[Writer]:
    store = cluster.open_store()
    writer = Writer(store)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
        for _ in range(50):
            if task.done():
                break
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await writer.check()
        assert writer.acknowledged > 20
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


def membership(cluster: EtcdCluster) -> Membership:
    urls = [f"https://{cluster.host(member)}:{cluster.client_port}" for member in cluster.members]
    return Membership(urls, cluster.folder / "tls" / "client")


async def test_a_member_whose_data_is_lost_is_replaced_while_writes_go_on():
    async with etcd_cluster() as cluster:
        await cluster.start_all()
        cluster.put_founded(founded=True)
        before = {member.name: member.id for member in await membership(cluster).read()}
        assert sorted(before) == cluster.members
        async with writing(cluster) as writer:
            await until(lambda: writer.acknowledged > 10)
            await cluster.kill("2")
            cluster.lose("2")
            # Killed after it has removed the old member, or added the new one, it begins anew.
            for seconds in (0.8, 1.6):
                prepared = await cluster.prepare("2")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(prepared.wait(), seconds)
                if prepared.returncode is None:
                    prepared.kill()
                    await prepared.wait()
            await cluster.start("2")
            await cluster.ready("2")
        after = {member.name: member.id for member in await membership(cluster).read()}
        assert sorted(after) == cluster.members
        assert after["2"] != before["2"]
        assert {name: after[name] for name in "13"} == {name: before[name] for name in "13"}
        # It holds what the others hold: they may go now.
        await cluster.kill("1")
        store = cluster.open_store()
        await put_in_the_end(store, b"after")
        await store.close()


async def put_in_the_end(store, key: bytes) -> None:
    """While the others elect a leader, a write may go unanswered."""
    deadline = time.monotonic() + 90
    while True:
        try:
            await store.transact(Txn(then=(Put(key, b"1"),)))
        except StoreUnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        else:
            return


async def test_a_member_without_data_founds_nothing_when_no_majority_answers():
    async with etcd_cluster() as cluster:
        await cluster.start_all()
        cluster.put_founded(founded=True)
        store = cluster.open_store()
        await store.transact(Txn(then=(Put(b"k", b"v"),)))
        for member in cluster.members:
            await cluster.stop(member)
        cluster.lose("1")
        prepared = await cluster.prepare("1")
        await until(lambda: "data is gone" in cluster.log("1"))
        assert prepared.returncode is None
        # The others come back, and with them what was acknowledged.
        await asyncio.gather(cluster.start("2"), cluster.start("3"))
        assert await asyncio.wait_for(prepared.wait(), 90) == 0
        await cluster.start("1")
        await asyncio.gather(*(cluster.ready(member) for member in cluster.members))
        found = await store.get(b"k")
        assert found is not None
        assert found.value == b"v"
        await store.close()


async def test_one_member_alone_goes_on_with_its_data_and_never_begins_empty():
    async with etcd_cluster(1) as cluster:
        await cluster.start_all()
        cluster.put_founded(founded=True)
        store = cluster.open_store()
        await store.transact(Txn(then=(Put(b"k", b"v"),)))
        await cluster.kill("1")
        await cluster.start("1")
        await cluster.ready("1")
        found = await store.get(b"k")
        assert found is not None
        await store.close()
        await cluster.kill("1")
        cluster.lose("1")
        prepared = await cluster.prepare("1")
        await until(lambda: "data is gone" in cluster.log("1"))
        assert prepared.returncode is None
        prepared.kill()
        await prepared.wait()


async def test_certificates_and_authorities_are_renewed_while_writes_go_on():
    """Leaves without any restart, authorities by restarts one by one; the client follows its own files."""
    async with etcd_cluster() as cluster:
        await cluster.start_all()
        cluster.put_founded(founded=True)
        # Everything is due at once: a leaf's life has passed the share, and the authorities' too.
        lifetimes = Lifetimes(settle=dt.timedelta(0), renew=0.0)
        once = Lifetimes(settle=dt.timedelta(0))
        async with writing(cluster) as writer:
            first = cluster.pki

            def advance(lifetimes: Lifetimes) -> None:
                now = dt.datetime.now(dt.UTC)
                cluster.put_pki(
                    advance_pki(
                        cluster.pki, cluster.subject, now, new_key, bundle_loaded=True, lifetimes=lifetimes
                    )
                )
                writer.store.renew_tls(read_tls(cluster.settings()))

            async def roll() -> None:
                for member in reversed(cluster.members):
                    await cluster.stop(member)
                    await cluster.start(member)
                    await cluster.ready(member)

            advance(lifetimes)
            second = cluster.pki.bundle_revision
            assert second != first.bundle_revision
            assert cluster.pki.leaves != first.leaves
            await moves(writer)
            await roll()
            advance(once)  # the next authority signs: no restart
            assert cluster.pki.authorities["peer"].signing == "following"
            assert cluster.pki.bundle_revision == second
            await moves(writer)
            # Connections of before live on; new ones must be possible among all of them.
            await cluster.kill("1")
            await cluster.start("1")
            await cluster.ready("1")
            advance(once)  # the old authority goes
            assert cluster.pki.bundle_revision != second
            await roll()
            await moves(writer)
            assert cluster.pki.authorities["client"].following is None
            assert cluster.pki.authorities["client"].current != first.authorities["client"].current
        # A client of the old authority is not let in any more.
        settings = cluster.settings()
        cluster.put_pki(first)
        store = EtcdStore.open(settings.endpoints, prefix="/x/", tls=read_tls(settings))
        with pytest.raises(StoreUnavailableError):
            await store.check()
        await store.close()


async def test_a_member_of_another_etcd_is_not_let_in():
    """A client's certificate, or another etcd's, makes no peer."""
    async with etcd_cluster(1) as cluster:
        await cluster.start_all()
        folder = cluster.folder / "tls"
        for name, accepted in (("peer", True), ("client", False), ("server", False)):
            assert await is_let_in(cluster, folder / "peer" / "ca.crt", folder / name) == accepted


async def is_let_in(cluster: EtcdCluster, ca: Path, shown: Path) -> bool:
    """Whether the peers' port talks to who shows the certificate in `shown`."""
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(shown / "tls.crt", shown / "tls.key")
    try:
        reader, writer = await asyncio.open_connection(cluster.host("1"), cluster.peer_port, ssl=context)
        writer.write(b"GET /version HTTP/1.0\r\nHost: x\r\n\r\n")
        answer = await reader.read()
        writer.close()
    except (OSError, ssl.SSLError):
        return False
    return answer.startswith(b"HTTP/1.0 200")


async def fill(store: EtcdStore, mebibytes: int) -> None:
    for number in range(mebibytes):
        await store.transact(Txn(then=(Put(b"%d" % number, bytes(1024**2)),)))


async def moves(writer: Writer) -> None:
    """Some more writes pass."""
    before = writer.acknowledged
    await until(lambda: writer.acknowledged > before + 10)


async def until(holds) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_server_follows_the_certificates_that_it_was_given():
    async with etcd_cluster(1) as cluster:
        await cluster.start_all()
        followed: list[Any] = []
        shared: Any = SimpleNamespace(metrics=Metrics(), follow=followed.append)
        store = open_metadata_store(cluster.settings(), shared)
        await store.transact(Txn(then=(Put(b"k", b"v"),)))
        (live,) = followed
        assert not live.refresh()
        due, now = Lifetimes(renew=0.0), dt.datetime.now(dt.UTC)
        cluster.put_pki(
            advance_pki(cluster.pki, cluster.subject, now, new_key, bundle_loaded=True, lifetimes=due)
        )
        assert live.refresh()
        found = await store.get(b"k")
        assert found is not None
        await store.close()


async def test_a_database_that_is_full_says_so_to_the_operator():
    async with etcd_cluster(1, quota=16 * 1024**2) as cluster:
        await cluster.start_all()
        address = f"{cluster.host('1')}:{cluster.metrics_port}"
        asking = HttpServers()
        try:
            before = judge_space(await asking.ask_space([address]))
            assert before.reason == "Enough"
            store = cluster.open_store()
            with pytest.raises(MoorageError):
                await fill(store, 40)
            await store.close()
            after = judge_space(await asking.ask_space([address]))
            assert (after.status, after.reason) == ("False", "NoSpace")
            assert await asking.ask_space(["127.0.37.99:1"]) == [None]
        finally:
            await asking.close()
