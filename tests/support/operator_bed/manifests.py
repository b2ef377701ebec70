"""A small realm on stores of somebody else: what people would write."""

from typing import Any

API = "moorage.dev/v1alpha1"


def build_cluster(name: str = "main", **spec: Any) -> dict[str, Any]:
    wish = {
        "serverKey": name,
        "etcd": {"type": "External", "external": {"endpoints": ["http://etcd.example.com:2379"]}},
        "blockPools": [{"name": "pool"}],
        **spec,
    }
    return {"apiVersion": API, "kind": "MetadataCluster", "metadata": {"name": name}, "spec": wish}


def build_pool(name: str = "pool", **spec: Any) -> dict[str, Any]:
    store = {
        "type": "External",
        "external": {
            "endpoint": "http://s3.example.com",
            "bucket": "bucket",
            "credentialsSecretRef": {"name": "s3-credentials"},
        },
    }
    return {
        "apiVersion": API,
        "kind": "BlockPool",
        "metadata": {"name": name},
        "spec": {"store": store, **spec},
    }


def build_notifier(name: str = "bell", **spec: Any) -> dict[str, Any]:
    etcd = {"type": "External", "external": {"endpoints": ["http://etcd.example.com:2379"]}}
    wish = {"etcd": etcd, **spec}
    return {"apiVersion": API, "kind": "Notifier", "metadata": {"name": name}, "spec": wish}


def build_access_point(
    name: str = "files", clusters: tuple[str, ...] = ("main",), **spec: Any
) -> dict[str, Any]:
    wish = {
        "publicURL": "https://files.example.com",
        "clusters": [{"name": cluster} for cluster in clusters],
        "auth": {
            "etcd": {"type": "External", "external": {"endpoints": ["http://etcd.example.com:2379"]}},
            "replicas": 2,
        },
        **spec,
    }
    return {"apiVersion": API, "kind": "AccessPoint", "metadata": {"name": name}, "spec": wish}


def build_realm() -> tuple[dict[str, Any], ...]:
    return (build_pool(), build_cluster(), build_access_point())
