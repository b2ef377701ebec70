"""What a realm needs before its objects can be built: generated Secrets, revisions of the live files. One per realm."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moorage.core.routing import RoutingTable
from moorage_operator.kube.kinds import CONFIG_MAP
from moorage_operator.naming import METADATA_TIERS, block_service, notify_service, tier_service
from moorage_operator.plan import build_routing_table, public_hosts
from moorage_operator.reconcile.keys import KeyMaker, list_parts, parse_trust
from moorage_operator.reconcile.resource import Resource
from moorage_operator.reconcile.routing import Tables, parse_table, plan_tables
from moorage_operator.reconcile.secret_keeper import SecretKeeper
from moorage_operator.reconcile.servers import Revisions, Servers, oldest
from moorage_operator.reconcile.stores import StoreMaker
from moorage_operator.reconcile.world import World
from moorage_operator.resources.context import ClusterContext, EtcdState, Images
from moorage_operator.resources.names import (
    block_part,
    live_files,
    notify_part,
    parts_by_service,
    proxy_part,
    tier_part,
)
from moorage_operator.spec.realm import Realm

POLL_SECONDS = 2.0
"""Between two questions to servers that are to report a revision."""
SILENT_POLL_SECONDS = 30.0
"""The same where one of them does not answer."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """`more`: fields of the access point's status. `waits`: what is under way by itself."""

    context: ClusterContext
    more: Mapping[str, object]
    waits: tuple[str, ...]
    again: float | None


class Preparer:
    def __init__(
        self,
        world: World,
        keeper: SecretKeeper,
        servers: Servers,
        images: Images,
        now: Callable[[], dt.datetime],
    ) -> None:
        self._world = world
        self._servers = servers
        self._images = images
        # AccessPoint's uid → the newest revision of routes that all its servers have reported.
        self._told: dict[str, int] = {}
        self._keys = KeyMaker(keeper, now)
        self._stores = StoreMaker(world, keeper, now)

    async def prepare(self, resource: Resource, realm: Realm) -> Prepared:
        """KubeForbiddenError where Secrets may not be made, ForeignSecretError where one of another's is in the way."""
        etcd = await self._stores.ensure(realm)
        admin = await self._keys.ensure_admin(realm.access_point)
        files = self._live_files(resource)
        live_trust = parse_trust(files.get("trust.json"))
        announced = parse_table(files.get("routing.json"))
        proxied = parse_table(files.get("proxy-routing.json"))
        wanted = build_routing_table(realm, public_hosts(realm), 0)
        rotating = any(entry.get("phase") == "Publishing" for entry in resource.status.get("keys", ()))
        tables = plan_tables(wanted, announced, proxied, None, None)
        loaded: Revisions = Revisions(None, None)
        if rotating or not tables.hold(wanted):
            loaded = await self._ask(resource.namespace, list_parts(realm))
        if not tables.hold(wanted):
            serves = await self._proxy_serves(resource, realm)
            tables = plan_tables(wanted, announced, proxied, serves, loaded.routing)
        keys = await self._keys.ensure_keys(resource, realm, live_trust, loaded.trust)
        waits, again = await self._observe_routes(resource, realm, tables, wanted)
        more = {
            "urls": [realm.access_point.spec.public_url, *realm.access_point.spec.extra_urls],
            "adminSecretRef": {"name": admin},
            "routingRevision": tables.announced.revision,
            "trustRevision": keys.trust["revision"],
            "keys": keys.states,
        }
        soon = [seconds for seconds in (keys.again, again) if seconds is not None]
        return Prepared(self._context(tables, keys.trust, admin, etcd), more, waits, min(soon, default=None))

    async def _observe_routes(
        self, resource: Resource, realm: Realm, tables: Tables, wanted: RoutingTable
    ) -> tuple[tuple[str, ...], float | None]:
        """What is waited for until every server announces what is wanted, and when to look again. A file that is
        mounted changes up to a minute after it was written, so what is written is not yet announced.
        """
        if not tables.hold(wanted):
            return ("servers and proxy take up the new routes",), POLL_SECONDS
        revision = tables.announced.revision
        if realm.access_point.spec.hibernated or self._told.get(resource.uid) == revision:
            return (), None
        if not _was_ready_with(resource, revision):  # else another process of ours has seen it
            reported = (await self._ask(resource.namespace, list_parts(realm))).routing
            if reported is None:
                # No server is ready, which is said elsewhere, or one does not answer: that alone holds nothing up.
                return (), SILENT_POLL_SECONDS
            if reported < revision:
                return ("servers take up the new routes",), POLL_SECONDS
        self._told[resource.uid] = revision
        return (), None

    def _context(
        self,
        tables: Tables,
        trust: Mapping[str, object],
        admin: str,
        etcd: Mapping[str, EtcdState],
    ) -> ClusterContext:
        return ClusterContext(
            images=self._images,
            routing=tables.announced,
            proxy_routing=tables.proxied,
            trust=trust,
            admin_secret=admin,
            etcd=etcd,
        )

    def _live_files(self, resource: Resource) -> Mapping[str, str]:
        found = self._world.built[CONFIG_MAP].get(resource.namespace, live_files(resource.name))
        data: Mapping[str, str] = (found.decode().get("data") or {}) if found else {}
        return data

    async def _ask(self, namespace: str, parts: tuple[str, ...]) -> Revisions:
        """The oldest revisions that all ready servers of the parts report."""
        addresses = [
            address for part in parts for address, ready in self._world.addresses(namespace, part) if ready
        ]
        reports = await self._servers.ask_revisions(addresses)
        said = [report or Revisions(None, None) for report in reports]
        return Revisions(oldest([one.routing for one in said]), oldest([one.trust for one in said]))

    async def _proxy_serves(self, resource: Resource, realm: Realm) -> int | None:
        """The oldest revision that a proxy serves. An Ingress or HTTPRoute counts when it is applied: nobody tells
        when its controller has taken it up.
        """
        if realm.access_point.spec.exposure.type == "nginx":
            return (await self._ask(resource.namespace, (proxy_part(resource.name),))).routing
        applied = parse_table(self._live_files(resource).get("proxy-routing.json"))
        return applied.revision if applied is not None else None


def _was_ready_with(resource: Resource, revision: int) -> bool:
    """Whether the status, which outlives us, says that it was ready with these routes."""
    conditions = resource.status.get("conditions", ())
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and resource.status.get("routingRevision") == revision


def plan_departing(proxied: RoutingTable, realm: Realm, clusters: Mapping[str, str]) -> Mapping[str, str]:
    """Services that are routed still but in the realm no more: the proxy's table names them until servers have let
    go. `clusters`: server key → MetadataCluster of the namespace. Service of the plan → Kubernetes Service.
    """
    there = parts_by_service(realm)
    routed = {
        tier_service(tier, one.server_key): tier_part(clusters.get(one.server_key, one.server_key), tier)
        for one in proxied.clusters
        for tier in METADATA_TIERS
    }
    routed |= {block_service(pool): block_part(pool) for one in proxied.clusters for pool in one.pools}
    routed |= {notify_service(name): notify_part(name) for one in proxied.clusters for name in one.notifiers}
    return {service: part for service, part in routed.items() if service not in there}
