"""Properties of the sync rule over random trees, edits on both sides and interruptions."""

import unicodedata
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from sync_model.client import Client
from sync_model.edits import Edit, Editor, edits
from sync_model.server import Server

from moorage.core.sync import Kind, LocalTree, apply_page, plan_sync, start_feed
from moorage.core.sync.feed import ChangesPage
from moorage.core.sync.steps import DeleteLocal, Download

EXAMPLES = settings(deadline=None, max_examples=200)


def composed(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", name) for name in path)


def seen_here(client: Client) -> dict[tuple[str, ...], tuple[Kind, str]]:
    spelled = {composed(path): (thing.kind, thing.hash) for path, thing in client.disk.items()}
    assert len(spelled) == len(client.disk)
    return spelled


def seen_there(server: Server) -> dict[tuple[str, ...], tuple[Kind, str]]:
    return {path: (node.kind, node.hash or "") for path, (_, node) in server.by_path().items()}


def assert_converged(client: Client, server: Server) -> None:
    assert seen_here(client) == seen_there(server)
    live = server.live()
    assert {i: (s.parent, s.name, s.kind, s.version, s.hash) for i, s in client.synced.items()} == {
        i: (n.parent, n.name, n.kind, n.version, n.hash or "") for i, n in live.items()
    }
    assert not any(record.offered for record in client.synced.values())
    again = client.plan(server)
    assert (again.steps, again.problems, again.undecided) == ((), (), ())


def apart(client: Client, server: Server, before: list[Edit], here: list[Edit], there: list[Edit]) -> None:
    """A common past, then each side for itself."""
    Editor("past").edit_disk(client, before)
    client.sync(server)
    Editor("here").edit_disk(client, here)
    Editor("there").edit_server(server, there)


def promised(client: Client, server: Server) -> tuple[set[str], set[str]]:
    """Contents that must be there in the end, and contents that must not, as `client` stands before a sync.

    A file that somebody moved here is a new one where nothing tells that it was moved.
    """
    known = {record.hash for record in client.synced.values()}
    on_disk = {thing.hash for thing in client.disk.values() if thing.kind is Kind.FILE}
    live = server.live()
    there = {node.hash for node in live.values()}
    deleted = {r.hash for i, r in client.synced.items() if i not in live and r.kind is Kind.FILE}
    paths = synced_paths(client)
    spelled = Counter(composed(path) for path in client.disk)
    moved_unseen = {
        thing.hash
        for path, thing in client.disk.items()
        if not (client.remembers and thing.node in client.synced)
        and (
            (thing.hash, composed(path)) not in paths
            or any(spelled[composed(path[:n])] > 1 for n in range(1, len(path) + 1))
        )
    }
    deleted -= there | moved_unseen
    return on_disk - known, {each for each in deleted if not each.startswith("same")}


def synced_paths(client: Client) -> set[tuple[str, tuple[str, ...]]]:
    paths = set()
    for record in client.synced.values():
        names, above = [record.name], record.parent
        while above in client.synced:
            names.append(client.synced[above].name)
            above = client.synced[above].parent
        paths.add((record.hash, tuple(reversed(names))))
    return paths


def clients(**fixed: bool) -> st.SearchStrategy[Client]:
    return st.builds(Client, remembers=st.booleans(), pages=st.sampled_from([1, 3, 1000]), **fixed)


@EXAMPLES
@given(clients(), edits(10), edits(8), edits(8))
def test_both_sides_become_the_same_and_a_second_plan_is_empty(client, before, here, there):
    server = Server()
    apart(client, server, before, here, there)
    client.sync(server)
    assert_converged(client, server)


@EXAMPLES
@given(clients(), edits(10), edits(8), edits(8))
def test_what_was_changed_here_is_kept_and_what_was_deleted_there_stays_deleted(client, before, here, there):
    server = Server()
    apart(client, server, before, here, there)
    kept, gone = promised(client, server)
    client.sync(server)
    result = {content for _, content in seen_there(server).values()}
    assert kept <= result
    assert not gone & result


@EXAMPLES
@given(
    clients(),
    edits(10),
    edits(8),
    edits(8),
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=4),
)
def test_a_plan_that_is_cut_short_anywhere_is_taken_up_again(client, before, here, there, cuts):
    server = Server()
    apart(client, server, before, here, there)
    kept, gone = promised(client, server)
    for stop_after, torn in cuts:
        client.carry_out(client.plan(server), server, stop_after=stop_after, torn=torn)
    client.sync(server)
    assert_converged(client, server)
    result = {content for _, content in seen_there(server).values()}
    assert kept <= result
    assert not gone & result


@EXAMPLES
@given(clients(), edits(10), edits(8), edits(8), edits(4), edits(4), st.integers(0, 12), st.booleans())
def test_people_go_on_while_a_plan_is_cut_short(
    client, before, here, there, more_here, more_there, stop, torn
):
    server = Server()
    apart(client, server, before, here, there)
    client.carry_out(client.plan(server), server, stop_after=stop, torn=torn)
    Editor("later").edit_disk(client, more_here)
    Editor("elsewhere").edit_server(server, more_there)
    kept, gone = promised(client, server)
    client.sync(server)
    assert_converged(client, server)
    result = {content for _, content in seen_there(server).values()}
    assert kept <= result
    assert not gone & result


