"""Conditions about stores: is the etcd there, does the S3 do what block servers will ask of it. Reads caches only."""

from collections.abc import Mapping, Sequence
from typing import Any

from moorage_operator.kube.kinds import CONFIG_MAP, JOB, STATEFUL_SET
from moorage_operator.reconcile.rollout import Progress, is_complete, observe_progress
from moorage_operator.reconcile.world import World
from moorage_operator.resources.manifest import Manifest
from moorage_operator.resources.names import etcd_part, etcd_state, tier_part
from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.notifier import Notifier
from moorage_operator.spec.realm import Manifest as Wish
from moorage_operator.spec.realm import Realm
from moorage_operator.status import Finding

LONGEST_SAYING = 500


def judge_managed_etcd(world: World, namespace: str, cluster: str) -> Finding:
    """`EtcdReady` of an etcd that we run: founded once, and a majority is ready now."""
    found = world.built[STATEFUL_SET].get(namespace, etcd_part(cluster))
    if found is None:
        return Finding("EtcdReady", "False", "Missing", "The members are not there yet.")
    progress = observe_progress(found.decode())
    text = f"{progress.ready} of {progress.desired} members are ready."
    if progress.desired == 0:
        return Finding("EtcdReady", "False", "Hibernated", "No member runs.")
    if not _is_founded(world, namespace, cluster):
        return Finding("EtcdReady", "False", "NotFounded", f"It has not been seen whole yet: {text}")
    if progress.ready <= progress.desired // 2:
        return Finding("EtcdReady", "False", "NoQuorum", f"{text} It serves when more than half are.")
    return Finding("EtcdReady", "True", "Quorum", text)


def _is_founded(world: World, namespace: str, cluster: str) -> bool:
    state = world.built[CONFIG_MAP].get(namespace, etcd_state(cluster))
    return state is not None and (state.decode().get("data") or {}).get("founded") == "true"


def judge_external_etcd(cluster: str, parts: Sequence[Progress]) -> Finding:
    """`EtcdReady` of somebody else's: its servers are ready only while they reach it."""
    names = {tier_part(cluster, tier) for tier in ("l1", "l2", "l3")}
    if any(part.ready for part in parts if part.name in names):
        return Finding("EtcdReady", "True", "Reached", "Servers of this cluster reach it.")
    return Finding(
        "EtcdReady", "Unknown", "NotReached", "No server of this cluster is ready, so nobody can say."
    )


def judge_store(world: World, wanted: Sequence[Manifest], sayings: Sequence[str]) -> Finding | None:
    """`StoreReady`, from the preflight's Job. `sayings`: what its pods ended with so far."""
    jobs = [manifest for manifest in wanted if manifest.kind == JOB.name]
    if not jobs:
        return None
    found = world.live(jobs[0].body)
    if found is None:
        return Finding("StoreReady", "Unknown", "NotTried", "The preflight has not started yet.")
    if is_complete(found):
        return Finding("StoreReady", "True", "PreflightPassed", "The store does all that is asked of it.")
    if sayings:
        text = f"The preflight failed and is tried again: {sayings[-1][:LONGEST_SAYING]}"
        return Finding("StoreReady", "False", "PreflightFailed", text)
    return Finding("StoreReady", "False", "PreflightRuns", "The preflight has not ended yet.")


def list_sayings(pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """The termination messages of pods' containers, those of failures only."""
    said = []
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses", ()):
            for state in (container.get("lastState") or {}, container.get("state") or {}):
                ended = state.get("terminated") or {}
                if ended.get("exitCode") and ended.get("message"):
                    said.append(str(ended["message"]).strip())
    return said


def why_no_etcd(world: World, realm: Realm, resource: Wish) -> str | None:
    """Why servers of a resource have to wait for the managed etcd that they use; None when they need not."""
    name = _cluster_used_by(resource)
    cluster = next((one for one in realm.clusters if one.metadata.name == name), None)
    if cluster is None or cluster.spec.etcd.type != "Managed" or cluster.spec.hibernated:
        return None
    finding = judge_managed_etcd(world, cluster.metadata.namespace, cluster.metadata.name)
    if finding.status == "True":
        return None
    return f"waits for EtcdReady of MetadataCluster/{cluster.metadata.name}: {finding.message}"


def _cluster_used_by(resource: Wish) -> str | None:
    """The MetadataCluster in whose etcd the resource's servers keep what is theirs."""
    if isinstance(resource, MetadataCluster):
        return resource.metadata.name
    reference = None
    if isinstance(resource, AccessPoint):
        reference = resource.spec.auth.etcd.cluster
    elif isinstance(resource, Notifier):
        reference = resource.spec.etcd.cluster
    return None if reference is None else reference.name
