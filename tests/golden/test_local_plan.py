"""The whole plan of `moorage up` for one realm, on each S3 engine, as a reviewer reads it."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from moorage_operator.local.datadir import DataDir
from moorage_operator.local.processes import LocalPlan, Machine, Tools, build_local_plan, list_ports
from moorage_operator.plan import PublicKey, plan_checks, plan_services


def plan_of(realm, engine, *, host="127.0.0.1") -> LocalPlan:
    tools = Tools("/bin/etcd", f"/bin/{engine}", engine, "/bin/nginx", ("/bin/moorage-nodes",))
    names = list_ports(realm, engine)
    machine = Machine(
        data=DataDir(Path("/data")),
        tools=tools,
        host=host,
        port=8000,
        ports={name: 20_000 + number for number, name in enumerate(names)},
        public_keys=tuple(
            PublicKey(s.name, f"kid-{s.name}", f"PEM {s.name}")
            for s in (*plan_services(realm), *plan_checks(realm))
        ),
        environment={"PATH": "/bin"},
        workers=2,
    )
    return build_local_plan(realm, machine)


@pytest.mark.parametrize("engine", ["minio", "seaweedfs"])
def test_the_plan_is_the_reviewed_one(two_clusters, engine, golden):
    plan = plan_of(two_clusters, engine)
    shown = {
        "url": plan.url,
        "notes": plan.notes,
        "buckets": plan.buckets,
        "processes": {spec.name: asdict(spec) for spec in plan.processes if spec.stage != "servers"},
        "servers": {
            spec.name: {"argv": spec.argv, "ports": spec.ports, "ready": spec.ready.url}
            for spec in plan.processes
            if spec.stage == "servers"
        },
    }
    golden(f"local-plan-{engine}.json", json.dumps(shown, indent=1) + "\n")


def test_the_files_are_the_reviewed_ones(two_clusters, golden):
    plan = plan_of(two_clusters, "minio")
    files = {path: text for path, text in plan.files.items() if path.suffix == ".json"}
    text = "".join(f"==> {path}\n{content}" for path, content in sorted(files.items()))
    golden("local-files.txt", text)
