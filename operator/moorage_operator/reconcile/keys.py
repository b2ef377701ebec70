"""The generated Secrets of a realm: signing keys and their rotation, and the admin's first credential."""

import datetime as dt
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moorage_operator.plan import OPERATOR, PublicKey, Service, build_trust, plan_services
from moorage_operator.reconcile.resource import Resource
from moorage_operator.reconcile.rotation import KeyFacts, KeyState, next_change, plan_rotation
from moorage_operator.reconcile.routing import revise_trust
from moorage_operator.reconcile.secret_keeper import SecretKeeper
from moorage_operator.resources.manifest import Body, build_labels, build_metadata
from moorage_operator.resources.names import admin_secret, operator_part, part_of, signing_secret
from moorage_operator.signing import make_private_pem, read_public_key, sign_operator_token
from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.realm import Realm
from moorage_operator.spec.scalars import parse_duration
from moorage_operator.status import parse_time, render_time

KEY_FILE = "private.pem"
REFRESH_TOKEN_SECONDS = 30 * 24 * 3600
SHORT_TOKEN_SECONDS = 3600
"""More than any capability for reads and any service token lives."""
ROTATION_POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RealmKeys:
    """`trust` is the file as it shall be; `states` what the status reports; `again` when time changes something."""

    trust: dict[str, Any]
    states: list[dict[str, Any]]
    again: float | None


class KeyMaker:
    """Idempotent at every write: Secrets are made before anything speaks of them, and go after nobody does."""

    def __init__(self, keeper: SecretKeeper, now: Callable[[], dt.datetime]) -> None:
        self._keeper = keeper
        self._now = now

    async def ensure_admin(self, access_point: AccessPoint) -> str:
        """The name of the Secret with the admin token: the user's own, unread, or a generated one."""
        named = access_point.spec.auth.admin_secret_ref
        if named is not None:
            return named.name
        name = admin_secret(access_point.metadata.name)
        metadata = _metadata(access_point, name, "admin")
        await self._keeper.ensure(metadata, lambda: {"token": secrets.token_urlsafe(32)}, _read_token)
        return name

    async def ensure_keys(
        self, resource: Resource, realm: Realm, live_trust: Mapping[str, Any] | None, trusted: int | None
    ) -> RealmKeys:
        """`trusted`: the oldest revision of the trust file that a ready server of the realm reports."""
        known = {entry["name"]: entry for entry in resource.status.get("keys", ())}
        pems = {key["kid"]: key["public_pem"] for key in (live_trust or {}).get("keys", ())}
        services = (*plan_services(realm), OPERATOR)
        public: list[PublicKey] = []
        states: list[dict[str, Any]] = []
        waits: list[float] = []
        for service in services:
            part = part_of(service, realm)
            turn = _Turn(self._keeper, realm, service, part, self._now())
            reached = trusted is not None and live_trust is not None and trusted >= live_trust["revision"]
            state, wait = await turn.take(_parse_state(known.pop(part, None)), pems if reached else {})
            current = turn.current
            public.append(current)
            if state.other is not None:
                pem = turn.next.pem if turn.next and turn.next.kid == state.other else pems.get(state.other)
                if pem is not None:
                    public.append(PublicKey(service.name, state.other, pem))
            states.append(_render_state(part, state))
            if wait is not None:
                waits.append(wait)
        namespace = resource.namespace
        for part in known:
            # Its server is gone from the realm; what it signed is refused from now on.
            await self._keeper.drop(namespace, next_secret(part))
            await self._keeper.drop(namespace, signing_secret(part))
        floor = int(resource.status.get("trustRevision") or 0)
        trust = revise_trust(build_trust(public, services, 0), live_trust, floor)
        return RealmKeys(trust, states, min(waits, default=None))


async def fetch_operator_token(keeper: SecretKeeper, access_point: Resource, now: dt.datetime) -> str | None:
    """A token of the operator's for the servers of a realm; None while its key is not there or not one. KubeError."""
    found = await keeper.fetch(access_point.namespace, signing_secret(operator_part(access_point.name)))
    try:
        return None if found is None else sign_operator_token(found[0][KEY_FILE], now.timestamp())
    except (KeyError, ValueError):
        return None


