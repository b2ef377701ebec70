"""The trust file: read whole or refused whole."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from realm import Realm, new_key, public_pem, trust_entry

from moorage.core.errors import InvalidFieldError
from moorage_nodes.tokens import Audience
from moorage_nodes.trust import key_thumbprint, parse_trust


def parse(*entries: dict[str, Any], **document: Any) -> Any:
    return parse_trust(json.dumps({"revision": 1, "keys": list(entries), **document}).encode())


def entry(**changes: Any) -> dict[str, Any]:
    return {**trust_entry(new_key(), "auth", [Audience.ACCESS]), **changes}


def test_a_key_is_trusted_for_its_audiences_alone(tmp_path: Path):
    trust = Realm(tmp_path).trust()
    assert {key.issuer for key in trust.keys_for(Audience.SERVICE_AUTH)} == {"l1", "l2", "l3", "notify", "gc"}
    assert {key.issuer for key in trust.keys_for(Audience.ACCESS)} == {"auth"}
    assert trust.keys_for("nobody knows") == []


def test_the_kid_is_the_thumbprint_that_rfc_7638_defines():
    key = new_key().public_key()
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)
    required = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    canonical = json.dumps(required, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).digest()
    assert key_thumbprint(key) == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_what_a_newer_operator_writes_besides_is_left_alone():
    trust = parse(entry(audiences=["moorage:access", "moorage:not-yet"], note="new"), comment="new")
    (key,) = trust.keys.values()
    assert "moorage:not-yet" in key.audiences


@pytest.mark.parametrize(
    "bad",
    [
        entry(kid="another"),
        entry(alg="HS256"),
        entry(alg="none"),
        entry(public_pem="not a key"),
        entry(public_pem=public_pem(ec.generate_private_key(ec.SECP384R1()))),
        entry(public_pem=public_pem(ed25519.Ed25519PrivateKey.generate())),
        entry(audiences="moorage:access"),
        {"kid": "x"},
    ],
    ids=["kid", "alg", "none", "text", "curve", "kind", "audiences", "fields"],
)
def test_one_bad_key_spoils_the_file(bad: dict[str, Any]):
    with pytest.raises(InvalidFieldError):
        parse(entry(), bad)


def test_a_key_may_not_stand_twice():
    twice = entry()
    with pytest.raises(InvalidFieldError, match="twice"):
        parse(twice, {**twice, "issuer": "l1"})


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys": []}', b"\xff"])
def test_what_is_no_trust_file_is_refused(data: bytes):
    with pytest.raises(InvalidFieldError):
        parse_trust(data)
