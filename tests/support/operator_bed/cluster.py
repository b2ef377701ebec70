"""What the chart would install: the definitions, and the operator's rights."""

from pathlib import Path

import yaml
from real_servers.kubernetes import OPERATOR, ApiServer

from moorage_operator.rbac import Rule, build_rules

CRDS = Path(__file__).resolve().parents[3] / "crds"
GROUP = "rbac.authorization.k8s.io"


def install_definitions(api: ApiServer) -> None:
    for path in sorted(CRDS.glob("*.yaml")):
        body = yaml.safe_load(path.read_text())
        name = body["metadata"]["name"]
        url = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=test&force=true"
        status, answer = api.request("PATCH", url, body, "application/apply-patch+yaml")
        assert status in {200, 201}, answer
    # Known to discovery a moment later.
    for _ in range(600):
        status, answer = api.request("GET", "/apis/moorage.dev/v1alpha1")
        if status == 200 and len([one for one in answer["resources"] if "/" not in one["name"]]) == 4:
            return
    raise AssertionError("the definitions were not established")


def grant(api: ApiServer, namespace: str, parts: tuple[str, ...] = ("resources", "secrets", "own")) -> None:
    """Exactly the rules of the chart's roles, in one namespace."""
    rules = build_rules()
    for part in parts:
        bind(api, namespace, part, rules[part])


def bind(api: ApiServer, namespace: str, name: str, rules: list[Rule]) -> None:
    meta = {"name": f"operator-{name}", "namespace": namespace}
    role = {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": meta, "rules": rules}
    subject = {"kind": "User", "name": OPERATOR, "apiGroup": GROUP}
    reference = {"apiGroup": GROUP, "kind": "Role", "name": meta["name"]}
    binding = {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
    del binding["rules"]
    for plural, body in (("roles", role), ("rolebindings", binding)):
        status, answer = api.request("POST", f"/apis/{GROUP}/v1/namespaces/{namespace}/{plural}", body)
        assert status in {201, 409}, answer
