"""Password hashing: Argon2id at OWASP's parameters, off the event loop, with a bound on what waits.

The parameters cost an attacker 19 MiB and some 20 ms a guess, and us the same: hence the bounds.
"""

import asyncio
import contextlib
import ctypes
import os
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from moorage.core.errors import InvalidFieldError, ThrottledError

T = TypeVar("T")
MIN_BYTES = 8
MAX_BYTES = 1024
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
MAX_WAITING = 256  # hashings that may wait for a thread; beyond that a login is turned away
_M_MMAP_THRESHOLD = -3  # mallopt(3)


def parse_password(text: str) -> str:
    """A password that may be set; InvalidFieldError names the rule that it breaks."""
    size = len(text.encode())
    if not MIN_BYTES <= size <= MAX_BYTES:
        raise InvalidFieldError(
            f"`password` is {size} bytes; {MIN_BYTES} to {MAX_BYTES} are required.", field="password"
        )
    return text


class Passwords:
    """Hashes and verifies, as many at once as there are processors. TooManyWaiting is a ThrottledError."""

    def __init__(self) -> None:
        _give_memory_back()
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="argon2")
        self._waiting = 0
        # What an unknown user's password is compared with: nobody knows one that fits.
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        """Argon2's encoded form with a new salt."""
        text = _normal(password)
        return await self._run(lambda: self._hasher.hash(text))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether `password` is the one hashed; with None False, at the same cost."""
        text = _normal(password)

        def matches() -> bool:
            with contextlib.suppress(VerificationError, InvalidHashError):
                return self._hasher.verify(password_hash or self._nobody, text)
            return False

        return await self._run(matches) and password_hash is not None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise ThrottledError("Too many logins at once; try again in a moment.", retry_after=1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _normal(password: str) -> bytes:
    """NFC (RFC 8265): what a person types is the same password from every keyboard."""
    return unicodedata.normalize("NFC", password).encode()


def _give_memory_back() -> None:
    """Each hashing takes 19 MiB. glibc would learn to keep such blocks in its heaps, one for each thread: fix the
    size from which it takes them from the kernel and gives them back.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library has no mallopt, or no such habit
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)
