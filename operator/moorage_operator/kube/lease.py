"""The Lease: one process acts. Who holds it renews every 2 s, stops writing 10 s after the last renewal that it
sent, and is followed 15 s after the last renewal that anybody saw. Clocks are monotonic and each process's own.
"""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Callable
from typing import Any

from moorage_operator.kube.client import Kube
from moorage_operator.kube.errors import KubeConflictError, KubeError
from moorage_operator.kube.kinds import LEASE

DURATION_SECONDS = 15.0
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0

log = logging.getLogger("moorage.lease")


class Lease:
    """`holds()` is what the gate of writes asks. The client given here must have no gate of its own."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.identity = identity
        self.namespace = namespace
        self.name = name
        self._kube = kube
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._renewed: float | None = None
        self._seen: tuple[Any, float] | None = None
        self._lost = False

    def holds(self) -> bool:
        """Whether this process may write now."""
        renewed = self._renewed
        return not self._lost and renewed is not None and self._monotonic() - renewed < RENEW_DEADLINE_SECONDS

    async def acquire(self) -> None:
        """Return when this process holds the Lease, however long that takes."""
        while True:
            started = self._monotonic()
            try:
                if await self._try_once():
                    self._renewed = started
                    log.info("lease acquired", extra={"identity": self.identity})
                    return
            except KubeError as error:
                log.info("lease not acquired", extra={"reason": error.detail})
            await asyncio.sleep(RETRY_SECONDS)

    async def keep(self) -> None:
        """Renew until the Lease is lost; returning means that this process must end."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            started = self._monotonic()
            try:
                held = await self._try_once()
            except KubeError as error:
                log.warning("lease not renewed", extra={"reason": error.detail})
                held = None
            if held:
                # Counted from before the request: when it took effect is not known better than that.
                self._renewed = started
            if held is False or not self.holds():
                self._lost = True
                log.error("lease lost", extra={"identity": self.identity})
                return

    async def release(self) -> None:
        """Give it back, so that the next one need not wait. Nothing is written by this process afterwards."""
        if not self.holds():
            return
        self._lost = True
        try:
            found = await self._kube.get(LEASE, self.namespace, self.name)
            if found is not None and found["spec"].get("holderIdentity") == self.identity:
                spec = found["spec"] | {"holderIdentity": "", "renewTime": self._now()}
                await self._kube.replace({**found, "spec": spec})
        except KubeError as error:
            log.warning("lease not released", extra={"reason": error.detail})

    async def _try_once(self) -> bool:
        """Take or renew it; False while somebody else holds it. KubeError when that is not known."""
        found = await self._kube.get(LEASE, self.namespace, self.name)
        try:
            if found is None:
                await self._kube.create(self._build(self._spec(0)))
                return True
            spec = found["spec"]
            holder = spec.get("holderIdentity")
            if holder == self.identity:
                renewed = spec | {"renewTime": self._now()}
            elif not holder or self._expired(found):
                renewed = self._spec(int(spec.get("leaseTransitions") or 0) + 1)
            else:
                return False
            await self._kube.replace({**found, "spec": renewed})
        except KubeConflictError:
            # Somebody was faster; who it was shows the next time.
            return False if self._renewed is None else await self._still_ours()
        return True

    async def _still_ours(self) -> bool:
        found = await self._kube.get(LEASE, self.namespace, self.name)
        return found is not None and found["spec"].get("holderIdentity") == self.identity

    def _expired(self, found: dict[str, Any]) -> bool:
        """Whether it stood as it is for its whole duration, by our own clock since we first saw it so."""
        state = (found["spec"].get("holderIdentity"), found["metadata"]["resourceVersion"])
        now = self._monotonic()
        if self._seen is None or self._seen[0] != state:
            self._seen = (state, now)
        return now - self._seen[1] >= DURATION_SECONDS

    def _build(self, spec: dict[str, Any]) -> dict[str, Any]:
        meta = {"name": self.name, "namespace": self.namespace}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": meta, "spec": spec}

    def _spec(self, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(DURATION_SECONDS),
            "acquireTime": self._now(),
            "renewTime": self._now(),
            "leaseTransitions": transitions,
        }

    def _now(self) -> str:
        return self._wall_clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
