"""P-256 signing keys: made, read, named, and the operator's own tokens. Pure but for the randomness of making."""

import base64
import hashlib
import json
import secrets

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from moorage_operator.plan import OPERATOR, PublicKey

TOKEN_SECONDS = 60


def make_private_pem() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )


def read_public_key(pem: str, service: str) -> PublicKey:
    """The public part of a private key of `service`. ValueError when it is no P-256 key in PEM."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise ValueError("the key is encrypted") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 private key")  # noqa: TRY004 - it is about content
    public = key.public_key()
    encoded = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(service, thumbprint(public), encoded.decode())


def sign_operator_token(pem: str, now: float) -> str:
    """What every server's `/status` asks for: a JWT (RFC 7519, ES256) of the operator's own audience, valid for
    `TOKEN_SECONDS` from `now` (Unix seconds). ValueError when `pem` is no P-256 key.
    """
    key = read_public_key(pem, OPERATOR.name)
    payload = {
        "iss": OPERATOR.role,
        "sub": OPERATOR.name,
        "aud": "moorage:operator",
        "iat": int(now),
        "exp": int(now) + TOKEN_SECONDS,
        "jti": secrets.token_urlsafe(9),
    }
    return jwt.encode(payload, pem, "ES256", {"kid": key.kid, "typ": "operator+jwt"})


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638: sha256 of the required members of the JWK, sorted and without spaces."""
    numbers = key.public_numbers()
    members = {"crv": "P-256", "kty": "EC", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return _unpadded(hashlib.sha256(canonical.encode()).digest())


def _coordinate(number: int) -> str:
    return _unpadded(number.to_bytes(32))


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
