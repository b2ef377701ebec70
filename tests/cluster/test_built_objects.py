"""Everything that the builders make, before a real API server: fields, values, names, and the `restricted` profile."""

import copy
import dataclasses
import json
from typing import Any

import pytest
from built_objects import VARIANTS, build_all, build_context, build_realm, build_wide_realm
from real_servers.published_definitions import GATEWAY_API, read_definition
from resources_bed import changed, put_definition, wait_until_served

from moorage_operator.kube.kinds import BUILT, HTTP_ROUTE
from moorage_operator.resources.build import build_objects
from moorage_operator.spec.blockpool import BlockPool

KINDS = {(kind.api_version, kind.name): kind for kind in (*BUILT, HTTP_ROUTE)}
NOTIFIER_PATHS = 4
"""Its own, and three at the root where there is one notifier."""


def apply(api: Any, body: dict[str, Any], query: str) -> tuple[int, Any]:
    kind = KINDS[body["apiVersion"], body["kind"]]
    path = kind.path(body["metadata"]["namespace"], body["metadata"]["name"])
    return api.request(
        "PATCH",
        f"{path}?fieldManager=moorage&force=true&fieldValidation=Strict{query}",
        body,
        "application/apply-patch+yaml",
    )


def pod_templates(body: dict[str, Any]) -> list[dict[str, Any]]:
    spec = body.get("spec", {})
    if body["kind"] == "CronJob":
        return [spec["jobTemplate"]["spec"]["template"]]
    return [spec["template"]] if body["kind"] in {"Deployment", "StatefulSet", "Job"} else []


@pytest.fixture(scope="module")
def gateway_api(api_server: Any) -> Any:
    """The API server, with the Gateway API's own definition of HTTPRoute."""
    definition = read_definition(GATEWAY_API, "httproutes", print)
    put_definition(api_server, definition)
    wait_until_served(api_server, HTTP_ROUTE.path("default"))
    return api_server


@pytest.fixture
def restricted(api_server: Any, namespace: str) -> str:
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    patch = {"metadata": {"labels": labels}}
    status, _ = api_server.request(
        "PATCH", f"/api/v1/namespaces/{namespace}", patch, "application/merge-patch+json"
    )
    assert status == 200
    return namespace


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_server_takes_every_object_and_every_pod(gateway_api, restricted, variant):
    realm = build_realm(variant, restricted, uid="0b4f4a3e-0000-4000-8000-000000000000")
    seen = set()
    for manifest in build_all(realm):
        body = manifest.body
        status, answer = apply(gateway_api, body, "")
        assert status in {200, 201}, (body["kind"], body["metadata"]["name"], answer)
        seen.add((body["kind"], body["metadata"]["name"]))
        for number, template in enumerate(pod_templates(body)):
            pod = pod_of(template, restricted, f"{body['metadata']['name']}-{number}")
            status, answer = gateway_api.request(
                "POST", f"/api/v1/namespaces/{restricted}/pods?dryRun=All&fieldValidation=Strict", pod
            )
            assert status == 201, (body["metadata"]["name"], answer)
    # Nothing is built twice under one name.
    assert len(seen) == len(build_all(realm))


def test_a_realm_of_many_clusters_has_several_http_routes(gateway_api, namespace):
    realm = build_wide_realm(12, namespace)
    routes = [manifest.body for manifest in build_all(realm) if manifest.kind == HTTP_ROUTE.name]
    assert len(routes) == 3
    for body in routes:
        status, answer = apply(gateway_api, body, "")
        assert status == 201, answer
    paths = [rule["matches"][0]["path"]["value"] for body in routes for rule in body["spec"]["rules"]]
    assert len(paths) == len(set(paths)) == 2 + 12 * 3 + 1 + NOTIFIER_PATHS


def pod_of(template: dict[str, Any], namespace: str, name: str) -> dict[str, Any]:
    pod = copy.deepcopy(template)
    pod["metadata"] |= {"name": f"pod-{name}", "namespace": namespace}
    claimed = {volume["name"] for volume in pod["spec"]["volumes"]}
    if "data" not in claimed:  # a StatefulSet adds the volume of its claim
        pod["spec"]["volumes"].append({"name": "data", "emptyDir": {}})
    # Priorities are objects of the whole cluster, which tests do not make.
    pod["spec"].pop("priorityClassName", None)
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def test_applying_again_changes_nothing(api_server, namespace):
    realm = build_realm("managed-store", namespace)
    for _ in range(2):
        answers = [apply(api_server, manifest.body, "") for manifest in build_all(realm)]
        assert all(status in {200, 201} for status, _ in answers), answers
        versions = [answer["metadata"]["resourceVersion"] for _, answer in answers]
    again = [
        apply(api_server, manifest.body, "")[1]["metadata"]["resourceVersion"]
        for manifest in build_all(realm)
    ]
    assert again == versions


def test_a_volume_grows_while_its_stateful_set_stays_as_it_is(api_server, namespace):
    realm = build_realm("managed-store", namespace)
    for manifest in build_all(realm):
        assert apply(api_server, manifest.body, "")[0] in {200, 201}
    (pool,) = realm.pools
    document = changed(
        pool.model_dump(by_alias=True, exclude_none=True), "spec.store.managed.storage.size", "40Gi"
    )
    larger = BlockPool.model_validate_json(json.dumps(document))
    asked = []
    # What the operator sees of the StatefulSet that is there.
    context = dataclasses.replace(build_context(realm), claim_sizes={"main-store": "20Gi"})
    for manifest in build_objects(realm, larger, context):
        if manifest.kind == "StatefulSet":
            status, answer = apply(api_server, manifest.body, "")
            assert (status, answer["metadata"]["generation"]) == (200, 1), answer
        if manifest.kind == "PersistentVolumeClaim":
            asked.append(manifest.body["spec"]["resources"]["requests"]["storage"])
    assert asked == ["40Gi"] * 4
