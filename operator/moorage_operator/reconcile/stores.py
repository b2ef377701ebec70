"""What the stores that we run need before their pods: certificates of etcd, credentials of MinIO, and whether an etcd
was founded.
"""

import base64
import datetime as dt
import secrets
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric import ec

from moorage_operator.kube.kinds import CONFIG_MAP, STATEFUL_SET
from moorage_operator.reconcile.rollout import observe_progress
from moorage_operator.reconcile.secret_keeper import SecretKeeper
from moorage_operator.reconcile.world import World
from moorage_operator.resources.context import EtcdState
from moorage_operator.resources.etcd import BUNDLE
from moorage_operator.resources.manifest import Body, build_labels, build_metadata
from moorage_operator.resources.names import (
    etcd_authority_secret,
    etcd_part,
    etcd_state,
    store_credentials,
    store_part,
)
from moorage_operator.resources.pki import Pki, Subject, advance_pki, found_pki, recover_pki
from moorage_operator.resources.pki_secrets import (
    build_pki_secrets,
    build_subject,
    leaf_secrets,
    parse_mounted,
    parse_pki,
)
from moorage_operator.resources.store import build_credentials_secret
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.parts import ManagedEtcd
from moorage_operator.spec.realm import Realm


def observe_claim_sizes(world: World, realm: Realm) -> dict[str, str]:
    """Of the realm's StatefulSets that there are: the size in their template of claims."""
    namespace = realm.access_point.metadata.namespace
    parts = [etcd_part(cluster.metadata.name) for cluster in realm.clusters]
    parts += [store_part(pool.metadata.name) for pool in realm.pools]
    found = {part: world.built[STATEFUL_SET].get(namespace, part) for part in parts}
    return {
        part: template["spec"]["resources"]["requests"]["storage"]
        for part, live in found.items()
        if live is not None
        for template in live.decode()["spec"].get("volumeClaimTemplates", ())
    }


class StoreMaker:
    """Idempotent; the authorities are written before what they signed is."""

    def __init__(self, world: World, keeper: SecretKeeper, now: Callable[[], dt.datetime]) -> None:
        self._world = world
        self._keeper = keeper
        self._now = now

    async def ensure(self, realm: Realm) -> Mapping[str, EtcdState]:
        """MetadataCluster name → its managed etcd, for all that have one."""
        for pool in realm.pools:
            if pool.spec.store.managed is not None:
                await self._ensure_credentials(pool)
        return {
            cluster.metadata.name: await self._ensure_etcd(
                cluster, cluster.spec.etcd.managed or ManagedEtcd()
            )
            for cluster in realm.clusters
            if cluster.spec.etcd.type == "Managed"
        }

    async def _ensure_credentials(self, pool: BlockPool) -> None:
        name = store_credentials(pool.metadata.name)
        labels = build_labels(pool, store_part(pool.metadata.name), "store")
        # Kept like the data that they open.
        metadata = build_metadata(pool, name, labels, keep=True)

        def make() -> dict[str, str]:
            data = build_credentials_secret(secrets.token_hex(10), secrets.token_urlsafe(30))
            return {key: base64.b64decode(value).decode() for key, value in data.items()}

        await self._keeper.ensure(metadata, make, _has_credentials)

    async def _ensure_etcd(self, cluster: MetadataCluster, managed: ManagedEtcd) -> EtcdState:
        name, namespace = cluster.metadata.name, cluster.metadata.namespace
        whole = self._bundle_of_all(namespace, name) is not None
        state = self._world.built[CONFIG_MAP].get(namespace, etcd_state(name))
        founded = state is not None and (state.decode().get("data") or {}).get("founded") == "true"
        revision = await self._ensure_certificates(cluster, managed)
        return EtcdState(founded=founded or whole, bundle_revision=revision)

    def _bundle_of_all(self, namespace: str, cluster: str) -> str | None:
        """Of which bundle every member runs that there is to be, each ready and of the newest template; None while one
        does not.
        """
        found = self._world.built[STATEFUL_SET].get(namespace, etcd_part(cluster))
        if found is None:
            return None
        live = found.decode()
        progress = observe_progress(live)
        if not progress.settled or progress.desired == 0:
            return None
        # Who died before the template was written finds members well that know nothing of a new bundle.
        return str(live["metadata"].get("annotations", {}).get(BUNDLE, ""))

    async def _ensure_certificates(self, cluster: MetadataCluster, managed: ManagedEtcd) -> int:
        """The bundle's revision. Looked at anew every few minutes; nothing is renewed while the cluster is paused."""
        name, namespace = cluster.metadata.name, cluster.metadata.namespace
        authority = etcd_authority_secret(name)
        metadata = self._metadata(cluster, authority)
        known = self._keeper.recall(metadata)
        if isinstance(known, int):
            return known
        subject = build_subject(name, namespace, managed.replicas)
        before = await self._read_pki(namespace, authority)
        if before is None:
            pki = await self._make_pki(namespace, name, subject)
        elif cluster.spec.paused:
            pki = before
        else:
            loaded = self._bundle_of_all(namespace, name) == str(before.bundle_revision)
            pki = advance_pki(before, subject, self._now(), _new_key, bundle_loaded=loaded)
        for secret, data in build_pki_secrets(name, pki).items():
            await self._keeper.ensure_exactly(self._metadata(cluster, secret), data)
        self._keeper.remember(metadata, pki.bundle_revision)
        return pki.bundle_revision

    async def _make_pki(self, namespace: str, cluster: str, subject: Subject) -> Pki:
        """The first certificates; or, where only the authorities are lost, new ones that lock nobody out."""
        mounted = {}
        for leaf, name in leaf_secrets(cluster).items():
            mounted[leaf] = await self._keeper.fetch_data(namespace, name)
        try:
            leaves, bundles = parse_mounted({leaf: data or {} for leaf, data in mounted.items()})
            return recover_pki(leaves, bundles, subject, self._now(), _new_key)
        except ValueError:
            return found_pki(subject, self._now(), _new_key)

    async def _read_pki(self, namespace: str, name: str) -> Pki | None:
        found = await self._keeper.fetch_data(namespace, name)
        try:
            return None if found is None else parse_pki(found)
        except ValueError:
            return None

    def _metadata(self, cluster: MetadataCluster, name: str) -> Body:
        labels = build_labels(cluster, etcd_part(cluster.metadata.name), "etcd")
        return build_metadata(cluster, name, labels)


def _has_credentials(content: Mapping[str, str]) -> bool:
    if not all(content[name] for name in ("access_key_id", "secret_access_key", "config.env")):
        raise ValueError("empty")
    return True


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
