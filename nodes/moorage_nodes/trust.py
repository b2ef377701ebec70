"""The trust file: whose tokens are accepted for what (DESIGN.md, Keys). A live file, written by the operator.

`{"revision": 3, "keys": [{"kid", "alg": "ES256", "public_pem", "issuer", "audiences": [...]}]}`. A `kid` is the
RFC 7638 thumbprint of its key, so that no file can give one key another's name.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Struct

from moorage.core.errors import InvalidFieldError


class _KeyEntry(Struct, frozen=True, kw_only=True):
    kid: str
    alg: Literal["ES256"]
    public_pem: str
    issuer: str
    audiences: tuple[str, ...]


class _TrustFile(Struct, frozen=True, kw_only=True):
    revision: int
    keys: tuple[_KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """`audiences` are values of `Audience`; those that this version does not know simply match no route."""

    kid: str
    issuer: str
    audiences: frozenset[str]
    public_key: ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class TrustStore:
    revision: int
    keys: Mapping[str, TrustedKey]

    def keys_for(self, audience: str) -> list[TrustedKey]:
        """The keys that may sign `audience`: two during a rotation."""
        return [key for key in self.keys.values() if audience in key.audiences]


def parse_trust(data: bytes) -> TrustStore:
    """Pure; InvalidFieldError names what is wrong. Unknown fields are left alone: a newer operator's."""
    try:
        parsed = msgspec.json.decode(data, type=_TrustFile)
    except msgspec.DecodeError as error:
        raise InvalidFieldError(f"The trust file is wrong: {error}", field="trust") from None
    keys: dict[str, TrustedKey] = {}
    for entry in parsed.keys:
        key = _load_public_key(entry)
        if entry.kid in keys:
            raise InvalidFieldError(f"Key {entry.kid} stands twice in the trust file.", field="trust")
        keys[entry.kid] = TrustedKey(entry.kid, entry.issuer, frozenset(entry.audiences), key)
    return TrustStore(parsed.revision, keys)


def _load_public_key(entry: _KeyEntry) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(entry.public_pem.encode())
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidFieldError(f"Key {entry.kid} is not a P-256 public key in PEM.", field="trust")
    if key_thumbprint(key) != entry.kid:
        raise InvalidFieldError(f"Key {entry.kid} has another thumbprint than its kid.", field="trust")
    return key


def key_thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638: SHA-256 of the canonical JWK, base64url without padding."""
    numbers = key.public_numbers()
    x, y = (_base64url(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
