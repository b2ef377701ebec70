"""What was taken off a list: clusters with users and pools with chunks stay, others go, on a real API server."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiohttp import web
from operator_bed.bed import Bed, TellingServers
from operator_bed.controllers import controllers
from operator_bed.manifests import build_access_point, build_cluster, build_notifier, build_pool

from moorage_nodes.tokens import Audience, TokenRefusedError, verify_token
from moorage_nodes.trust import parse_trust
from moorage_operator.kube.kinds import CONFIG_MAP, DEPLOYMENT, SECRET
from moorage_operator.reconcile import reconciler, usage, users
from moorage_operator.reconcile.servers import HttpServers, Revisions, UsersReport


class AuthServer:
    """A real HTTP server that answers `/status` as an auth server does, to whom the realm's trust file lets in."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.away = False
        self.placing = ["main", "other"]
        self.users: dict[str, int] | None = {"other": 2, "main": 7}
        self.age = 0.0
        self.asked = 0
        self.refused = 0

    async def status(self, request: web.Request) -> web.Response:
        self.asked += 1
        live = await self._bed.kube.get(CONFIG_MAP, self._bed.namespace, "files-live")
        assert live is not None
        trust = parse_trust(live["data"]["trust.json"].encode())
        token = request.headers["Authorization"].removeprefix("Bearer ")
        try:
            audience = verify_token(token, trust, self._bed.now.timestamp()).audience
        except TokenRefusedError:
            audience = None
        if audience is not Audience.OPERATOR:
            self.refused += 1
            return web.json_response({"error": "unauthenticated"}, status=401)
        if self.away:
            return web.json_response({"error": "store_unavailable"}, status=503)
        users = None if self.users is None else {"of": self.users, "age_seconds": self.age}
        return web.json_response({"role": "auth", "name": "a", "clusters": self.placing, "users": users})


