"""A pool that was taken off a list goes once it holds nothing, as real block servers, L3 servers and collections say."""

import asyncio
import contextlib
import datetime as dt
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from block_bed import BlockBed, block_bed
from collector_bed import DAY, CollectorBed
from operator_bed.bed import Bed, TellingServers
from operator_bed.controllers import controllers
from operator_bed.manifests import build_access_point, build_cluster, build_pool

from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.objects_memory import MemoryObjects
from moorage_operator.kube.kinds import ACCESS_POINT, CONFIG_MAP, DEPLOYMENT, METADATA_CLUSTER, SECRET
from moorage_operator.reconcile import chunks, reconciler, usage
from moorage_operator.reconcile.servers import HttpServers, RegistryReport, Revisions, StoringReport

FILES = build_access_point()
P1, P2 = build_pool("p1"), build_pool("p2")
# The server key is the one of the real servers.
BOTH = build_cluster(serverKey="c1", blockPools=[{"name": "p2"}, {"name": "p1"}])
ALONE = build_cluster(serverKey="c1", blockPools=[{"name": "p2"}])


class RealServers(TellingServers):
    """The block server of p1 and the L3 server of c1 are asked over HTTP, whatever the addresses are."""

    def __init__(self, beds: BlockBed) -> None:
        super().__init__()
        self._http = HttpServers()
        self._block, self._l3 = (urlsplit(one.internal).netloc for one in (beds.serving, beds.l3_serving))
        self.report = Revisions(10**9, 10**9)
        self.asked = 0
        self.close = self._http.close

    async def ask_storing(self, addresses: Sequence[str], token: str) -> list[StoringReport | None]:
        self.asked += 1
        return await self._http.ask_storing([self._block for _ in addresses], token)

    async def ask_registry(self, addresses: Sequence[str], token: str) -> list[RegistryReport | None]:
        return await self._http.ask_registry([self._l3 for _ in addresses], token)


class Servers:
    """`mount` brings the operator's live files to the servers, as kubelets do; `collecting` shares their store."""

    def __init__(self, bed: Bed, beds: BlockBed, collecting: CollectorBed) -> None:
        self._bed = bed
        self.beds = beds
        self.collecting = collecting
        self.telling = RealServers(beds)

    async def mount(self) -> None:
        live = await self._bed.kube.get(CONFIG_MAP, self._bed.namespace, "files-live")
        assert live is not None
        folder = self.beds.realm.folder
        self.beds.realm.write_trust(*json.loads(live["data"]["trust.json"])["keys"])
        fresh = folder / "routing.new"
        fresh.write_text(live["data"]["routing.json"])
        fresh.replace(folder / "routing.json")


