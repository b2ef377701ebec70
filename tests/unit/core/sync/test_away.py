"""A client that was away too long: the feed no longer tells what it missed, and it converges all the same."""

import unicodedata
from collections.abc import Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sync_model.client import Client, Thing
from sync_model.edits import Editor, edits
from sync_model.server import Server

from moorage.core.sync import Kind, SyncPlan
from moorage.core.sync.steps import ConflictCopy, DeleteLocal, DeleteRemote, Upload

EXAMPLES = settings(deadline=None, max_examples=200)
FILE, DIRECTORY = Kind.FILE, Kind.DIRECTORY


def contents_of(server: Server) -> set[str]:
    return {node.hash or "" for node in server.live().values() if node.kind is FILE}


def seen_here(client: Client) -> dict[tuple[str, ...], str]:
    return {
        tuple(unicodedata.normalize("NFC", name) for name in path): thing.hash
        for path, thing in client.disk.items()
    }


def seen_there(server: Server) -> dict[tuple[str, ...], str]:
    return {path: node.hash or "" for path, (_, node) in server.by_path().items()}


def clients() -> st.SearchStrategy[Client]:
    return st.builds(Client, remembers=st.just(True), pages=st.sampled_from([1, 3, 1000]))


@EXAMPLES
@given(clients(), edits(12), edits(8), edits(10))
def test_it_converges_from_a_reset_and_never_uploads_what_was_deleted(client, before, here, there):
    server = Server()
    Editor("past").edit_disk(client, before)
    client.sync(server)
    known = {record.hash for record in client.synced.values() if record.kind is FILE}
    Editor("here").edit_disk(client, here)
    Editor("there").edit_server(server, there)
    server.forget()
    deleted = known - contents_of(server)
    changed = {thing.hash for thing in client.disk.values() if thing.kind is FILE} - known
    client.uploads.clear()
    plan = client.sync(server)
    assert client.plan(server).steps == ()
    assert seen_here(client) == seen_there(server)
    assert changed <= contents_of(server)
    unique = {content for content in deleted if not content.startswith("same")}
    assert not unique & set(client.uploads)
    assert not unique & {thing.hash for thing in client.disk.values()}
    assert_no_blind_upload(plan)


def assert_no_blind_upload(plan: SyncPlan) -> None:
    """An upload names the version that it was decided on, or makes a node of its own; so does a deletion."""
    for step in plan.steps:
        if isinstance(step, Upload):
            assert step.node.startswith("+") == (step.base_version == 0)
        elif isinstance(step, DeleteRemote) and step.kind is FILE:
            assert step.version > 0


@EXAMPLES
@given(
    clients(),
    edits(10),
    edits(6),
    st.lists(st.integers(0, 8), max_size=3),
    st.booleans(),
)
@example(Client(), [], [], [0], False)
def test_the_feed_may_be_cut_again_while_it_comes_back(client, before, there, cuts, torn):
    """Each time that a plan is broken off the horizon passes by once more."""
    server = Server()
    Editor("past").edit_disk(client, before)
    client.sync(server)
    Editor("there").edit_server(server, there)
    for number, stop_after in enumerate(cuts):
        server.forget()
        client.carry_out(client.plan(server), server, stop_after=stop_after, torn=torn)
        Editor(f"more{number}").edit_server(server, there)
    server.forget()
    client.sync(server)
    assert client.plan(server).steps == ()
    assert seen_here(client) == seen_there(server)


# --- the rule's rows, one by one (docs/sync-rule.md)


def away() -> tuple[Client, Server]:
    """One file `dir/file`, in step on both sides; then the client goes away."""
    server, client = Server(), Client()
    client.disk[("dir",)] = Thing(DIRECTORY)
    client.disk[("dir", "file")] = Thing(FILE, "old")
    client.sync(server)
    client.uploads.clear()
    return client, server


def ids(server: Server) -> Iterator[str]:
    paths = server.by_path()
    yield paths[("dir",)][0]
    yield paths[("dir", "file")][0]


def back(client: Client, server: Server) -> SyncPlan:
    server.forget()
    plan = client.sync(server)
    assert client.plan(server).steps == ()
    return plan


def test_unchanged_here_and_gone_there_is_deleted_here():
    client, server = away()
    _, file = ids(server)
    server.delete(file)
    plan = back(client, server)
    assert [type(step) for step in plan.steps] == [DeleteLocal]
    assert client.uploads == []
    assert set(client.disk) == {("dir",)}


def test_a_directory_gone_there_is_deleted_here_with_all_below():
    client, server = away()
    directory, _ = ids(server)
    server.delete(directory, recursive=True)
    back(client, server)
    assert client.disk == {}
    assert client.uploads == []


