"""Tokens: what is accepted, and how many ways there are to be refused."""

import base64
import hmac
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from realm import ADMIN_TOKEN, Realm, new_key, private_pem, public_pem, trust_entry

from moorage.core.errors import InvalidFieldError
from moorage_nodes import tokens
from moorage_nodes.tokens import (
    ADMIN,
    ADMINISTRATOR,
    ANONYMOUS,
    PUBLIC,
    USER,
    Allow,
    Audience,
    Signer,
    TokenRefusedError,
    Verifier,
    admin_token_digest,
    parse_admin_token,
    public_jwk,
    verify_token,
)
from moorage_nodes.trust import key_thumbprint, parse_trust

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Realm:
    return Realm(tmp_path_factory.mktemp("realm"))


class Forge:
    """Signs whatever a test wants, as the auth component unless told otherwise."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self.key = realm.keys["auth"]
        self.kid = key_thumbprint(self.key.public_key())

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "iss": "auth",
            "sub": "u1",
            "aud": Audience.ACCESS.value,
            "iat": int(NOW),
            "exp": int(NOW) + 900,
            "jti": "1",
            "username": "ann",
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not ...}

    def header(self, **changes: Any) -> dict[str, Any]:
        header = {"kid": self.kid, "typ": "access+jwt", **changes}
        return {name: value for name, value in header.items() if value is not ...}

    def sign(self, key: Any = None, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        return jwt.encode(
            self.claims(**claims),
            key or self.key,
            "ES256",
            self.header(**(header or {})),
        )

    def sign_bytes(self, payload: bytes) -> str:
        """A good signature over a payload of any bytes."""
        return jwt.PyJWS().encode(payload, self.key, "ES256", self.header())

    def with_header(self, header: dict[str, Any]) -> str:
        """A good signature over a header that no library would write."""
        head = encode(json.dumps(header).encode())
        body = encode(json.dumps(self.claims()).encode())
        signature = jwt.get_algorithm_by_name("ES256").sign(f"{head}.{body}".encode(), self.key)
        return f"{head}.{body}.{encode(signature)}"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def hmac_with_the_public_key(forge: Forge) -> str:
    """RFC 8725, 2.1: the public key used as the secret of a symmetric algorithm."""
    header = encode(json.dumps({"alg": "HS256", "typ": "access+jwt", "kid": forge.kid}).encode())
    body = encode(json.dumps(forge.claims()).encode())
    mac = hmac.digest(public_pem(forge.key).encode(), f"{header}.{body}".encode(), "sha256")
    return f"{header}.{body}.{encode(mac)}"


def tampered_claims(forge: Forge) -> str:
    head, _, signature = forge.sign().split(".")
    return f"{head}.{encode(json.dumps(forge.claims(sub='u2')).encode())}.{signature}"


def flipped_signature_bit(forge: Forge) -> str:
    head, body, signature = forge.sign().split(".")
    raw = bytearray(decode(signature))
    raw[10] ^= 1
    return f"{head}.{body}.{encode(bytes(raw))}"


def none_algorithm(forge: Forge, spelled: str = "none", signature: str = "") -> str:
    head = encode(json.dumps({"alg": spelled, "typ": "access+jwt", "kid": forge.kid}).encode())
    return f"{head}.{encode(json.dumps(forge.claims()).encode())}.{signature}"


def duplicate_claim(forge: Forge) -> str:
    text = json.dumps(forge.claims())
    return forge.sign_bytes((text[:-1] + ', "sub": "u2"}').encode())


def other_key_with_the_kid(forge: Forge) -> str:
    return forge.sign(new_key())


def with_own_jwk(forge: Forge) -> str:
    key = new_key()
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return forge.sign(key, header={"jwk": jwk, "kid": key_thumbprint(key.public_key())})


def of_another_curve(forge: Forge) -> str:
    key = ec.generate_private_key(ec.SECP384R1())
    return jwt.encode(forge.claims(), key, "ES384", forge.header())


def ed25519_signed(forge: Forge) -> str:
    return jwt.encode(forge.claims(), ed25519.Ed25519PrivateKey.generate(), "EdDSA", forge.header())


def rsa_signed(forge: Forge) -> str:
    return jwt.encode(forge.claims(), rsa.generate_private_key(65537, 2048), "RS256", forge.header())


def kid_of_another_issuer(forge: Forge) -> str:
    """Upload servers may sign uploads; with their own good key they may not make themselves a user."""
    key = forge.realm.keys["l1"]
    return forge.sign(key, header={"kid": key_thumbprint(key.public_key())}, iss="l1")


def kid_of_another_issuer_posing(forge: Forge) -> str:
    key = forge.realm.keys["l1"]
    return forge.sign(key, header={"kid": key_thumbprint(key.public_key())}, iss="auth")


FORGED: dict[str, Callable[[Forge], str]] = {
    "empty": lambda _: "",
    "not a token": lambda _: "hello",
    "two parts": lambda f: f.sign().rpartition(".")[0],
    "four parts": lambda f: f.sign() + ".x",
    "no signature": lambda f: f.sign().rpartition(".")[0] + ".",
    "truncated": lambda f: f.sign()[:-5],
    "longer": lambda f: f.sign() + "A",
    "padded": lambda f: f.sign() + "==",
    "blank behind": lambda f: f.sign() + " ",
    "line break within": lambda f: f.sign().replace(".", ".\n", 1),
    "tampered claims": tampered_claims,
    "flipped signature bit": flipped_signature_bit,
    "signature of zeros": lambda f: f.sign().rpartition(".")[0] + "." + encode(bytes(64)),
    "alg none": none_algorithm,
    "alg None, long signature": lambda f: none_algorithm(f, "None", encode(bytes(64))),
    "alg none, long signature": lambda f: none_algorithm(f, "none", encode(bytes(64))),
    "HS256 with the public key": hmac_with_the_public_key,
    "ES384": of_another_curve,
    "EdDSA": ed25519_signed,
    "RS256": rsa_signed,
    "another key, our kid": other_key_with_the_kid,
    "unknown kid": lambda f: f.sign(new_key(), header={"kid": "unknown"}),
    "no kid": lambda f: f.sign(header={"kid": ...}),
    "kid is a path": lambda f: f.sign(header={"kid": "../../dev/null"}),
    "kid is a number": lambda f: f.with_header({"alg": "ES256", "typ": "access+jwt", "kid": 1}),
    "kid of another issuer": kid_of_another_issuer,
    "kid of another issuer posing as auth": kid_of_another_issuer_posing,
    "its own jwk": with_own_jwk,
    "jku": lambda f: f.sign(header={"jku": "https://attacker.example/keys"}),
    "x5u": lambda f: f.sign(header={"x5u": "https://attacker.example/cert"}),
    "x5c": lambda f: f.sign(header={"x5c": ["AAAA"]}),
    "crit": lambda f: f.with_header(
        {"alg": "ES256", "typ": "access+jwt", "kid": f.kid, "crit": ["exp"], "exp": 1}
    ),
    "b64 false": lambda f: f.with_header(
        {"alg": "ES256", "typ": "access+jwt", "kid": f.kid, "b64": False, "crit": ["b64"]}
    ),
    "typ JWT": lambda f: f.sign(header={"typ": "JWT"}),
    "typ of another audience": lambda f: f.sign(header={"typ": "refresh+jwt"}),
    "other audience": lambda f: f.sign(aud=Audience.UPLOAD.value),
    "unknown audience": lambda f: f.sign(aud="https://example.org"),
    "audience as a list": lambda f: f.sign(aud=[Audience.ACCESS.value]),
    "no audience": lambda f: f.sign(aud=...),
    "other issuer": lambda f: f.sign(iss="l1"),
    "no issuer": lambda f: f.sign(iss=...),
    "expired": lambda f: f.sign(exp=int(NOW)),
    "no exp": lambda f: f.sign(exp=...),
    "exp is text": lambda f: f.sign(exp="never"),
    "exp is infinite": lambda f: f.sign_bytes(json.dumps(f.claims(exp=math.inf)).encode()),
    "exp is true": lambda f: f.sign_bytes(json.dumps(f.claims(exp=True)).encode()),
    "exp is a fraction": lambda f: f.sign_bytes(json.dumps(f.claims(exp=NOW + 900.5)).encode()),
    "issued in the future": lambda f: f.sign(iat=int(NOW) + 60),
    "no iat": lambda f: f.sign(iat=...),
    "no sub": lambda f: f.sign(sub=...),
    "empty sub": lambda f: f.sign(sub=""),
    "no jti": lambda f: f.sign(jti=...),
    "a claim twice": duplicate_claim,
    "payload is a list": lambda f: f.sign_bytes(b"[]"),
    "payload is no JSON": lambda f: f.sign_bytes(b"{"),
    "payload nested too deep": lambda f: f.sign_bytes(b"[" * 3000),
    "huge": lambda f: f.sign(filler="x" * 9000),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_token_is_refused(realm: Realm, kind: str):
    token = FORGED[kind](Forge(realm))
    with pytest.raises(TokenRefusedError) as refused:
        verify_token(token, realm.trust(), NOW)
    assert refused.value.as_answer() == TokenRefusedError("").as_answer()
    assert not token or token not in refused.value.reason


def test_the_forger_makes_good_tokens_when_it_forges_nothing(realm: Realm):
    """Else the test above would prove nothing."""
    claims = verify_token(Forge(realm).sign(), realm.trust(), NOW)
    assert claims.subject == "u1"
    assert claims.audience is Audience.ACCESS
    assert claims.text("username") == "ann"


def test_a_huge_token_is_refused_before_it_is_parsed(realm: Realm, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(tokens, "_trusted_key", fail)
    with pytest.raises(TokenRefusedError, match="valid token"):
        verify_token(Forge(realm).sign(filler="x" * 9000), realm.trust(), NOW)


@pytest.mark.parametrize("audience", Audience)
def test_a_signed_token_says_what_was_signed(realm: Realm, audience: Audience):
    signer = realm.signer("auth", lambda: NOW)
    trust = parse_trust(
        json.dumps({"revision": 1, "keys": [trust_entry(realm.keys["auth"], "auth", [audience])]}).encode()
    )
    token = signer.sign(audience, "u1", 60, gen=3, server_key="c1")
    assert jwt.get_unverified_header(token)["typ"] == audience.value.rpartition(":")[2] + "+jwt"
    claims = verify_token(token, trust, NOW + 59)
    assert (claims.audience, claims.subject, claims.issuer) == (audience, "u1", "auth")
    assert claims.expires == NOW + 60
    assert claims.data == {"gen": 3, "server_key": "c1"}
    assert claims.token_id != verify_token(signer.sign(audience, "u1", 60), trust, NOW).token_id


def test_a_claim_of_another_type_is_refused_where_text_is_needed(realm: Realm):
    claims = verify_token(Forge(realm).sign(username=7), realm.trust(), NOW)
    with pytest.raises(TokenRefusedError):
        claims.text("username")
    with pytest.raises(TokenRefusedError):
        claims.text("absent")


@pytest.mark.parametrize("ahead", [0, 5, 10])
def test_a_clock_that_is_a_little_ahead_is_forgiven(realm: Realm, ahead: int):
    verify_token(Forge(realm).sign(iat=int(NOW) + ahead), realm.trust(), NOW)


# --- the verifier -----------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(realm: Realm, clock: Clock) -> Verifier:
    return Verifier(realm.trust(), clock, admin_digest=admin_token_digest(ADMIN_TOKEN))


def test_a_public_route_asks_for_nothing_and_believes_nothing(realm: Realm, verifier: Verifier):
    assert verifier.authenticate(PUBLIC, None) is ANONYMOUS
    assert verifier.authenticate(PUBLIC, "Bearer " + Forge(realm).sign()) is ANONYMOUS


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dTpw", "Token abc", "Bearer abc"])
def test_a_route_for_users_wants_a_bearer_token(verifier: Verifier, header: str | None):
    with pytest.raises(TokenRefusedError):
        verifier.authenticate(USER, header)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_written_in_any_case(realm: Realm, verifier: Verifier, scheme: str):
    assert verifier.authenticate(USER, f"{scheme} {Forge(realm).sign()}").subject == "u1"


def test_a_good_token_of_another_audience_is_refused(realm: Realm, verifier: Verifier):
    upload = realm.signer("l1", lambda: NOW).sign(Audience.UPLOAD, "u1", 60)
    with pytest.raises(TokenRefusedError):
        verifier.authenticate(USER, f"Bearer {upload}")
    with pytest.raises(TokenRefusedError):
        verifier.verify(upload, Audience.ACCESS)
    assert verifier.verify(upload, Audience.UPLOAD).subject == "u1"
    either = Allow(frozenset({Audience.ACCESS, Audience.UPLOAD}))
    assert verifier.authenticate(either, f"Bearer {upload}").audience is Audience.UPLOAD


def test_an_open_route_knows_who_brings_a_token_and_takes_all_others(realm: Realm, verifier: Verifier):
    allow = Allow(frozenset({Audience.ACCESS}), public=True)
    forge = Forge(realm)
    assert verifier.authenticate(allow, f"Bearer {forge.sign()}").subject == "u1"
    assert verifier.authenticate(allow, None) is ANONYMOUS
    assert verifier.authenticate(allow, f"Bearer {forge.sign(exp=int(NOW))}") is ANONYMOUS
    upload = realm.signer("l1", lambda: NOW).sign(Audience.UPLOAD, "u1", 60)
    assert verifier.authenticate(allow, f"Bearer {upload}") is ANONYMOUS


def test_the_admin_token_opens_admin_routes_and_no_others(realm: Realm, verifier: Verifier):
    header = f"Bearer {ADMIN_TOKEN}"
    assert verifier.authenticate(ADMIN, header) is ADMINISTRATOR
    for allow in (USER, Allow(frozenset(Audience))):
        with pytest.raises(TokenRefusedError):
            verifier.authenticate(allow, header)


@pytest.mark.parametrize(
    "token", ["", "x", ADMIN_TOKEN[:-1], ADMIN_TOKEN + "x", ADMIN_TOKEN + " ", ADMIN_TOKEN.upper(), "\udcff"]
)
def test_what_is_nearly_the_admin_token_opens_nothing(verifier: Verifier, token: str):
    with pytest.raises(TokenRefusedError):
        verifier.authenticate(ADMIN, f"Bearer {token}")


def test_a_user_is_no_administrator(realm: Realm, verifier: Verifier):
    with pytest.raises(TokenRefusedError):
        verifier.authenticate(ADMIN, f"Bearer {Forge(realm).sign()}")


def test_without_an_admin_token_nobody_is_administrator(realm: Realm, clock: Clock):
    with pytest.raises(TokenRefusedError):
        Verifier(realm.trust(), clock).authenticate(ADMIN, f"Bearer {ADMIN_TOKEN}")


def test_the_admin_token_can_be_replaced(verifier: Verifier):
    verifier.replace_admin_digest(admin_token_digest("another-token-altogether"))
    with pytest.raises(TokenRefusedError):
        verifier.authenticate(ADMIN, f"Bearer {ADMIN_TOKEN}")
    assert verifier.authenticate(ADMIN, "Bearer another-token-altogether") is ADMINISTRATOR


def test_a_remembered_token_still_expires(realm: Realm, verifier: Verifier, clock: Clock):
    header = f"Bearer {Forge(realm).sign()}"
    verifier.authenticate(USER, header)
    clock.now += 899
    verifier.authenticate(USER, header)
    clock.now += 1
    for _ in range(2):
        with pytest.raises(TokenRefusedError):
            verifier.authenticate(USER, header)


def test_a_token_is_verified_once(realm: Realm, verifier: Verifier, monkeypatch: pytest.MonkeyPatch):
    header = f"Bearer {Forge(realm).sign()}"
    first = verifier.authenticate(USER, header)
    monkeypatch.setattr(tokens, "verify_token", None)
    assert verifier.authenticate(USER, header) is first


def test_a_key_that_is_no_longer_trusted_takes_its_tokens_along(realm: Realm, verifier: Verifier):
    header = f"Bearer {Forge(realm).sign()}"
    verifier.authenticate(USER, header)
    only_l1 = {"revision": 9, "keys": [trust_entry(realm.keys["l1"], "l1", [Audience.UPLOAD])]}
    verifier.replace_trust(parse_trust(json.dumps(only_l1).encode()))
    with pytest.raises(TokenRefusedError):
        verifier.authenticate(USER, header)


def test_two_keys_are_good_during_a_rotation(realm: Realm, clock: Clock):
    old, new = realm.keys["auth"], new_key()
    entries = [trust_entry(key, "auth", [Audience.ACCESS]) for key in (old, new)]
    trust = parse_trust(json.dumps({"revision": 2, "keys": entries}).encode())
    signer = Signer(private_pem(old), "auth", clock)
    before = signer.sign(Audience.ACCESS, "u1", 60)
    signer.replace(private_pem(new))
    after = signer.sign(Audience.ACCESS, "u1", 60)
    verifier = Verifier(trust, clock)
    assert verifier.verify(before, Audience.ACCESS).subject == "u1"
    assert verifier.verify(after, Audience.ACCESS).subject == "u1"
    assert jwt.get_unverified_header(before)["kid"] != jwt.get_unverified_header(after)["kid"]
    assert len(trust.keys_for(Audience.ACCESS)) == 2


def test_remembered_tokens_are_bounded(realm: Realm, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tokens, "MAX_CACHED_TOKENS", 3)
    verifier = Verifier(realm.trust(), clock)
    forge = Forge(realm)
    made = [forge.sign(jti=str(number)) for number in range(4)]
    for token in made[:3]:
        verifier.verify(token, Audience.ACCESS)
    verifier.verify(made[0], Audience.ACCESS)  # used again: not the next to go
    verifier.verify(made[3], Audience.ACCESS)
    assert list(verifier._known) == [made[2], made[0], made[3]]


def test_a_remembered_token_costs_next_to_nothing(realm: Realm):
    verifier = Verifier(realm.trust(), time.time)
    header = "Bearer " + realm.signer("auth").sign(Audience.ACCESS, "u1", 60, gen=1, username="ann")
    verifier.authenticate(USER, header)

    def once() -> float:
        began = time.perf_counter()
        for _ in range(1000):
            verifier.authenticate(USER, header)
        return (time.perf_counter() - began) / 1000

    assert min(once() for _ in range(20)) < 3e-6


# --- keys and files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a key",
        private_pem(ec.generate_private_key(ec.SECP384R1())),
        private_pem(ed25519.Ed25519PrivateKey.generate()),
        public_pem(new_key()).encode(),
    ],
    ids=["empty", "text", "another curve", "another kind", "public"],
)
def test_only_a_private_p256_key_signs(data: bytes):
    with pytest.raises(InvalidFieldError):
        Signer(data, "auth", time.time)


@pytest.mark.parametrize("data", [b"", b"\n", b"short", b"two words are not one", b"\xff" * 20, b"x" * 2000])
def test_an_admin_token_file_holds_one_long_enough_word(data: bytes):
    with pytest.raises(InvalidFieldError) as wrong:
        parse_admin_token(data)
    assert data.decode("latin1").strip() not in wrong.value.detail or not data.strip()


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_an_admin_token_file_may_end_its_line(ending: bytes):
    assert parse_admin_token(ADMIN_TOKEN.encode() + ending) == admin_token_digest(ADMIN_TOKEN)


def test_a_public_key_as_jwk_verifies_what_the_private_one_signed(realm: Realm, tmp_path: Path):
    (key,) = realm.trust().keys_for(Audience.ACCESS)
    token = realm.signer("auth").sign(Audience.ACCESS, "u1", 60)
    jwk = jwt.PyJWK.from_dict(public_jwk(key))
    assert jwt.decode(token, jwk, ["ES256"], audience=Audience.ACCESS.value)["sub"] == "u1"
    assert "d" not in public_jwk(key)


def test_a_token_just_signed_is_remembered_only_where_its_key_is_trusted_for_it(realm: Realm) -> None:
    key = realm.keys["l1"]
    signer = Signer(private_pem(key), "l1", lambda: NOW)
    token, claims = signer.issue(Audience.UPLOAD, "ada", 60, ns="ada")

    def trust_of(audience: Audience) -> Any:
        entry = trust_entry(key, "l1", [audience])
        return parse_trust(json.dumps({"revision": 1, "keys": [entry]}).encode())

    trusting, other = (trust_of(audience) for audience in (Audience.UPLOAD, Audience.SERVICE_L3))
    remembered, refusing = Verifier(trusting, lambda: NOW), Verifier(other, lambda: NOW)
    remembered.remember(token, claims, signer.kid)
    refusing.remember(token, claims, signer.kid)
    assert remembered.verify(token, Audience.UPLOAD) is claims
    assert claims == Verifier(trusting, lambda: NOW).verify(token, Audience.UPLOAD)
    with pytest.raises(TokenRefusedError):
        refusing.verify(token, Audience.UPLOAD)
