"""The block server: the bytes of one pool. It holds the pool's S3 credentials and none of etcd."""

import ctypes
import time
from pathlib import Path
from typing import Any

import msgspec

from moorage.core.errors import InvalidFieldError, MoorageError, StoreUnavailableError
from moorage.core.routing import block_prefix
from moorage_nodes.blocks.access import Access
from moorage_nodes.blocks.budget import ByteBudget
from moorage_nodes.blocks.content import Content
from moorage_nodes.blocks.credentials import Credentials, open_credentials
from moorage_nodes.blocks.places import Places
from moorage_nodes.blocks.reading import Reading
from moorage_nodes.blocks.routes import Block, internal, public
from moorage_nodes.blocks.storing import Storing
from moorage_nodes.peer_api import LocateAnswer, LocateRequest
from moorage_nodes.server import Server, Shared
from moorage_nodes.settings import S3, Settings
from moorage_nodes.stores.contracts import ObjectStore
from moorage_nodes.stores.s3 import S3Store

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
KEPT_BYTES = 32 * 1024 * 1024
BUDGET_BYTES = 64 * 1024 * 1024  # of chunks in flight, in one process


def tune_allocator() -> None:
    """Have glibc keep freed memory in two places, not in one per thread of the S3 client: 70 MiB less RSS after
    24 chunks of 8 MiB each way at once. What a chunk has taken is kept for the next one, up to a bound: else its pages
    come from the kernel anew each time, zeroed, 1 to 2 ms of CPU for 4 MiB. Other C libraries have no such thing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


async def open_server(settings: Settings, shared: Shared) -> Server[Block]:
    """InvalidFieldError when the settings lack `pool` or `s3`, or the credentials file is bad. S3 may be down."""
    if settings.s3 is None:
        raise InvalidFieldError("A block server needs `s3` in its settings.", field="settings.s3")
    tune_allocator()
    return open_on(_open_s3(settings.s3, shared), settings, shared)


def open_on(objects: ObjectStore, settings: Settings, shared: Shared) -> Server[Block]:
    """The server over an object store; it closes the store."""
    pool = settings.pool
    if pool is None:
        raise InvalidFieldError("A block server needs `pool` in its settings.", field="settings.pool")
    budget = ByteBudget(BUDGET_BYTES)
    places = Places(shared.peers, time.monotonic)
    reading = Reading(pool, objects, places)

    access = Access(pool, shared.routing, shared.peers, shared.verifier, shared.generations)

    async def check_l3() -> None:
        await _check_l3(shared, settings)

    async def status() -> dict[str, Any]:
        """Read together: who is not named here is stored nothing of, under this routing table or a later one."""
        return {"pool": pool, "takes": sorted(access.takes()), "routing_revision": shared.routing.revision}

    return Server(
        context=Block(
            access=access,
            budget=budget,
            storing=Storing(pool, objects, shared.peers, budget, shared.rng),
            places=places,
            reading=reading,
            content=Content(places, reading),
            objects=objects,
            peers=shared.peers,
        ),
        prefix=block_prefix(pool),
        public=public,
        internal=internal,
        checks={"s3": objects.check, "l3": check_l3},
        status=status,
        close=objects.close,
    )


def _open_s3(settings: S3, shared: Shared) -> S3Store:
    credentials = open_credentials(Path(settings.credentials_file))
    current: dict[str, str] = {}

    def take(value: Credentials) -> None:
        current.update(msgspec.structs.asdict(value))

    take(credentials.value)
    credentials.subscribe(take)
    shared.follow(credentials)
    return S3Store.open(
        settings.endpoint,
        bucket=settings.bucket,
        credentials=current,
        region=settings.region,
        prefix=settings.prefix,
        ca=None if settings.ca_file is None else Path(settings.ca_file).read_bytes(),
        observer=shared.metrics.store("s3"),
    )


async def _check_l3(shared: Shared, settings: Settings) -> None:
    """One cluster that answers is enough: the others' users are told so, request by request."""
    last: MoorageError = StoreUnavailableError("This server knows no l3 servers.")
    for server_key in settings.peers.l3:
        try:
            question = LocateRequest(namespace="check", ids=[])
            await shared.peers.l3(server_key).post("/internal/locate", question, LocateAnswer)
        except MoorageError as error:
            last = error
        else:
            return
    raise last
