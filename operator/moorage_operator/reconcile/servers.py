"""What the operator asks of running servers, over their internal ports (DESIGN.md, The reconcile)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import msgspec

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


class HttpServers:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def ask_revisions(self, addresses: Sequence[str]) -> list[Revisions | None]:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return await asyncio.gather(*(self._ask(self._session, address) for address in addresses))

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> Revisions | None:
        host = f"[{address}]" if address.count(":") > 1 else address
        port = "" if ":" in address.removeprefix(host) else f":{INTERNAL_PORT}"
        try:
            # One that is not ready (503) reports its revisions as well.
            async with session.get(f"http://{host}{port}/readyz") as response:
                body = msgspec.json.decode(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
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
