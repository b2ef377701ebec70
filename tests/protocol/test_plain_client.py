"""A client that knows only the unmarked part of PROTOCOL.md works, and reads back what it meant."""

from collections.abc import Callable

import pytest
from black_box.http_client import check_error, check_ok
from black_box.plain import ConflictError, PlainClient
from black_box.user import User

OpenClient = Callable[..., PlainClient]


def three_chunks(word: str) -> dict[str, bytes]:
    return {f"chunk_{number}": f"{word} {number};".encode() for number in (1, 2, 3)}


def joined(chunks: dict[str, bytes]) -> bytes:
    return b"".join(chunks.values())


@pytest.fixture(params=["upload token", "access token"])
def client(plain: OpenClient, request: pytest.FixtureRequest) -> PlainClient:
    """Both tokens that PROTOCOL.md lets it store chunks with."""
    return plain(store_with=request.param)


def test_a_file_is_made_by_its_first_update_in_the_root_under_its_id(client: PlainClient):
    client.write("report.txt", 0, three_chunks("report"))
    assert client.read("report.txt") == joined(three_chunks("report"))
    assert client.version("report.txt") == 1
    assert client.list_directory("root")[1] == {"report.txt": "report.txt"}


def test_directories_are_made_and_listed(client: PlainClient):
    client.make_directory("dir_1", "/photos/2023", "root")
    client.make_directory("dir_1", "/photos/2023", "root")
    directories, files = client.list_directory("root")
    assert list(directories) == ["photos"]
    assert files == {}
    assert client.list_directory(directories["photos"])[0] == {"2023": "dir_1"}


def test_the_same_chunk_names_in_every_file_do_not_mix_files(client: PlainClient):
    words = {f"file_{number}": f"file number {number}" for number in range(4)}
    for file_id, word in words.items():
        client.write(file_id, 0, three_chunks(word))
    for file_id, word in words.items():
        assert client.read(file_id) == joined(three_chunks(word))


def test_the_same_chunk_names_in_every_version_mean_the_newest(client: PlainClient):
    for version in range(5):
        client.write("file", version, three_chunks(f"version {version + 1}"))
        assert client.read("file") == joined(three_chunks(f"version {version + 1}"))
    assert client.version("file") == 5


@pytest.mark.parametrize("changed", [1, 2, 3])
def test_one_of_three_chunks_is_changed_in_place(client: PlainClient, changed: int):
    chunks = three_chunks("before")
    client.write("file", 0, chunks)
    chunks[f"chunk_{changed}"] = b"something else;"
    client.write("file", 1, {f"chunk_{changed}": b"something else;"})
    assert client.read("file") == joined(chunks)
    assert client.version("file") == 2


def test_one_chunk_is_changed_after_another_file_took_the_names(client: PlainClient):
    mine, other = three_chunks("mine"), three_chunks("other")
    client.write("mine", 0, mine)
    client.write("other", 0, other)
    mine["chunk_2"] = b"changed later;"
    client.write("mine", 1, {"chunk_2": b"changed later;"})
    assert client.read("mine") == joined(mine)
    assert client.read("other") == joined(other)


def test_a_changed_chunk_that_equals_another_files_of_that_name_is_still_a_change(client: PlainClient):
    """The name already means these bytes in the namespace, but not in this file."""
    mine, other = three_chunks("mine"), three_chunks("other")
    client.write("mine", 0, mine)
    client.write("other", 0, other)
    mine["chunk_2"] = other["chunk_2"]
    client.write("mine", 1, {"chunk_2": other["chunk_2"]})
    assert client.read("mine") == joined(mine)
    assert client.read("other") == joined(other)


def test_a_changed_chunk_and_a_new_one_are_replaced_and_put_behind(client: PlainClient):
    chunks = three_chunks("before")
    client.write("file", 0, chunks)
    client.write("file", 1, {"chunk_4": b"the new end", "chunk_1": b"the new beginning;"})
    assert client.read("file") == joined(
        {**chunks, "chunk_1": b"the new beginning;", "chunk_4": b"the new end"}
    )


def test_all_chunks_sent_again_with_one_changed_is_that_change(client: PlainClient):
    chunks = three_chunks("before")
    client.write("file", 0, chunks)
    chunks["chunk_3"] = b"another end"
    client.write("file", 1, chunks)
    assert client.read("file") == joined(chunks)


def test_only_new_names_are_a_whole_new_file(client: PlainClient):
    client.write("file", 0, three_chunks("before"))
    client.write("file", 1, {"part_b": b"first, ", "part_a": b"second"})
    assert client.read("file") == b"first, second"


def test_chunks_in_several_requests_come_in_the_order_of_the_requests(client: PlainClient):
    _, upload_token = client.begin("file", 0)
    client.store(upload_token, {"z": b"one,", "m": b"two,"})
    client.store(upload_token, {"a": b"three,"})
    client.store(upload_token, {"k": b"four"})
    client.commit("file", upload_token, 1)
    assert client.read("file") == b"one,two,three,four"


