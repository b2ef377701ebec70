"""What the operator asks of running servers, over their internal ports (DESIGN.md, The reconcile)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, TypeVar

import aiohttp
import msgspec

from moorage_operator.reconcile.space import Space, parse_space
from moorage_operator.resources.etcd import METRICS_PORT
from moorage_operator.resources.pods import INTERNAL_PORT

ASK_SECONDS = 3.0
S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Revisions:
    """Of the live files that a server has loaded; None where it says nothing."""

    routing: int | None
    trust: int | None


@dataclass(frozen=True, slots=True)
class UsersReport:
    """What one auth server says. `placing`: server keys that it puts new users on. `users`: server key → how many live
    there, counted from `age` seconds ago on; None while it has not counted them.
    """

    placing: frozenset[str]
    users: Mapping[str, int] | None
    age: float


@dataclass(frozen=True, slots=True)
class StoringReport:
    """What one block server says. `takes`: server keys that it takes new chunks of, or is still storing some of, under
    the routing table of this revision.
    """

    takes: frozenset[str]
    routing: int


class Left(msgspec.Struct, frozen=True):
    """What a collection left of a cluster in a pool: chunk records and objects."""

    chunks: Annotated[int, msgspec.Meta(ge=0)]
    objects: Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class RegistryReport:
    """What one L3 server says. `revision`: of its etcd, now. `left`: pool → what the last complete collection left
    there, which began at the revision `began`; None when there was none.
    """

    revision: int
    began: int
    left: Mapping[str, Left] | None


class Servers(Protocol):
    async def ask_revisions(self, addresses: Sequence[str]) -> list[Revisions | None]:
        """What each server reports in `/readyz`; None for one that does not answer. Never raises."""

    async def ask_space(self, addresses: Sequence[str]) -> list[Space | None]:
        """How full each member of a managed etcd is; None for one that does not answer. Never raises."""

    async def ask_users(self, addresses: Sequence[str], token: str) -> list[UsersReport | None]:
        """What each auth server says in `/status`; None for one that does not answer or refuses. Never raises."""

    async def ask_storing(self, addresses: Sequence[str], token: str) -> list[StoringReport | None]:
        """The same of block servers."""

    async def ask_registry(self, addresses: Sequence[str], token: str) -> list[RegistryReport | None]:
        """The same of L3 servers."""


class HttpServers:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def ask_revisions(self, addresses: Sequence[str]) -> list[Revisions | None]:
        return await asyncio.gather(*(self._ask_revisions(address) for address in addresses))

    async def ask_space(self, addresses: Sequence[str]) -> list[Space | None]:
        return await asyncio.gather(*(self._ask_space(address) for address in addresses))

    async def _ask_space(self, address: str) -> Space | None:
        health = await self._fetch(address, METRICS_PORT, "/health")
        metrics = await self._fetch(address, METRICS_PORT, "/metrics")
        return None if health is None or metrics is None else parse_space(health, metrics)

    async def ask_users(self, addresses: Sequence[str], token: str) -> list[UsersReport | None]:
        return list(map(parse_users, await self._ask_status(addresses, token)))

    async def ask_storing(self, addresses: Sequence[str], token: str) -> list[StoringReport | None]:
        return list(map(parse_storing, await self._ask_status(addresses, token)))

    async def ask_registry(self, addresses: Sequence[str], token: str) -> list[RegistryReport | None]:
        return list(map(parse_registry, await self._ask_status(addresses, token)))

    async def _ask_status(self, addresses: Sequence[str], token: str) -> list[bytes]:
        """Empty for one that does not answer."""
        headers = {"Authorization": f"Bearer {token}"}
        answers = await asyncio.gather(
            *(self._fetch(address, INTERNAL_PORT, "/status", headers) for address in addresses)
        )
        return [answer or b"" for answer in answers]

    async def _fetch(
        self, address: str, port: int, path: str, headers: Mapping[str, str] | None = None
    ) -> bytes | None:
        """The body, whatever the status: one that is not ready (503) reports as well."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        host = f"[{address}]" if address.count(":") > 1 else address
        where = address if address.count(":") == 1 else f"{host}:{port}"
        try:
            async with self._session.get(f"http://{where}{path}", headers=headers) as response:
                return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def _ask_revisions(self, address: str) -> Revisions | None:
        answer = await self._fetch(address, INTERNAL_PORT, "/readyz")
        try:
            body = None if answer is None else msgspec.json.decode(answer)
        except msgspec.DecodeError:
            return None
        if not isinstance(body, dict):
            return None
        return Revisions(_integer(body.get("routing_revision")), _integer(body.get("trust_revision")))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _decode(answer: bytes, kind: type[S]) -> S | None:
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class _Counted(msgspec.Struct):
    of: dict[str, int]
    age_seconds: Annotated[float, msgspec.Meta(ge=0)]


class _AuthStatus(msgspec.Struct):
    role: Literal["auth"]
    clusters: frozenset[str]
    users: _Counted | None


def parse_users(answer: bytes) -> UsersReport | None:
    """Of the body of an auth server's `/status`; None for anything else."""
    status = _decode(answer, _AuthStatus)
    if status is None:
        return None
    counted = status.users
    if counted is None:
        return UsersReport(status.clusters, None, 0.0)
    return UsersReport(status.clusters, counted.of, counted.age_seconds)


class _BlockStatus(msgspec.Struct):
    role: Literal["block"]
    takes: frozenset[str]
    routing_revision: int


def parse_storing(answer: bytes) -> StoringReport | None:
    """Of the body of a block server's `/status`; None for anything else."""
    status = _decode(answer, _BlockStatus)
    if status is None:
        return None
    return StoringReport(status.takes, status.routing_revision)


class _Collection(msgspec.Struct):
    began: int
    left: dict[str, Left]


class _RegistryStatus(msgspec.Struct):
    role: Literal["l3"]
    revision: int
    collection: _Collection | None


def parse_registry(answer: bytes) -> RegistryReport | None:
    """Of the body of an L3 server's `/status`; None for anything else."""
    status = _decode(answer, _RegistryStatus)
    if status is None:
        return None
    last = status.collection
    if last is None:
        return RegistryReport(status.revision, 0, None)
    return RegistryReport(status.revision, last.began, last.left)


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def oldest(reports: Sequence[int | None]) -> int | None:
    """The smallest revision; None when nobody was asked or somebody did not say."""
    known = [report for report in reports if report is not None]
    return min(known) if known and len(known) == len(reports) else None
