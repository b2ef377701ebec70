"""Names, ids and paths that people and attackers choose: stored as they are, refused clearly, never a 500."""

import json
import unicodedata
from urllib.parse import quote

import pytest
from black_box.http_client import check_error, check_ok
from black_box.store import RunningStore
from black_box.user import User, new_user, stored_form

BAD_NAMES = {
    "NUL": "a\0b",
    "slash": "a/b",
    "dot": ".",
    "dot dot": "..",
    "empty": "",
    "newline": "a\nb",
    "escape": "a\x1b[31mb",
    "DEL": "a\x7fb",
    "C1 control": "a\x85b",
    "bidi override": "invoice\u202efdp.exe",
    "bidi isolate": "a\u2066b",
    "right-to-left mark": "a\u200fb",
    "256 bytes": "x" * 256,
    "256 bytes of two-byte letters": "é" * 128,
    "lone surrogate": "a\ud800b",
}
GOOD_NAMES = [
    "x" * 255,
    "é" * 127,
    "two words",
    " leading and trailing ",
    "日本語のファイル",
    "👩\u200d👩\u200d👧",
    "semi;colon&amp'\"<b>",
    "back\\slash",
    "%2e%2e%2fetc",
    "-rf",
    "...",
    "CON.txt:stream",
    "a?b#c",
]
BAD_IDS = ["a b", "ü", "a*b", "x" * 129, "a\0b", "a\nb", "a/b", ".", "..", "../x", "a\\b", "a,b"]
REFUSED = (400, 422)


@pytest.fixture(scope="module")
def seeded(store: RunningStore) -> User:
    """One for all refusals: they leave nothing behind."""
    user = new_user(store)
    user.make_directory("dir", "/dir")
    user.save("file", [b"x"], name="file", parent_dir_id="root")
    return user


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_a_name_that_breaks_the_rules_is_refused_wherever_a_name_is_taken(seeded: User, name: str):
    user = seeded
    bodies = {
        ("PUT", "/create_file/n1"): {"parent_dir_id": "root", "name": name},
        ("POST", "/move/file"): {"parent_dir_id": "root", "name": name},
        ("POST", "/files/n2/update"): {"client_version": 0, "parent_dir_id": "root", "name": name},
    }
    if name not in {"", "a/b"}:
        bodies["PUT", "/create_directory/n3"] = {"parent_dir_id": "root", "path": f"/{name}"}
        bodies["PUT", "/create_directory/n4"] = {"parent_dir_id": "root", "path": f"/ok/{name}/ok"}
        bodies["PUT", "/create_file/n5"] = {"path": f"/dir/{name}"}
    for (method, path), body in bodies.items():
        content = json.dumps(body).encode()  # with \ud800 escaped, as only JSON can say it
        check_error(user.l1.request(method, path, content=content), *REFUSED)
    assert set(user.listing()) == {"dir", "file"}
    assert user.listing("dir") == {}


def test_a_batch_refuses_a_bad_name_without_making_the_file(user: User):
    files = [{"file_id": "bad", "client_version": 0, "parent_dir_id": "root", "name": "a\0b"}]
    response = user.l1.post("/files:batch_update", json={"files": files})
    if response.status_code == 200:
        assert response.json()["files"][0]["status"] != "proceed"
    else:
        check_error(response, *REFUSED)
    assert user.listing() == {}


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_within_the_rules_is_listed_as_it_was_given(user: User, name: str):
    user.make_directory("dir", f"/{name}")
    check_ok(user.l1.put("/create_file/file", json={"parent_dir_id": "dir", "name": name}))
    assert list(user.listing()) == [name]
    assert list(user.listing("dir")) == [name]
    assert user.metadata("file")["name"] == name
    assert check_ok(user.l1.get("/resolve", params={"path": f"/{name}/{name}"}))["id"] == "file"


def test_names_are_stored_as_nfc_and_two_spellings_are_one_name(user: User):
    composed = unicodedata.normalize("NFC", "Café Å")
    decomposed = unicodedata.normalize("NFD", "Café Å")
    assert composed != decomposed
    user.make_directory("one", f"/{decomposed}")
    assert list(user.listing()) == [composed]
    for spelling in (composed, decomposed):
        body = {"parent_dir_id": "root", "name": spelling}
        check_error(user.l1.put("/create_file/two", json=body), 409)
        assert check_ok(user.l1.get("/resolve", params={"path": f"/{spelling}"}))["id"] == "one"
        check_ok(user.l1.put("/create_directory/one", json={"parent_dir_id": "root", "path": f"/{spelling}"}))


