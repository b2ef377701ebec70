"""PROTOCOL.md, Directories: making, listing, finding."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from black_box.http_client import check_error, check_ok
from black_box.user import User


def create(user: User, dir_id: str, path: str, parent: str = "root") -> httpx.Response:
    return user.l1.put(f"/create_directory/{dir_id}", json={"path": path, "parent_dir_id": parent})


def test_creating_a_directory_makes_what_is_missing_on_the_path(user: User):
    check_ok(create(user, "year", "/photos/2023"))
    photos = user.listing()["photos"]
    assert user.listing(photos["id"]) == {"2023": user.listing(photos["id"])["2023"]}
    assert user.listing(photos["id"])["2023"]["id"] == "year"


def test_creating_the_same_directory_again_is_the_same(user: User):
    first = create(user, "docs", "/a/docs")
    again = create(user, "docs", "/a/docs")
    check_ok(first)
    assert again.content == first.content
    assert list(user.listing()) == ["a"]


def test_a_path_is_taken_below_its_parent(user: User):
    user.make_directory("top", "/top")
    user.make_directory("leaf", "/inner/leaf", parent="top")
    assert user.node("leaf")["path"] == "/top/inner/leaf"


def test_the_root_has_three_names(user: User):
    check_ok(create(user, "d1", "/d1", "root"))
    check_ok(create(user, "d2", "/d2", f"root:{user.user_id}"))
    check_ok(create(user, "d3", "/d3", f"root:{user.username}"))
    listings = [user.listing(root) for root in ("root", f"root:{user.user_id}", f"root:{user.username}")]
    assert listings[0] == listings[1] == listings[2]
    assert set(listings[0]) == {"d1", "d2", "d3"}


def test_a_directory_id_in_use_elsewhere_is_a_conflict(user: User):
    user.make_directory("taken", "/here")
    check_error(create(user, "taken", "/there"), 409)
    user.save("a-file", [b"x"], name="file.txt", parent_dir_id="root")
    check_error(create(user, "a-file", "/elsewhere"), 409)
    assert set(user.listing()) == {"here", "file.txt"}


def test_an_existing_directory_is_not_given_a_second_id(user: User):
    user.make_directory("first", "/here")
    check_error(create(user, "second", "/here"), 409)
    assert user.listing()["here"]["id"] == "first"


def test_a_file_in_the_way_is_a_conflict_and_nothing_is_half_made(user: User):
    user.save("plug", [b"x"], name="plug", parent_dir_id="root")
    check_error(create(user, "d", "/plug/below"), 409)
    check_error(create(user, "d", "/plug"), 409)
    check_error(create(user, "d", "/new/x", parent="plug"), 404, 409)
    assert list(user.listing()) == ["plug"]
    check_error(user.l1.get("/nodes/d"), 404)


def test_an_unknown_parent_is_not_found(user: User):
    check_error(create(user, "d", "/x", parent="no-such-dir"), 404)


@pytest.mark.parametrize("path", ["", "/"])
def test_the_root_cannot_be_made(user: User, path: str):
    check_error(create(user, "d", path), 400, 409, 422)


@pytest.mark.parametrize("path", ["/a//b", "/a/./b", "/a/../b", "..", "/.."])
def test_paths_are_taken_as_they_stand_never_resolved(user: User, path: str):
    check_error(create(user, "d", path), 400, 422)
    assert user.listing() == {}


def test_a_listing_says_version_size_time_and_state_of_each_entry(user: User):
    user.make_directory("sub", "/sub")
    user.save("file", [b"12345", b"678"], name="f.txt", parent_dir_id="root")
    answer = check_ok(user.l1.get("/list_directory/root"))
    (directory,), (file,) = answer["directories"], answer["files"]
    assert (directory["id"], directory["name"]) == ("sub", "sub")
    assert (file["id"], file["name"], file["version"], file["size"]) == ("file", "f.txt", 1, 8)
    assert file["state"] == directory["state"]
    assert file["modified"]


def test_listing_what_is_not_a_directory_is_an_error(user: User):
    user.save("file", [b"x"])
    check_error(user.l1.get("/list_directory/file"), 404, 409, 422)
    check_error(user.l1.get("/list_directory/no-such-dir"), 404)


def test_pages_hold_every_entry_once_and_no_more_than_asked_for(user: User):
    names = set()
    for number in range(23):
        user.make_directory(f"d{number}", f"/dir {number}")
        names.add(f"dir {number}")
        check_ok(
            user.l1.put(f"/create_file/f{number}", json={"parent_dir_id": "root", "name": f"file {number}"})
        )
        names.add(f"file {number}")
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        query = {"limit": 7, **({"cursor": cursor} if cursor else {})}
        page = check_ok(user.l1.get("/list_directory/root", params=query))
        entries = [*page["directories"], *page["files"]]
        assert len(entries) <= 7
        seen += [each["name"] for each in entries]
        cursor, pages = page.get("next_cursor"), pages + 1
    assert pages >= 7
    assert sorted(seen) == sorted(names)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=1e3",
        "limit=99999999999999999999",
        "cursor=%00",
        "cursor=made-up",
    ],
)
def test_a_wrong_page_is_refused(user: User, query: str):
    user.make_directory("d", "/d")
    check_error(user.l1.get(f"/list_directory/root?{query}"), 400, 422)


def test_a_path_resolves_to_its_node_and_a_node_knows_its_path(user: User):
    user.make_directory("year", "/photos/2023")
    user.save("pic", [b"jpeg"], name="a b+ü.jpg", parent_dir_id="year")
    found = check_ok(user.l1.get("/resolve", params={"path": "/photos/2023/a b+ü.jpg"}))
    assert found["id"] == "pic"
    assert found == user.node("pic")
    assert user.node("pic")["path"] == "/photos/2023/a b+ü.jpg"
    assert user.node("pic")["parent_dir_id"] == "year"
    assert user.node("pic")["type"] == "file"
    assert check_ok(user.l1.get("/resolve", params={"path": "/photos/2023"}))["id"] == "year"
    assert check_ok(user.l1.get("/resolve", params={"path": "/"}))["id"] == user.root


def test_what_is_not_at_a_path_is_not_found(user: User):
    user.save("pic", [b"jpeg"], name="pic", parent_dir_id="root")
    for path in ("/nothing", "/pic/below", "/no/such/path"):
        check_error(user.l1.get("/resolve", params={"path": path}), 404)
    check_error(user.l1.get("/nodes/nothing"), 404)
    check_error(user.l1.get("/resolve"), 400, 422)


def test_of_two_who_make_one_name_at_once_one_wins(user: User):
    for number in range(20):
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda who, n=number: create(user, f"{who}{n}", f"/name {n}"), "ab"))
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        winner = "ab"[[answer.status_code for answer in answers].index(200)]
        assert user.listing()[f"name {number}"]["id"] == f"{winner}{number}"


def test_all_who_make_directories_below_one_missing_parent_succeed(user: User):
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda number: create(user, f"leaf{number}", f"/shared/leaf {number}"), range(32))
        )
    assert [answer.status_code for answer in answers] == [200] * 32
    assert len(user.listing(user.listing()["shared"]["id"])) == 32
