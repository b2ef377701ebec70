"""A row of requests by one client, with one fault at one write of any server to any store: the retry must succeed."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from moorage_nodes.stores.faulty import Fault
from simulator.collecting import Collections
from simulator.device import Device, chunk_of
from simulator.history import History, Operation
from simulator.listener import Listener
from simulator.loop import VirtualLoop, run_virtually
from simulator.network import Asked
from simulator.process import Script, Weather
from simulator.scenario import HOUR, small_limits
from simulator.witness import Limits, Violation
from simulator.world import World

USER = "ada"
LIMITS = Limits(
    retained_versions=2,
    retention_deleted=2 * HOUR,
    retention_feed=8 * HOUR,
    upload_idle=HOUR,
    upload_max=4 * HOUR,
    grace=HOUR,
    ack_deadline=24 * HOUR,
    skew=HOUR / 4,
)
PATIENCE = 30 * 24 * 3600.0  # virtual seconds for one row
LONG = [chunk_of(number) for number in range(7)]

Row = Callable[[Device], Awaitable[None]]


async def upload(device: Device) -> None:
    """A new file and its second version, in the forms that clients use."""
    done(await device.save_as("f0", 0, [chunk_of(0), chunk_of(1)], "short", {}))
    done(await device.save_as("f0", 1, [chunk_of(1), chunk_of(2), chunk_of(3)], "planned", {}))
    done(await device.save_as("f0", 2, [chunk_of(4)], "unnamed", {}))


async def upload_long(device: Device) -> None:
    done(await device.save_as("f0", 0, LONG, "named", {"parent_dir_id": "d1", "name": "a"}))
    done(await device.save_as("f0", 1, LONG[::-1], "planned", {}))


async def update_together(device: Device) -> None:
    files = {f"f{number}": [chunk_of(number), chunk_of(number + 1)] for number in range(3)}
    done(await device.save_together(dict.fromkeys(files, 0), files))
    done(await device.save_together(dict.fromkeys(files, 1), {f: parts[::-1] for f, parts in files.items()}))


async def restore(device: Device) -> None:
    done(await device.save_as("f0", 0, [chunk_of(0)], "planned", {}))
    done(await device.save_as("f0", 1, [chunk_of(1)], "planned", {}))
    done(await device.restore_to("f0", 2, 1))


async def delete(device: Device) -> None:
    """To the trash and back."""
    done(await device.save_as("f0", 0, [chunk_of(0), chunk_of(1)], "planned", {}))
    done(await device.delete_as("delete_file", "f0", {"client_version": 1}))
    await finished(device)
    done(await device.undelete_to("f0", {}))
    await same(device, "f0", [chunk_of(0), chunk_of(1)])


async def cancel(device: Device) -> None:
    done(await device.save_as("f0", 0, [chunk_of(0)], "planned", {}))
    done(await device.delete_as("delete_file", "f0", {"client_version": 1}))
    done(await device.undelete_to("f0", {"parent_dir_id": "d0", "name": "b"}))
    await same(device, "f0", [chunk_of(0)])
    await finished(device)


async def delete_directory(device: Device) -> None:
    for number in range(3):
        place = {"parent_dir_id": f"d{number % 2}", "name": f"n{number}"}
        done(await device.save_as(f"f{number}", 0, [chunk_of(number)], "planned", place))
    done(await device.delete_as("delete_directory", "d0", {"recursive": True}))
    await finished(device)
    done(await device.undelete_to("d0", {}))
    for number in range(3):
        await same(device, f"f{number}", [chunk_of(number)])


async def tell(device: Device) -> None:
    """Two devices are told of a deletion, one answers, the other's time runs out."""
    world = device.world
    others = [
        Device(world, device.history, USER, name, random.Random(4), keys=0.0) for name in ("phone", "old")
    ]
    listeners = [Listener(other, answers=1.0) for other in others]
    for listener in listeners:
        await listener.poll()
    done(await device.save_as("f0", 0, [chunk_of(0)], "planned", {}))
    done(await device.delete_as("delete_file", "f0", {"client_version": 1, "client_id": device.id}))
    while not listeners[0].acknowledged:
        await listeners[0].poll()
        await asyncio.sleep(1.0)
    await finished(device)
    done(await device.undelete_to("f0", {}))
    await same(device, "f0", [chunk_of(0)])


