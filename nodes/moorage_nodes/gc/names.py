"""Names of chunks that lead nowhere any more, and bindings that every name has taken up (metadata/names.py)."""

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from moorage_nodes.gc.heads import Group
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.names import bindings_of, meaning
from moorage_nodes.metadata.records import Bound, ChunkName
from moorage_nodes.metadata.scan import scan_kind
from moorage_nodes.stores.contracts import Delete, KeyValue, MetadataStore, Put, unchanged


class NamesPass:
    """One walk over a namespace's names. `going`: digests of the chunks whose records are about to go."""

    def __init__(self, store: MetadataStore, namespace: str, going: Collection[bytes]) -> None:
        self._store = store
        self._namespace = namespace
        self._going = going
        self._named: set[str] = set()  # bindings that some name, as it was read, has yet to take up

    async def plan(self, kvs: Sequence[KeyValue]) -> list[Group]:
        """What is to be written of these names."""
        found = [(kv, records.decode(ChunkName, kv.value)) for kv in kvs]
        bindings = bindings_of(name for _, name in found)
        self._named.update(bindings)
        sequences, ended = await self._look_up(bindings)
        groups = []
        for kv, name in found:
            settled = replace(
                name,
                digest=meaning(name, sequences) or b"",
                pending=[each for each in name.pending if each[0] not in sequences and each[0] not in ended],
            )
            is_gone = not settled.digest or settled.digest in self._going
            if is_gone and not settled.pending:
                groups.append(Group((unchanged(kv.key, kv.mod_revision),), (Delete(kv.key),)))
            elif settled != name:
                put = Put(kv.key, records.encode(settled))
                groups.append(Group((unchanged(kv.key, kv.mod_revision),), (put,)))
        return groups

    async def _look_up(self, bindings: Sequence[str]) -> tuple[dict[str, int], set[str]]:
        """The sequences of those that stand, and those that never will: their upload has ended without them.

        The commit that ends the upload is what makes a binding stand: so uploads are read first.
        """
        if not bindings:
            return {}, set()
        uploads = {keys.upload(self._namespace, binding.partition(".")[0]) for binding in bindings}
        is_open = set(await read_keys(self._store, list(uploads)))
        marks = await read_keys(self._store, [keys.bound(self._namespace, binding) for binding in bindings])
        sequences: dict[str, int] = {}
        ended: set[str] = set()
        for binding in bindings:
            mark = marks.get(keys.bound(self._namespace, binding))
            if mark is not None:
                sequences[binding] = records.decode(Bound, mark.value).sequence
            elif keys.upload(self._namespace, binding.partition(".")[0]) not in is_open:
                ended.add(binding)
        return sequences, ended

    async def plan_bindings(self, began: int) -> list[Group]:
        """Bindings that no name was found to need, of those that stood at the revision `began`, before the walk: a
        reader that is half way through a name taken up just now still finds its binding until the next collection.
        """
        groups: list[Group] = []
        async for kvs in scan_kind(self._store, self._namespace, "b", keys_only=True):
            groups.extend(
                Group((), (Delete(kv.key),))
                for kv in kvs
                if kv.create_revision <= began and keys.parse_binding(kv.key) not in self._named
            )
        return groups
