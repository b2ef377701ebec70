"""Certificates of a managed etcd over eleven years, renewed by an operator that dies on the way: no member is shut out."""

import base64
import datetime as dt
import random
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from operator_bed.bed import Bed
from operator_bed.controllers import controllers
from operator_bed.dying import WRITES_IN_A_LIFE, live_once
from operator_bed.manifests import build_access_point, build_cluster, build_pool

from moorage_operator.kube.kinds import SECRET, STATEFUL_SET
from moorage_operator.resources.etcd import BUNDLE

LEAVES = {"peer": "peer", "server": "client", "client": "client"}
MOUNTED = {leaf: f"main-etcd-{leaf}-tls" for leaf in LEAVES}
CLUSTER = build_cluster(etcd={"type": "Managed", "managed": {"replicas": 3, "storage": {"size": "1Gi"}}})


class Members:
    """Certificates are read at every handshake, what is trusted only when a member starts."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.trusted: dict[str, list[x509.Certificate]] = {}
        self.bundle = ""

    async def mounted(self) -> dict[str, dict[str, bytes]]:
        found = {}
        for leaf, name in MOUNTED.items():
            secret = await self._bed.kube.get(SECRET, self._bed.namespace, name)
            assert secret is not None
            found[leaf] = {key: base64.b64decode(value) for key, value in secret["data"].items()}
        return found

    async def template(self) -> dict[str, Any]:
        found = await self._bed.kube.get(STATEFUL_SET, self._bed.namespace, "main-etcd")
        assert found is not None
        return found

    async def start_anew(self) -> None:
        """All of the newest template."""
        mounted = await self.mounted()
        self.bundle = (await self.template())["metadata"]["annotations"][BUNDLE]
        self.trusted = {
            leaf: x509.load_pem_x509_certificates(files["ca.crt"]) for leaf, files in mounted.items()
        }

    async def check(self) -> None:
        """Whoever shows its certificate now is let in by members that run, and by those that start now."""
        mounted = await self.mounted()
        now = self._bed.now
        for leaf, kind in LEAVES.items():
            certificate = x509.load_pem_x509_certificate(mounted[leaf]["tls.crt"])
            assert certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
            for other, its_kind in LEAVES.items():
                if its_kind == kind:
                    fresh = x509.load_pem_x509_certificates(mounted[other]["ca.crt"])
                    assert is_trusted(certificate, self.trusted[other], now), (leaf, other, "runs")
                    assert is_trusted(certificate, fresh, now), (leaf, other, "starts")


def is_trusted(certificate: x509.Certificate, authorities: list[x509.Certificate], now: dt.datetime) -> bool:
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return now < authority.not_valid_after_utc
    return False


@pytest.mark.timeout(1200, func_only=True)
async def test_no_member_is_shut_out_while_leaves_and_authorities_are_renewed(bed: Bed) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    members, began = Members(bed), bed.now
    restarts = 0

    async def pass_by(days: float = 0.0, hours: float = 0.0) -> None:
        """Then an operator that dies now and then, until one has nothing more to write."""
        nonlocal restarts
        bed.now += dt.timedelta(days=days, hours=hours)
        died = True
        while died:
            died = await live_once(bed, chance.randrange(WRITES_IN_A_LIFE) + 1)
            # Whoever starts anew is let in by whoever runs still.
            await members.check()
            if (await members.template())["metadata"]["annotations"][BUNDLE] != members.bundle:
                await members.start_anew()
                await members.check()
                restarts += 1

    for manifest in (build_pool(), CLUSTER, build_access_point()):
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace, every=0.02):
        async with bed.running():
            await bed.until(lambda: bed.ready([build_pool(), CLUSTER, build_access_point()]))
            await bed.settled()
        await members.start_anew()
        first = await members.mounted()
        await pass_by(days=59)
        assert await members.mounted() == first
        await pass_by(days=2)
        second = await members.mounted()
        for leaf in LEAVES:
            assert second[leaf]["tls.crt"] != first[leaf]["tls.crt"]
            assert second[leaf]["ca.crt"] == first[leaf]["ca.crt"]
        # No member had to start anew for it.
        assert (await members.template())["metadata"]["annotations"][BUNDLE] == members.bundle

        # Leaves follow one another until the authorities are old; then these do, in three steps.
        while bed.now < began + dt.timedelta(days=2433):
            bed.now += dt.timedelta(days=400)  # of a cluster that nobody looked after meanwhile
            bed.now = min(bed.now, began + dt.timedelta(days=2433, hours=7))
            async with bed.running():
                await bed.settled()
        assert restarts == 0
        for _ in range(6):
            await pass_by(hours=2)
        assert restarts == 2
        last = await members.mounted()
        for leaf in LEAVES:
            assert len(x509.load_pem_x509_certificates(last[leaf]["ca.crt"])) == 1
            assert last[leaf]["ca.crt"] != first[leaf]["ca.crt"]


async def test_an_authority_does_not_sign_before_members_run_that_trust_it_whoever_died_before_they_did(
    bed: Bed,
) -> None:
    """The next authority is written and its operator dies, for longer than members are given to load it."""
    members = Members(bed)
    for manifest in (build_pool(), CLUSTER, build_access_point()):
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace, every=0.02):
        async with bed.running():
            await bed.until(lambda: bed.ready([build_pool(), CLUSTER, build_access_point()]))
            await bed.settled()
        await members.start_anew()
        before = await members.mounted()
        bed.now += dt.timedelta(days=2434)
        # The authorities' Secret and the three that are mounted.
        for writes in (1, 4):
            assert await live_once(bed, writes)
        changed = await members.mounted()
        assert changed["peer"]["ca.crt"] != before["peer"]["ca.crt"]
        assert (await members.template())["metadata"]["annotations"][BUNDLE] == members.bundle
        await members.check()
        bed.now += dt.timedelta(hours=2)
        await live_once(bed, 1)
        await members.check()
        async with bed.running():
            await bed.settled()
            await members.check()
            assert (await members.template())["metadata"]["annotations"][BUNDLE] != members.bundle
