"""Commits as pure plans: new versions of one or many files of one upload (PROTOCOL.md, Update).

One transaction moves the head, makes the version (node, manifest, for a new file its place), binds the names that it
gives bytes, writes the journal entry, and ends the upload with the last of its files. So a file of an upload is
committed exactly when the upload's record holds it no more and the manifest of its new version names the upload:
that is how the same commit again finds its own answer.

The upload's record is compared only where it is written anew. Where it is deleted no compare is needed: the head orders
the commits of one upload, and every `/update` that ends an upload in whose place it comes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from moorage.core.errors import (
    ConflictError,
    InvalidVersionError,
    MoorageError,
    UploadEndedError,
)
from moorage.core.ids import root_id
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1 import tree
from moorage_nodes.metadata.l1.content import (
    UNKNOWN_SIZE,
    Content,
    Sources,
    assemble_content,
    build_planned_content,
    check_sizes,
    names_to_look_up,
)
from moorage_nodes.metadata.l1.entries import Id, Summary, fold_stored, restored_names, summarize
from moorage_nodes.metadata.l1.file_commit import FileCommit, Outcome, Prepared
from moorage_nodes.metadata.l1.repeats import observe_past_version
from moorage_nodes.metadata.l1.targets import (
    NotPreparedError,
    make_file,
    observe_current,
    observe_planned,
    observe_revivals,
    observe_target,
    place_keys,
    refuse_taken_name,
    revive,
)
from moorage_nodes.metadata.l1.upload_ids import is_of_several_files, is_short_form
from moorage_nodes.metadata.names import bind, observe_meanings
from moorage_nodes.metadata.records import (
    CHUNK_DAMAGED,
    CHUNK_LIVE,
    INLINE_ENTRIES,
    Bound,
    Chunk,
    Entry,
    Manifest,
    Node,
    Stored,
    Upload,
    UploadFile,
)
from moorage_nodes.metadata.view import NotLoaded, Plan, RangeKey, View
from moorage_nodes.stores.contracts import KeyValue

T = TypeVar("T")
S = TypeVar("S")

MAX_PLAN_FILES = 250  # new files of a batch: four puts each
MAX_PLAN_PUTS = 1000
MAX_PLAN_BYTES = 640 * 1024  # the upload's record included
MAX_PLAN_CALLS = 256  # of store_chunk, read within a plan
MAX_PLAN_REVIVALS = 32  # each is a compare, and etcd counts those
MAX_FILE_REVIVALS = 16  # of a file with more, they are made beforehand
MAX_PLAN_NAMES = 3000  # with the longest names 700 kB


def plan_commit(upload_id: str, commit: FileCommit, prepared: Prepared | None = None) -> Plan[int]:
    """Commit one file; its new version. Refusals: see `_Commits`; `NotPreparedError`."""
    known = {} if prepared is None else {commit.file_id: prepared}

    def plan(view: View) -> int:
        (outcome,) = _Commits(view, upload_id, known).run([commit])
        if isinstance(outcome, int):
            return outcome
        raise outcome

    return plan


def plan_commits(
    upload_id: str, commits: Sequence[FileCommit], *, others: Sequence[FileCommit] = ()
) -> Plan[list[Outcome]]:
    """Commit as many of these files, in their order, as one transaction should hold, at least one; what became of
    each of those. The rest is to be asked for again. A `NotPreparedError` comes alone.

    `others`: of the same upload, committed next. What they need is read at once, so that they find it known.
    """

    def plan(view: View) -> list[Outcome]:
        return _Commits(view, upload_id, {}).run(commits, others)

    return plan


class _Draft(Struct, frozen=True):
    """A file's new version before its chunks are looked at. `node` None: the file is to be made."""

    commit: FileCommit
    file: UploadFile
    node: Node | None
    content: Content
    held: Mapping[
        bytes, int
    ]  # sizes of chunks that the version before holds: the collector lets it keep them
    prepared: Prepared | None


class _Version(Struct, frozen=True):
    """A version that is ready to be written."""

    draft: _Draft
    summary: Summary
    entries: Sequence[Entry]
    revived: Sequence[tuple[KeyValue, Chunk]] = ()


