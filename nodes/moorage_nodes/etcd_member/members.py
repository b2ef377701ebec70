"""The membership of an etcd cluster, asked and changed by way of any member that answers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
from etcd3aio._protobuf import (
    ClusterStub,
    MemberAddRequest,
    MemberListRequest,
    MemberRemoveRequest,
)
from grpc.aio import AioRpcError

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.etcd_member.plan import Member

CALL_SECONDS = 5.0


class Membership:
    """`urls`: clients' URLs of the other members. `folder`: the client's certificate, its key and the authority's."""

    def __init__(self, urls: Sequence[str], folder: Path) -> None:
        self._urls = urls
        self._folder = folder

    async def read(self) -> tuple[Member, ...]:
        """As a majority knows it. StoreUnavailableError when no member can tell."""
        response = await self._call("MemberList", MemberListRequest(linearizable=True))
        return _members(response)

    async def remove(self, member: Member) -> None:
        """Idempotent: one that is gone is gone. StoreUnavailableError when the others refuse for now."""
        try:
            await self._call("MemberRemove", MemberRemoveRequest(ID=member.id))
        except AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise _unavailable(error) from error

    async def add(self, peer_url: str) -> tuple[Member, ...]:
        """The members with the new one. StoreUnavailableError when the others refuse for now."""
        try:
            return _members(await self._call("MemberAdd", MemberAddRequest(peerURLs=[peer_url])))
        except AioRpcError as error:
            raise _unavailable(error) from error

    async def _call(self, name: str, request: Any) -> Any:
        """The answer of the first member that gives one; AioRpcError when one refuses."""
        credentials: Any = grpc.ssl_channel_credentials(*_read(self._folder))  # type: ignore[no-untyped-call]
        for url in self._urls:
            async with grpc.aio.secure_channel(url.removeprefix("https://"), credentials) as channel:
                try:
                    return await getattr(ClusterStub(channel), name)(request, timeout=CALL_SECONDS)
                except AioRpcError as error:
                    if error.code() not in _SILENT:
                        raise
        raise StoreUnavailableError("No majority of the etcd's members answers.")


_SILENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN})


def _read(folder: Path) -> tuple[bytes, bytes, bytes]:
    return tuple((folder / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))  # type: ignore[return-value]


def _members(response: Any) -> tuple[Member, ...]:
    found: Iterable[Any] = response.members
    return tuple(Member(m.ID, m.name, tuple(m.peerURLs), bool(m.clientURLs)) for m in found)


def _unavailable(error: AioRpcError) -> StoreUnavailableError:
    return StoreUnavailableError(f"The etcd's members refuse for now: {error.details()}")
