"""Kept versions: listing them, and making an old one the next (PROTOCOL.md, Clients and changes)."""

from collections.abc import Sequence

import msgspec

from moorage.core.errors import ConflictError, GoneError, InvalidVersionError, NotFoundError
from moorage.core.ids import format_hash
from moorage.core.times import format_time
from moorage.core.wire import VersionEntry
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1 import tree
from moorage_nodes.metadata.records import Manifest
from moorage_nodes.metadata.view import Plan, View
from moorage_nodes.stores.contracts import KeyValue, MetadataStore

PAGE_VERSIONS = 50
MAX_PAGE_VERSIONS = 200


def plan_newest_version(file_id: str) -> Plan[int]:
    """The version of a file that may be read; refusals as `tree.observe_live_file`."""

    def plan(view: View) -> int:
        return tree.observe_live_file(view, file_id).version

    return plan


async def read_versions(
    store: MetadataStore, namespace: str, file_id: str, newest: int, limit: int
) -> tuple[list[VersionEntry], int | None]:
    """Up to `limit` kept versions from `newest` on downwards, and the one that the next page begins with.

    Manifests never change, so that they are read at no head does no harm.
    """
    start, _ = keys.manifests_range(namespace, file_id)
    end = keys.manifest(namespace, file_id, newest + 1)
    found, _ = await store.range(start, end, limit=limit + 1, descending=True)
    return _build_entries(found.kvs[:limit]), (
        keys.parse_manifest_version(found.kvs[limit].key) if len(found.kvs) > limit else None
    )


def _build_entries(kvs: Sequence[KeyValue]) -> list[VersionEntry]:
    entries = []
    for kv in kvs:
        manifest = records.decode(Manifest, kv.value)
        entries.append(
            VersionEntry(
                version=keys.parse_manifest_version(kv.key),
                size=manifest.size,
                modified=format_time(manifest.modified),
                hash=format_hash(manifest.digest),
                attrs=manifest.attrs,
            )
        )
    return entries


def plan_restore(file_id: str, version: int, client_version: int) -> Plan[int]:
    """Make the content of `version` the file's next version; its number. Segments are shared, no name is bound.

    409 `conflict` when `client_version` is not the newest (but the same restore again answers the same), 422
    `invalid_version` for 0, which has no content, 404 for a version that is yet to come, 410 for one not kept.
    """

    def plan(view: View) -> int:
        namespace = view.namespace
        new = client_version + 1
        view.need([keys.node(namespace, file_id), keys.manifest(namespace, file_id, version)])
        node = tree.observe_live_file(view, file_id, to_change=True)
        if node.version != client_version:
            if node.version == new and _is_restored(view, file_id, version, new):
                return new
            raise ConflictError(
                f"Version {client_version} is not the newest: look at version {node.version} first.",
                server_version=node.version,
            )
        if version == 0:
            raise InvalidVersionError("Version 0 has no content.")
        if version > node.version:
            raise NotFoundError(f"{file_id!r} has no version {version}; its newest is {node.version}.")
        manifest = view.record(Manifest, keys.manifest(namespace, file_id, version))
        if manifest is None:
            raise GoneError(f"The content of version {version} of {file_id!r} is not kept any more.")
        view.put(
            keys.manifest(namespace, file_id, new),
            msgspec.structs.replace(manifest, modified=view.now, upload=_mark(version)),
        )
        node = msgspec.structs.replace(
            node,
            modified=view.now,
            version=new,
            size=manifest.size,
            digest=manifest.digest,
            attrs=manifest.attrs,
        )
        tree.put_node(view, "restore", file_id, node)
        return new

    return plan


def _mark(version: int) -> str:
    """What a manifest says of its making instead of an upload; no upload's id has a colon."""
    return f"restore:{version}"


def _is_restored(view: View, file_id: str, version: int, new: int) -> bool:
    manifest = view.record(Manifest, keys.manifest(view.namespace, file_id, new))
    return manifest is not None and manifest.upload == _mark(version)
