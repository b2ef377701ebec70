"""What the builders are told beside the manifests: images, live files, and what the operator has generated.

Everything in here changes pods only where a builder puts it into a pod template; live files never do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moorage.core.routing import RoutingTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Default images; a part's `template.image` comes first. `pull_secrets`: in the namespace of the resources."""

    nodes: str
    etcd: str
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdState:
    """Of one managed etcd. `founded`: it was seen healthy once; from then on a member without data never founds a
    cluster again, it is replaced. Never goes back to False while data is kept: what the live ConfigMap says counts,
    and servers are rolled out only after it says so.

    `bundle_revision` is that of `pki.Pki`: another number when what members trust changes, which etcd reads only when
    it starts.
    """

    founded: bool = False
    bundle_revision: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterContext:
    """`routing`: what servers announce. `proxy_routing`: what the proxy, the Ingress or the HTTPRoute follow; routes
    are added here first and to `routing` when the proxy serves them, and leave in the other order.
    `trust`: the trust file as `plan.build_trust` makes it.

    `etcd`: MetadataCluster name → its managed etcd. `services`: names of services (`plan.Service.name`) that are
    still routed but no longer in the realm → name of their Kubernetes Service.
    `claim_sizes`: StatefulSet → the size in its own template of claims, which can never change.
    `admin_secret`: the Secret with `token`: the one that the user names, or the generated one.
    """

    images: Images
    routing: RoutingTable
    proxy_routing: RoutingTable
    trust: Mapping[str, Any]
    admin_secret: str
    etcd: Mapping[str, EtcdState] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    claim_sizes: Mapping[str, str] = field(default_factory=dict)