async def bring_back_again(device: Device) -> None:
    """A repeat that is answered from memory leaves alone what has come since: its clients are told, and it ends."""
    phone = Device(device.world, device.history, USER, "phone", random.Random(4), keys=0.0)
    listener = Listener(phone, answers=1.0)
    await listener.poll()
    done(await device.save_as("f0", 0, [chunk_of(0)], "planned", {}))
    for version in (1, 3):
        body = {"client_version": version, "client_id": device.id}
        done(await device.delete_as("delete_file", "f0", body))
        op = device.begin("undelete", "f0")
        asked = Asked("POST", "/undelete/f0", headers={"idempotency-key": "the same"})
        await device.insist(op, "l1", asked, {})
        done(op)
    for _ in range(100):
        await listener.poll()
        if listener.acknowledged:
            break
        await asyncio.sleep(1.0)
    else:
        raise Violation("told until it is acknowledged", "the second deletion was told to nobody")
    await finished(device)


async def collect(device: Device) -> None:
    """Of a file one version stays, of another none; a packed object is written anew."""
    world = device.world
    collections, limits = Collections(world), world.limits
    assert world.script is not None
    world.script.armed = False
    packed = [chunk_of(0), chunk_of(4), chunk_of(8)]
    done(await device.save_as("f0", 0, packed, "short", {}))
    done(await device.save_as("f0", 1, packed[:1], "planned", {}))
    done(await device.save_as("f1", 0, [chunk_of(1), chunk_of(2), chunk_of(3)], "planned", {}))
    for version in range(2, 2 + limits.retained_versions):
        done(await device.save_as("f0", version, [packed[0], chunk_of(5)], "planned", {}))
    done(await device.delete_as("delete_file", "f1", {"client_version": 1}))
    await finished(device)
    world.script.armed = True
    for pause in (0.0, limits.retention_deleted, limits.upload_max, limits.grace, limits.grace, 0.0):
        await asyncio.sleep(pause + limits.skew)
        await collections.collect_whole()
    world.witness.check_quiet()
    await same(device, "f0", [packed[0], chunk_of(5)])


ROWS: dict[str, Row] = {
    "upload": upload,
    "upload of a long file": upload_long,
    "update of files together": update_together,
    "restore": restore,
    "deletion and undeletion of a file": delete,
    "deletion that is cancelled": cancel,
    "deletion and undeletion of a directory": delete_directory,
    "telling devices": tell,
    "undeletion that comes again": bring_back_again,
    "collection": collect,
}


@dataclass(frozen=True)
class Outcome:
    """`writes` that the row made, by role and call; `violation` is None where all held and every retry succeeded."""

    writes: tuple[str, ...]
    violation: Violation | None
    trace: tuple[str, ...]


def carry_out(row: str, number: int, fault: Fault) -> Outcome:
    """The row with this fault at its write `number`; -1: with none."""
    with small_limits(small=True):
        return run_virtually(_carry_out(ROWS[row], number, fault))


async def _carry_out(row: Row, number: int, fault: Fault) -> Outcome:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    rng = random.Random(1)
    script = Script(number, fault)
    world = World(rng, loop, Weather(random.Random(2), calm=True), LIMITS, script)
    device = Device(world, History(world.witness, {}), USER, "laptop", random.Random(3))
    device.keys = 0.0
    await world.start_all()
    reviving = loop.create_task(world.keep_alive())
    try:
        async with asyncio.timeout(PATIENCE):
            await device.prepare()
            script.armed = True
            await row(device)
            script.armed = False
            await finished(device)
        world.witness.check_all()
    except TimeoutError:
        world.fail(Violation("everything ends", "the row did not come to its end"))
    except Violation as violation:
        world.fail(violation)
    finally:
        reviving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reviving
    await world.aclose()
    return Outcome(tuple(script.writes), world.failure, tuple(world.trace))


def done(op: Operation) -> None:
    if not op.acknowledged:
        raise Violation("the retry succeeds", f"{op}")


async def finished(device: Device) -> None:
    """No deletion is under way any more."""
    witness = device.world.witness
    while witness.work | witness.parked:
        await asyncio.sleep(10.0)


async def same(device: Device, file_id: str, parts: Sequence[bytes]) -> None:
    answered = await device.read_whole(file_id)
    if answered is None or answered.body != b"".join(parts):
        raise Violation("what was acknowledged survives", f"{file_id}: {answered}")