class Servers(TellingServers):
    """Users are asked for over HTTP, of one server whatever the addresses are."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._http = HttpServers()
        self.report = Revisions(10**9, 10**9)  # routes are taken up at once
        self.close = self._http.close

    async def ask_users(self, addresses: Sequence[str], token: str) -> list[UsersReport | None]:
        return await self._http.ask_users([f"127.0.0.1:{self._port}" for _ in addresses], token)


@pytest.fixture
async def auth(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AuthServer]:
    monkeypatch.setattr(usage, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(users, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(users, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(reconciler, "ROUTES_POLL_SECONDS", 0.1)
    server = AuthServer(bed)
    app = web.Application()
    app.router.add_get("/status", server.status)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    bed.servers = servers = Servers(listening.getsockname()[1])
    yield server
    await servers.close()
    await runner.cleanup()
    await asyncio.sleep(0.05)  # transports close in the loop's next rounds


BOTH = build_access_point(clusters=("main", "other"))
OTHER = build_cluster("other")


async def put_both(bed: Bed) -> None:
    for manifest in (build_pool(), build_cluster(), OTHER, BOTH):
        await bed.put(manifest)


async def names(bed: Bed, kind: Any) -> set[str]:
    return {one["metadata"]["name"] for one in (await bed.kube.list_all(kind, bed.namespace)).items}


async def says(bed: Bed, text: str) -> bool:
    """Whether the taking off is refused, for this reason."""
    refused = (await bed.conditions(BOTH)).get("Accepted") == ("False", "InUse")
    return refused and text in await bed.message(BOTH, "Accepted")


async def is_gone(bed: Bed) -> bool:
    left = {name for name in await names(bed, DEPLOYMENT) if name.startswith("other-")}
    said = (await bed.conditions(OTHER)).get("Accepted")
    return not left and said == ("False", "NotReferenced")


async def test_a_cluster_without_users_goes_and_one_that_has_some_or_cannot_be_asked_about_stays(
    bed: Bed, auth: AuthServer
) -> None:
    await put_both(bed)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), OTHER, BOTH]))
        await bed.settled()  # the event that tells it follows the status
        # Nobody is asked before there is a reason to.
        since = bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        assert (auth.asked, bed.requests(since)) == (0, [])

        auth.away = True
        await bed.put(build_access_point())
        await bed.until(lambda: says(bed, "1 of 1 auth servers did not answer"))
        auth.away = False
        await bed.until(lambda: says(bed, "still put new users on it"))
        settings = await bed.kube.get(CONFIG_MAP, bed.namespace, "files-auth-settings")
        assert settings is not None
        assert "other" not in settings["data"]["settings.json"]
        # What was counted before the last server ceased to make users there proves nothing.
        auth.placing, auth.users, auth.age = ["main"], {"main": 7}, 3600.0
        await bed.until(lambda: says(bed, "are being counted"))
        auth.users, auth.age = {"main": 7, "other": 2}, 0.0
        await bed.until(lambda: says(bed, "2 users live on it"))
        auth.users = None
        await bed.until(lambda: says(bed, "are being counted"))
        assert {"other-l1", "other-l2", "other-l3"} <= await names(bed, DEPLOYMENT)
        assert "other-l1-signing" in await names(bed, SECRET)

        auth.users = {"main": 7}
        await bed.until(lambda: is_gone(bed))
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), build_access_point()]))
        await bed.settled()
        assert "main-l1" in await names(bed, DEPLOYMENT)
        assert "other-l1-signing" not in await names(bed, SECRET)
        assert auth.refused == 0
        asked, since = auth.asked, bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        assert (auth.asked, bed.requests(since)) == (asked, [])

        # Named and taken off again: what was found out for another list does not count.
        await bed.put(BOTH)
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), OTHER, BOTH]))
        auth.users = {"main": 7, "other": 1}
        await bed.put(build_access_point())
        await bed.until(lambda: says(bed, "1 user lives on it"))
        # It goes on asking here, so it never settles: a few answers later nothing has gone.
        asked = auth.asked
        await bed.until(lambda: auth.asked > asked + 3)
        assert "other-l1" in await names(bed, DEPLOYMENT)


async def test_a_cluster_whose_etcd_the_users_are_in_stays_without_a_question(
    bed: Bed, auth: AuthServer
) -> None:
    etcd = {"type": "Managed", "managed": {"replicas": 1, "storage": {"size": "1Gi"}}}
    other = build_cluster("other", etcd=etcd)
    both = build_access_point(clusters=("main", "other"))
    alone = build_access_point()
    for one in (both, alone):
        one["spec"]["auth"]["etcd"] = {"type": "Cluster", "cluster": {"name": "other"}}
    auth.placing, auth.users = ["main"], {}
    for manifest in (build_pool(), build_cluster(), other, both):
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), other, both]))
        await bed.put(alone)
        await bed.until(lambda: says(bed, "its etcd is that of AccessPoint/files"))
        await bed.settled()
        assert "other-l1" in await names(bed, DEPLOYMENT)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_pool_taken_off_a_list_goes_on_serving_and_gets_no_new_chunks(
    bed: Bed, auth: AuthServer, elsewhere: bool
) -> None:
    """Also where another cluster still names it."""
    pools = [{"name": "pool"}, {"name": "second"}]
    main, second = build_cluster(blockPools=pools), build_pool("second")
    other = build_cluster("other", blockPools=pools if elsewhere else pools[:1])
    for manifest in (build_pool(), second, main, other, BOTH):
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready([build_pool(), second, main, other, BOTH]))
        await bed.put(build_cluster())
        await bed.until(lambda: says(bed, "BlockPool/second was taken off the list"))

        async def read_only() -> bool:
            live = await bed.kube.get(CONFIG_MAP, bed.namespace, "files-live")
            assert live is not None
            tables = [json.loads(live["data"][name]) for name in ("routing.json", "proxy-routing.json")]
            routes = [one for table in tables for one in table["clusters"] if one["server_key"] == "main"]
            assert all("second" in route["pools"] for route in routes)
            return all(route["write_pools"] == ["pool"] for route in routes)

        await bed.until(read_only)
        await bed.settled()
        since = bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        assert bed.writes(since) == []
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.settled()
        assert await read_only()
        assert "second-block" in await names(bed, DEPLOYMENT)
        await bed.put(main)
        await bed.until(lambda: bed.ready([build_pool(), second, main, other, BOTH]))


@pytest.mark.parametrize("exposure", ["nginx", "ingress"])
async def test_a_notifier_taken_off_the_list_goes_behind_its_routes_and_another_one_takes_its_place(
    bed: Bed, auth: AuthServer, exposure: str
) -> None:
    """Nobody is asked: what its clients have not been told, L1 has told by the other one."""
    files = build_access_point(exposure={"type": exposure, exposure: {}})
    ringing, chiming = (build_cluster(notifierRef={"name": name}) for name in ("bell", "gong"))
    bell, gong = build_notifier("bell"), build_notifier("gong")
    for manifest in (build_pool(), bell, gong, ringing, files):
        await bed.put(manifest)

    async def rings(notifiers: list[str]) -> bool:
        live = await bed.kube.get(CONFIG_MAP, bed.namespace, "files-live")
        assert live is not None
        tables = [json.loads(live["data"][name]) for name in ("routing.json", "proxy-routing.json")]
        return all(route["notifiers"] == notifiers for table in tables for route in table["clusters"])

    async def is_quiet(notifier: dict[str, Any]) -> bool:
        said = (await bed.conditions(notifier)).get("Accepted")
        there = f"{notifier['metadata']['name']}-notify" in await names(bed, DEPLOYMENT)
        return said == ("False", "NotReferenced") and not there

    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready([build_pool(), bell, ringing, files]))
        await bed.until(lambda: is_quiet(gong))
        await bed.put(chiming)
        await bed.until(lambda: bed.ready([build_pool(), gong, chiming, files]))
        await bed.until(lambda: is_quiet(bell))
        assert await rings(["gong"])
        assert (await bed.conditions(files))["Accepted"] == ("True", "Accepted")
        await bed.put(build_cluster())
        await bed.until(lambda: is_quiet(gong))
        await bed.until(lambda: rings([]))
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), files]))
        await bed.settled()
        assert auth.asked == 0
        since = bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        assert bed.requests(since) == []


async def test_nothing_is_ready_before_the_servers_announce_its_routes(bed: Bed, auth: AuthServer) -> None:
    """A mounted file changes up to a minute after it was written: until then clients do not learn of the notifier."""
    files, bell = build_access_point(), build_notifier("bell")
    ringing = build_cluster(notifierRef={"name": "bell"})
    for manifest in (build_pool(), build_cluster(), files):
        await bed.put(manifest)

    async def is_written(notifiers: list[str]) -> bool:
        live = await bed.kube.get(CONFIG_MAP, bed.namespace, "files-live")
        assert live is not None
        routes = json.loads(live["data"]["routing.json"])["clusters"]
        return all(route["notifiers"] == notifiers for route in routes)

    async def waits() -> bool:
        return (await bed.conditions(files)).get("Ready") == ("False", "Waiting")

    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), files]))
        bed.servers.report = Revisions(1, 10**9)
        await bed.put(bell)
        await bed.put(ringing)
        await bed.until(waits)
        bed.servers.report = Revisions(2, 10**9)  # what the proxy is to serve first; nobody announces it yet
        await bed.until(lambda: is_written(["bell"]))
        await asyncio.sleep(1.0)
        assert await waits()
        bed.servers.report = Revisions(3, 10**9)
        await bed.until(lambda: bed.ready([build_pool(), bell, ringing, files]))


async def test_a_pool_goes_with_the_only_cluster_that_names_it(bed: Bed, auth: AuthServer) -> None:
    """Nobody lives on that cluster: what lies in the pool is nobody's, and is kept."""
    second = build_pool("second")
    other = build_cluster("other", blockPools=[{"name": "second"}])
    for manifest in (build_pool(), second, build_cluster(), other, BOTH):
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready([build_pool(), second, build_cluster(), other, BOTH]))
        await bed.settled()
        auth.placing, auth.users = ["main"], {"main": 7, "other": 1}
        await bed.put(build_access_point())
        await bed.until(lambda: says(bed, "1 user lives on it"))
        assert "second-block" in await names(bed, DEPLOYMENT)
        auth.users = {"main": 7}
        since = bed.api.audit_position()
        await bed.until(lambda: is_gone(bed))

        async def pool_is_gone() -> bool:
            said = (await bed.conditions(second)).get("Accepted")
            return said == ("False", "NotReferenced") and "second-block" not in await names(bed, DEPLOYMENT)

        await bed.until(pool_is_gone)
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), build_access_point()]))
        assert any("second-block" in write for write in bed.writes(since))
