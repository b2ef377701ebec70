"""Every route of every server, asked with every kind of wrong token: 401, before anything else is looked at."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from black_box.http_client import check_error, check_ok
from black_box.store import RunningStore
from black_box.user import User, new_user
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

NEED_NO_TOKEN = {
    ("POST", "/auth"),
    ("POST", "/auth/refresh"),
    ("GET", "/auth/jwks.json"),
    ("GET", "/get_servers"),
}
OF_THE_PROTOCOL = {
    "auth": ["GET /auth/users", "PUT /auth/users/*", "GET /auth/users/*", "DELETE /auth/users/*", "POST /auth/users/*/password"],
    "l1": [
        "PUT /create_directory/*", "GET /list_directory/*", "POST /move/*", "GET /resolve", "GET /nodes/*",
        "PUT /create_file/*", "GET /files/*/metadata", "GET /files/*/versions", "POST /files/*/restore",
        "POST /files/*/update", "POST /files/*/commit", "POST /files:batch_update", "POST /files:batch_commit",
        "DELETE /delete_file/*", "DELETE /delete_directory/*", "POST /undelete/*", "GET /trash",
        "PUT /clients/*", "GET /changes",
    ],
    "l2": ["GET /files/*/chunks"],
    "l3": ["GET /chunks/*/metadata"],
    "block": ["POST /store_chunk", "PUT /chunks/*", "GET /chunks/*", "GET /download_chunk/*", "GET /files/*/content"],
    "notify": ["GET /ws", "GET /poll", "POST /ack_deletion"],
}  # fmt: skip


@pytest.fixture(scope="module")
def private_key(local_store: RunningStore) -> Callable[[str], ec.EllipticCurvePrivateKey]:
    """The private key behind a `kid`, as one who had stolen the data folder would find it."""
    keys = {}
    for path in local_store.data.rglob("*"):
        if path.is_file() and path.stat().st_size < 10_000 and b"PRIVATE KEY" in (pem := path.read_bytes()):
            key = load_pem_private_key(pem, None)
            assert isinstance(key, ec.EllipticCurvePrivateKey), "one signing algorithm: ES256"
            keys[thumbprint(key)] = key
    assert keys, f"no private key below {local_store.data}"
    return keys.__getitem__


def thumbprint(key: ec.EllipticCurvePrivateKey) -> str:
    """RFC 7638."""
    numbers = key.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32)).decode().rstrip("=") for n in (numbers.x, numbers.y))
    canonical = json.dumps({"crv": "P-256", "kty": "EC", "x": x, "y": y}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).decode().rstrip("=")


@pytest.fixture(scope="module")
def wrong_tokens(
    local_store: RunningStore, private_key: Callable[[str], ec.EllipticCurvePrivateKey]
) -> dict[str, str | None]:
    user = new_user(local_store)
    header = jwt.get_unverified_header(user.token)
    claims = jwt.decode(user.token, options={"verify_signature": False})
    own = private_key(header["kid"])
    extra = {"kid": header["kid"], "typ": header["typ"]}

    def sign(changes: dict[str, Any], key: Any = own, algorithm: str = "ES256", **headers: Any) -> str:
        return jwt.encode({**claims, **changes}, key, algorithm=algorithm, headers={**extra, **headers})

    assert (
        local_store.front(sign({})).get("/get_servers").status_code == 200
    )  # what is forged here is right but for one thing
    assert user.l1.with_token(sign({})).get("/list_directory/root").status_code == 200
    public_pem = json.dumps(check_ok(local_store.front().get("/auth/jwks.json"))).encode()
    head, body, signature = user.token.split(".")
    now = int(time.time())
    unsigned = base64.urlsafe_b64encode(json.dumps({**extra, "alg": "none"}).encode()).decode().rstrip("=")
    return {
        "no token": None,
        "garbage": "garbage",
        "three dots": "...",
        "expired": sign({"iat": now - 7200, "exp": now - 3600}),
        "not yet issued": sign({"iat": now + 3600, "nbf": now + 3600, "exp": now + 7200}),
        "other audience": user.refresh_token,
        "service audience by a key that may not": sign({"aud": "moorage:service:l3"}),
        "audience unknown": sign({"aud": "somebody:else"}),
        "other issuer": sign({"iss": "l1"}),
        "other type": sign({}, typ="JWT"),
        "alg none": f"{unsigned}.{body}.",
        "alg none with the signature left on": f"{unsigned}.{body}.{signature}",
        "wrong key": sign({}, key=ec.generate_private_key(ec.SECP256R1())),
        "unknown kid": sign({}, kid="no-such-key"),
        "hmac with the public key": sign({}, key=hashlib.sha256(public_pem).digest(), algorithm="HS256"),
        "body changed": f"{head}.{body[:-2]}{'AA' if body[-2:] != 'AA' else 'BB'}.{signature}",
        "signature cut off": f"{head}.{body}.",
        "signature changed": f"{head}.{body}.{'A' * len(signature)}",
    }


def test_the_token_of_an_upload_that_is_too_old_is_gone_wherever_it_is_shown(
    local_store: RunningStore, private_key: Callable[[str], ec.EllipticCurvePrivateKey]
):
    """410 and not 401: no login would help, only another /update."""
    user = new_user(local_store)
    fresh = user.begin("file")["upload_token"]
    header = jwt.get_unverified_header(fresh)
    claims = jwt.decode(fresh, options={"verify_signature": False})
    now = int(time.time())
    changed = {**claims, "iat": now - 7200, "exp": now - 3600}
    old = jwt.encode(
        changed, private_key(header["kid"]), "ES256", {"kid": header["kid"], "typ": header["typ"]}
    )
    chunk = {"content": b"text"}
    for said in (
        user.commit("file", old, 1, chunks=[]),
        user.block.with_token(old).put("/chunks/c", **chunk),
        user.block.with_token(old).post("/store_chunk", json=[]),
        user.block.put("/chunks/c", headers={"X-Upload-Token": old}, **chunk),
    ):
        check_error(said, 410, word="upload_ended")
    for nowhere in (user.l1.with_token(old).get("/nodes/root"), user.block.with_token(old).get("/chunks/c")):
        check_error(nowhere, 401)
    check_error(user.block.put("/chunks/c", headers={"X-Upload-Token": user.token}, **chunk), 401)
    check_ok(user.block.with_token(fresh).put("/chunks/c", **chunk))


def routes_of(local_store: RunningStore, role: str) -> list[tuple[str, str]]:
    """Method and path below the host of each route that the server says it has for clients."""
    document = check_ok(local_store.direct(role, "internal").get("/openapi.json"))
    prefixes = {
        "auth": "/auth",
        "l1": "/meta/",
        "l2": "/meta/",
        "l3": "/meta/",
        "block": "/block/",
        "notify": "/",  # below its name, and at the root
    }
    return [
        (method.upper(), re.sub(r"\{[^}]*\}", "x", path))
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith(prefixes[role]) or path == "/get_servers"
    ]


@pytest.mark.parametrize("role", OF_THE_PROTOCOL)
def test_the_description_names_every_route_of_the_protocol(local_store: RunningStore, user: User, role: str):
    base = "" if role == "auth" else getattr(user, role).base.removeprefix(local_store.url)
    described = set(routes_of(local_store, role))
    for route in OF_THE_PROTOCOL[role]:
        method, path = route.split(" ")
        assert (method, base + path.replace("*", "x")) in described


@pytest.mark.parametrize("role", OF_THE_PROTOCOL)
def test_every_route_refuses_every_wrong_token(
    local_store: RunningStore, wrong_tokens: dict[str, str | None], role: str
):
    asked = 0
    for method, path in routes_of(local_store, role):
        if (method, path) in NEED_NO_TOKEN:
            continue
        for kind, token in wrong_tokens.items():
            response = local_store.front(token).request(method, path, content=b"{not even json")
            assert response.status_code == 401, (
                f"{kind}: {method} {path}: {response.status_code} {response.text}"
            )
            if method != "HEAD":
                check_error(response, 401)
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            asked += 1
    assert asked >= len(wrong_tokens) * len(OF_THE_PROTOCOL[role])


@pytest.mark.parametrize("role", OF_THE_PROTOCOL)
def test_only_login_and_discovery_need_no_token(local_store: RunningStore, role: str):
    for method, path in set(routes_of(local_store, role)) & NEED_NO_TOKEN:
        assert local_store.front().request(method, path, content=b"{}").status_code != 403
    for route in OF_THE_PROTOCOL[role]:
        method, path = route.split(" ")
        if role == "auth":
            check_error(local_store.front().request(method, path.replace("*", "x")), 401)


@pytest.mark.parametrize(
    "form",
    [
        "Basic {token}",
        "{token}",
        "Token {token}",
        "Bearer",
        "Bearer {token} x",
        "Bearer {token}, Bearer {token}",
    ],
)
def test_the_header_has_one_form(user: User, form: str):
    headers = {"Authorization": form.format(token=user.token)}
    check_error(user.l1.with_token(None).get("/list_directory/root", headers=headers), 400, 401)


def test_a_token_in_the_url_or_a_cookie_does_not_count(user: User):
    nobody = user.l1.with_token(None)
    for query in ("token", "access_token"):
        check_error(nobody.get(f"/list_directory/root?{query}={user.token}"), 401)
    check_error(nobody.get("/list_directory/root", headers={"Cookie": f"token={user.token}"}), 401)
