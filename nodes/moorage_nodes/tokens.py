"""Tokens: who signs what, who accepts it (DESIGN.md, Security; RFC 7519, RFC 8725).

Asymmetric only (ES256), one algorithm per key. A component signs with its own private key; the trust file
lists public keys with the issuer and the audiences that each may speak for. A token is accepted only when its
`kid` is trusted for its `aud`, and `alg`, `iss`, `typ`, `exp` and `iat` are right.
"""

import hashlib
import hmac
import json
import math
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from moorage.core.errors import InvalidFieldError, UnauthenticatedError, UploadEndedError
from moorage_nodes.trust import TrustedKey, TrustStore, key_thumbprint

ALGORITHM = "ES256"
MAX_TOKEN_CHARS = 8192
MAX_CACHED_TOKENS = 8192
ISSUED_AT_LEEWAY = 10  # seconds that another machine's clock may be ahead
# Three base64url parts; an ES256 signature is 64 bytes.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}", re.ASCII)
_HEADER_PARAMETERS = {"alg", "kid", "typ"}
_REGISTERED = frozenset({"iss", "sub", "aud", "exp", "iat", "jti"})


class Audience(StrEnum):
    """What a token is for. The JWT's `typ` is the last part with `+jwt` behind it."""

    ACCESS = "moorage:access"
    REFRESH = "moorage:refresh"
    UPLOAD = "moorage:upload"
    DOWNLOAD = "moorage:download"
    SERVICE_AUTH = "moorage:service:auth"  # calls to auth servers' internal port
    SERVICE_L1 = "moorage:service:l1"
    SERVICE_L2 = "moorage:service:l2"
    SERVICE_L3 = "moorage:service:l3"
    SERVICE_BLOCK = "moorage:service:block"
    SERVICE_NOTIFY = "moorage:service:notify"
    COLLECTOR = "moorage:collector"  # the collector's calls to block servers: what takes bytes away
    CHECKER = "moorage:checker"  # fsck's and scrub's calls to block servers: list and read, change nothing
    OPERATOR = "moorage:operator"  # what `/status` of every server asks for

    @property
    def token_type(self) -> str:
        return f"{self.value.rpartition(':')[2]}+jwt"


@dataclass(frozen=True, slots=True)
class Allow:
    """Whom a route lets in: anybody (`public`), the admin token, or tokens of these audiences.

    `public` with audiences: a valid token of theirs makes itself known, anything else is anonymous.
    """

    audiences: frozenset[Audience] = frozenset()
    public: bool = False
    admin: bool = False


PUBLIC = Allow(public=True)
ADMIN = Allow(admin=True)
USER = Allow(frozenset({Audience.ACCESS}))


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `audience` is None for the anonymous caller and the administrator.

    `expires` is unix seconds; `data` holds the claims beyond the registered ones.
    """

    audience: Audience | None
    issuer: str
    subject: str
    token_id: str
    expires: float
    data: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The further claim `name`, a string; the token is refused when it is missing or of another type."""
        value = self.data.get(name)
        if not isinstance(value, str):
            raise TokenRefusedError(f"claim {name} missing")
        return value


ANONYMOUS = Claims(None, "", "", "", math.inf)
ADMINISTRATOR = Claims(None, "admin", "admin", "", math.inf)


