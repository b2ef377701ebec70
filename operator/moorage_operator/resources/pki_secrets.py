"""A managed etcd's certificates as the Secrets that pods mount, and back. Pure.

The authorities' Secret is the state of the rotation and is mounted by nobody; the others follow from it, so a Secret
that was edited or deleted by hand is made again.
"""

import base64
import datetime as dt
import json
from collections.abc import Mapping

from moorage_operator.resources.names import (
    etcd_authority_secret,
    etcd_client_secret,
    etcd_part,
    etcd_peer_secret,
    etcd_server_secret,
)
from moorage_operator.resources.pki import KINDS, LEAVES, Authority, Credential, Kind, Leaf, Pki, Subject
from moorage_operator.resources.wiring import etcd_member_hosts, service_host

SecretData = dict[str, str]
"""Base64 by key, as in a Secret's `data`."""
_STATE = "pki.json"


def build_subject(cluster: str, namespace: str, members: int) -> Subject:
    """Whom the certificates of a cluster's etcd name."""
    part = etcd_part(cluster)
    return Subject(
        f"{namespace} {part}",
        ("localhost", service_host(part, namespace), *etcd_member_hosts(cluster, namespace, members)),
    )


def build_pki_secrets(cluster: str, pki: Pki) -> dict[str, SecretData]:
    """Secret name → data. The first is the state; write it before the others."""
    names = leaf_secrets(cluster)
    secrets = {etcd_authority_secret(cluster): {_STATE: _encode(_dump(pki))}}
    for leaf, kind in LEAVES.items():
        secrets[names[leaf]] = {
            "ca.crt": _encode(pki.authorities[kind].bundle),
            "tls.crt": _encode(pki.leaves[leaf].certificate),
            "tls.key": _encode(pki.leaves[leaf].key),
        }
    return secrets


def leaf_secrets(cluster: str) -> dict[Leaf, str]:
    """The Secrets that pods mount."""
    return {
        "peer": etcd_peer_secret(cluster),
        "server": etcd_server_secret(cluster),
        "client": etcd_client_secret(cluster),
    }


def parse_mounted(
    secrets: Mapping[Leaf, Mapping[str, str]],
) -> tuple[dict[Leaf, Credential], dict[Kind, bytes]]:
    """Certificates and bundles of the mounted Secrets, for `pki.recover_pki`. ValueError when one is not as we wrote it."""
    try:
        leaves = {
            leaf: Credential(base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"]))
            for leaf, data in secrets.items()
        }
        bundles = {LEAVES[leaf]: base64.b64decode(data["ca.crt"]) for leaf, data in secrets.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("A Secret does not hold the certificates of an etcd.") from error
    return leaves, bundles


def parse_pki(data: Mapping[str, str]) -> Pki:
    """The state in the authorities' Secret. ValueError when it is not what we wrote."""
    try:
        state = json.loads(base64.b64decode(data[_STATE]))
        return Pki(
            {kind: _parse_authority(state["authorities"][kind]) for kind in KINDS},
            {leaf: _parse_credential(state["leaves"][leaf]) for leaf in LEAVES},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("The Secret does not hold the authorities of an etcd.") from error


def _dump(pki: Pki) -> bytes:
    state = {
        "authorities": {
            kind: {
                "current": _dump_credential(authority.current),
                "following": authority.following and _dump_credential(authority.following),
                "signing": authority.signing,
                "since": authority.since.isoformat(),
            }
            for kind, authority in pki.authorities.items()
        },
        "leaves": {leaf: _dump_credential(credential) for leaf, credential in pki.leaves.items()},
    }
    return json.dumps(state).encode()


def _dump_credential(credential: Credential) -> dict[str, str]:
    return {"certificate": credential.certificate.decode(), "key": credential.key.decode()}


def _parse_credential(state: Mapping[str, str]) -> Credential:
    return Credential(state["certificate"].encode(), state["key"].encode())


def _parse_authority(state: Mapping[str, object]) -> Authority:
    following, current, signing = state["following"], state["current"], state["signing"]
    if not isinstance(current, dict) or not isinstance(following, dict | None):
        raise TypeError(type(current))
    if signing not in {"current", "following"}:
        raise ValueError(signing)
    return Authority(
        _parse_credential(current),
        dt.datetime.fromisoformat(str(state["since"])),
        None if following is None else _parse_credential(following),
        "following" if signing == "following" else "current",
    )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
