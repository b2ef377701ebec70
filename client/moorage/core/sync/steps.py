"""What a plan says: steps, each with its reason, and what it leaves to a person.

A step is carried out whole or not at all, then its `record` is written to the synced tree, then comes the next.
A step that finds something else than it expects (another hash, a refusal) ends the plan: scan, ask, plan again.
Ending anywhere is safe.

`node` is an id, or `+1`, `+2`, … for a node that is yet to be made on the server: the client chooses an id when it
makes it and puts it in place of the `+n` wherever later steps, records included, name it. No server id has a `+`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from moorage.core.sync.trees import Kind, LocalPath, SyncedNode


class Reason(StrEnum):
    NEW_HERE = "new here"
    NEW_THERE = "new there"
    CHANGED_HERE = "changed here, unchanged there"
    CHANGED_THERE = "changed there, unchanged here"
    CHANGED_ON_BOTH_SIDES = "changed on both sides: the server's keeps the name"
    CHANGED_HERE_GONE_THERE = "changed here, deleted there: kept as a new file"
    GONE_HERE = "deleted here, unchanged there"
    GONE_THERE = "deleted there, unchanged here"
    GONE_HERE_CHANGED_THERE = "deleted here, changed there: the change is kept"
    GONE_ON_BOTH_SIDES = "deleted on both sides"
    MOVED_HERE = "moved here"
    MOVED_THERE = "moved there"
    NAME_TAKEN = "the name is taken by another on the server"
    HOLDS_WHAT_IS_KEPT = "deleted, but something in it is kept"
    MAKES_WAY = "makes way for another that takes its name or its place"
    SAME_ON_BOTH_SIDES = "the same on both sides"
    OFFERED_AGAIN = "the server was restored from a backup: kept here and offered again"


@dataclass(frozen=True, slots=True)
class Step:
    """`record`: what the synced tree says of `node` once the step is done; None: it says what it said before.

    A file's record without a hash means the one received: only a download that did not know it makes such, and
    what is recorded of that file later in the plan.
    """

    node: str
    reason: Reason
    record: SyncedNode | None


# --- here -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MakeLocalDirectory(Step):
    path: LocalPath


@dataclass(frozen=True, slots=True)
class MoveLocal(Step):
    """Rename `path` to `target`, with all below it. `target` is free; its directory is there."""

    path: LocalPath
    target: LocalPath


@dataclass(frozen=True, slots=True)
class ConflictCopy(Step):
    """Rename the file `path` to `target` and forget whose it was: its remembered id and the synced entry of `node`
    go. What lies at `target` is a new file from then on. `target` may equal `path`.
    """

    path: LocalPath
    target: LocalPath


@dataclass(frozen=True, slots=True)
class DeleteLocal(Step):
    """Delete the file `path` if it still has `hash`, or the directory if it is empty; forget `node`."""

    path: LocalPath
    kind: Kind
    hash: str


@dataclass(frozen=True, slots=True)
class Download(Step):
    """Put `version` of the file at `path` in one rename. `replaces` is the hash that must be there now; None: no
    file may be there. `hash` is None when only the server knows it.
    """

    path: LocalPath
    version: int
    hash: str | None
    replaces: str | None


# --- there ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MakeRemoteDirectory(Step):
    parent: str
    name: str
    path: LocalPath  # where it is here, so that the client remembers the id


@dataclass(frozen=True, slots=True)
class MoveRemote(Step):
    parent: str
    name: str


@dataclass(frozen=True, slots=True)
class DeleteRemote(Step):
    """Delete `version` of the file, or the directory if it is empty (never recursively: what came into it
    meanwhile must not go with it); forget `node`.
    """

    kind: Kind
    version: int


@dataclass(frozen=True, slots=True)
class Upload(Step):
    """Commit the bytes of `path`, whose hash is `hash`, as `base_version` + 1 of `node`.

    With `base_version` 0 and a `+n` it makes the file as `name` in `parent`: the synced tree gets an `offered` entry under
    the chosen id first.
    """

    path: LocalPath
    hash: str
    base_version: int
    parent: str
    name: str


# --- memory alone -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MarkSynced(Step):
    """Both sides are the same: only the synced tree changes. `path` is where it is here."""

    path: LocalPath


@dataclass(frozen=True, slots=True)
class Forget(Step):
    """The synced tree drops `node`."""


AnyStep: TypeAlias = (
    MakeLocalDirectory
    | MoveLocal
    | ConflictCopy
    | DeleteLocal
    | Download
    | MakeRemoteDirectory
    | MoveRemote
    | DeleteRemote
    | Upload
    | MarkSynced
    | Forget
)


class ProblemKind(StrEnum):
    NAME_REFUSED = "the server does not take this name"
    TOO_DEEP = "deeper than the server allows"
    NOT_IN_A_DIRECTORY = "a scan that says that a file has files in it, or names one path twice"
    NAME_COLLISION = "this file system takes two names on the server for one"
    BLOCKED = "waits for another problem to be solved"


@dataclass(frozen=True, slots=True)
class Problem:
    """What stays as it is on both sides until a person does something. `path` is where it is here once the plan is
    carried out, empty if it is not here; `node` is the id, if it has one.
    """

    kind: ProblemKind
    path: LocalPath
    node: str | None


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """`undecided`: files that changed on both sides and may or may not be the same: nothing is done about them
    until their hash in the remote tree is filled in (`GET /files/{id}/metadata`) and a plan is made anew.
    """

    steps: tuple[AnyStep, ...] = ()
    problems: tuple[Problem, ...] = ()
    undecided: tuple[str, ...] = ()
