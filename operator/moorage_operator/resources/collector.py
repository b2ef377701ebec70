"""The collector of a metadata cluster, run by the cluster's own schedule: a CronJob. Pure."""

from collections.abc import Sequence

from moorage_operator.naming import gc_service
from moorage_operator.plan import Listen, Service, Wiring, build_settings
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import Body, Manifest, Phase, build_labels, build_metadata
from moorage_operator.resources.names import collector_part, live_files, settings_of, signing_secret
from moorage_operator.resources.pods import (
    INTERNAL_PORT,
    PUBLIC_PORT,
    Volume,
    config_volume,
    scratch_volume,
    secret_volume,
)
from moorage_operator.resources.server import (
    ACCESS_POINT,
    Workload,
    build_ingress_policy,
    build_pod_template,
    build_service_account,
    build_settings_map,
)
from moorage_operator.resources.wiring import LIVE_FOLDER, SETTINGS_FILE, SETTINGS_FOLDER, SIGNING_FOLDER
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.realm import Realm

LONGEST_SECONDS = 24 * 3600
"""One that hangs must not keep the next ones from running for ever."""
LATEST_START_SECONDS = 3600


def build_collector_objects(
    realm: Realm,
    cluster: MetadataCluster,
    context: ClusterContext,
    wiring: Wiring,
    secrets: Sequence[Volume],
) -> tuple[Manifest, ...]:
    """`secrets`: what a client of the cluster's etcd mounts. The last phase: it needs all the others' servers."""
    part = collector_part(cluster.metadata.name)
    labels = build_labels(cluster, part, "gc")
    service = Service("gc", gc_service(cluster.spec.server_key), cluster.spec.server_key)
    listen = Listen("127.0.0.1", PUBLIC_PORT, INTERNAL_PORT)
    settings = build_settings(service, part, listen, realm, wiring)
    workload = Workload(
        resource=cluster,
        part=part,
        component="gc",
        phase=Phase.PROXY,
        template=cluster.spec.gc.template,
        replicas=None,
        hibernated=cluster.spec.hibernated,
        command=("moorage-nodes", "gc", "--settings", SETTINGS_FILE, "--json"),
        ports=(),
        probes={},
        volumes=(
            config_volume("settings", SETTINGS_FOLDER, settings_of(part)),
            config_volume("live", LIVE_FOLDER, live_files(realm.access_point.metadata.name)),
            secret_volume("signing", SIGNING_FOLDER, signing_secret(part)),
            *secrets,
            scratch_volume("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ),
        hashed=settings,
        pod_labels={ACCESS_POINT: realm.access_point.metadata.name},
    )
    template = build_pod_template(workload, context)
    template["spec"]["restartPolicy"] = "Never"
    del template["spec"]["affinity"], template["spec"]["topologySpreadConstraints"]
    body: Body = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": build_metadata(cluster, part, labels),
        "spec": {
            "schedule": cluster.spec.gc.schedule,
            "timeZone": "Etc/UTC",
            "suspend": cluster.spec.hibernated,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": LATEST_START_SECONDS,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "metadata": {"labels": labels},
                "spec": {
                    # What was left undone is done by the next run.
                    "backoffLimit": 0,
                    "activeDeadlineSeconds": LONGEST_SECONDS,
                    "template": template,
                },
            },
        },
    }
    return (
        build_service_account(cluster, part, labels),
        build_ingress_policy(cluster, part, labels, ()),
        build_settings_map(cluster, part, labels, settings, Phase.PROXY),
        Manifest(Phase.PROXY, body),
    )