@EXAMPLES
@given(clients(), edits(10), edits(6), edits(6), edits(6), edits(6), st.integers(0, 12))
def test_after_a_restore_nothing_is_deleted_or_overwritten_here(
    client, before, lost, here, there, after, stop
):
    server = Server()
    Editor("past").edit_disk(client, before)
    client.sync(server)
    backup = server.backup()
    Editor("lost").edit_server(server, lost)
    client.sync(server)
    Editor("here").edit_disk(client, here)
    Editor("there").edit_server(server, there)
    server.restore_backup(backup)
    Editor("after").edit_server(server, after)
    client.feed = apply_page(client.feed, ChangesPage(reset=True, reason="restored"))
    contents = {thing.hash for thing in client.disk.values()}
    cut = client.plan(server)
    client.carry_out(cut, server, stop_after=stop)
    plan = client.sync(server)
    for step in (*cut.steps, *plan.steps):
        assert not isinstance(step, DeleteLocal)
        if isinstance(step, Download) and step.replaces is not None:
            raise AssertionError(step)
    assert contents <= {thing.hash for thing in client.disk.values()}
    assert_converged(client, server)


@EXAMPLES
@given(
    st.lists(clients(), min_size=3, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 2), edits(5), st.sampled_from([None, None, 0, 1, 2, 3, 5]), st.booleans()),
        max_size=10,
    ),
)
def test_three_clients_converge_whenever_they_come_and_go(three, schedule):
    server = Server()
    editors = [Editor(f"client{number}-") for number in range(3)]
    for number, client in enumerate(three):
        client.device = f"device{number}"
    visits = [*schedule, *((number, [], None, False) for number in (0, 1, 2, 0, 1, 2))]
    for number, changes, stop_after, torn in visits:
        client = three[number]
        editors[number].edit_disk(client, changes)
        kept, gone = promised(client, server)
        client.carry_out(client.plan(server), server, stop_after=stop_after, torn=torn)
        result = {content for _, content in seen_there(server).values()}
        assert kept <= result | {thing.hash for thing in client.disk.values()}
        if stop_after is None:
            assert kept <= result
            assert not gone & result
    for client in three:
        assert_converged(client, server)


@EXAMPLES
@given(edits(10), edits(8), edits(8))
def test_a_new_client_of_a_folder_copied_by_hand_transfers_nothing_that_is_the_same(before, here, there):
    """No synced tree at all: what lies at the same place with the same content is not sent or fetched."""
    server, old = Server(), Client()
    apart(old, server, before, here, there)
    old.sync(server)
    new = Client(disk=dict(old.disk), remembers=False, device="other")
    new.sync(server)
    assert (new.uploads, new.downloads) == ([], [])
    assert_converged(new, server)


ODD_NAMES = ("a", "A", "b", "bad\x01", "\u202e", "x" * 300, "e\u0301", "\u00e9")


@EXAMPLES
@given(clients(folds_case=st.booleans()), edits(10, ODD_NAMES), edits(10, ODD_NAMES), edits(10, ODD_NAMES))
def test_what_cannot_be_synced_is_reported_and_left_alone(client, before, here, there):
    server = Server()
    apart(client, server, before, here, there)
    kept, _ = promised(client, server)
    plan = client.sync(server)
    again = client.plan(server)
    assert (again.steps, again.problems) == ((), plan.problems)
    assert kept <= {thing.hash for thing in client.disk.values()} | {n.hash for n in server.live().values()}
    if not plan.problems:
        assert_converged(client, server)


@EXAMPLES
@given(edits(10), edits(8), edits(8))
def test_a_plan_is_a_function_of_the_trees_alone(before, here, there):
    server, client = Server(), Client()
    apart(client, server, before, here, there)
    client.fetch(server)
    scan = client.scan()
    backwards = LocalTree(tuple(reversed(scan.entries)))
    plans = {
        plan_sync(each, client.synced, client.feed.tree, device="d", date="2026-11-03")
        for each in (scan, backwards)
    }
    assert len(plans) == 1


@EXAMPLES
@given(edits(20), edits(20), st.integers(1, 5), st.integers(0, 10))
def test_pages_of_any_size_and_pages_told_twice_fold_to_the_server_s_tree(first, second, limit, back):
    server = Server()
    Editor("x").edit_server(server, first)
    feed, cursors = start_feed("root:u"), [None]
    while not feed.complete:
        feed = apply_page(feed, server.changes(feed.cursor, limit))
        cursors.append(feed.cursor)
    Editor("y").edit_server(server, second)
    again = cursors[max(0, len(cursors) - 1 - back)]
    feed = apply_page(feed, server.changes(again, 1000))
    told = {i: (n.parent, n.name, n.kind, n.version) for i, n in feed.tree.live().items()}
    assert told == {i: (n.parent, n.name, n.kind, n.version) for i, n in server.live().items()}
