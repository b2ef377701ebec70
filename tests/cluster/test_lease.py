import asyncio
from collections.abc import Callable

import pytest
from real_servers.kubernetes import ApiServer

from moorage_operator.kube import lease as lease_module
from moorage_operator.kube.client import Kube
from moorage_operator.kube.errors import KubeUnavailableError
from moorage_operator.kube.kinds import LEASE
from moorage_operator.kube.lease import Lease


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the distance between tries; durations are measured on the tests' own clocks."""
    monkeypatch.setattr(lease_module, "RETRY_SECONDS", 0.02)


async def holds(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_one_of_many_acquires_it(kube: Kube, namespace: str) -> None:
    leases = [Lease(kube, namespace, "operator", f"p{number}", Clock()) for number in range(5)]
    tasks = [asyncio.create_task(lease.acquire()) for lease in leases]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.2)
    assert sum(lease.holds() for lease in leases) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_dead_holder_is_followed_after_fifteen_seconds_of_our_own_clock(
    kube: Kube, namespace: str
) -> None:
    dead, clock = Lease(kube, namespace, "operator", "dead"), Clock()
    await dead.acquire()
    next_one = Lease(kube, namespace, "operator", "next", clock)
    task = asyncio.create_task(next_one.acquire())
    await asyncio.sleep(0.3)
    clock.now += 14.9
    await asyncio.sleep(0.3)
    assert not next_one.holds()
    clock.now += 0.2
    await asyncio.wait_for(task, 20)
    assert next_one.holds()
    found = await kube.get(LEASE, namespace, "operator")
    assert found is not None
    assert found["spec"]["leaseTransitions"] == 1


async def test_a_holder_that_renews_is_never_followed(kube: Kube, namespace: str) -> None:
    holder, clock = Lease(kube, namespace, "operator", "holder"), Clock()
    await holder.acquire()
    keeping = asyncio.create_task(holder.keep())
    other = Lease(kube, namespace, "operator", "other", clock)
    task = asyncio.create_task(other.acquire())
    for _ in range(10):
        before = await kube.get(LEASE, namespace, "operator")

        async def renewed(before: object = before) -> bool:
            return await kube.get(LEASE, namespace, "operator") != before

        async with asyncio.timeout(60):
            while not await renewed():
                await asyncio.sleep(0.02)
        clock.now += 14
    assert holder.holds()
    assert not other.holds()
    for one in (keeping, task):
        one.cancel()
    await asyncio.gather(keeping, task, return_exceptions=True)


async def test_who_cannot_renew_stops_writing_after_ten_seconds_and_ends(kube: Kube, namespace: str) -> None:
    clock = Clock()
    lease = Lease(kube, namespace, "operator", "cut-off", clock)
    await lease.acquire()

    async def cut_off(*_: object) -> None:
        raise KubeUnavailableError("cut off")

    kube.get = cut_off  # type: ignore[method-assign,assignment]
    keeping = asyncio.create_task(lease.keep())
    clock.now += 9.9
    await asyncio.sleep(0.2)
    assert lease.holds()
    clock.now += 0.2
    assert not lease.holds()
    await asyncio.wait_for(keeping, 20)


async def test_who_finds_another_holder_ends_at_once(kube: Kube, namespace: str) -> None:
    lease = Lease(kube, namespace, "operator", "first")
    await lease.acquire()
    found = await kube.get(LEASE, namespace, "operator")
    assert found is not None
    await kube.replace({**found, "spec": found["spec"] | {"holderIdentity": "thief"}})
    await asyncio.wait_for(lease.keep(), 20)
    assert not lease.holds()


async def test_a_released_lease_is_taken_at_once_and_its_holder_writes_no_more(
    kube: Kube, namespace: str
) -> None:
    first, second = (Lease(kube, namespace, "operator", name, Clock()) for name in ("first", "second"))
    await first.acquire()
    await first.release()
    assert not first.holds()
    await asyncio.wait_for(second.acquire(), 20)
    assert second.holds()
    await first.release()
    assert second.holds()


async def test_releasing_what_another_holds_changes_nothing(
    api_server: ApiServer, kube: Kube, namespace: str
) -> None:
    lease = Lease(kube, namespace, "operator", "first")
    await lease.acquire()
    found = await kube.get(LEASE, namespace, "operator")
    assert found is not None
    await kube.replace({**found, "spec": found["spec"] | {"holderIdentity": "other"}})
    await lease.release()
    found = await kube.get(LEASE, namespace, "operator")
    assert found is not None
    assert found["spec"]["holderIdentity"] == "other"