def test_changed_here_and_gone_there_is_a_conflict_copy():
    client, server = away()
    directory, _ = ids(server)
    client.disk[("dir", "file")] = Thing(FILE, "mine", client.disk[("dir", "file")].node)
    server.delete(directory, recursive=True)
    plan = back(client, server)
    assert any(isinstance(step, ConflictCopy) for step in plan.steps)
    assert client.uploads == ["mine"]
    (name,) = [path[-1] for path, thing in client.disk.items() if thing.kind is FILE]
    assert name == "file (laptop's conflicted copy 2026-11-03)"


def test_changed_on_both_sides_keeps_both():
    client, server = away()
    _, file = ids(server)
    client.disk[("dir", "file")] = Thing(FILE, "mine", client.disk[("dir", "file")].node)
    server.commit(file, 1, "theirs", "", "")
    back(client, server)
    assert seen_here(client) == {
        ("dir",): "",
        ("dir", "file"): "theirs",
        ("dir", "file (laptop's conflicted copy 2026-11-03)"): "mine",
    }
    assert client.uploads == ["mine"]


def test_deleted_here_and_changed_there_comes_back():
    client, server = away()
    _, file = ids(server)
    del client.disk[("dir", "file")]
    server.commit(file, 1, "theirs", "", "")
    back(client, server)
    assert seen_here(client)[("dir", "file")] == "theirs"


def test_deleted_here_and_unchanged_there_is_deleted_there():
    client, server = away()
    del client.disk[("dir", "file")]
    plan = back(client, server)
    assert [type(step) for step in plan.steps] == [DeleteRemote]
    assert set(seen_there(server)) == {("dir",)}


def test_a_file_that_became_a_directory_here_is_both_steps_there():
    client, server = away()
    client.disk[("dir", "file")] = Thing(DIRECTORY)
    client.disk[("dir", "file", "in")] = Thing(FILE, "new")
    back(client, server)
    assert seen_there(server) == {("dir",): "", ("dir", "file"): "", ("dir", "file", "in"): "new"}


def test_a_file_that_became_a_directory_there_is_both_steps_here_and_a_change_is_kept():
    client, server = away()
    directory, file = ids(server)
    server.delete(file)
    server.make_directory("made", directory, "file")
    client.disk[("dir", "file")] = Thing(FILE, "mine", client.disk[("dir", "file")].node)
    back(client, server)
    assert seen_here(client) == {
        ("dir",): "",
        ("dir", "file"): "",
        ("dir", "file (laptop's conflicted copy 2026-11-03)"): "mine",
    }


def test_moved_here_and_gone_there_is_deleted_for_a_move_is_no_change():
    client, server = away()
    _, file = ids(server)
    client.rename(("dir", "file"), ("elsewhere",))
    server.delete(file)
    back(client, server)
    assert set(client.disk) == {("dir",)}
    assert client.uploads == []


def test_moved_on_both_sides_the_server_s_place_stands():
    client, server = away()
    directory, file = ids(server)
    client.rename(("dir", "file"), ("dir", "mine"))
    server.move(file, directory, "theirs")
    back(client, server)
    assert set(client.disk) == {("dir",), ("dir", "theirs")}


def test_a_new_file_under_a_name_that_another_took_there_gives_way():
    client, server = away()
    directory, _ = ids(server)
    client.disk[("dir", "new")] = Thing(FILE, "mine")
    server.commit("other", 0, "theirs", directory, "new")
    back(client, server)
    assert seen_here(client)[("dir", "new")] == "theirs"
    assert seen_here(client)[("dir", "new (laptop's conflicted copy 2026-11-03)")] == "mine"


def test_two_spellings_of_one_name_are_one_file():
    client, server = away()
    directory, _ = ids(server)
    server.commit("other", 0, "same", directory, "\u00e9")
    client.disk[("dir", "e\u0301")] = Thing(FILE, "same")
    back(client, server)
    assert client.uploads == []
    assert [path for path in client.disk if path[-1] in {"\u00e9", "e\u0301"}] != []
    assert sum(thing.hash == "same" for thing in client.disk.values()) == 1


def test_an_upload_that_was_offered_and_came_through_and_was_deleted_elsewhere_stays_deleted():
    """The answer to the commit was lost; the record that was written before the first byte tells whose it is."""
    client, server = away()
    client.disk[("dir", "fresh")] = Thing(FILE, "fresh")
    plan = client.plan(server)
    client.carry_out(plan, server, stop_after=1, torn=True)
    assert any(record.offered for record in client.synced.values())
    ((new_id, _),) = [each for path, each in server.by_path().items() if path == ("dir", "fresh")]
    server.delete(new_id)
    client.uploads.clear()
    client.sync(server)
    assert client.uploads == []
    assert ("dir", "fresh") not in client.disk
