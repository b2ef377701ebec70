"""What a commit is asked for of one file, what was made ready for it, and what may become of it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moorage.core.errors import MoorageError
from moorage_nodes.metadata.l1.entries import Id, Summary, id_of
from moorage_nodes.metadata.l1.targets import NotPreparedError
from moorage_nodes.metadata.records import Entry, Manifest


@dataclass(frozen=True, slots=True)
class FileCommit:
    """What is asked for one file. `ids`: the chunks that the client names, in file order; None: it names none.
    `attrs` None: it says nothing of them, so the version has none.
    """

    file_id: str
    new_version: int
    ids: tuple[Id, ...] | None = None
    attrs: Mapping[str, Any] | None = None
    hashes: tuple[bytes, ...] | None = field(init=False)  # the ids, when all of them are hashes

    def __post_init__(self) -> None:
        hashes = None if self.ids is None else tuple(each for each in self.ids if type(each) is bytes)
        object.__setattr__(
            self, "hashes", hashes if hashes is not None and len(hashes) == len(self.ids or ()) else None
        )

    def is_of(self, manifest: Manifest) -> bool:
        """Whether that version is what is asked for. What is not said is not compared, and a long list of the
        client's own names is only counted, as is one that retention has let go (repeats.py).
        """
        if self.attrs is not None and dict(self.attrs) != manifest.attrs:
            return False
        if self.ids is None:
            return True
        if len(manifest.entries) == manifest.count:
            return [id_of(entry) for entry in manifest.entries] == list(self.ids)
        if self.hashes is not None:
            return hashlib.sha256(b"".join(self.hashes)).digest() == manifest.digest
        return len(self.ids) == manifest.count


@dataclass(frozen=True, slots=True)
class Prepared:
    """A content put together and checked beforehand. All its chunks were held, live, at the collector's
    `generation` of the head. `binding`: its names are pending under that (names.py); else they are in `names`.
    """

    base: int
    generation: int
    summary: Summary
    entries: Sequence[Entry] = ()
    segments: str = ""
    names: Mapping[str, bytes] = field(default_factory=dict)
    binding: str = ""


Outcome = int | MoorageError | NotPreparedError
"""What became of one file: its version, or why not."""
