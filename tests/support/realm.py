"""The files of a realm in a folder, as an operator would write them: keys, trust, routing, the admin token."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from moorage_nodes.settings import Settings, parse_settings
from moorage_nodes.tokens import Audience, Signer
from moorage_nodes.trust import TrustStore, key_thumbprint, parse_trust

ADMIN_TOKEN = "admin-token-of-the-tests"
AUDIENCES: dict[str, list[Audience]] = {
    "auth": [Audience.ACCESS, Audience.REFRESH],
    "l1": [
        Audience.UPLOAD,
        Audience.SERVICE_AUTH,
        Audience.SERVICE_L2,
        Audience.SERVICE_L3,
        Audience.SERVICE_BLOCK,
        Audience.SERVICE_NOTIFY,
    ],
    "l2": [Audience.DOWNLOAD, Audience.SERVICE_AUTH],
    "l3": [Audience.SERVICE_AUTH],
    "gc": [Audience.COLLECTOR, Audience.SERVICE_AUTH],
    "block": [Audience.SERVICE_L2, Audience.SERVICE_L3],
    "check": [Audience.CHECKER],
    "operator": [Audience.OPERATOR],
    "notify": [Audience.SERVICE_AUTH, Audience.SERVICE_L1],
}


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def public_pem(key: Any) -> str:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem.decode()


def trust_entry(key: ec.EllipticCurvePrivateKey, issuer: str, audiences: list[Audience]) -> dict[str, Any]:
    return {
        "kid": key_thumbprint(key.public_key()),
        "alg": "ES256",
        "public_pem": public_pem(key),
        "issuer": issuer,
        "audiences": [audience.value for audience in audiences],
    }


class Realm:
    """`keys` are the components' private keys by role. `settings` names files that this folder holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = {role: new_key() for role in AUDIENCES}
        self.trust_revision = 0
        folder.mkdir(parents=True, exist_ok=True)
        for role, key in self.keys.items():
            (folder / f"{role}.pem").write_bytes(private_pem(key))
        self.write_trust()
        self.write_routing(1)
        (folder / "admin-token").write_text(ADMIN_TOKEN + "\n")
        (folder / "s3.json").write_text(json.dumps({"access_key_id": "a", "secret_access_key": "s"}))

    def write_trust(self, *more: dict[str, Any]) -> None:
        self.trust_revision += 1
        entries = [trust_entry(self.keys[role], role, audiences) for role, audiences in AUDIENCES.items()]
        trust = {"revision": self.trust_revision, "keys": [*entries, *more]}
        (self.folder / "trust.json").write_text(json.dumps(trust))

    def write_routing(self, revision: int) -> None:
        cluster = {"server_key": "c1", "pools": ["p1"], "write_pools": ["p1"], "notifiers": ["n1"]}
        table = {"revision": revision, "hosts": ["127.0.0.1"], "clusters": [cluster]}
        (self.folder / "routing.json").write_text(json.dumps(table))

    def trust(self) -> TrustStore:
        return parse_trust((self.folder / "trust.json").read_bytes())

    def signer(self, role: str, clock: Callable[[], float] = time.time) -> Signer:
        return Signer(private_pem(self.keys[role]), role, clock)

    def settings(self, role: str, **sections: Any) -> Settings:
        """Settings of a server that listens wherever there is room; `sections` are added or replace."""
        document: dict[str, Any] = {
            "role": role,
            "name": f"{role}-0",
            "listen": {"host": "127.0.0.1", "public": 0, "internal": 0},
            "routing_file": str(self.folder / "routing.json"),
            "trust_file": str(self.folder / "trust.json"),
            "signing_key_file": str(self.folder / f"{role}.pem"),
            "drain_seconds": 0,
        }
        if role == "auth":
            document["auth"] = {
                "admin_token_file": str(self.folder / "admin-token"),
                "clusters": [{"server_key": "c1"}],
            }
        return parse_settings(msgspec.json.encode({**document, **sections}))
