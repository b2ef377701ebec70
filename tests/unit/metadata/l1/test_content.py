import pytest
from upload_bed import digest_of, entry, hash_of

from moorage.core.errors import EmptyCommitError, InvalidFieldError, MissingChunksError
from moorage_nodes.metadata.l1.content import (
    NOTHING,
    UNKNOWN_SIZE,
    Sources,
    assemble_content,
    check_sizes,
    names_to_look_up,
)
from moorage_nodes.metadata.l1.entries import fold_stored


def sources(stored=(), planned=None, current=(), **more) -> Sources:
    return Sources(fold_stored([stored]), planned, current, **more)


ALL = sources(
    stored=[entry(b"stored", "a")],
    planned=[entry(b"planned", "a"), entry(b"planned", "b")],
    current=[entry(b"current", "a"), entry(b"current", "b"), entry(b"current", "c")],
)


def test_an_id_means_what_is_nearest():
    meanings = {"d": digest_of(b"elsewhere"), "e": None}
    content = assemble_content(["a", "b", "c", "d", "e", digest_of(b"x")], ALL, meanings)
    assert list(content.entries) == [
        entry(b"stored", "a"),
        entry(b"planned", "b"),
        entry(b"current", "c"),
        ("d", digest_of(b"elsewhere"), UNKNOWN_SIZE),
        ("e", NOTHING, UNKNOWN_SIZE),
        (None, digest_of(b"x"), UNKNOWN_SIZE),
    ]


def test_only_names_that_are_given_bytes_are_bound():
    content = assemble_content(["a", "b", "c", "d"], ALL, {"d": digest_of(b"elsewhere")})
    assert content.bindings == {"a": digest_of(b"stored"), "b": digest_of(b"planned")}


def test_only_names_that_nothing_nearer_tells_are_looked_up():
    assert names_to_look_up(["a", "d", digest_of(b"x"), "d", "c", "e"], ALL) == ["d", "e"]


def test_without_named_chunks_the_plan_stands_whatever_was_stored():
    content = assemble_content(None, ALL, {})
    assert list(content.entries) == [entry(b"planned", "a"), entry(b"planned", "b")]
    assert content.bindings == {"a": digest_of(b"planned"), "b": digest_of(b"planned")}


def test_a_planned_empty_file_is_empty():
    assert list(assemble_content(None, sources(planned=[]), {}).entries) == []


def test_a_file_named_empty_is_empty_whatever_was_stored():
    assert list(assemble_content([], ALL, {}).entries) == []


def test_without_any_naming_what_was_stored_decides():
    found = sources(stored=[entry(b"new", "a")], current=[entry(b"old", "a"), entry(b"kept", "b")])
    content = assemble_content(None, found, {})
    assert list(content.entries) == [entry(b"new", "a"), entry(b"kept", "b")]
    assert content.bindings == {"a": digest_of(b"new")}


def test_nothing_stored_and_nothing_named_is_refused():
    with pytest.raises(EmptyCommitError):
        assemble_content(None, sources(current=[entry(b"old", "a")]), {})


def test_an_upload_of_several_files_must_tell_which_chunks_are_whose():
    with pytest.raises(InvalidFieldError, match="several files"):
        assemble_content(None, sources(stored=[entry(b"x", "a")], several_files=True), {})


def test_in_an_upload_of_several_files_a_files_own_plan_comes_first():
    found = sources(stored=[entry(b"theirs", "a")], planned=[entry(b"mine", "a")], several_files=True)
    assert list(assemble_content(["a"], found, {}).entries) == [entry(b"mine", "a")]


@pytest.mark.parametrize(
    "unclear",
    [
        sources(stored=[entry(b"1", "a")], several_files=True, restored=frozenset({"a"})),
        sources(stored=[entry(b"1", "a")], current=[entry(b"2", "a")], several_files=True),
    ],
)
def test_in_an_upload_of_several_files_a_name_that_could_mean_two_chunks_is_refused(unclear):
    with pytest.raises(InvalidFieldError, match="could be either"):
        assemble_content(["a"], unclear, {})


def test_in_an_upload_of_several_files_clear_names_are_taken():
    found = sources(
        stored=[entry(b"1", "a"), entry(b"2", "b")], current=[entry(b"2", "b")], several_files=True
    )
    assert list(assemble_content(["b", "a"], found, {}).entries) == [entry(b"2", "b"), entry(b"1", "a")]


def test_sizes_are_those_of_the_chunks_that_are_held():
    entries = [("n", digest_of(b"abc"), UNKNOWN_SIZE), entry(b"de")]
    assert check_sizes(entries, {digest_of(b"abc"): 3, digest_of(b"de"): 2}) == [
        entry(b"abc", "n"),
        entry(b"de"),
    ]


def test_a_size_that_is_not_the_chunks_is_refused():
    with pytest.raises(InvalidFieldError, match="has 3 bytes, not 4"):
        check_sizes([(None, digest_of(b"abc"), 4)], {digest_of(b"abc"): 3})


def test_missing_chunks_are_named_once_in_file_order_as_the_client_calls_them():
    entries = [entry(b"b"), ("n", NOTHING, UNKNOWN_SIZE), entry(b"a", "m"), entry(b"held"), entry(b"b")]
    with pytest.raises(MissingChunksError) as refusal:
        check_sizes(entries, {digest_of(b"held"): 4})
    assert refusal.value.extra == {"missing_chunks": [hash_of(b"b"), "n", "m"]}
