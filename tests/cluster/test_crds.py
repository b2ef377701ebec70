"""The CRDs on a real API server: each rule refuses what it should and nothing else, and models and schemas agree."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resources_bed import apply_crds, build_resource, changed, collection

from moorage_operator.crds import DEFINITIONS, build_kind_schema
from moorage_operator.spec.documents import Document
from moorage_operator.spec.load import parse_manifest

AP, MC, BP, NF = DEFINITIONS
EXTERNAL_ETCD = {"type": "External", "external": {"endpoints": ["http://etcd:2379"]}}
MANAGED_STORE = {"type": "Managed", "managed": {"image": "example.com/minio:1"}}
EXTERNAL_STORE = build_resource(BP)["spec"]["store"]
GATEWAY = {"type": "gateway", "gateway": {"parentRefs": [{"name": "front"}]}}


@pytest.fixture(scope="module")
def api(api_server):
    apply_crds(api_server)
    return api_server


# kind, path of the field that is changed, a value that is refused, one that is accepted, the message.
REFUSED_AT_ONCE = [
    (AP, "spec.auth.etcd", {"type": "Cluster"}, EXTERNAL_ETCD, "cluster is required when type is Cluster"),
    (AP, "spec.auth.etcd", EXTERNAL_ETCD | {"cluster": {"name": "main"}}, EXTERNAL_ETCD, "cluster is only allowed when type is Cluster"),
    (NF, "spec.etcd", {"type": "External"}, {"type": "Cluster", "cluster": {"name": "a"}}, "external is required when type is External"),
    (NF, "spec.etcd", {"type": "Cluster"}, EXTERNAL_ETCD, "cluster is required when type is Cluster"),
    (NF, "spec.etcd", EXTERNAL_ETCD | {"cluster": {"name": "main"}}, EXTERNAL_ETCD, "cluster is only allowed when type is Cluster"),
    (AP, "spec.auth.etcd", {"type": "External"}, EXTERNAL_ETCD, "external is required when type is External"),
    (AP, "spec.auth.etcd", {"type": "Cluster", "cluster": {"name": "a"}, "external": EXTERNAL_ETCD["external"]}, EXTERNAL_ETCD, "external is only allowed when type is External"),
    (NF, "spec.etcd", {"type": "Cluster", "cluster": {"name": "a"}, "external": EXTERNAL_ETCD["external"]}, EXTERNAL_ETCD, "external is only allowed when type is External"),
    (MC, "spec.etcd", {"type": "Managed", "external": EXTERNAL_ETCD["external"]}, {"type": "Managed"}, "external is only allowed when type is External"),
    (MC, "spec.etcd", EXTERNAL_ETCD | {"managed": {}}, {"type": "Managed", "managed": {}}, "managed is only allowed when type is Managed"),
    (MC, "spec.etcd", {"type": "External"}, EXTERNAL_ETCD, "external is required when type is External"),
    (MC, "spec.blockPools", [{"name": "a", "mode": "ReadOnly"}], [{"name": "a", "mode": "ReadOnly"}, {"name": "b"}], "blockPools holds at least one pool with mode ReadWrite"),
    (MC, "spec.etcd.managed", {"storage": {"size": "1023Mi"}}, {"storage": {"size": "1Gi"}}, "expected a quantity of at least 1Gi"),
    (MC, "spec.gc.grace", "59s", "1m", "expected a duration from 1m to 36500d, such as 90s, 15m, 1h30m or 30d"),
    (MC, "spec.retention.deleted", "36501d", "36500d", "expected a duration from 0s to 36500d, such as 90s, 15m, 1h30m or 30d"),
    (MC, "spec.retention.feed", "59m59s", "1h", "expected a duration from 1h to 36500d, such as 90s, 15m, 1h30m or 30d"),
    (MC, "spec.retention.uploads", "90d1s", "90d", "expected a duration from 1m to 90d, such as 90s, 15m, 1h30m or 30d"),
    (NF, "spec.ackDeadline", "", "1s", "expected a duration from 1s to 90d, such as 90s, 15m, 1h30m or 30d"),
    (AP, "spec.auth.tokenTTL", "24h1s", "24h", "expected a duration from 1m to 24h, such as 90s, 15m, 1h30m or 30d"),
    (AP, "spec.auth.keyRotation", "23h59m59s", "24h", "expected a duration from 1d to 36500d, such as 90s, 15m, 1h30m or 30d"),
    (BP, "spec.store", {"type": "External"}, EXTERNAL_STORE, "external is required when type is External"),
    (BP, "spec.store", {"type": "Managed"}, MANAGED_STORE, "managed is required when type is Managed"),
    (BP, "spec.store", EXTERNAL_STORE | {"managed": MANAGED_STORE["managed"]}, EXTERNAL_STORE, "managed is only allowed when type is Managed"),
    (BP, "spec.store", MANAGED_STORE | {"external": EXTERNAL_STORE["external"]}, MANAGED_STORE, "external is only allowed when type is External"),
    (BP, "spec.store", changed(MANAGED_STORE, "managed.servers", 3), changed(MANAGED_STORE, "managed.servers", 4), "servers is 1, or at least 4"),
    (BP, "spec.store", changed(MANAGED_STORE, "managed.storage.size", "1"), changed(MANAGED_STORE, "managed.storage.size", "1Ti"), "expected a quantity of at least 1Gi"),
    (AP, "spec.exposure", {"type": "gateway"}, GATEWAY, "gateway is required when type is gateway"),
    (AP, "spec.exposure", GATEWAY | {"type": "nginx"}, GATEWAY, "gateway is only allowed when type is gateway"),
    (AP, "spec.exposure", GATEWAY | {"nginx": {}}, {"nginx": {}}, "nginx is only allowed when type is nginx"),
    (AP, "spec.exposure", GATEWAY | {"ingress": {}}, {"type": "ingress", "ingress": {}}, "ingress is only allowed when type is ingress"),
    (AP, "spec.exposure.nginx.service", {"nodePort": 30080}, {"type": "NodePort", "nodePort": 30080}, "nodePort is not allowed when type is ClusterIP"),
    (BP, "spec.template.placement.tolerations", [{"value": "a"}], [{"key": "a", "value": "a"}], "key is required when operator is Equal"),
    (BP, "spec.template.placement.tolerations", [{"operator": "Exists", "value": "a"}], [{"operator": "Exists"}], "value is only allowed when operator is Equal"),
    (BP, "spec.template.placement.tolerations", [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}], [{"key": "a", "effect": "NoExecute", "tolerationSeconds": 1}], "tolerationSeconds is only allowed when effect is NoExecute"),
]  # fmt: skip

# kind, path, what stands there at first (`...`: nothing), what it may not become, what it may become, the message.
MANAGED_3 = {"type": "Managed", "managed": {"replicas": 3}}
REFUSED_AS_A_CHANGE = [
    (MC, "spec.serverKey", "main", "other", "main", "serverKey is immutable"),
    (MC, "spec.etcd", {"type": "Managed"}, EXTERNAL_ETCD, MANAGED_3, "type is immutable"),
    (MC, "spec.etcd", {"type": "Managed"}, {"type": "Managed", "managed": {"replicas": 5}}, MANAGED_3, "managed.replicas is immutable"),
    (MC, "spec.etcd", {"type": "Managed", "managed": {"replicas": 1}}, {"type": "Managed"}, {"type": "Managed", "managed": {"replicas": 1, "template": {"image": "x"}}}, "managed.replicas is immutable"),
    (MC, "spec.etcd", {"type": "Managed", "managed": {"storage": {"storageClass": "fast"}}}, {"type": "Managed"}, {"type": "Managed", "managed": {"storage": {"storageClass": "fast", "size": "9Gi"}}}, "managed.storage.storageClass is immutable"),
    (MC, "spec.etcd", {"type": "Managed"}, {"type": "Managed", "managed": {"storage": {"storageClass": "fast"}}}, {"type": "Managed", "managed": {}}, "managed.storage.storageClass is immutable"),
    (MC, "spec.etcd", {"type": "Managed", "managed": {"storage": {"size": "20Gi"}}}, {"type": "Managed"}, {"type": "Managed", "managed": {"storage": {"size": "20481Mi"}}}, "managed.storage.size can only grow"),
    (MC, "spec.etcd", EXTERNAL_ETCD, changed(EXTERNAL_ETCD, "external.endpoints", ["http://b:2379"]), changed(EXTERNAL_ETCD, "external.tlsSecretRef", {"name": "tls"}), "endpoints is immutable"),
    (MC, "spec.etcd", changed(EXTERNAL_ETCD, "external.prefix", "/a/"), EXTERNAL_ETCD, changed(EXTERNAL_ETCD, "external.prefix", "/a/"), "prefix is immutable"),
    (AP, "spec.auth.etcd", EXTERNAL_ETCD, {"type": "Cluster", "cluster": {"name": "main"}}, changed(EXTERNAL_ETCD, "external.prefix", "/moorage/"), "type is immutable"),
    (AP, "spec.auth.etcd.cluster.name", "main", "other", "main", "cluster.name is immutable"),
    (AP, "spec.auth.etcd", EXTERNAL_ETCD, changed(EXTERNAL_ETCD, "external.prefix", "/b/"), EXTERNAL_ETCD, "prefix is immutable"),
    (AP, "spec.auth.etcd", EXTERNAL_ETCD, changed(EXTERNAL_ETCD, "external.endpoints", ["http://etcd:2379", "http://b:2379"]), EXTERNAL_ETCD, "endpoints is immutable"),
    (NF, "spec.etcd", EXTERNAL_ETCD, {"type": "Cluster", "cluster": {"name": "a"}}, EXTERNAL_ETCD, "type is immutable"),
    (NF, "spec.etcd", EXTERNAL_ETCD, changed(EXTERNAL_ETCD, "external.endpoints", ["http://b:2379"]), EXTERNAL_ETCD, "endpoints is immutable"),
    (NF, "spec.etcd", EXTERNAL_ETCD, changed(EXTERNAL_ETCD, "external.prefix", ""), EXTERNAL_ETCD, "prefix is immutable"),
    (NF, "spec.etcd", {"type": "Cluster", "cluster": {"name": "a"}}, {"type": "Cluster", "cluster": {"name": "b"}}, {"type": "Cluster", "cluster": {"name": "a"}}, "cluster.name is immutable"),
    (BP, "spec.store", EXTERNAL_STORE, MANAGED_STORE, changed(EXTERNAL_STORE, "external.region", "eu-1"), "type is immutable"),
    (BP, "spec.store", EXTERNAL_STORE, changed(EXTERNAL_STORE, "external.endpoint", "http://a"), changed(EXTERNAL_STORE, "external.credentialsSecretRef.name", "b"), "endpoint is immutable"),
    (BP, "spec.store", EXTERNAL_STORE, changed(EXTERNAL_STORE, "external.bucket", "other"), EXTERNAL_STORE, "bucket is immutable"),
    (BP, "spec.store", EXTERNAL_STORE, changed(EXTERNAL_STORE, "external.prefix", "a/"), EXTERNAL_STORE, "prefix is immutable"),
    (BP, "spec.store", MANAGED_STORE, changed(MANAGED_STORE, "managed.servers", 4), changed(MANAGED_STORE, "managed.image", "b"), "servers is immutable"),
    (BP, "spec.store", MANAGED_STORE, changed(MANAGED_STORE, "managed.storage.storageClass", "fast"), MANAGED_STORE, "storage.storageClass is immutable"),
    (BP, "spec.store", changed(MANAGED_STORE, "managed.storage.storageClass", "fast"), MANAGED_STORE, changed(MANAGED_STORE, "managed.storage", {"storageClass": "fast", "size": "9Gi"}), "storage.storageClass is immutable"),
    (BP, "spec.store", changed(MANAGED_STORE, "managed.storage.size", "9Gi"), MANAGED_STORE, changed(MANAGED_STORE, "managed.storage.size", "10Gi"), "storage.size can only grow"),
]  # fmt: skip


def create(api: Any, namespace: str, resource: Any, query: str = "") -> tuple[int, Any]:
    return api.request(
        "POST", collection(resource["kind"], namespace) + f"?fieldValidation=Strict{query}", resource
    )


@pytest.mark.parametrize(("kind", "path", "bad", "good", "message"), REFUSED_AT_ONCE)
def test_a_rule_refuses_the_bad_object_and_takes_the_good_one(api, namespace, kind, path, bad, good, message):
    status, answer = create(api, namespace, changed(build_resource(kind), path, bad))
    assert status == 422
    assert message in answer["message"]
    status, answer = create(api, namespace, changed(build_resource(kind), path, good))
    assert status == 201, answer


@pytest.mark.parametrize(("kind", "path", "before", "bad", "good", "message"), REFUSED_AS_A_CHANGE)
def test_a_rule_refuses_the_bad_change_and_takes_the_good_one(
    api, namespace, kind, path, before, bad, good, message
):
    resource = build_resource(kind)
    status, answer = create(api, namespace, changed(resource, path, before))
    assert status == 201, answer
    place = f"{collection(kind, namespace)}/main"
    version = answer["metadata"]["resourceVersion"]
    resource["metadata"]["resourceVersion"] = version
    status, answer = api.request("PUT", place, changed(resource, path, bad))
    assert status == 422
    assert message in answer["message"]
    status, answer = api.request("PUT", place, changed(resource, path, good))
    assert status == 200, answer


def rules_of(schema: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield from schema.get("x-kubernetes-validations", ())
    for field in schema.get("properties", {}).values():
        yield from rules_of(field)
    if "items" in schema:
        yield from rules_of(schema["items"])


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_rule_of_the_schemas_is_in_a_table_above(kind):
    tried = {row[-1] for row in (*REFUSED_AT_ONCE, *REFUSED_AS_A_CHANGE) if row[0] == kind}
    anywhere = {row[-1] for row in REFUSED_AT_ONCE if "tolerations" in row[1]}
    # One engine only: there is nothing to change it to.
    untestable = {"engine is immutable"}
    assert {rule["message"] for rule in rules_of(build_kind_schema(kind))} - anywhere - untestable <= tried


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_a_resource_is_stored_with_its_defaults_and_without_noise(api, namespace, kind):
    status, answer = create(api, namespace, build_resource(kind))
    assert status == 201
    assert answer["spec"]["deletionPolicy"] == "Retain"
    assert '"template"' not in json.dumps(answer)
    document = Document("m.yaml", 1, answer, {})
    stored, problems = parse_manifest(document)
    assert problems == []
    written, _ = parse_manifest(Document("m.yaml", 1, build_resource(kind), {}))
    assert stored is not None
    assert written is not None
    assert stored.spec == written.spec


def test_replicas_are_scaled_by_the_subresource(api, namespace):
    assert create(api, namespace, build_resource(BP))[0] == 201
    place = f"{collection(BP, namespace)}/main"
    patch = "application/merge-patch+json"
    status, answer = api.request("PATCH", f"{place}/scale", {"spec": {"replicas": 5}}, patch)
    assert (status, answer["spec"]["replicas"]) == (200, 5)
    state = {"status": {"replicas": 4, "selector": "moorage.dev/part=main-block"}}
    assert api.request("PATCH", f"{place}/status", state, patch)[0] == 200
    status, answer = api.request("GET", f"{place}/scale")
    assert answer["status"] == {"replicas": 4, "selector": "moorage.dev/part=main-block"}
    assert api.request("GET", place)[1]["spec"]["replicas"] == 5


def test_conditions_of_two_writers_are_merged_by_type(api, namespace):
    assert create(api, namespace, build_resource(AP))[0] == 201
    place = f"{collection(AP, namespace)}/main/status"

    def condition(kind: str) -> dict[str, Any]:
        return {
            "type": kind,
            "status": "True",
            "reason": "Fine",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }

    for kind in ("Ready", "Stalled"):
        body = {**build_resource(AP), "status": {"conditions": [condition(kind)]}}
        del body["spec"]
        status, answer = api.request(
            "PATCH", f"{place}?fieldManager={kind.lower()}", body, "application/apply-patch+yaml"
        )
        assert status == 200, answer
    assert [one["type"] for one in answer["status"]["conditions"]] == ["Ready", "Stalled"]


def test_what_the_api_server_publishes_has_a_sentence_for_every_field(api):
    """What `kubectl explain` reads."""
    status, document = api.request("GET", "/openapi/v3/apis/moorage.dev/v1alpha1")
    assert status == 200
    schemas = document["components"]["schemas"]
    for kind in DEFINITIONS:
        published = schemas[f"dev.moorage.v1alpha1.{kind}"]
        bare = list(bare_fields(published["properties"]["spec"], "spec"))
        bare += bare_fields(published["properties"]["status"], "status")
        assert bare == []


def bare_fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    if not schema.get("description", "").endswith("."):
        yield path
    for name, field in schema.get("properties", {}).items():
        yield from bare_fields(field, f"{path}.{name}")
    if "items" in schema and "properties" in schema["items"]:
        yield from bare_fields(schema["items"], f"{path}[]")


def leaves(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field, also those of a list's first entry."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, field
        yield from leaves(field, here)


TEXTS = ["", "a", "A", "main", "1m", "90s", "1h30m", "1m1h", "30d", "400d", "24h", "1h0m", "0s", "36500d", "1Gi", "500m",
         "1.5G", "1e3", "Ti", "8Gi", "0", "http://a", "https://files.example.com:8443", "https://a/b", "ftp://a",
         "http://[::1]:80", "http://a:999999", "x" * 41, "x" * 254, "a-b", "-a", "a.b", "a..b", "9a", "*/5 * * * *", "0 25 * * *",
         "17 3 * * MON-FRI", "@daily", "1,2,3-4 */2 1 JAN 0", "a\n", "ä", "Cluster", "External", "Managed", "Exists",
         "NoExecute", "nginx", "none", "gateway", "NodePort", "ReadOnly", "Delete", "/a/", "AdminOnly", "minio"]  # fmt: skip
NUMBERS = [-1, 0, 1, 2, 3, 4, 5, 32, 33, 100, 101, 65535, 65536, 10_000, 100_000_001]
OTHERS = [True, False, [], {}, [{"name": "a"}], [{"name": "a"}, {"name": "b"}], [{"name": "a"}, {"name": "a"}], ["http://a"],
          ["http://a", "http://a"], {"name": "a"}, {"key": "value"}, {"type": "Managed"}, {"type": "External"}, {"size": "2Gi"},
          [{"key": "a"}], [{"operator": "Exists"}], [{"name": "a", "mode": "ReadOnly"}], 1.5, "1", {"image": "x"},
          {"requests": {"cpu": "1"}}, {"external": {"endpoints": ["http://a"]}}, {"endpoints": ["http://a"]}]  # fmt: skip


ANYTHING = [*TEXTS, *NUMBERS, *OTHERS, None, ...]


def likely(field: dict[str, Any]) -> list[Any]:
    """Values that a field may well take."""
    if "enum" in field:
        return list(field["enum"])
    if field["type"] == "string":
        return [text for text in TEXTS if re.search(field.get("pattern", ""), text)] or ["a"]
    return {"integer": NUMBERS, "boolean": [True, False]}.get(field["type"], OTHERS)


@st.composite
def resources(draw: st.DrawFn) -> dict[str, Any]:
    """A valid manifest with one to three fields, of any depth, set to anything or taken away."""
    kind = draw(st.sampled_from([*DEFINITIONS]))
    resource = build_resource(kind)
    fields = list(leaves(build_kind_schema(kind)["properties"]["spec"], "spec"))
    for _ in range(draw(st.integers(1, 3))):
        path, field = draw(st.sampled_from(fields))
        value = draw(st.sampled_from(draw(st.sampled_from([likely(field)] * 4 + [ANYTHING] * 2 + [[None]]))))
        try:
            resource = changed(resource, path, value)
        except (AttributeError, TypeError, ValueError, IndexError):
            continue  # an earlier change left no object there
    return resource


def test_the_models_take_what_the_api_server_takes(api, namespace):
    seen = {True: 0, False: 0}

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
    @given(resources())
    def agree(resource: dict[str, Any]) -> None:
        manifest, problems = parse_manifest(Document("m.yaml", 1, resource, {}))
        status, answer = create(api, namespace, resource, "&dryRun=All")
        assert (manifest is not None) == (status == 201), (resource, [str(p) for p in problems], answer)
        seen[manifest is not None] += 1

    agree()
    # Both answers were tried often, or the agreement would say little.
    assert min(seen.values()) > 25, seen
