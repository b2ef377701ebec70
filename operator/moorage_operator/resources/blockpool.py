"""BlockPool: its block servers, and its store where the operator runs it. Pure."""

from moorage_operator.naming import block_service
from moorage_operator.plan import Service
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import Manifest, in_order
from moorage_operator.resources.names import store_credentials
from moorage_operator.resources.pods import Volume, secret_volume
from moorage_operator.resources.server import build_server_objects
from moorage_operator.resources.wiring import STORE_CA_FOLDER, STORE_FOLDER, build_wiring
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.realm import Realm


def build_blockpool_objects(realm: Realm, pool: BlockPool, context: ClusterContext) -> tuple[Manifest, ...]:
    """Every object of a pool of the realm, in the order of phases."""
    name = pool.metadata.name
    manifests = build_server_objects(
        pool,
        Service("block", block_service(name), name),
        pool.spec.template,
        pool.spec.replicas,
        realm,
        context,
        build_wiring(realm),
        store_volumes(pool),
    )
    return in_order(manifests)


def store_volumes(pool: BlockPool) -> tuple[Volume, ...]:
    """What a client of the pool's store mounts: its credentials, and the authority of its certificate."""
    external = pool.spec.store.external
    secret = external.credentials_secret_ref.name if external else store_credentials(pool.metadata.name)
    volumes = [secret_volume("store", STORE_FOLDER, secret)]
    if external and external.ca_secret_ref:
        volumes.append(secret_volume("store-ca", STORE_CA_FOLDER, external.ca_secret_ref.name))
    return tuple(volumes)
