"""What must hold of a namespace's records whatever happened (DESIGN.md, Invariants), read straight from a store."""

from collections import defaultdict

from upload_bed import NAMESPACE, digest_of

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.entries import summarize
from moorage_nodes.metadata.l1.segments import read_segments
from moorage_nodes.metadata.records import (
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    DELETED,
    FILE,
    LIVE,
    PENDING_DELETION,
    TOLD,
    Child,
    Chunk,
    ChunkName,
    Deletion,
    Head,
    JournalEntry,
    Manifest,
    Node,
)
from moorage_nodes.stores.contracts import MetadataStore, prefix_end


async def scan(store: MetadataStore, kind: str) -> dict[str, bytes]:
    """All records of one letter, by what stands behind it in the key (latin-1, as some keys are raw bytes)."""
    prefix = f"n/{NAMESPACE}/{kind}/".encode()
    found: dict[str, bytes] = {}
    async for part in store.scan(prefix, prefix_end(prefix)):
        found.update({kv.key[len(prefix) :].decode("latin-1"): kv.value for kv in part})
    return found


async def check_namespace(store: MetadataStore, *, open_uploads: int = 0) -> None:
    """Versions are gapless and journalled once each, lists are whole, every chunk is held, nothing dangles."""
    nodes = {key: records.decode(Node, data) for key, data in (await scan(store, "i")).items()}
    chunks = {
        key.encode("latin-1"): records.decode(Chunk, data) for key, data in (await scan(store, "k")).items()
    }
    children = {key: records.decode(Child, data) for key, data in (await scan(store, "c")).items()}
    assert {child.id: key for key, child in children.items()} == {
        node_id: f"{node.parent}/{node.name}" for node_id, node in nodes.items() if node.state == LIVE
    }
    await _check_deletions(store, nodes)
    manifests: dict[str, dict[int, Manifest]] = defaultdict(dict)
    for key, data in (await scan(store, "m")).items():
        file_id, _, version = key.rpartition("/")
        manifests[file_id][int(version, 16)] = records.decode(Manifest, data)
    with_content = await _check_journal(store, nodes)
    for file_id, node in nodes.items():
        versions = manifests[file_id]
        assert with_content[file_id] <= versions.keys() <= set(range(1, node.version + 1))
        if node.kind == FILE and node.state == LIVE and node.version:
            newest = versions[node.version]
            assert (node.size, node.digest, node.attrs) == (newest.size, newest.digest, newest.attrs)
        for manifest in versions.values():
            await _check_list(store, manifest, chunks)
    for data in (await scan(store, "x")).values():
        digest = records.decode(ChunkName, data).digest
        assert not digest or digest in chunks
    uploads = await scan(store, "u")
    assert len(uploads) == open_uploads, list(uploads)
    assert {key.split("/")[0] for key in await scan(store, "s")} <= uploads.keys()


async def _check_journal(store: MetadataStore, nodes: dict[str, Node]) -> dict[str, set[int]]:
    """The versions that must have their manifest."""
    journal = await scan(store, "j")
    kv = await store.get(keys.head(NAMESPACE))
    sequence = 0 if kv is None else records.decode(Head, kv.value).sequence
    assert [int(key, 16) for key in journal] == list(range(1, sequence + 1))
    versions: dict[str, list[int]] = defaultdict(list)
    with_content: dict[str, set[int]] = defaultdict(set)
    for data in journal.values():
        entry = records.decode(JournalEntry, data)
        if entry.kind != FILE:
            continue
        if entry.type in {"commit", "restore", "undelete"}:
            with_content[entry.id].add(entry.version)
        is_end = entry.type == "delete" and entry.state == DELETED
        if entry.type not in {"create", "move"} and not is_end:
            versions[entry.id].append(entry.version)
    for file_id, seen in versions.items():
        assert seen == list(range(1, nodes[file_id].version + 1)), file_id
    return with_content


async def _check_deletions(store: MetadataStore, nodes: dict[str, Node]) -> None:
    pending = {node.deletion: node_id for node_id, node in nodes.items() if node.state == PENDING_DELETION}
    deletions = {key: records.decode(Deletion, data) for key, data in (await scan(store, "d")).items()}
    assert {key: deletion.node for key, deletion in deletions.items()} == pending
    for span, is_parked in ((keys.work_range(), False), (keys.parked_range(), True)):
        found, _ = await store.range(*span)
        wanted = {key for key, deletion in deletions.items() if (deletion.step == TOLD) == is_parked}
        assert {keys.parse_work(kv.key)[1] for kv in found.kvs} == wanted
    deleted = {node_id for node_id, node in nodes.items() if node.state == DELETED}
    assert set(await scan(store, "t")) == deleted


async def _check_list(store: MetadataStore, manifest: Manifest, chunks: dict[bytes, Chunk]) -> None:
    entries = list(manifest.entries)
    if manifest.segments:
        assert not entries
        entries = await read_segments(store, NAMESPACE, manifest.segments, manifest.count)
    summary = summarize(entries)
    assert (manifest.count, manifest.size, manifest.digest) == (summary.count, summary.size, summary.digest)
    for _, digest, size in entries:
        assert chunks[digest].state in {CHUNK_LIVE, CHUNK_SOFT_DELETED}
        assert chunks[digest].size == size
        assert size or digest == digest_of(b"")