@pytest.fixture
async def servers(bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    for name in ("ASK_SECONDS", "POLL_SECONDS"):
        monkeypatch.setattr(chunks, name, 0.1)
    monkeypatch.setattr(usage, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(chunks, "QUIET_SECONDS", 0.5)
    monkeypatch.setattr(reconciler, "ROUTES_POLL_SECONDS", 0.1)
    bed.now = dt.datetime.now(dt.UTC)  # of its tokens, which these servers look at
    objects, store = MemoryObjects(), MemoryStore()
    async with block_bed(tmp_path, objects, store) as beds:
        made = Servers(bed, beds, CollectorBed(store, objects=objects))
        bed.servers = made.telling
        yield made
        await made.telling.close()
    await asyncio.sleep(0.05)  # transports close in the loop's next rounds


@contextlib.asynccontextmanager
async def running(bed: Bed) -> AsyncIterator[Any]:
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        yield operator


async def deployments(bed: Bed) -> set[str]:
    found = (await bed.kube.list_all(DEPLOYMENT, bed.namespace)).items
    return {one["metadata"]["name"] for one in found}


async def says(bed: Bed, text: str) -> bool:
    refused = (await bed.conditions(FILES)).get("Accepted") == ("False", "InUse")
    return refused and text in await bed.message(FILES, "Accepted")


async def is_gone(bed: Bed) -> bool:
    said = (await bed.conditions(P1)).get("Accepted")
    return said == ("False", "NotReferenced") and "p1-block" not in await deployments(bed)


async def pools_of(bed: Bed, table: str = "routing.json") -> list[tuple[list[str], list[str]]]:
    live = await bed.kube.get(CONFIG_MAP, bed.namespace, "files-live")
    assert live is not None
    return [(one["pools"], one["write_pools"]) for one in json.loads(live["data"][table])["clusters"]]


async def start(bed: Bed) -> None:
    for manifest in (P1, P2, BOTH, FILES):
        await bed.put(manifest)
    await bed.until(lambda: bed.ready([P1, P2, BOTH, FILES]))
    await bed.settled()


async def test_a_pool_goes_when_a_collection_begun_after_the_last_byte_has_found_nothing_in_it(
    bed: Bed, servers: Servers
) -> None:
    collecting = servers.collecting
    async with running(bed) as operator:
        await start(bed)
        await servers.mount()
        await servers.beds.write("f", [b"one", b"two"])
        since = bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        assert (servers.telling.asked, bed.requests(since)) == (0, [])

        await bed.put(ALONE)
        await bed.until(lambda: says(bed, "block servers take up the new routes first"))
        assert await pools_of(bed) == [(["p2", "p1"], ["p2"])]
        await servers.mount()
        await bed.until(lambda: says(bed, "its next complete collection counts them"))
        await collecting.collect()
        await bed.until(lambda: says(bed, "left 2 chunks and 1 objects in it"))
        # The operator begins anew: what was counted before it asked proves nothing.
    async with running(bed) as operator:
        await bed.until(lambda: says(bed, "its next complete collection counts them"))
        await collecting.collect()
        await bed.until(lambda: says(bed, "left 2 chunks and 1 objects in it"))
        assert "p1-block" in await deployments(bed)
        await collecting.delete("f", 1, end=True)
        await collecting.quiet(4, after=2 * DAY)
        await bed.until(lambda: is_gone(bed))
        await bed.until(lambda: bed.ready([P2, ALONE, FILES]))
        for table in ("routing.json", "proxy-routing.json"):
            await bed.until(lambda table=table: _are(bed, table, [(["p2"], ["p2"])]))
        await bed.settled()
        assert await bed.kube.get(SECRET, bed.namespace, "p1-block-signing") is None
        asked, since = servers.telling.asked, bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        assert (servers.telling.asked, bed.requests(since)) == (asked, [])

        # On the list again it takes new chunks; off it, everything begins anew.
        await bed.put(BOTH)
        await bed.until(lambda: bed.ready([P1, P2, BOTH, FILES]))
        await bed.put(ALONE)
        await bed.until(lambda: says(bed, "block servers take up the new routes first"))
        assert "p1-block" in await deployments(bed)


async def _are(bed: Bed, table: str, pools: list[tuple[list[str], list[str]]]) -> bool:
    return await pools_of(bed, table) == pools


async def test_live_files_deleted_by_hand_do_not_let_a_pool_go(bed: Bed, servers: Servers) -> None:
    """They alone tell which pools a cluster has chunks in."""
    async with running(bed):
        await start(bed)
        await servers.mount()
        await servers.beds.write("f", [b"one"])
        await bed.put(ALONE)
        await bed.until(lambda: says(bed, "block servers take up the new routes first"))
    await bed.take(CONFIG_MAP, "files-live")
    async with running(bed):
        await bed.until(lambda: bed.kube.get(CONFIG_MAP, bed.namespace, "files-live"))
        await bed.until(lambda: says(bed, "may hold chunks of MetadataCluster/main"))
        assert await pools_of(bed) == [(["p2", "p1"], ["p2"])]
        assert "p1-block" in await deployments(bed)


async def test_a_pool_stays_while_nobody_can_read_the_spec_of_its_cluster_and_goes_with_it(
    bed: Bed, servers: Servers
) -> None:
    async with running(bed) as operator:
        await start(bed)
        await bed.put(ALONE)
        await bed.until(lambda: says(bed, "1 of 1 block servers did not answer"))
        found = await bed.kube.get(METADATA_CLUSTER, bed.namespace, "main")
        assert found is not None
        found["spec"]["retention"]["deleted"] = "a while"
        found["metadata"]["resourceVersion"] = str(int(found["metadata"]["resourceVersion"]) + 10**9)
        operator.world.resources["MetadataCluster"].put(found)
        await bed.until(lambda: says(bed, "its spec cannot be read"))
        assert "p1-block" in await deployments(bed)
    async with running(bed):
        # Deleting the resource is obeyed: its data is kept, and so is what lies in the pool.
        await bed.take(METADATA_CLUSTER, "main")
        await bed.take(ACCESS_POINT, "files")
        await bed.until(lambda: is_gone(bed))