def test_names_that_differ_in_case_are_two(user: User):
    user.make_directory("one", "/Name")
    user.make_directory("two", "/name")
    assert set(user.listing()) == {"Name", "name"}


def test_a_path_of_a_thousand_parts_is_made_or_refused_clearly(user: User):
    path = "/".join(["", *["d"] * 1000])
    response = user.l1.put("/create_directory/deep", json={"path": path, "parent_dir_id": "root"})
    if response.status_code == 200:
        assert user.node("deep")["path"] == path
    else:
        check_error(response, *REFUSED)
        assert user.listing() == {}
    check_error(user.l1.get("/resolve", params={"path": path + "/x"}), 400, 404, 422)


def test_a_tree_a_thousand_deep_built_in_steps_works_or_is_refused_clearly(user: User):
    parent, depth = "root", 0
    for step in range(10):
        path = "/".join(["", *["d"] * 100])
        response = user.l1.put(f"/create_directory/s{step}", json={"path": path, "parent_dir_id": parent})
        if response.status_code != 200:
            check_error(response, 400, 409, 422)
            break
        parent, depth = f"s{step}", depth + 100
    assert depth >= 100
    assert user.node(parent)["path"] == "/d" * depth
    user.save("bottom", [b"down here"], name="f", parent_dir_id=parent)
    assert user.read("bottom") == b"down here"
    user.make_directory("top", "/other/way")
    response = user.l1.post("/move/top", json={"parent_dir_id": parent, "name": "moved"})
    if response.status_code != 200:
        check_error(response, 400, 409, 422)
    check_error(user.l1.post("/move/s0", json={"parent_dir_id": parent, "name": "cycle"}), 409, 422)


@pytest.mark.parametrize("bad", BAD_IDS, ids=ascii)
def test_an_id_out_of_the_alphabet_is_refused_in_a_path(seeded: User, bad: str):
    user, path_id = seeded, quote(bad, safe="")
    token = user.begin("other")["upload_token"]
    calls = [
        user.l1.put(f"/create_directory/{path_id}", json={"path": "/new", "parent_dir_id": "root"}),
        user.l1.put(f"/create_file/{path_id}", json={"parent_dir_id": "root", "name": "new"}),
        user.l1.post(f"/files/{path_id}/update", json={"client_version": 0}),
        user.l1.post(
            f"/files/{path_id}/commit", json={"upload_token": token, "new_version": 1, "chunks": []}
        ),
        user.l1.post(f"/move/{path_id}", json={"parent_dir_id": "root", "name": "new"}),
        user.l1.get(f"/list_directory/{path_id}"),
        user.l1.get(f"/nodes/{path_id}"),
        user.l1.get(f"/files/{path_id}/metadata"),
        user.l2.get(f"/files/{path_id}/chunks"),
        user.l3.get(f"/chunks/{path_id}/metadata"),
        user.block.with_token(token).put(f"/chunks/{path_id}", content=b"x"),
        user.block.get(f"/chunks/{path_id}"),
        user.block.get(f"/download_chunk/{path_id}"),
        user.block.get(f"/files/{path_id}/content"),
    ]
    for response in calls:
        check_error(response, 400, 404, 405, 422)
    assert set(user.listing()) == {"dir", "file"}


@pytest.mark.parametrize("bad", [*BAD_IDS, ""], ids=ascii)
def test_an_id_out_of_the_alphabet_is_refused_in_a_body(seeded: User, bad: str):
    user = seeded
    token = user.begin("other")["upload_token"]
    calls = [
        user.l1.put("/create_directory/n", json={"path": "/new", "parent_dir_id": bad}),
        user.l1.put("/create_file/n", json={"parent_dir_id": bad, "name": "new"}),
        user.l1.post("/move/file", json={"parent_dir_id": bad, "name": "new"}),
        user.l1.post("/move/file", json={"parent_dir_id": "root", "name": "dir", "replace": {"id": bad}}),
        user.l1.post("/files/n/update", json={"client_version": 0, "parent_dir_id": bad, "name": "n"}),
        user.l1.post("/files/n/commit", json={"upload_token": token, "new_version": 1, "chunks": [bad]}),
        user.block.with_token(token).post("/store_chunk", json=[stored_form(bad, b"bytes")]),
    ]
    for response in calls:
        check_error(response, *REFUSED)
    assert set(user.listing()) == {"dir", "file"}


@pytest.mark.parametrize("good", ["a", "A-Z_0.9:x", "x" * 128, "...", "-", "sha256_nothing"])
def test_ids_within_the_alphabet_are_the_clients_to_choose(user: User, good: str):
    user.save(good, [b"content"])
    assert user.read(good) == b"content"
    assert good in user.listing()