class _Commits:
    """Commits of files of one upload on one view. What is needed is asked for together, for all files.

    Refusals, each of one file: 410 `upload_ended`; 422 `invalid_version`, `empty_commit`, `invalid_field`; 409
    `conflict`, `missing_chunks`, and what the tree refuses.
    """

    def __init__(self, view: View, upload_id: str, prepared: Mapping[str, Prepared]) -> None:
        self.view = view
        self.upload_id = upload_id
        self.upload_key = keys.upload(view.namespace, upload_id)
        self.prepared = prepared
        self._stored: tuple[Mapping[Id, Entry], frozenset[Id]] | None = None
        self._good_parents: set[str] = set()

    def run(self, commits: Sequence[FileCommit], others: Sequence[FileCommit] = ()) -> list[Outcome]:
        self._load_first([*commits, *others])
        data = self.view.upload(self.upload_key)
        upload = None if data is None else records.decode(Upload, data)
        files = {} if upload is None else {file.file_id: file for file in upload.files}
        if others:
            self.view.need(key for file in files.values() for key in place_keys(self.view.namespace, file))
        commits = _up_to_long_one(commits, files)
        drafts = _for_each(commits, lambda commit: self._draft(files.get(commit.file_id), commit))
        versions = _for_each(drafts, lambda draft: self._check(draft) if isinstance(draft, _Draft) else draft)
        outcomes: list[Outcome] = []
        puts, size = 0, len(data or b"")  # the record is written anew while it holds other files
        revived: set[bytes] = set()
        for version in versions:
            if not isinstance(version, _Version):
                # A file that must be prepared is committed alone, in its turn: files are committed in order.
                if not (outcomes and isinstance(version, NotPreparedError)):
                    outcomes.append(version)
                if isinstance(version, NotPreparedError):
                    break
                continue
            if len(versions) > 1:
                puts, size = puts + _puts_of(version), size + _bytes_of(version)
            revived.update(kv.key for kv, _ in version.revived)
            if outcomes and (
                puts > MAX_PLAN_PUTS or size > MAX_PLAN_BYTES or len(revived) > MAX_PLAN_REVIVALS
            ):
                break
            try:
                outcomes.append(self._write(version))
                del files[version.draft.file.file_id]
            except MoorageError as refusal:
                outcomes.append(refusal)
        if upload is not None and len(files) < len(upload.files):
            self._write_upload(upload, tuple(files.values()))
        return outcomes

    # --- reading

    def _load_first(self, commits: Sequence[FileCommit]) -> None:
        """What all these commits are sure to need, and where one can guess, what comes next."""
        view, namespace = self.view, self.view.namespace
        several = is_of_several_files(self.upload_id)
        governed = [keys.node(namespace, commit.file_id) for commit in commits]
        chunks: list[bytes] = []
        for commit in commits:
            if commit.new_version > 1:
                governed.append(keys.manifest(namespace, commit.file_id, commit.new_version - 1))
                continue
            if not several:  # unless the update said otherwise, a new file goes there
                governed.append(keys.child(namespace, root_id(namespace), commit.file_id))
            if commit.hashes is not None and len(commit.hashes) <= INLINE_ENTRIES:
                chunks.extend(keys.chunk(namespace, digest) for digest in commit.hashes)
        needs_stored = is_short_form(self.upload_id) and commits[0].hashes is None
        view.need_together(
            governed=governed,
            present=chunks,
            uploads=(self.upload_key,),
            fresh_ranges=(self._stored_range(),) if needs_stored else (),
        )

    def _stored_range(self) -> RangeKey:
        start, end = keys.stored_range(self.view.namespace, self.upload_id)
        return RangeKey(start, end, limit=MAX_PLAN_CALLS + 1, by_create_revision=True)

    def _draft(self, file: UploadFile | None, commit: FileCommit) -> "_Draft | Outcome":
        view = self.view
        if file is None:
            return self._repeat(commit)
        if commit.new_version != file.base + 1:
            raise InvalidVersionError(
                f"`new_version` must be {file.base + 1}: this upload builds on version {file.base}."
            )
        node = observe_target(view, file)
        prepared = self.prepared.get(file.file_id)
        if prepared is not None:
            if (prepared.base, prepared.generation) != (file.base, view.state.head.generation):
                return NotPreparedError()
            return _Draft(commit, file, node, Content(prepared.entries, prepared.names), {}, prepared)
        names_matter = not file.planned if commit.ids is None else commit.hashes is None
        current = observe_current(view, file, required=names_matter)
        content = self._observe_content(file, commit, current)
        if len(content.entries) > INLINE_ENTRIES:
            return NotPreparedError()
        return _Draft(commit, file, node, content, {digest: size for _, digest, size in current}, None)

    def _observe_content(self, file: UploadFile, commit: FileCommit, current: Sequence[Entry]) -> Content:
        if commit.hashes is not None:  # nothing but the chunks themselves can be meant
            return Content([(None, digest, UNKNOWN_SIZE) for digest in commit.hashes], {})
        planned = observe_planned(self.view, file)
        if commit.ids is None and planned is not None:
            return build_planned_content(planned)
        stored, restored = self._observe_stored()
        several = is_of_several_files(self.upload_id)
        sources = Sources(stored, planned, current, several, restored if several else frozenset())
        names = [] if commit.ids is None else names_to_look_up(commit.ids, sources)
        return assemble_content(commit.ids, sources, observe_meanings(self.view, names))

    def _repeat(self, commit: FileCommit) -> int:
        """The upload holds this file no more: committed, or ended, or never of this upload."""
        key = keys.manifest(self.view.namespace, commit.file_id, commit.new_version)
        manifest = self.view.record(Manifest, key)
        if manifest is None:
            manifest = observe_past_version(self.view, commit.file_id, commit.new_version)
        if manifest is not None and manifest.upload == self.upload_id:
            if not commit.is_of(manifest):  # `committed` would let the client drop what nobody has
                node = tree.observe_node(self.view, commit.file_id)
                raise ConflictError(
                    f"This upload has made version {commit.new_version} of other chunks or attributes: begin a new "
                    "one on that.",
                    server_version=commit.new_version if node is None else node.version,
                )
            return commit.new_version
        raise UploadEndedError(
            f"This upload has ended, or is not of {commit.file_id!r}: begin a new one with /update."
        )

    def _observe_stored(self) -> tuple[Mapping[Id, Entry], frozenset[Id]]:
        if self._stored is None:
            kvs = self.view.fresh_range(self._stored_range())
            if len(kvs) > MAX_PLAN_CALLS:
                raise NotPreparedError
            calls = [records.decode(Stored, kv.value).entries for kv in kvs]
            self._stored = fold_stored(calls), restored_names(calls)
        return self._stored

    def _check(self, draft: _Draft) -> "_Version | Outcome":
        """All its chunks must be held. Asks for everything else that writing it will read."""
        view, content = self.view, draft.content
        namespace = view.namespace
        governed = [keys.chunk_name(namespace, name) for name in content.bindings]
        if draft.node is None:
            governed.extend(place_keys(namespace, draft.file))
        wanted = {
            digest: keys.chunk(namespace, digest)
            for _, digest, _ in content.entries
            if digest and digest not in draft.held and draft.prepared is None
        }
        view.need_together(governed=governed, present=wanted.values())
        if draft.node is None:
            self._refuse_place(draft.file)
        if draft.prepared is not None:
            return _Version(draft, draft.prepared.summary, content.entries)
        sizes = dict(draft.held)
        dead: list[bytes] = []
        for digest, chunk in self._observe_chunks(wanted).items():
            if chunk is None or chunk.state == CHUNK_DAMAGED:
                continue
            sizes[digest] = chunk.size
            if chunk.state != CHUNK_LIVE:
                dead.append(wanted[digest])
        if len(dead) > MAX_FILE_REVIVALS:
            return NotPreparedError()
        entries = check_sizes(content.entries, sizes)
        return _Version(draft, summarize(entries), entries, observe_revivals(view, dead))

    def _observe_chunks(self, wanted: Mapping[bytes, bytes]) -> dict[bytes, Chunk | None]:
        """The records of these chunks, by digest. A damaged one is read anew: an upload heals it, and moves no head."""
        view = self.view
        found = {
            digest: None if data is None else records.decode(Chunk, data)
            for digest, data in zip(wanted, view.present(list(wanted.values())), strict=True)
        }
        damaged = [digest for digest, chunk in found.items() if chunk and chunk.state == CHUNK_DAMAGED]
        if damaged:
            view.need_fresh([wanted[digest] for digest in damaged])
            for digest in damaged:
                kv = view.fresh(wanted[digest])
                found[digest] = None if kv is None else records.decode(Chunk, kv.value)
        return found

    def _refuse_place(self, file: UploadFile) -> None:
        """As `tree.refuse_unplaceable`, but what concerns the directory alone is looked at once."""
        view = self.view
        if file.parent not in self._good_parents:
            tree.refuse_unplaceable(view, file.file_id, file.parent, file.name)
            self._good_parents.add(file.parent)
            return
        tree.refuse_reserved_id(view, file.file_id, "file_id")
        refuse_taken_name(view, file)

    # --- writing

    def _write(self, version: _Version) -> int:
        view, draft = self.view, version.draft
        file, new = draft.file, draft.commit.new_version
        node = draft.node or make_file(view, file)
        summary, attrs = version.summary, dict(draft.commit.attrs or {})
        view.put(
            keys.manifest(view.namespace, file.file_id, new),
            Manifest(
                1,
                summary.size,
                summary.digest,
                view.now,
                self.upload_id,
                attrs,
                summary.count,
                draft.prepared.segments if draft.prepared is not None else "",
                list(version.entries),
            ),
        )
        revive(view, version.revived)
        for name, digest in draft.content.bindings.items():
            bind(view, name, digest)
        node = msgspec.structs.replace(
            node, modified=view.now, version=new, size=summary.size, digest=summary.digest, attrs=attrs
        )
        tree.put_node(view, "commit", file.file_id, node)
        if draft.prepared is not None and draft.prepared.binding:
            mark = Bound(1, view.last_sequence())
            view.put(keys.bound(view.namespace, draft.prepared.binding), mark)
        return new

    def _write_upload(self, upload: Upload, left: tuple[UploadFile, ...]) -> None:
        view = self.view
        if left:
            view.put(self.upload_key, msgspec.structs.replace(upload, files=list(left)))
        else:
            view.delete(self.upload_key)
            view.delete_range(*keys.stored_range(view.namespace, self.upload_id))


