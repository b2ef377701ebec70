import pytest
from upload_bed import digest_of, entry, hash_of

from moorage.core.errors import InvalidFieldError
from moorage.core.wire import ManifestEntry
from moorage_nodes.metadata.l1.entries import (
    ManifestParser,
    assemble_unnamed,
    fold_stored,
    format_id,
    parse_id_of_chunk,
    parse_manifest,
    restored_names,
    summarize,
)


def wire(data: bytes, **more) -> ManifestEntry:
    return ManifestEntry(**{"hash": hash_of(data), "size": len(data), **more})


def test_a_name_that_is_the_hash_is_not_kept():
    chunks = [wire(b"a"), wire(b"b", chunk_id=hash_of(b"b")), wire(b"c", chunk_id="chunk_1")]
    assert parse_manifest(chunks, "chunks") == [entry(b"a"), entry(b"b"), entry(b"c", "chunk_1")]


def test_a_chunk_may_stand_in_a_manifest_many_times():
    chunks = [wire(b"a", chunk_id="n"), wire(b"a"), wire(b"a", chunk_id="n")]
    assert parse_manifest(chunks, "chunks") == [entry(b"a", "n"), entry(b"a"), entry(b"a", "n")]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (wire(b"x", hash="sha256_12"), "hash"),
        (wire(b"x", hash=hash_of(b"x").upper()), "hash"),
        (wire(b"x", chunk_id=hash_of(b"y")), "chunk_id"),
        (wire(b"x", chunk_id="a/b"), "chunk_id"),
        (wire(b"x", chunk_id=".."), "chunk_id"),
        (wire(b"x", chunk_id=""), "chunk_id"),
        (wire(b"a", size=2), "size"),
        (wire(b"x", chunk_id="taken"), "chunk_id"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(wrong: ManifestEntry, field: str):
    with pytest.raises(InvalidFieldError) as refusal:
        parse_manifest([wire(b"a"), wire(b"b", chunk_id="taken"), wrong], "files[3].chunks")
    assert refusal.value.extra["field"] == f"files[3].chunks[2].{field}"


def test_the_rules_hold_over_all_parts_of_a_manifest():
    parser = ManifestParser("chunks")
    parser.feed([wire(b"a", chunk_id="n")])
    with pytest.raises(InvalidFieldError, match="two different chunks"):
        parser.feed([wire(b"b", chunk_id="n")])


def test_an_id_that_looks_like_a_hash_is_one():
    assert parse_id_of_chunk(hash_of(b"a"), "chunks") == digest_of(b"a")
    assert parse_id_of_chunk("sha256_ab", "chunks") == "sha256_ab"


def test_a_summary_is_of_the_digests_in_order():
    one, two = summarize([entry(b"a"), entry(b"bb")]), summarize([entry(b"bb"), entry(b"a")])
    assert (one.count, one.size) == (two.count, two.size) == (2, 3)
    assert one.digest == digest_of(digest_of(b"a") + digest_of(b"bb"))
    assert one.digest != two.digest
    assert summarize([]).size == 0


def test_a_name_stored_twice_has_the_later_bytes_at_the_first_place():
    stored = fold_stored([[entry(b"1", "a"), entry(b"2", "b")], [entry(b"3", "a"), entry(b"4", "c")]])
    assert list(stored.values()) == [entry(b"3", "a"), entry(b"2", "b"), entry(b"4", "c")]


def test_names_that_were_stored_differently_are_told():
    calls = [[entry(b"1", "a"), entry(b"2", "b")], [entry(b"3", "a"), entry(b"2", "b")]]
    assert restored_names(calls) == {"a"}


CURRENT = [entry(b"1", "a"), entry(b"2", "b"), entry(b"3", "c")]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([(b"X", "b")], ["1", "X", "3"]),
        ([(b"X", "d"), (b"Y", "a")], ["Y", "2", "3", "X"]),
        ([(b"1", "a"), (b"2", "b"), (b"Z", "c")], ["1", "2", "Z"]),
        # No name of the current version is given other bytes: the whole file was sent.
        ([(b"2", "b"), (b"1", "a")], ["2", "1"]),
        ([(b"X", "d")], ["X"]),
        ([(b"X", None)], ["X"]),
        ([(b"1", "a"), (b"X", "d")], ["1", "X"]),
        # Bytes that the file holds under another name are new under this one.
        ([(b"X", "a"), (b"2", None)], ["X", "2", "3", "2"]),
    ],
)
def test_the_manifest_of_a_commit_that_names_none(stored, expected):
    folded = fold_stored([[entry(data, name) for data, name in stored]])
    assembled = assemble_unnamed(folded, CURRENT)
    by_digest = {digest_of(text.encode()): text for text in "123XYZ"}
    assert [by_digest[digest] for _, digest, _ in assembled] == expected


def test_every_occurrence_of_a_name_is_replaced():
    current = [entry(b"1", "a"), entry(b"2", "b"), entry(b"1", "a")]
    assembled = assemble_unnamed(fold_stored([[entry(b"X", "a")]]), current)
    assert assembled == [entry(b"X", "a"), entry(b"2", "b"), entry(b"X", "a")]


def test_a_file_of_unnamed_chunks_is_replaced_as_a_whole():
    current = [entry(b"1"), entry(b"2")]
    assert assemble_unnamed(fold_stored([[entry(b"3"), entry(b"1")]]), current) == [entry(b"3"), entry(b"1")]


def test_an_id_is_told_as_its_client_calls_it():
    assert format_id(entry(b"a", "n")) == "n"
    assert format_id(entry(b"a")) == hash_of(b"a")
