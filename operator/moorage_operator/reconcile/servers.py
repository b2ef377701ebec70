"""What the operator asks of running servers, over their internal ports (DESIGN.md, The reconcile)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import msgspec

from moorage_operator.reconcile.space import Space, parse_space
from moorage_operator.resources.etcd import METRICS_PORT
from moorage_operator.resources.pods import INTERNAL_PORT

ASK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Revisions:
    """Of the live files that a server has loaded; None where it says nothing."""

    routing: int | None
    trust: int | None


class Servers(Protocol):
    async def ask_revisions(self, addresses: Sequence[str]) -> list[Revisions | None]:
        """What each server reports in `/readyz`; None for one that does not answer. Never raises."""

    async def ask_space(self, addresses: Sequence[str]) -> list[Space | None]:
        """How full each member of a managed etcd is; None for one that does not answer. Never raises."""


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

    async def _fetch(self, address: str, port: int, path: str) -> bytes | None:
        """The body, whatever the status: one that is not ready (503) reports as well."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        host = f"[{address}]" if address.count(":") > 1 else address
        where = address if address.count(":") == 1 else f"{host}:{port}"
        try:
            async with self._session.get(f"http://{where}{path}") as response:
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


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def oldest(reports: Sequence[int | None]) -> int | None:
    """The smallest revision; None when nobody was asked or somebody did not say."""
    known = [report for report in reports if report is not None]
    return min(known) if known and len(known) == len(reports) else None
