"""One object as it is applied, and what all of ours carry: labels, owner, phase. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from moorage_operator.spec.base import API_VERSION
from moorage_operator.spec.realm import Manifest as Resource

Body = dict[str, Any]

KEEP = "moorage.dev/keep"
"""Annotation of what is never pruned and carries no owner: kept data."""
OWNER_KIND = "moorage.dev/owner-kind"
OWNER_NAME = "moorage.dev/owner-name"
PART = "moorage.dev/part"
COMPONENT = "app.kubernetes.io/component"
NAME = "app.kubernetes.io/name"
MANAGED_BY = "app.kubernetes.io/managed-by"
APP = "moorage"


class Phase(IntEnum):
    """When an object is applied, in the order of a roll-out and of an upgrade (DESIGN.md, The reconcile).

    What is in one phase may be applied in its order without waiting; the next phase begins when the workloads of
    the one before are ready. Kinds are gated together: all L3 of a realm come before its L2.
    """

    BASE = 0
    STORES = 1
    L3 = 2
    L2 = 3
    L1 = 4
    BLOCK = 5
    NOTIFY = 6
    AUTH = 7
    PROXY = 8


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object for server-side apply, with every field that we own and none besides.

    `initial_replicas`: for a Deployment whose number we do not own, the number to begin with: applied as
    `spec.replicas` by a field manager of its own when the object is new or comes back from hibernation, so that an
    autoscaler can take the field over without a conflict.
    """

    phase: Phase
    body: Body
    initial_replicas: int | None = None

    @property
    def kind(self) -> str:
        kind: str = self.body["kind"]
        return kind

    @property
    def name(self) -> str:
        name: str = self.body["metadata"]["name"]
        return name


def build_labels(resource: Resource, part: str, component: str) -> dict[str, str]:
    """Labels of an object and its pods. `part`: the name of the workload it belongs to."""
    return {
        NAME: APP,
        COMPONENT: component,
        MANAGED_BY: "moorage-operator",
        PART: part,
        OWNER_KIND: resource.kind,
        OWNER_NAME: resource.metadata.name,
    }


def build_selector(part: str) -> dict[str, str]:
    """What finds the pods of a part. A workload's selector is immutable, so it holds no more than its name."""
    return {NAME: APP, PART: part}


def build_metadata(
    resource: Resource,
    name: str,
    labels: Mapping[str, str],
    *,
    annotations: Mapping[str, str] | None = None,
    keep: bool = False,
) -> Body:
    """`keep`: it outlives the resource and is found again by name."""
    metadata: Body = {"name": name, "namespace": resource.metadata.namespace, "labels": dict(labels)}
    noted = {**(annotations or {}), **({KEEP: "true"} if keep else {})}
    if noted:
        metadata["annotations"] = noted
    if not keep and resource.metadata.uid is not None:
        metadata["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": resource.kind,
                "name": resource.metadata.name,
                "uid": resource.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return metadata


def hash_content(content: Any) -> str:
    """A short name of JSON-like content: it changes when the content does."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def render_json(content: Any) -> str:
    """The same text for the same content, as people read it."""
    return json.dumps(content, indent=2) + "\n"


def in_order(manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """By phase; within a phase as they were built."""
    return tuple(sorted(manifests, key=lambda manifest: manifest.phase))
