import asyncio
import random

import msgspec
import pytest

from moorage_nodes.metadata import keys
from moorage_nodes.metadata.cluster import FORMAT_VERSION, Format, open_identity
from moorage_nodes.metadata.records import FormatError
from moorage_nodes.realm import WrongRealmError
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.memory import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def put(store: MemoryStore, key: bytes, value: bytes) -> None:
    await store.transact(Txn(then=(Put(key, value),)))


async def test_servers_that_start_at_once_agree_on_one_identity(store) -> None:
    identities = await asyncio.gather(
        *(open_identity(store, "realm", random.Random(seed), writes=True) for seed in range(8))
    )
    assert len({identity.incarnation for identity in identities}) == 1
    assert len(identities[0].incarnation) == 32
    assert {identity.realm_id for identity in identities} == {"realm"}


async def test_a_restart_finds_the_identity(store) -> None:
    first = await open_identity(store, "realm", random.Random(1), writes=True)
    assert await open_identity(store, "realm", random.Random(2), writes=False) == first


async def test_what_a_restore_wrote_is_kept_and_what_is_missing_added(store) -> None:
    await put(store, keys.INCARNATION, b"restored")
    identity = await open_identity(store, "realm", random.Random(1), writes=True)
    assert identity.incarnation == "restored"
    assert (await store.get(keys.REALM)).value == b"realm"


async def test_a_server_of_another_realm_does_not_start_and_says_which_is_which(store) -> None:
    await open_identity(store, "ours", random.Random(1), writes=True)
    with pytest.raises(WrongRealmError) as refused:
        await open_identity(store, "theirs", random.Random(1), writes=False)
    assert "ours" in refused.value.detail
    assert "theirs" in refused.value.detail
    assert (await store.get(keys.REALM)).value == b"ours"


@pytest.mark.parametrize(("reader", "writer", "may"), [(0, 0, "write"), (0, 1, "read"), (1, 1, "nothing")])
async def test_a_server_outside_the_format_does_not_start(store, reader, writer, may) -> None:
    await open_identity(store, "realm", random.Random(1), writes=True)
    newer = Format(FORMAT_VERSION + reader, FORMAT_VERSION + writer)
    await put(store, keys.FORMAT, msgspec.msgpack.encode(newer))
    for writes, allowed in ((True, may == "write"), (False, may != "nothing")):
        opening = open_identity(store, "realm", random.Random(1), writes=writes)
        if allowed:
            await opening
        else:
            with pytest.raises(FormatError):
                await opening