class TokenRefusedError(UnauthenticatedError):
    """One answer for every reason; `reason` is for the log and never holds any of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__("A valid token is required: log in and send `Authorization: Bearer <token>`.")
        self.reason = reason


class TokenExpiredError(TokenRefusedError):
    """It was good, for `audience`, and its time is over."""

    def __init__(self, audience: Audience | None) -> None:
        super().__init__("expired")
        self.audience = audience


class Signer:
    """Signs tokens as `issuer` with one private key (PEM, P-256)."""

    def __init__(self, private_pem: bytes, issuer: str, clock: Callable[[], float]) -> None:
        self.issuer = issuer
        self._clock = clock
        self.replace(private_pem)

    def replace(self, private_pem: bytes) -> None:
        """Sign with this key from now on. Raises InvalidFieldError when it is not a P-256 private key."""
        self._key = load_private_key(private_pem)
        self.kid = key_thumbprint(self._key.public_key())

    def sign(self, audience: Audience, subject: str, ttl: float, **claims: Any) -> str:
        """A compact JWT, valid from now for `ttl` seconds; `claims` are added as they are."""
        return self.issue(audience, subject, ttl, **claims)[0]

    def issue(self, audience: Audience, subject: str, ttl: float, **claims: Any) -> tuple[str, Claims]:
        """As `sign`, with what the token says (for `Verifier.remember`)."""
        now = int(self._clock())
        payload = {
            **claims,
            "iss": self.issuer,
            "sub": subject,
            "aud": audience.value,
            "iat": now,
            "exp": now + math.ceil(ttl),
            "jti": secrets.token_urlsafe(9),
        }
        headers = {"kid": self.kid, "typ": audience.token_type}
        token = jwt.encode(payload, self._key, ALGORITHM, headers)
        return token, Claims(audience, self.issuer, subject, payload["jti"], payload["exp"], claims)


def upload_too_old() -> UploadEndedError:
    return UploadEndedError("This upload is too old: begin a new one with /update.")


def load_private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidFieldError("The signing key must be a P-256 private key in PEM.", field="signing_key")
    return key


class Verifier:
    """Decides who a request is from. Verified tokens are remembered until `exp`, a bounded number of them."""

    def __init__(
        self, trust: TrustStore, clock: Callable[[], float], *, admin_digest: bytes | None = None
    ) -> None:
        self._trust = trust
        self._clock = clock
        self._admin_digest = admin_digest
        self._known: OrderedDict[str, Claims] = OrderedDict()

    def replace_trust(self, trust: TrustStore) -> None:
        """Judge by these keys from now on; what was verified by the old ones is forgotten."""
        self._trust = trust
        self._known.clear()

    def replace_admin_digest(self, digest: bytes) -> None:
        """SHA-256 of the admin token, see `admin_token_digest`."""
        self._admin_digest = digest

    def authenticate(self, allow: Allow, authorization: str | None) -> Claims:
        """Who asks, when `allow` lets them in; else TokenRefusedError, or UploadEndedError for the token of an
        upload that is too old, where such tokens are let in: no login would help.

        `authorization` is the value of the request's header of that name.
        """
        if allow.public and not allow.audiences:
            return ANONYMOUS
        if authorization is None or authorization[:7].lower() != "bearer ":
            if allow.public:
                return ANONYMOUS
            raise TokenRefusedError("no bearer token")
        token = authorization[7:]
        if allow.admin and self._is_admin(token):
            return ADMINISTRATOR
        try:
            claims = self._claims_of(token)
        except TokenRefusedError as refusal:
            if allow.public:
                return ANONYMOUS
            if (
                isinstance(refusal, TokenExpiredError)
                and refusal.audience is Audience.UPLOAD in allow.audiences
            ):
                raise upload_too_old() from None
            raise
        if claims.audience in allow.audiences:
            return claims
        if allow.public:
            return ANONYMOUS
        raise TokenRefusedError(f"audience {claims.audience} is not for this route")

    def verify(self, token: str, audience: Audience) -> Claims:
        """The claims of a token of exactly `audience`; else TokenRefusedError; TokenExpiredError only for such a
        token.
        """
        try:
            claims = self._claims_of(token)
        except TokenExpiredError as refusal:
            if refusal.audience is not audience:
                raise TokenRefusedError(refusal.reason) from None
            raise
        if claims.audience is not audience:
            raise TokenRefusedError(f"audience {claims.audience} where {audience} is wanted")
        return claims

    def remember(self, token: str, claims: Claims, kid: str) -> None:
        """Take a token that this process has just signed as verified, if its key is trusted for it: checking a
        signature costs more than the rest of most requests.
        """
        key = self._trust.keys.get(kid)
        if key is None or claims.audience is None or key.issuer != claims.issuer:
            return
        if claims.audience.value in key.audiences:
            self._keep(token, claims)

    def _keep(self, token: str, claims: Claims) -> None:
        self._known[token] = claims
        if len(self._known) > MAX_CACHED_TOKENS:
            self._known.popitem(last=False)

    def _claims_of(self, token: str) -> Claims:
        known = self._known
        claims = known.get(token)
        now = self._clock()
        if claims is not None:
            if claims.expires > now:
                known.move_to_end(token)
                return claims
            del known[token]
            raise TokenExpiredError(claims.audience)
        claims = verify_token(token, self._trust, now)
        self._keep(token, claims)
        return claims

    def _is_admin(self, token: str) -> bool:
        if self._admin_digest is None:
            return False
        return hmac.compare_digest(admin_token_digest(token), self._admin_digest)


def admin_token_digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def parse_admin_token(data: bytes) -> bytes:
    """The digest of the token in an admin token file: one line of at least 16 visible ASCII characters."""
    text = data.decode("ascii", "replace").strip()
    if not re.fullmatch(r"[\x21-\x7e]{16,1024}", text):
        raise InvalidFieldError(
            "The admin token must be one line of 16 to 1024 visible ASCII characters.", field="admin_token"
        )
    return admin_token_digest(text)


def verify_token(token: str, trust: TrustStore, now: float) -> Claims:
    """Pure: the claims of `token` when `trust` lets it speak, at the time `now`; else TokenRefusedError."""
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenRefusedError("too long")
    if not _COMPACT.fullmatch(token):
        raise TokenRefusedError("not a compact JWT with an ES256 signature")
    key = _trusted_key(token, trust)
    try:
        verified = jwt.PyJWS([ALGORITHM]).decode_complete(token, key.public_key, [ALGORITHM])
    except jwt.InvalidTokenError as error:
        raise TokenRefusedError(type(error).__name__) from None
    return _checked_claims(_parse_object(verified["payload"]), verified["header"], key, now)


def _trusted_key(token: str, trust: TrustStore) -> TrustedKey:
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise TokenRefusedError(type(error).__name__) from None
    # Nothing in a header may bring a key or ask for an extension: exactly these parameters.
    if header.keys() != _HEADER_PARAMETERS or header["alg"] != ALGORITHM:
        raise TokenRefusedError("header parameters")
    kid = header["kid"]
    key = trust.keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise TokenRefusedError("unknown key")
    return key


def _checked_claims(payload: dict[str, Any], header: dict[str, Any], key: TrustedKey, now: float) -> Claims:
    audience = next((a for a in Audience if a.value == payload.get("aud")), None)
    if audience is None or audience.value not in key.audiences:
        raise TokenRefusedError("key not trusted for this audience")
    if header["typ"] != audience.token_type:
        raise TokenRefusedError("typ is not the audience's")
    if payload.get("iss") != key.issuer:
        raise TokenRefusedError("issuer is not the key's")
    expires, issued = payload.get("exp"), payload.get("iat")
    if type(expires) is not int or type(issued) is not int:
        raise TokenRefusedError("exp or iat missing")
    if expires <= now:
        raise TokenExpiredError(audience)
    if issued > now + ISSUED_AT_LEEWAY:
        raise TokenRefusedError("issued in the future")
    subject, token_id = payload.get("sub"), payload.get("jti")
    if not isinstance(subject, str) or not subject or not isinstance(token_id, str):
        raise TokenRefusedError("sub or jti missing")
    further = {name: value for name, value in payload.items() if name not in _REGISTERED}
    return Claims(audience, key.issuer, subject, token_id, expires, further)


def _parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object in which no name stands twice: no two readers may differ."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise TokenRefusedError("a claim stands twice")
        return found

    try:
        value = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise TokenRefusedError("payload is not a JSON object")
    return value


def public_jwk(key: TrustedKey) -> dict[str, str]:
    """A trusted key as a JWK for `/auth/jwks.json` (RFC 7517)."""
    jwk = ECAlgorithm.to_jwk(key.public_key, as_dict=True)
    return {
        "kty": jwk["kty"],
        "crv": jwk["crv"],
        "x": jwk["x"],
        "y": jwk["y"],
        "kid": key.kid,
        "use": "sig",
        "alg": ALGORITHM,
    }
