"""What fsck can find: each kind with its word, what it means and what to do (docs/fsck.md explains them at length)."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

Level = Literal["finding", "information"]
LISTED_EACH = 200  # of one kind; the counts go on


@dataclass(frozen=True, slots=True)
class Kind:
    """`level`: a `finding` breaks an invariant, an `information` is waste or work that waits. `remedy`: what a
    person does; `repair`: what `--repair` does, where that is provably safe.
    """

    word: str
    level: Level
    meaning: str
    remedy: str
    repair: str = ""


_FROM_BACKUP = "Restore the metadata from a backup, or have the file written again by a client that has it."
_WRITE_AGAIN = (
    "Have a client that has the file write it again: the first upload of these bytes heals the chunk."
)
_BRING_BACK = (
    "Bring the object back if the S3 server keeps versions. Else mark the chunk, by `scrub` or --repair, and have a "
    "client that has the file write it again: that heals the chunk."
)
_COLLECTED = "Nothing: the collector removes it."

KINDS: dict[str, Kind] = {
    kind.word: kind
    for kind in (
        Kind("identity_wrong", "finding", "The cluster's own keys are missing or unreadable.", _FROM_BACKUP),
        Kind(
            "record_unreadable",
            "finding",
            "A record cannot be decoded, or is of a newer schema.",
            "Run fsck of the release that the servers run; if it says the same, restore from a backup.",
        ),
        Kind(
            "head_wrong",
            "finding",
            "The head does not agree with the newest journal entry.",
            _FROM_BACKUP,
        ),
        Kind("journal_gap", "finding", "An entry of the change feed is missing.", _FROM_BACKUP),
        Kind(
            "journal_disagrees",
            "finding",
            "The newest entry about a node says something else than its record: clients that follow the feed "
            "see another tree than those that list it.",
            "Move or write the node once more: that makes a new entry that is right.",
        ),
        Kind(
            "version_order",
            "finding",
            "The versions that the journal tells of a node do not rise by one.",
            _FROM_BACKUP,
        ),
        Kind(
            "child_missing",
            "finding",
            "A live node stands in no directory: no listing shows it.",
            "Run with --repair, or move the node to another name.",
            "puts the entry where the name is free and the directory is there",
        ),
        Kind(
            "child_dangling",
            "finding",
            "A directory's entry leads to no live node of that place.",
            "Run with --repair.",
            "removes the entry, so that the name is free",
        ),
        Kind("node_missing", "finding", "The feed tells of a live node that has no record.", _FROM_BACKUP),
        Kind(
            "parent_missing",
            "finding",
            "A node lies in something that is no directory, or is not there.",
            "Move the node to a directory that is there.",
        ),
        Kind(
            "tree_cycle",
            "finding",
            "Directories lie in one another and are out of reach of the root.",
            _FROM_BACKUP,
        ),
        Kind(
            "manifest_missing",
            "finding",
            "A version that must be kept has no content.",
            _FROM_BACKUP,
        ),
        Kind(
            "manifest_wrong",
            "finding",
            "A manifest contradicts itself or its file: count, size or digest do not add up, or its version is "
            "none that the file has had.",
            _FROM_BACKUP,
        ),
        Kind(
            "segment_missing",
            "finding",
            "A part of a long list of chunks is missing or wrong.",
            _FROM_BACKUP,
        ),
        Kind(
            "deletion_wrong",
            "finding",
            "A node waits for a deletion that is not under way, or the other way round.",
            "Undelete the node, or delete it again.",
        ),
        Kind(
            "work_missing",
            "finding",
            "A deletion is under way, but no server will find it after a crash.",
            "Run with --repair.",
            "puts the item of work",
        ),
        Kind(
            "work_dangling",
            "finding",
            "An item of work is of no deletion.",
            "Run with --repair.",
            "removes the item of work",
        ),
        Kind(
            "trash_wrong",
            "finding",
            "The trash names something that is not deleted.",
            "Run with --repair.",
            "removes the entry of the trash",
        ),
        Kind(
            "upload_wrong",
            "finding",
            "An open upload's plan is not whole: it cannot be committed.",
            "Nothing: the client begins anew, and the upload ends by itself.",
        ),
        Kind(
            "name_wrong",
            "finding",
            "A client's names for chunks count from a change that has not happened.",
            _FROM_BACKUP,
        ),
        Kind(
            "chunk_missing",
            "finding",
            "A kept version needs a chunk that the registry does not know.",
            _WRITE_AGAIN,
        ),
        Kind(
            "chunk_size_wrong",
            "finding",
            "A kept version and the registry give a chunk two sizes.",
            _FROM_BACKUP,
        ),
        Kind(
            "chunk_condemned",
            "finding",
            "A kept version needs a chunk that the collector is about to take away.",
            "Stop the collector and write the file again: the commit brings the chunk back.",
        ),
        Kind(
            "chunk_damaged",
            "finding",
            "A kept version needs a chunk that is known to be damaged.",
            _WRITE_AGAIN,
        ),
        Kind(
            "pool_unknown",
            "finding",
            "Chunks lie in a block pool that this cluster does not name: nobody can read them.",
            "Put the pool back on the cluster's list.",
        ),
        Kind(
            "object_missing",
            "finding",
            "The object that holds a chunk is not in the bucket.",
            _BRING_BACK,
            "marks the chunk damaged, so that clients are asked for it again",
        ),
        Kind(
            "object_short",
            "finding",
            "The object that holds a chunk ends before the chunk does.",
            _BRING_BACK,
            "marks the chunk damaged",
        ),
        Kind(
            "bytes_differ",
            "finding",
            "The bytes of a chunk are not those of its hash (only with --deep).",
            _BRING_BACK,
            "marks the chunk damaged",
        ),
        Kind("orphan_object", "information", "An object that no chunk lies in.", _COLLECTED),
        Kind("chunk_unreferenced", "information", "A chunk that no kept version needs.", _COLLECTED),
        Kind(
            "damaged_unreferenced", "information", "A damaged chunk that no kept version needs.", _COLLECTED
        ),
        Kind("manifest_leftover", "information", "The content of a file that is gone.", _COLLECTED),
        Kind(
            "segment_unreferenced",
            "information",
            "A part of a list of chunks that nothing needs.",
            _COLLECTED,
        ),
        Kind(
            "stored_leftover",
            "information",
            "A note of what was stored under an upload that has ended.",
            _COLLECTED,
        ),
        Kind("name_stale", "information", "A client's name for a chunk that is gone.", _COLLECTED),
        Kind(
            "key_unknown",
            "information",
            "A key that this release does not know.",
            "Nothing, as a rule: a newer release wrote it.",
        ),
    )
}


class Finding(Struct, frozen=True, kw_only=True):
    """`subject`: the id, version, hash, object or key that it is about. `namespace` is empty for the cluster's own."""

    kind: str
    namespace: str
    subject: str
    detail: str


class Findings:
    """All that was found: exact counts, and the first `LISTED_EACH` of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.listed: list[Finding] = []

    def add(self, kind: str, namespace: str, subject: str, detail: str = "") -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= LISTED_EACH:
            self.listed.append(
                Finding(kind=kind, namespace=namespace, subject=subject, detail=detail or KINDS[kind].meaning)
            )

    def count(self, kind: str, number: int) -> None:
        """Of what is only counted."""
        if number:
            self.counts[kind] += number

    def merge(self, other: "Findings") -> None:
        for finding in other.listed:
            if self.counts[finding.kind] < LISTED_EACH:
                self.listed.append(finding)
        self.counts.update(other.counts)

    def total(self, level: Level = "finding") -> int:
        return sum(number for word, number in self.counts.items() if KINDS[word].level == level)
