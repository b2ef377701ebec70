"""The kinds that the operator deals with, and where the API server keeps them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorage_operator.spec.base import API_VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced kind of one API version."""

    api_version: str
    name: str
    plural: str

    @property
    def group(self) -> str:
        """Its API group as RBAC spells it: empty for the core."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """The URL's path of one object, of a namespace's objects, or of all."""
        root = "/apis" if "/" in self.api_version else "/api"
        place = f"/namespaces/{namespace}" if namespace else ""
        tail = f"/{name}" if name else ""
        below = f"/{subresource}" if subresource else ""
        return f"{root}/{self.api_version}{place}/{self.plural}{tail}{below}"


CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
CRON_JOB = Kind("batch/v1", "CronJob", "cronjobs")
JOB = Kind("batch/v1", "Job", "jobs")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")

ACCESS_POINT = Kind(API_VERSION, "AccessPoint", "accesspoints")
METADATA_CLUSTER = Kind(API_VERSION, "MetadataCluster", "metadataclusters")
BLOCK_POOL = Kind(API_VERSION, "BlockPool", "blockpools")
NOTIFIER = Kind(API_VERSION, "Notifier", "notifiers")

RESOURCES = (ACCESS_POINT, METADATA_CLUSTER, BLOCK_POOL, NOTIFIER)
"""What people write."""

BUILT = (
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    SERVICE,
    VOLUME_CLAIM,
    DEPLOYMENT,
    STATEFUL_SET,
    CRON_JOB,
    JOB,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    INGRESS,
)
"""What is built of it, applied, watched and pruned; with HTTPRoute where the cluster knows that kind."""

_BY_NAME = {
    (kind.api_version, kind.name): kind
    for kind in (*RESOURCES, *BUILT, HTTP_ROUTE, SECRET, ENDPOINT_SLICE, EVENT, LEASE)
}


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of an object. KeyError when it is none of those above."""
    return _BY_NAME[manifest["apiVersion"], manifest["kind"]]
