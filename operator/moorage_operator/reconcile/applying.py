"""Carries steps out: the writes of one pass, in order. A fight about a field ends instead of going on for ever."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moorage_operator.kube.client import FIELD_MANAGER, Kube
from moorage_operator.kube.errors import KubeForbiddenError, KubeInvalidError
from moorage_operator.kube.kinds import VOLUME_CLAIM, kind_of
from moorage_operator.reconcile.compare import WISH, says_what_we_wish
from moorage_operator.reconcile.steps import Step
from moorage_operator.reconcile.world import World
from moorage_operator.resources.manifest import Body, Manifest
from moorage_operator.status import Finding

NUMBER_MANAGER = f"{FIELD_MANAGER}-number"
FIGHT_SECONDS = 60.0
"""Within which the same wish, applied twice and different again, is a fight."""
FIGHT_RETRY_SECONDS = 600.0

log = logging.getLogger("moorage.reconcile")
ObjectKey = tuple[str, str, str]


@dataclass(slots=True)
class _Tries:
    wish: str
    count: int
    last: float


class Applier:
    def __init__(self, kube: Kube, world: World, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._world = world
        self._monotonic = monotonic
        self._tries: dict[ObjectKey, _Tries] = {}
        self._deleted: set[str] = set()

    async def carry_out(self, steps: Sequence[Step]) -> Finding | None:
        """Every step in order, up to the first that is refused: the problem then. KubeError for all else.

        A volume that is there and cannot be changed holds up nothing: its size can only be wished larger, so nobody
        could take the wish back.
        """
        fights: list[str] = []
        stuck: list[str] = []
        for step in steps:
            try:
                if step.verb == "delete":
                    await self._delete(step)
                elif step.verb == "number":
                    await self._apply(step, NUMBER_MANAGER)
                elif self._is_fight(step):
                    fights.append(step.reason)
                else:
                    await self._apply(step, FIELD_MANAGER)
            except (KubeInvalidError, KubeForbiddenError) as error:
                if self._is_volume(step):
                    stuck.append(error.detail)
                    continue
                if isinstance(error, KubeForbiddenError):
                    raise
                return Finding("Stalled", "True", "ApplyRefused", f"{step.reason}, but: {error.detail}")
        if fights:
            text = "somebody else keeps changing what the operator sets; stop one of the two"
            return Finding("Stalled", "True", "FieldFight", f"{', '.join(fights)}: {text}")
        if stuck:
            return Finding("Stalled", "True", "VolumeCannotGrow", "; ".join(stuck))
        return None

    def _is_volume(self, step: Step) -> bool:
        return (
            step.body is not None
            and kind_of(step.body) == VOLUME_CLAIM
            and self._world.live(step.body) is not None
        )

    def settle(self, wanted: Sequence[Manifest], steps: Sequence[Step]) -> None:
        """Forget what was tried for objects that have stayed as they are wished."""
        open_keys = {_key(step.body) for step in steps if step.body is not None}
        for manifest in wanted:
            key = _key(manifest.body)
            tries = self._tries.get(key)
            if key not in open_keys and tries and self._monotonic() - tries.last > FIGHT_SECONDS:
                del self._tries[key]

    def _is_fight(self, step: Step) -> bool:
        assert step.body is not None  # it is applied
        key, wish = _key(step.body), _wish(step.body)
        if step.new:
            self._tries.pop(key, None)  # nobody keeps a field of what is not there
        tries = self._tries.get(key)
        now = self._monotonic()
        if tries is not None and tries.wish == wish and tries.count >= 2:
            if now - tries.last < FIGHT_RETRY_SECONDS:
                return True
            tries = None
        if tries is None or tries.wish != wish or now - tries.last > FIGHT_SECONDS:
            tries = self._tries[key] = _Tries(wish, 0, now)
        tries.count += 1
        tries.last = now
        return False

    async def _apply(self, step: Step, manager: str) -> None:
        assert step.body is not None  # it is applied
        log.info("apply", extra={"why": step.reason})
        applied = await self._kube.apply(step.body, manager)
        self._world.built[kind_of(step.body)].put(applied)
        if manager == FIELD_MANAGER and not says_what_we_wish(step.body, applied):
            log.warning("the API server keeps something else than was applied", extra={"why": step.reason})

    async def _delete(self, step: Step) -> None:
        target = step.target
        assert target is not None  # it is deleted
        if target.uid in self._deleted:
            return
        log.info("delete", extra={"why": step.reason})
        await self._kube.delete(target.kind, target.namespace, target.name, target.uid, str(target.version))
        self._deleted.add(target.uid)


def _key(body: Body) -> ObjectKey:
    return (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])


def _wish(body: Body) -> str:
    wish: str = body["metadata"]["annotations"][WISH]
    return wish
