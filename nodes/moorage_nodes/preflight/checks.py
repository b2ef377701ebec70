"""What block servers will ask of a store, tried once with objects of its own, which are taken away again."""

import asyncio
import contextlib
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import obstore
from msgspec import Struct
from obstore.store import S3Store as Client

from moorage.core.errors import (
    MoorageError,
    ObjectExistsError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    RequestRefusedError,
    StoreUnavailableError,
)
from moorage_nodes.blocks.credentials import Credentials
from moorage_nodes.settings import S3
from moorage_nodes.stores.contracts import ObjectStore
from moorage_nodes.stores.s3 import PART_BYTES, S3Store

SMALL = b"moorage preflight\n" * 64
CLEAN_SECONDS = 5.0
BUCKET_SECONDS = 5.0
AGAIN_SECONDS = 1.0
FOLDER = "moorage-preflight"


class UnsuitableStoreError(MoorageError):
    """The store answers, and not as S3 must."""

    word = "unsuitable_store"


class Result(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`steps`: milliseconds by step, those that were done. `reason` is a word for programs, `detail` a sentence."""

    ok: bool
    steps: dict[str, float]
    step: str = ""
    reason: str = ""
    detail: str = ""


async def run_checks(settings: S3, credentials: Credentials, *, make_bucket: bool, seconds: float) -> Result:
    """Never raises for what the store does, and ends within `seconds` and the time to clean up."""
    known = {
        "access_key_id": credentials.access_key_id,
        "secret_access_key": credentials.secret_access_key,
    }
    ca = None if settings.ca_file is None else await asyncio.to_thread(_read, settings.ca_file)
    store = S3Store.open(
        settings.endpoint,
        bucket=settings.bucket,
        credentials=known,
        region=settings.region,
        prefix=settings.prefix,
        ca=ca,
    )
    preflight = Preflight(store)
    steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("put", preflight.put),
        ("get", preflight.get),
        ("conditional_put", preflight.put_again),
        ("range", preflight.get_range),
        ("multipart", preflight.put_parts),
        ("delete", preflight.delete),
    ]
    if make_bucket:
        steps.insert(0, ("bucket", lambda: ensure_bucket(settings, known)))
    took: dict[str, float] = {}
    name, last = "", None
    try:
        async with asyncio.timeout(seconds):
            for name, step in steps:
                started = time.monotonic()
                # A store that is run for the pool starts beside this: it is waited for.
                while last := await _try(step, waits=name == "bucket"):  # noqa: ASYNC110 - a store tells nobody
                    await asyncio.sleep(AGAIN_SECONDS)
                took[name] = round((time.monotonic() - started) * 1000, 1)
    except TimeoutError:
        if last is not None:
            return Result(ok=False, steps=took, step=name, reason=find_reason(last), detail=last.detail)
        detail = f"The preflight did not end within {seconds:g} s."
        return Result(ok=False, steps=took, step=name, reason="TimedOut", detail=detail)
    except MoorageError as error:
        return Result(ok=False, steps=took, step=name, reason=find_reason(error), detail=error.detail)
    finally:
        await preflight.clean()
    return Result(ok=True, steps=took)


async def _try(step: Callable[[], Awaitable[None]], *, waits: bool) -> MoorageError | None:
    """None when it passed; the error of a store that may not be up yet, where that is waited for."""
    try:
        await step()
    except StoreUnavailableError as error:
        if waits and find_reason(error) == "Unreachable":
            return error
        raise
    return None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - one read
        return file.read()


def find_reason(error: MoorageError) -> str:
    """One word for programs. The store's own text may hold addresses and names, so it stays where it is."""
    cause = str(error.__cause__ or "")
    if "NoSuchBucket" in cause or "bucket does not exist" in error.detail:
        return "BucketMissing"
    if "does not let this server in" in error.detail:
        return "CredentialsRefused"
    if isinstance(error, UnsuitableStoreError):
        return "UnsuitableStore"
    if isinstance(error, RequestRefusedError):
        return "RequestRefused"
    if isinstance(error, StoreUnavailableError | OutcomeUnknownError):
        return "Unreachable"
    return "UnsuitableStore"


class Preflight:
    """The steps in their order; `clean` takes away what any of them may have made."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        folder = f"{FOLDER}/{secrets.token_hex(8)}"
        self._small, self._large = f"{folder}/small", f"{folder}/large"
        self._made: list[str] = []

    async def put(self) -> None:
        self._made.append(self._small)
        await self._store.put(self._small, SMALL)

    async def get(self) -> None:
        if bytes(await self._store.get(self._small)) != SMALL:
            raise UnsuitableStoreError("The store gave back other bytes than it was given.")

    async def put_again(self) -> None:
        """Block servers never overwrite: of two writers of one name the store must refuse one."""
        try:
            await self._store.put(self._small, SMALL[::-1])
        except ObjectExistsError:
            return
        raise UnsuitableStoreError(
            "The store overwrote an object although it was asked not to (If-None-Match: *): "
            "two writers could destroy each other's chunks."
        )

    async def get_range(self) -> None:
        if bytes(await self._store.get(self._small, offset=7, length=11)) != SMALL[7:18]:
            raise UnsuitableStoreError(
                "The store gave back other bytes than the range that it was asked for."
            )

    async def put_parts(self) -> None:
        size = PART_BYTES + len(SMALL)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(PART_BYTES // (1024 * 1024)):
                yield bytes(1024 * 1024)
            yield SMALL

        self._made.append(self._large)
        await self._store.put_stream(self._large, pieces())
        if (await self._store.head(self._large)).size != size:
            raise UnsuitableStoreError("An object that was written in parts has not the size of its parts.")
        if bytes(await self._store.get(self._large, offset=PART_BYTES)) != SMALL:
            raise UnsuitableStoreError("An object that was written in parts gave back other bytes.")

    async def delete(self) -> None:
        await self._store.delete([self._small, self._large])
        try:
            await self._store.head(self._small)
        except ObjectNotFoundError:
            self._made.clear()
            return
        raise UnsuitableStoreError("An object is still there after it was deleted.")

    async def clean(self) -> None:
        """As far as the store lets us."""
        with contextlib.suppress(MoorageError, TimeoutError):
            async with asyncio.timeout(CLEAN_SECONDS):
                await self._store.delete(self._made)
        await self._store.close()


async def ensure_bucket(settings: S3, credentials: dict[str, str]) -> None:
    """Make the bucket; one that is there already is as good. StoreUnavailableError or RequestRefusedError.

    The S3 client knows objects only, but signs any address: the empty name is the bucket itself.
    """
    config: Any = {
        "aws_endpoint_url_s3": settings.endpoint,
        "endpoint": settings.endpoint,
        "region": settings.region,
        "virtual_hosted_style_request": False,
        **credentials,
    }
    client = Client(settings.bucket, config=config, client_options={"allow_http": True})
    url = obstore.sign(client, "PUT", "", timedelta(seconds=60))
    try:
        trusted = ssl.create_default_context(cafile=settings.ca_file)
        async with httpx.AsyncClient(timeout=BUCKET_SECONDS, verify=trusted) as http:
            answer = await http.put(url)
    except httpx.HTTPError as error:
        # Its text may hold the signed address.
        raise StoreUnavailableError("The object store cannot be reached.") from OSError(type(error).__name__)
    if answer.is_success or "BucketAlreadyOwnedByYou" in answer.text:
        return
    if answer.status_code in {401, 403}:
        raise StoreUnavailableError("The object store does not let this server in.")
    if answer.status_code >= 500:
        raise StoreUnavailableError(f"The object store is not ready ({answer.status_code}).")
    raise RequestRefusedError(f"The object store does not make the bucket ({answer.status_code}).")