def test_the_same_bytes_under_two_names_are_there_twice(client: PlainClient):
    client.write("file", 0, {"chunk_1": b"echo ", "chunk_2": b"echo ", "chunk_3": b"end"})
    assert client.read("file") == b"echo echo end"
    client.write("file", 1, {"chunk_2": b"reply "})
    assert client.read("file") == b"echo reply end"


def test_a_store_sent_twice_is_stored_once(client: PlainClient):
    """Its answer may have been lost."""
    _, upload_token = client.begin("file", 0)
    client.store(upload_token, {"chunk_1": b"one,"})
    client.store(upload_token, {"chunk_1": b"one,"})
    client.store(upload_token, {"chunk_2": b"two"})
    client.commit("file", upload_token, 1)
    assert client.read("file") == b"one,two"


def test_required_chunks_of_an_existing_file_are_its_current_list(client: PlainClient):
    client.write("file", 0, three_chunks("before"))
    required, _ = client.begin("file", 1)
    assert required == ["chunk_1", "chunk_2", "chunk_3"]


def test_a_commit_sent_again_answers_the_same(client: PlainClient):
    _, upload_token = client.begin("file", 0)
    client.store(upload_token, three_chunks("once"))
    for _ in range(3):
        client.commit("file", upload_token, 1)
    assert client.version("file") == 1
    assert client.read("file") == joined(three_chunks("once"))


def test_who_writes_on_a_stale_version_is_told_the_servers(client: PlainClient):
    client.write("file", 0, three_chunks("one"))
    client.write("file", 1, three_chunks("two"))
    with pytest.raises(ConflictError) as conflict:
        client.begin("file", 1)
    assert conflict.value.server_version == 2
    assert client.read("file") == joined(three_chunks("two"))


def test_who_loses_the_race_is_told_at_the_commit_and_can_go_on(user: User, plain: OpenClient):
    first, second = plain(user), plain(user)
    first.write("file", 0, three_chunks("base"))
    _, first_token = first.begin("file", 1)
    first.store(first_token, {"chunk_1": b"first's;"})
    _, second_token = second.begin("file", 1)
    second.store(second_token, {"chunk_2": b"second's;"})
    first.commit("file", first_token, 2)
    with pytest.raises(ConflictError) as conflict:
        second.commit("file", second_token, 2)
    assert conflict.value.server_version == 2
    second.write("file", 2, {"chunk_2": b"second's;"})
    assert first.read("file") == b"first's;second's;base 3;"


def test_stored_chunks_are_not_the_file_before_the_commit(client: PlainClient):
    client.write("file", 0, three_chunks("old"))
    _, upload_token = client.begin("file", 1)
    client.store(upload_token, {"chunk_1": b"not yet;"})
    assert client.read("file") == joined(three_chunks("old"))
    client.commit("file", upload_token, 2)
    assert client.read("file") == b"not yet;old 2;old 3;"


def test_who_holds_an_older_listing_gets_new_bytes_only_under_their_own_hash(client: PlainClient):
    client.write("file", 0, three_chunks("old"))
    listing = client.chunk_list("file")
    client.write("file", 1, {"chunk_1": b"new;"})
    assert client.download(listing[0]) == b"new;"  # `download` compares the hash that came with the bytes
    assert client.download(listing[1]) == b"old 2;"


def test_a_commit_of_nothing_is_refused(client: PlainClient, user: User):
    token = user.begin("file")["upload_token"]
    check_error(user.commit("file", token, 1), 422, word="empty_commit")
    check_error(user.l1.get("/files/file/metadata"), 404)


def test_a_directory_and_a_file_larger_than_any_page_come_whole(
    client: PlainClient, user: User, plain: OpenClient
):
    """It knows no cursor, so what it is answered must be all."""
    reader = plain(user)
    for first in range(0, 1200, 600):
        files = [
            {
                "file_id": f"f{number}",
                "client_version": 0,
                "parent_dir_id": "root",
                "name": f"n{number}",
                "chunks": [],
            }
            for number in range(first, first + 600)
        ]
        token = check_ok(user.l1.post("/files:batch_update", json={"files": files}))["upload_token"]
        commits = [{"file_id": each["file_id"], "new_version": 1, "chunks": []} for each in files]
        answer = check_ok(user.l1.post("/files:batch_commit", json={"upload_token": token, "files": commits}))
        assert {each["status"] for each in answer["files"]} == {"committed"}
    assert len(reader.list_directory("root")[1]) == 1200
    client.write("long", 0, {f"chunk_{number}": f"{number},".encode() for number in range(3000)})
    chunks = client.chunk_list("long")
    assert [each["chunk_id"] for each in chunks] == [f"chunk_{number}" for number in range(3000)]
    assert client.download(chunks[2999]) == b"2999,"
