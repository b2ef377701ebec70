"""Passwords: what is hashed how, and what it may cost."""

import asyncio
import statistics
import time
from pathlib import Path

import pytest

from moorage.core.errors import InvalidFieldError, ThrottledError
from moorage_nodes.auth import passwords as module
from moorage_nodes.auth.passwords import Passwords, parse_password


async def test_a_password_fits_its_own_hash_alone(passwords: Passwords):
    encoded = await passwords.hash("correct horse")
    assert await passwords.verify(encoded, "correct horse")
    for wrong in ("Correct horse", "correct horse ", "", "x" * 5000, "correct\0horse"):
        assert not await passwords.verify(encoded, wrong)


async def test_hashes_are_argon2id_with_owasps_parameters_and_a_salt_each(passwords: Passwords):
    one, other = await passwords.hash("correct horse"), await passwords.hash("correct horse")
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert one != other


async def test_nobodys_password_never_fits(passwords: Passwords):
    assert not await passwords.verify(None, "correct horse")
    assert not await passwords.verify("no hash at all", "correct horse")


async def test_a_password_is_the_same_however_its_letters_are_composed(passwords: Passwords):
    assert await passwords.verify(await passwords.hash("gr\u00fc\u00dfe-1234"), "gru\u0308\u00dfe-1234")


async def test_nobody_costs_as_much_as_somebody(passwords: Passwords):
    encoded = await passwords.hash("correct horse")
    taken: dict[str | None, list[float]] = {encoded: [], None: []}
    for _ in range(40):
        for hashed, times in taken.items():
            began = time.process_time()
            await passwords.verify(hashed, "wrong password")
            times.append(time.process_time() - began)
    known, unknown = (statistics.median(times) for times in taken.values())
    assert abs(known - unknown) < 0.1 * max(known, unknown)


@pytest.mark.parametrize("text", ["x" * 8, "x" * 1024, "ü" * 4])
def test_a_password_of_8_to_1024_bytes_may_be_set(text: str):
    assert parse_password(text) == text


@pytest.mark.parametrize("text", ["", "x" * 7, "x" * 1025, "ü" * 513])
def test_a_password_of_another_length_may_not(text: str):
    with pytest.raises(InvalidFieldError, match="8 to 1024") as wrong:
        parse_password(text)
    assert not text or text not in wrong.value.detail


async def test_the_loop_goes_on_while_passwords_are_hashed(passwords: Passwords):
    longest = 0.0
    hashing = asyncio.gather(*(passwords.hash("correct horse") for _ in range(8)))
    while not hashing.done():
        began = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - began)
    assert longest < 0.5
    assert len(set(await hashing)) == 8


async def test_what_waits_is_bounded(passwords: Passwords, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    results = await asyncio.gather(
        *(passwords.hash("correct horse") for _ in range(6)), return_exceptions=True
    )
    assert [type(result) for result in results] == [str] * 3 + [ThrottledError] * 3
    assert await passwords.hash("correct horse")


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def test_hashing_gives_its_memory_back(passwords: Passwords):
    await passwords.hash("correct horse")
    before = resident_kib()
    await asyncio.gather(*(passwords.hash("correct horse") for _ in range(20)))
    assert resident_kib() - before < 10 * 1024