class _Turn:
    """One component's key, as far as its rotation goes in this pass."""

    current: PublicKey
    next: PublicKey | None

    def __init__(
        self, keeper: SecretKeeper, realm: Realm, service: Service, part: str, now: dt.datetime
    ) -> None:
        access_point = realm.access_point
        self._keeper = keeper
        self._service = service
        self._now = now
        self._own = _metadata(access_point, signing_secret(part), part)
        self._beside = _metadata(access_point, next_secret(part), part)
        self._period = dt.timedelta(seconds=parse_duration(access_point.spec.auth.key_rotation))
        self._lifetime = dt.timedelta(seconds=longest_token_seconds(service, realm))

    async def take(self, state: KeyState | None, trusted: Mapping[str, str]) -> tuple[KeyState, float | None]:
        """The state now, and the seconds until it changes. `trusted`: keys that every server knows to trust."""
        self.current = await self._keeper.ensure(self._own, _make_key, self._read)
        idle = state is not None and state.phase == "Settled" and self._now - state.since < self._period
        self.next = None if idle else await self._look()
        for _ in range(6):
            facts = KeyFacts(
                self.current.kid,
                self.next.kid if self.next else None,
                trusted=self.next is not None and self.next.kid in trusted,
                period=self._period,
                lifetime=self._lifetime,
            )
            before = state
            state, action = plan_rotation(state, facts, self._now)
            if action == "make next":
                self.next = await self._keeper.ensure(self._beside, _make_key, self._read)
            elif action == "drop next":
                await self._keeper.drop(self._beside["namespace"], self._beside["name"])
                self.next = None
            elif action == "promote next":
                await self._promote()
            elif state == before:
                break
        assert state is not None  # the loop ran
        wait = next_change(state, facts, self._now)
        return state, ROTATION_POLL_SECONDS if wait is None else max(wait, ROTATION_POLL_SECONDS)

    async def _look(self) -> PublicKey | None:
        return await self._keeper.look(self._beside, self._read)

    async def _promote(self) -> None:
        """The next key into the mounted Secret, compared with what was there: nobody's change is lost."""
        namespace = self._own["namespace"]
        following = await self._keeper.fetch(namespace, self._beside["name"])
        mounted = await self._keeper.fetch(namespace, self._own["name"])
        if following is None or mounted is None:
            self._keeper.forget(namespace, self._own["name"])
            self.next = None
            return
        pem = following[0][KEY_FILE]
        await self._keeper.replace(self._own, {KEY_FILE: pem}, mounted[1])
        self.current = self._read({KEY_FILE: pem})

    def _read(self, content: Mapping[str, str]) -> PublicKey:
        return read_public_key(content[KEY_FILE], self._service.name)


def next_secret(part: str) -> str:
    """Where the next key of a component waits; mounted by nobody."""
    return f"{part}-signing-next"


def longest_token_seconds(service: Service, realm: Realm) -> int:
    """How long the last token that a key of this service signs stays valid."""
    if service.role == "auth":
        return max(REFRESH_TOKEN_SECONDS, parse_duration(realm.access_point.spec.auth.token_ttl))
    if service.role == "l1":
        cluster = next(one for one in realm.clusters if one.spec.server_key == service.owner)
        return max(SHORT_TOKEN_SECONDS, parse_duration(cluster.spec.retention.uploads))
    return SHORT_TOKEN_SECONDS


def parse_trust(text: str | None) -> dict[str, Any] | None:
    """The live trust file; None when there is none, or nothing that can be read."""
    try:
        found = None if text is None else json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("keys"), list) else None


def _metadata(access_point: AccessPoint, name: str, component: str) -> Body:
    return build_metadata(access_point, name, build_labels(access_point, name, component))


def _make_key() -> dict[str, str]:
    return {KEY_FILE: make_private_pem()}


def _read_token(content: Mapping[str, str]) -> bool:
    if not content["token"].strip():
        raise ValueError("empty")
    return True


def _parse_state(entry: Mapping[str, Any] | None) -> KeyState | None:
    try:
        if entry is None:
            return None
        return KeyState(entry["phase"], parse_time(entry["since"]), entry["current"], entry.get("other"))
    except (KeyError, ValueError):
        return None


def _render_state(part: str, state: KeyState) -> dict[str, Any]:
    rendered = {
        "name": part,
        "phase": state.phase,
        "since": render_time(state.since),
        "current": state.current,
    }
    return rendered | ({"other": state.other} if state.other else {})


def list_parts(realm: Realm) -> tuple[str, ...]:
    """Parts whose readiness tells which live files they have loaded."""
    return tuple(part_of(service, realm) for service in plan_services(realm))
