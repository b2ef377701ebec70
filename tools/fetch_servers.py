"""Fetch or build every server that the tests run on, saying so: a test that did it would do it in silence."""

import sys

from moorage_operator.local.tools import (
    ToolError,
    ensure_etcd,
    ensure_etcdctl,
    ensure_helm,
    ensure_kube_apiserver,
    ensure_minio,
    ensure_nginx,
    ensure_seaweedfs,
)


def say(line: str) -> None:
    print(f"servers: {line}", flush=True)


def main() -> int:
    try:
        for ensure in (
            ensure_nginx,
            ensure_seaweedfs,
            ensure_etcd,
            ensure_etcdctl,
            ensure_minio,
            ensure_helm,
            ensure_kube_apiserver,
        ):
            ensure(say)
    except ToolError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
