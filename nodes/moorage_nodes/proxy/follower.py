"""Follows the mounted configuration, certificate and names, and keeps NGINX on the newest that it takes."""

import asyncio
import logging
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from moorage_nodes.proxy.configuration import (
    Certificate,
    Configuration,
    parse_hosts,
    parse_servers,
    plan_candidates,
)
from moorage_nodes.proxy.nginx import BadConfigurationError, Nginx
from moorage_nodes.proxy.reach import Reach
from moorage_nodes.proxy.settings import ProxySettings

log = logging.getLogger("moorage.proxy")

POLL_SECONDS = 1.0
NAMES_SECONDS = 5.0
AGAIN_SECONDS = 5.0
"""How often what was refused is tried again: a name may be found by then."""


@dataclass(slots=True)
class Followed:
    """What is served and what is not. `failure`: why the newest state is not what is served; None when it is."""

    serving: Configuration | None = None
    failure: str | None = "nothing has been loaded yet"
    reloads: int = 0
    refusals: int = 0
    loaded_at: float = 0.0


@dataclass(slots=True)
class Follower:
    """One per process. `step` looks once; `run` looks for ever."""

    settings: ProxySettings
    nginx: Nginx
    state: Followed = field(default_factory=Followed)
    reach: Reach = field(default_factory=Reach)
    _tried: Configuration | None = None
    _tried_at: float = 0.0
    _looked_up_at: float = 0.0
    _addresses: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _reaching: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            await self.step()
            if self._reaching is None and self.state.serving is not None:
                servers = parse_servers(self.state.serving.text)
                self._reaching = asyncio.create_task(self.reach.wait_for(servers))
            await asyncio.sleep(POLL_SECONDS)

    async def step(self) -> None:
        """Load what has changed, if NGINX takes it. Never raises for what is mounted."""
        try:
            seen = await self._look()
        except OSError as error:
            self._refuse(f"{error.filename} cannot be read: {error.strerror}")
            return
        if seen == self.state.serving:
            self.state.failure = None
            return
        now = time.monotonic()
        if seen == self._tried and now < self._tried_at + AGAIN_SECONDS:
            return
        self._tried, self._tried_at = seen, now
        await self._load_best(seen)

    async def _load_best(self, seen: Configuration) -> None:
        refused: str | None = None
        for candidate in plan_candidates(self.state.serving, seen):
            if candidate == self.state.serving:
                break
            try:
                await self.nginx.test(candidate)
                await self._load(candidate)
            except BadConfigurationError as error:
                refused = refused or error.detail
            else:
                break
        if refused is None:
            self.state.failure = None
        else:
            self._refuse(refused)

    async def _load(self, accepted: Configuration) -> None:
        self.nginx.put(accepted)
        if self.nginx.running:
            try:
                await self.nginx.reload()
            except BadConfigurationError:
                if self.state.serving is not None:
                    self.nginx.put(self.state.serving)
                raise
            self.state.reloads += 1
        else:
            await self.nginx.start()
        self.state.serving = accepted
        self.state.loaded_at = time.time()
        log.info("configuration loaded", extra={"revision": accepted.revision})

    def _refuse(self, reason: str) -> None:
        self.state.refusals += 1
        if reason != self.state.failure:
            log.error("configuration refused, keeping the old one", extra={"reason": reason})
        self.state.failure = reason

    async def _look(self) -> Configuration:
        """OSError when the configuration cannot be read."""
        text, certificate = self._read()
        hosts = parse_hosts(text)
        now = time.monotonic()
        if now >= self._looked_up_at + NAMES_SECONDS or not set(hosts) <= self._addresses.keys():
            self._looked_up_at = now
            self._addresses = await look_up(hosts, self._addresses)
        return Configuration(text, certificate, {host: self._addresses.get(host, ()) for host in hosts})

    def _read(self) -> tuple[str, Certificate | None]:
        return Path(self.settings.conf_file).read_text(), self._read_certificate()

    def _read_certificate(self) -> Certificate | None:
        tls = self.settings.tls
        if tls is None:
            return None
        try:
            # Through the folder as it is now: a mounted Secret is swapped as a whole.
            cert, key = Path(tls.cert_file), Path(tls.key_file)
            folder = cert.parent.joinpath("..data").resolve() if cert.parent == key.parent else cert.parent
            if not folder.is_dir():
                folder = cert.parent
            return Certificate((folder / cert.name).read_bytes(), (folder / key.name).read_bytes())
        except OSError:
            return None


async def look_up(hosts: Iterable[str], known: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Each name's addresses, sorted; what cannot be told now is what it was."""
    loop = asyncio.get_running_loop()

    async def one(host: str) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(NAMES_SECONDS):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError):
            return known.get(host, ())
        return tuple(sorted({str(address[0]) for *_, address in found}))

    names = list(dict.fromkeys(hosts))
    return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
