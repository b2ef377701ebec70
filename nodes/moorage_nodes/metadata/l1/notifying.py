"""L1's calls to the notifier about deletions (PROTOCOL.md, Deletion 2)."""

from moorage_nodes.metadata.l1.let_go import scan_chunks
from moorage_nodes.metadata.records import FILE, Deletion
from moorage_nodes.peer_api import (
    NotifyDeletionAnswer,
    NotifyDeletionRequest,
    Part,
    WithdrawAnswer,
    WithdrawRequest,
)
from moorage_nodes.peers import PeerClient
from moorage_nodes.stores.contracts import MetadataStore


class Notifying:
    """`moorage_nodes.metadata.l1.deletions.Notifier` over the internal port, for the cluster `server_key`."""

    def __init__(self, store: MetadataStore, notifier: PeerClient, server_key: str) -> None:
        self._store = store
        self._notifier = notifier
        self._server_key = server_key

    async def tell(self, namespace: str, notification_id: str, deletion: Deletion) -> None:
        """A file's chunks come by hash, in parts; a directory's are not listed."""
        index, waiting = 0, list[str]()
        if deletion.kind == FILE:
            async for hashes in scan_chunks(self._store, namespace, deletion):
                if waiting:
                    await self._send(
                        namespace, notification_id, deletion, waiting, Part(index=index, last=False)
                    )
                    index += 1
                waiting = hashes
        await self._send(namespace, notification_id, deletion, waiting, Part(index=index, last=True))

    async def _send(
        self, namespace: str, notification_id: str, deletion: Deletion, hashes: list[str], part: Part
    ) -> None:
        request = NotifyDeletionRequest(
            namespace=namespace,
            server_key=self._server_key,
            file_id=deletion.node,
            notification_id=notification_id,
            client_ids=deletion.clients,
            chunk_ids=hashes,
            part=part,
            node="file" if deletion.kind == FILE else "directory",
        )
        await self._notifier.post("/notify_deletion", request, NotifyDeletionAnswer)

    async def withdraw(self, namespace: str, notification_id: str) -> None:
        request = WithdrawRequest(namespace=namespace, notification_id=notification_id)
        await self._notifier.post("/internal/withdraw", request, WithdrawAnswer)
