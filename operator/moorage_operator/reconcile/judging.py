"""Conditions about stores: is the etcd there, does the S3 do what block servers will ask of it. Reads caches only."""

import json
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


def judge_store(
    world: World, wanted: Sequence[Manifest], pods: Sequence[Mapping[str, Any]]
) -> Finding | None:
    """`StoreReady`, from the preflight's Job and its pods as they are now."""
    job = next((manifest for manifest in wanted if manifest.kind == JOB.name), None)
    if job is None:
        return None
    found = world.live(job.body)
    if found is None:
        return Finding("StoreReady", "Unknown", "NotTried", "The preflight has not started yet.")
    if is_complete(found):
        return Finding("StoreReady", "True", "PreflightPassed", "The store does all that is asked of it.")
    words = read_last_words(pods)
    if words:
        text = f"The preflight failed and is tried again: {words}"
        return Finding("StoreReady", "False", "PreflightFailed", text)
    text = "The preflight has not ended yet."
    waiting = read_waiting(pods)
    if waiting:
        secrets = " and ".join(_secrets_of(job))
        text += f" Its pod waits: {waiting}. What it mounts has to be there: Secret {secrets}."
    return Finding("StoreReady", "False", "PreflightRuns", text)


def read_last_words(pods: Sequence[Mapping[str, Any]]) -> str:
    """What the preflight that failed last ended with, as a sentence; empty when none did."""
    said = [
        (str(ended.get("finishedAt", "")), str(ended["message"]).strip())
        for container in _containers(pods)
        for state in (container.get("lastState") or {}, container.get("state") or {})
        if (ended := state.get("terminated") or {}).get("exitCode") and ended.get("message")
    ]
    return _sentence(max(said)[1])[:LONGEST_SAYING] if said else ""


def _sentence(message: str) -> str:
    """Of the preflight's result (`moorage_nodes.preflight`), without the times that it took."""
    try:
        result = json.loads(message)
        return f"{result['detail']} ({result['reason']}, at the step {result['step']})"
    except (ValueError, TypeError, KeyError):
        return message


def read_waiting(pods: Sequence[Mapping[str, Any]]) -> str:
    """Why a container has not started, in the kubelet's words; empty when none waits."""
    for container in _containers(pods):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            message = str(waiting.get("message", ""))
            return f"{waiting['reason']}{f' ({message})' if message else ''}"[:LONGEST_SAYING]
    return ""


def _containers(pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for pod in pods for one in (pod.get("status") or {}).get("containerStatuses", ())]


def _secrets_of(job: Manifest) -> list[str]:
    volumes = job.body["spec"]["template"]["spec"]["volumes"]
    return [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]


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
