"""The route seam: who is let in, what a body may be, and one shape for every error."""

import gc
import json
import secrets
import time
import weakref
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from realm import ADMIN_TOKEN, Realm
from starlette.responses import Response

from moorage.core.errors import (
    ConflictError,
    HashMismatchError,
    InvalidFieldError,
    NotFoundError,
    StoreUnavailableError,
    ThrottledError,
)
from moorage_nodes.description import build_description
from moorage_nodes.tokens import (
    ADMIN,
    PUBLIC,
    USER,
    Allow,
    Audience,
    Claims,
    TokenRefusedError,
    Verifier,
    admin_token_digest,
)
from moorage_nodes.web import Call, Mount, Routes, build_app


class Note(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    pages: list[int] = []


class Told(msgspec.Struct):
    subject: str
    text: str | None = None


class Revoked:
    """Refuses the users that a test names."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.slow: list[str] = []

    def passes(self, claims: Claims) -> bool:
        return claims.subject.startswith("known") and claims.subject not in self.users

    async def check(self, claims: Claims) -> None:
        self.slow.append(claims.subject)
        if claims.subject in self.users:
            raise TokenRefusedError("revoked")


ERRORS: dict[str, Exception] = {
    "throttled": ThrottledError("Slow down.", retry_after=7),
    "conflict": ConflictError("Stale.", server_version=6),
    "hash": HashMismatchError("Wrong hash.", chunk_id="c"),
    "absent": NotFoundError("No such thing."),
    "down": StoreUnavailableError("etcd is away."),
}


def build_routes() -> Routes[str]:
    routes: Routes[str] = Routes()

    @routes.get("/open", allow=PUBLIC, answer=Told)
    async def open_to_all(call: Call[str]) -> Told:
        """Open to everybody."""
        return Told(call.claims.subject, call.server)

    @routes.put("/notes/{name}", allow=USER, body=Note, answer=Told, limit=1000)
    async def put_note(call: Call[str]) -> Told:
        return Told(call.claims.subject, f"{call.path('name')}:{call.body.text}")

    @routes.delete("/notes/{name}", allow=USER, body=Note, body_optional=True)
    async def delete_note(call: Call[str]) -> Told:
        return Told(call.claims.subject, None if call.body is None else call.body.text)

    @routes.get("/pages", allow=USER)
    async def pages(call: Call[str]) -> Told:
        return Told(str(call.query_int("limit", low=1, high=10)), call.query("cursor"))

    @routes.get("/errors/{kind}", allow=PUBLIC)
    async def fail(call: Call[str]) -> Response:
        raise ERRORS[call.path("kind")]

    @routes.post("/admin", allow=ADMIN)
    async def administer(call: Call[str]) -> Told:
        return Told(call.claims.subject)

    @routes.post("/upload", allow=Allow(frozenset({Audience.ACCESS, Audience.UPLOAD})), raw=True)
    async def upload(call: Call[str]) -> Told:
        return Told(str(call.claims.audience))

    return routes


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    return Realm(tmp_path)


@pytest.fixture
def revoked() -> Revoked:
    return Revoked()


@pytest.fixture
def app(realm: Realm, revoked: Revoked) -> Any:

    verifier = Verifier(realm.trust(), time.time, admin_digest=admin_token_digest(ADMIN_TOKEN))
    mounts = [Mount("/meta/c1", build_routes(), "one"), Mount("", build_routes(), "two")]
    return build_app(mounts, verifier=verifier, revocation=revoked)


@pytest.fixture
async def client(app: Any) -> Any:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture
def ann(realm: Realm) -> dict[str, str]:
    return {"Authorization": "Bearer " + realm.signer("auth").sign(Audience.ACCESS, "known-ann", 60)}


async def test_each_mount_has_its_own_context(client: httpx.AsyncClient):
    assert (await client.get("/meta/c1/open")).json() == {"subject": "", "text": "one"}
    assert (await client.get("/open")).json() == {"subject": "", "text": "two"}


async def test_a_handler_gets_who_asks_the_path_and_the_body(client: httpx.AsyncClient, ann: dict[str, str]):
    answer = await client.put("/notes/a%20b", headers=ann, json={"text": "hi"})
    assert answer.json() == {"subject": "known-ann", "text": "a b:hi"}


async def test_an_optional_body_may_be_absent(client: httpx.AsyncClient, ann: dict[str, str]):
    assert (await client.delete("/notes/a", headers=ann)).json()["text"] is None
    given = await client.request("DELETE", "/notes/a", headers=ann, json={"text": "why"})
    assert given.json()["text"] == "why"


@pytest.mark.parametrize(
    ("content", "status", "word", "field"),
    [
        (b"", 400, "malformed", None),
        (b"{", 400, "malformed", None),
        (b"\xff\xfe", 400, "malformed", None),
        (b'{"text": "\xff"}', 400, "malformed", None),
        (b'{"text": "\\ud800"}', 400, "malformed", None),
        (b"[" * 990, 422, "invalid_field", "$"),
        (b"[]", 422, "invalid_field", "$"),
        (b"{}", 422, "invalid_field", "$"),
        (b'{"text": 1}', 422, "invalid_field", "$.text"),
        (b'{"text": "x", "pages": [1, "two"]}', 422, "invalid_field", "$.pages[1]"),
        (b'{"text": "x", "pages": [1e400]}', 422, "invalid_field", "$.pages[0]"),
        (b'{"text": "x", "more": 1}', 422, "invalid_field", "$"),
        (json.dumps({"text": "x" * 1000}).encode(), 413, "too_large", None),
    ],
)
async def test_a_bad_body_is_refused_with_its_place(
    client: httpx.AsyncClient, ann: dict[str, str], content: bytes, status: int, word: str, field: str | None
):
    answer = await client.put("/notes/a", headers=ann, content=content)
    body = answer.json()
    assert (answer.status_code, body["error"], body.get("field")) == (status, word, field)
    assert body["detail"]


async def test_a_body_that_hides_its_length_is_refused_when_it_passes_the_limit(
    client: httpx.AsyncClient, ann: dict[str, str]
):
    sent = 0

    async def parts() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 400
            yield b"x" * 400

    answer = await client.put("/notes/a", headers=ann, content=parts())
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("throttled", 429, {"error": "throttled", "retry_after": 7}),
        ("conflict", 409, {"error": "conflict", "status": "conflict", "server_version": 6}),
        ("hash", 422, {"error": "hash_mismatch", "chunk_id": "c"}),
        ("absent", 404, {"error": "not_found"}),
        ("down", 503, {"error": "store_unavailable"}),
    ],
)
async def test_an_error_has_its_status_and_its_fields(
    client: httpx.AsyncClient, kind: str, status: int, body: dict[str, Any]
):
    answer = await client.get(f"/errors/{kind}")
    assert answer.status_code == status
    assert body.items() <= answer.json().items()
    assert answer.headers.get("retry-after") == ("7" if kind == "throttled" else None)


async def test_unknown_paths_and_methods_answer_like_every_other_error(client: httpx.AsyncClient):
    absent = await client.get("/nothing/here")
    assert (absent.status_code, absent.json()["error"]) == (404, "not_found")
    wrong = await client.patch("/notes/a")
    assert (wrong.status_code, wrong.json()["error"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "DELETE, PUT"


async def test_all_refusals_are_one_answer(client: httpx.AsyncClient, realm: Realm):
    good = realm.signer("auth").sign(Audience.ACCESS, "known-ann", 60)
    headers = [
        {},
        {"Authorization": "Basic dTpw"},
        {"Authorization": f"Bearer {good[:-4]}AAAA"},
        {"Authorization": "Bearer " + realm.signer("l1").sign(Audience.UPLOAD, "known-ann", 60)},
        {"Authorization": f"Bearer {ADMIN_TOKEN}"},
    ]
    answers = [await client.get("/pages", headers=each) for each in headers]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.text for answer in answers} == {answers[0].text}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}


async def test_audiences_open_the_routes_that_name_them(
    client: httpx.AsyncClient, realm: Realm, ann: dict[str, str]
):
    token = realm.signer("l1").sign(Audience.UPLOAD, "known-ann", 60)
    upload = await client.post("/upload", headers={"Authorization": f"Bearer {token}"})
    assert upload.json()["subject"] == Audience.UPLOAD
    assert (await client.post("/upload", headers=ann)).json()["subject"] == Audience.ACCESS
    admin = await client.post("/admin", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    assert admin.json()["subject"] == "admin"
    assert (await client.post("/admin", headers=ann)).status_code == 401


async def test_a_user_who_is_known_to_be_current_waits_for_nothing(
    client: httpx.AsyncClient, revoked: Revoked, ann: dict[str, str]
):
    assert (await client.get("/pages", headers=ann)).status_code == 200
    assert revoked.slow == []


@pytest.mark.parametrize("audience", [Audience.ACCESS, Audience.UPLOAD])
async def test_a_revoked_user_is_refused_with_whatever_token(
    client: httpx.AsyncClient, realm: Realm, revoked: Revoked, audience: Audience
):
    role = "auth" if audience is Audience.ACCESS else "l1"
    headers = {"Authorization": "Bearer " + realm.signer(role).sign(audience, "stranger", 60)}
    assert (await client.post("/upload", headers=headers)).status_code == 200
    assert revoked.slow == ["stranger"]
    revoked.users.add("stranger")
    assert (await client.post("/upload", headers=headers)).status_code == 401


async def test_revocation_asks_nothing_about_those_who_are_no_users(
    client: httpx.AsyncClient, revoked: Revoked
):
    assert (await client.get("/open")).status_code == 200
    admin = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert (await client.post("/admin", headers=admin)).status_code == 200
    assert revoked.slow == []


@pytest.mark.parametrize("limit", ["0", "11", "-1", "1.5", "x", "", "\uff19", "99999999999999999999"])
async def test_a_query_number_out_of_its_bounds_is_refused(
    client: httpx.AsyncClient, ann: dict[str, str], limit: str
):
    answer = await client.get("/pages", headers=ann, params={"limit": limit})
    assert (answer.status_code, answer.json()["field"]) == (422, "limit")


async def test_query_parameters_are_optional(client: httpx.AsyncClient, ann: dict[str, str]):
    assert (await client.get("/pages", headers=ann)).json() == {"subject": "None", "text": None}
    answer = await client.get("/pages?limit=10&cursor=%C3%BC", headers=ann)
    assert answer.json() == {"subject": "10", "text": "ü"}


def test_every_route_is_described():
    mounts = [Mount("/meta/c1", build_routes(), "one"), Mount("", build_routes(), "two")]
    document = build_description(mounts, "Test")
    put = document["paths"]["/meta/c1/notes/{name}"]["put"]
    assert put["security"] == [{"bearer": []}]
    reference = put["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert document["components"]["schemas"][reference.rpartition("/")[2]]["required"] == ["text"]
    assert document["paths"]["/open"]["get"]["security"] == []
    assert document["paths"]["/open"]["get"]["summary"] == "Open to everybody."
    assert msgspec.json.encode(document)


def test_a_route_cannot_stand_twice(realm: Realm):
    verifier = Verifier(realm.trust(), lambda: 0.0)
    mounts = [Mount("", build_routes(), "one"), Mount("", build_routes(), "two")]
    with pytest.raises(ValueError, match="twice"):
        build_app(mounts, verifier=verifier)


def test_a_route_without_a_word_on_whom_it_lets_in_cannot_exist():
    with pytest.raises(TypeError, match="allow"):
        Routes[str]().post("/anything")


async def test_a_random_path_never_fails(client: httpx.AsyncClient):
    for _ in range(50):
        path = "/" + secrets.token_urlsafe(30).replace("-", "/").replace("_", "%")
        assert (await client.get(path)).status_code in {404, 405}


async def test_what_a_refused_request_held_is_let_go_with_it(realm: Realm):
    """Not only when Python's collector comes by: it may be megabytes."""

    class Held:
        pass

    held: list[weakref.ref[Held]] = []
    routes: Routes[None] = Routes()

    @routes.get("/refused", allow=PUBLIC)
    async def refuse(_: Call[None]) -> Told:
        bytes_of_the_body = Held()
        held.append(weakref.ref(bytes_of_the_body))
        try:
            {}["nothing"]
        except KeyError:
            raise InvalidFieldError("No.", field="$") from None

    app = build_app([Mount("", routes, None)], verifier=Verifier(realm.trust(), time.time))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                assert (await http.get("/refused")).status_code == 422
            assert [each() for each in held] == [None] * 3
        finally:
            gc.enable()