def _up_to_long_one(commits: Sequence[FileCommit], files: Mapping[str, UploadFile]) -> Sequence[FileCommit]:
    """Those before the first that is sure to need preparation; only that one when it is the first."""
    for place, commit in enumerate(commits):
        file = files.get(commit.file_id)
        count = len(commit.ids) if commit.ids is not None else 0 if file is None else file.count
        if count > INLINE_ENTRIES:
            return commits[: max(place, 1)]
    return commits


def _for_each(items: Iterable[T], step: Callable[[T], S]) -> "list[S | Outcome]":
    """`step` of each, refusals as values; what all of them have yet to load is asked for at once."""
    results: list[S | Outcome] = []
    wanted: dict[bytes | RangeKey, None] = {}
    for item in items:
        try:
            results.append(step(item))
        except NotLoaded as missing:
            wanted.update(dict.fromkeys(missing.wanted))
        except (MoorageError, NotPreparedError) as refusal:
            results.append(refusal)
    if wanted:
        raise NotLoaded(wanted)
    return results


def _puts_of(version: _Version) -> int:
    return 4 + len(version.draft.content.bindings) + len(version.revived)


def _bytes_of(version: _Version) -> int:
    """An upper bound of what the version adds to a transaction, but for attrs of unusual size."""
    file, names = version.draft.file, version.draft.content.bindings
    place = version.draft.node or file
    fixed = 700 + 4 * (len(file.file_id) + len(place.parent) + len(place.name.encode()))
    named = sum(len(name) for name, _, _ in version.entries if name is not None)
    return fixed + 44 * len(version.entries) + named + 180 * len(names) + sum(map(len, names))
