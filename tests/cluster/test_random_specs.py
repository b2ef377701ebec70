"""Random sequences of spec changes (Acto's three properties): what is there follows from what is declared, a bad
declaration is recovered from, and the way there leaves no trace.
"""

import copy
import os
import random
from typing import Any

import pytest
from operator_bed.bed import Bed
from operator_bed.controllers import controllers
from operator_bed.manifests import build_access_point, build_cluster, build_pool
from operator_bed.observing import observe

from moorage_operator.reconcile.servers import Revisions

SEQUENCES = int(os.environ.get("MOORAGE_SEQUENCES", "40"))
CHANGES = 3
Declaration = dict[str, dict[str, Any]]


def build_finals() -> list[Declaration]:
    """Where sequences end: each is also made directly, in a namespace of its own, to compare with."""
    plain = {"pool": build_pool(), "main": build_cluster(), "files": build_access_point()}
    other = {
        "pool": build_pool(replicas=3),
        "main": build_cluster(
            tiers={"l1": {"replicas": 3, "template": {"annotations": {"team": "blue"}}}},
            retention={"versions": 5},
        ),
        "files": build_access_point(
            extraURLs=["https://second.example.com"], exposure={"type": "ingress", "ingress": {}}
        ),
    }
    # A number that was named and is not any more stays as it was: so it is named in both.
    for declaration in (plain, other):
        tiers = declaration["main"]["spec"].setdefault("tiers", {})
        for tier in ("l1", "l2", "l3"):
            tiers.setdefault(tier, {}).setdefault("replicas", 2)
    plain["files"]["spec"]["exposure"] = {"type": "nginx", "nginx": {"replicas": 2}}
    return [plain, other]


def change(declaration: Declaration, chance: random.Random) -> Declaration:
    """One valid change, sometimes one that cannot work for now."""
    changed = copy.deepcopy(declaration)
    pool, main, files = (changed[name]["spec"] for name in ("pool", "main", "files"))
    changes = [
        lambda: pool.update(replicas=chance.randrange(1, 5)),
        lambda: pool.update(hibernated=chance.random() < 0.5),
        lambda: pool.update(template={"annotations": {"round": str(chance.randrange(9))}}),
        lambda: main["tiers"]["l1"].update(replicas=chance.randrange(1, 5)),
        lambda: main["tiers"]["l3"].update(template={"image": f"moorage:{chance.randrange(3)}"}),
        lambda: main.update(retention={"versions": chance.randrange(1, 50)}),
        lambda: main.update(hibernated=chance.random() < 0.5),
        lambda: main.update(paused=chance.random() < 0.5),
        lambda: main.update(gc={"dryRun": chance.random() < 0.5}),
        lambda: files.update(extraURLs=[f"https://n{chance.randrange(3)}.example.com"]),
        lambda: files["auth"].update(tokenTTL=f"{chance.randrange(5, 60)}m"),
        lambda: files.update(exposure={"type": chance.choice(["none", "ingress", "nginx"])}),
        # Bad ones: a reference to nothing, and nothing that may be written to.
        lambda: files.update(clusters=[{"name": "main"}, {"name": "missing"}]),
        lambda: main.update(blockPools=[{"name": "pool"}, {"name": "missing"}]),
    ]
    chance.choice(changes)()
    return changed


@pytest.mark.timeout(1800, func_only=True)
async def test_random_sequences_of_changes_end_where_their_last_declaration_says(
    bed: Bed, api_server: Any, kube: Any, make_bed_namespace: Any
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    finals = build_finals()
    expected = []
    for final in finals:
        reference = Bed(api_server, make_bed_namespace(), kube)
        async with controllers(kube, reference.namespace), reference.running():
            for manifest in final.values():
                await reference.put(manifest)
            await reference.until(lambda r=reference, f=final: r.ready(list(f.values())))
            await reference.settled()
            expected.append(await observe(kube, reference.namespace))
    bed.servers.report = Revisions(10**9, 10**9)  # every server has loaded whatever it is told
    async with controllers(kube, bed.namespace, every=0.02), bed.running():
        for number in range(SEQUENCES):
            place = chance.randrange(len(finals))
            declared = copy.deepcopy(finals[place])
            steps = []
            for _ in range(CHANGES):
                declared = change(declared, chance)
                steps.append({name: one["spec"] for name, one in declared.items()})
                for manifest in declared.values():
                    await bed.put(manifest)
                if chance.random() < 0.5:
                    await bed.settled(0.05)
            for manifest in finals[place].values():
                await bed.put(manifest)
            await bed.until(lambda p=place: bed.ready(list(finals[p].values())))
            await bed.settled(0.1)
            assert await observe(kube, bed.namespace) == expected[place], (number, steps)
            print(f"sequence {number} converged", flush=True)
