"""Signing keys are rotated on a real API server by an operator that dies on the way, and no server is ever refused."""

import base64
import datetime as dt
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from operator_bed.bed import Bed, TellingServers
from operator_bed.controllers import controllers
from operator_bed.dying import WRITES_IN_A_LIFE, live_once
from operator_bed.manifests import build_realm

from moorage_operator.kube.kinds import ACCESS_POINT, CONFIG_MAP, SECRET
from moorage_operator.reconcile.servers import Revisions
from moorage_operator.signing import read_public_key

FILES = build_realm()[-1]
PARTS = {"files-auth", "main-l1", "main-l2", "main-l3", "main-gc", "pool-block", "files-operator"}
SHORT, L1, AUTH = dt.timedelta(hours=1), dt.timedelta(days=7), dt.timedelta(days=30)
"""How long the last token that a key signed is valid."""


class Realm(TellingServers):
    """What servers have loaded: the trust file as it was mounted last, and the key in each part's Secret now."""

    def __init__(self, bed: Bed) -> None:
        super().__init__()
        self._bed = bed
        self.loaded: dict[str, Any] = {"revision": 0, "keys": []}

    async def ask_revisions(self, addresses: Sequence[str]) -> list[Revisions | None]:
        return [Revisions(10**9, self.loaded["revision"]) for _ in addresses]

    async def live(self) -> dict[str, Any]:
        found = await self._bed.kube.get(CONFIG_MAP, self._bed.namespace, "files-live")
        assert found is not None
        trust: dict[str, Any] = json.loads(found["data"]["trust.json"])
        return trust

    async def mount(self) -> None:
        self.loaded = await self.live()

    async def signing(self) -> dict[str, str]:
        """Part → id of the key that it signs with."""
        found = {}
        for secret in (await self._bed.kube.list_all(SECRET, self._bed.namespace)).items:
            name = secret["metadata"]["name"]
            if name.endswith("-signing"):
                pem = base64.b64decode(secret["data"]["private.pem"]).decode()
                found[name.removesuffix("-signing")] = read_public_key(pem, "any").kid
        return found

    async def waiting(self) -> set[str]:
        """Parts whose next key is there."""
        names = (
            one["metadata"]["name"]
            for one in (await self._bed.kube.list_all(SECRET, self._bed.namespace)).items
        )
        return {name.removesuffix("-signing-next") for name in names if name.endswith("-signing-next")}

    async def phases(self) -> dict[str, str]:
        found = await self._bed.kube.get(ACCESS_POINT, self._bed.namespace, "files")
        assert found is not None
        return {one["name"]: one["phase"] for one in found["status"]["keys"]}


def ids(trust: dict[str, Any]) -> set[str]:
    return {key["kid"] for key in trust["keys"]}


@pytest.mark.timeout(1200, func_only=True)
async def test_every_key_is_rotated_and_no_server_meets_one_that_it_does_not_trust_whoever_dies_on_the_way(
    bed: Bed,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    bed.servers = realm = Realm(bed)
    began = bed.now
    valid: set[str] = set()  # keys that signed what has not expired yet
    deaths = 0

    async def go_on() -> None:
        """Until an operator of this moment has nothing more to write; what must hold holds after each death."""
        nonlocal deaths
        died = True
        while died:
            died = await live_once(bed, chance.randrange(WRITES_IN_A_LIFE) + 1)
            deaths += died
            signing = set((await realm.signing()).values())
            # Whoever verifies trusts what is signed, and the trust file to come does too.
            assert signing | valid <= ids(realm.loaded)
            assert signing | valid <= ids(await realm.live())

    for manifest in build_realm():
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace, every=0.02):
        async with bed.running():
            await bed.until(lambda: bed.ready(build_realm()))
            await bed.settled()
        await realm.mount()
        first = await realm.signing()
        assert set(first) == PARTS
        assert set((await realm.phases()).values()) == {"Settled"}

        bed.now = began + dt.timedelta(days=89)
        await go_on()
        assert (deaths, await realm.signing(), await realm.waiting()) == (0, first, set())

        # Old: the next ones are published, and signed with when every server has loaded that.
        bed.now = began + dt.timedelta(days=90, minutes=1)
        await go_on()
        assert set((await realm.phases()).values()) == {"Publishing"}
        assert (await realm.signing(), await realm.waiting()) == (first, PARTS)
        assert len(ids(await realm.live())) == 2 * len(PARTS)
        await realm.mount()
        valid = set(first.values())
        await go_on()
        assert set((await realm.phases()).values()) == {"Signing"}
        second = await realm.signing()
        assert not set(second.values()) & valid

        bed.now += dt.timedelta(minutes=6)
        await go_on()
        assert set((await realm.phases()).values()) == {"Retiring"}
        for lifetime, parts in (
            (SHORT, PARTS - {"main-l1", "files-auth"}),
            (L1, {"main-l1"}),
            (AUTH, {"files-auth"}),
        ):
            bed.now = began + dt.timedelta(days=90, minutes=7) + lifetime - dt.timedelta(seconds=90)
            await go_on()
            assert {first[part] for part in parts} <= ids(await realm.live())
            bed.now += dt.timedelta(minutes=3)
            valid -= {first[part] for part in parts}
            await go_on()
            assert {(await realm.phases())[part] for part in parts} == {"Settled"}
            assert not {first[part] for part in parts} & ids(await realm.live())
            await realm.mount()
        assert ids(await realm.live()) == set(second.values())
        assert (await realm.signing(), await realm.waiting()) == (second, set())
        assert deaths >= 20 // WRITES_IN_A_LIFE
        since = bed.api.audit_position()
        async with bed.running():
            await bed.settled()
            assert bed.writes(since) == []
        assert await bed.ready([FILES])
