"""BlockPool: its block servers, and its store where the operator runs it. Pure."""

from moorage_operator.naming import block_service
from moorage_operator.plan import Service
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import Manifest, in_order
from moorage_operator.resources.server import build_server_objects
from moorage_operator.resources.store import build_managed_store, build_preflight, store_volumes
from moorage_operator.resources.wiring import build_wiring
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.realm import Realm


def build_blockpool_objects(realm: Realm, pool: BlockPool, context: ClusterContext) -> tuple[Manifest, ...]:
    """Every object of a pool of the realm, in the order of phases."""
    name = pool.metadata.name
    managed = pool.spec.store.managed
    store = () if managed is None else build_managed_store(pool, managed, context)
    servers = build_server_objects(
        pool,
        Service("block", block_service(name), name),
        pool.spec.template,
        pool.spec.replicas,
        realm,
        context,
        build_wiring(realm),
        store_volumes(pool),
    )
    return in_order((*store, *build_preflight(pool, context), *servers))
