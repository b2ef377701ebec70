"""The user directory: one transaction a change, and a retry finishes what a crash left."""

import asyncio
from collections.abc import Callable

import pytest

from moorage.core.errors import (
    InvalidFieldError,
    NoClusterError,
    NotFoundError,
    OutcomeUnknownError,
    UserExistsError,
)
from moorage_nodes.auth import keys
from moorage_nodes.auth.passwords import Passwords
from moorage_nodes.auth.users import User, UserDirectory, Wish, new_id, open_realm
from moorage_nodes.stores.contracts import MetadataStore, Put, Txn, TxnResult, prefix_end
from moorage_nodes.stores.memory import MemoryStore

PASSWORD = "correct horse"


async def everything(store: MetadataStore) -> list[bytes]:
    found, _ = await store.range(b"a/", prefix_end(b"a/"))
    return [kv.key for kv in found.kvs]


async def make(users: UserDirectory, name: str = "ann") -> User:
    return await users.put(name, Wish(password=PASSWORD))


async def test_a_new_user_is_placed_and_found_by_name_and_by_id(users: UserDirectory):
    made = await make(users)
    assert made.record.server_key == "c1"
    assert (made.record.generation, made.record.disabled) == (1, False)
    assert made.record.user_id.startswith("u")
    assert len(made.record.user_id) == 21
    assert await users.find("ann") == made
    assert await users.find_by_id(made.record.user_id) == made
    assert await users.find("Ann") is None
    assert await users.find_by_id("u0") is None


async def test_the_same_wish_again_changes_nothing(users: UserDirectory):
    made = await make(users)
    for wish in (
        Wish(password=PASSWORD),
        Wish(),
        Wish(password=PASSWORD, server_key="c1", disabled=False),
    ):
        assert await users.put("ann", wish) == made


async def test_many_makers_at_once_make_one_user(users: UserDirectory, store: MetadataStore):
    made = await asyncio.gather(*(make(users) for _ in range(8)))
    assert len({user.record.user_id for user in made}) == 1
    assert len(await everything(store)) == 2


async def test_of_two_makers_with_different_passwords_one_wins(users: UserDirectory, passwords: Passwords):
    wishes = [Wish(password="first password"), Wish(password="other password")]
    results = await asyncio.gather(*(users.put("ann", wish) for wish in wishes), return_exceptions=True)
    assert {type(result) for result in results} == {User, UserExistsError}
    winner = next(i for i, result in enumerate(results) if isinstance(result, User))
    found = await users.get("ann")
    assert await passwords.verify(found.record.password_hash, wishes[winner].password or "")


async def test_a_user_with_another_password_is_left_alone(users: UserDirectory):
    made = await make(users)
    for password in ("another password", "short", ""):
        with pytest.raises(UserExistsError, match="POST /auth/users/ann/password"):
            await users.put("ann", Wish(password=password, disabled=True))
    assert await users.find("ann") == made


async def test_a_user_stays_on_its_cluster(users: UserDirectory):
    made = await users.put("ann", Wish(password=PASSWORD, server_key="c2"))
    assert made.record.server_key == "c2"
    with pytest.raises(UserExistsError, match="another cluster"):
        await users.put("ann", Wish(server_key="c1"))
    assert await users.find("ann") == made


@pytest.mark.parametrize("password", [None, "", "short", "x" * 2000])
async def test_a_new_user_needs_a_good_password(
    users: UserDirectory, store: MetadataStore, password: str | None
):
    with pytest.raises(InvalidFieldError):
        await users.put("ann", Wish(password=password))
    assert await everything(store) == []


async def test_without_a_cluster_there_is_no_user(store: MetadataStore, passwords: Passwords):
    def nowhere() -> str:
        raise NoClusterError("none")

    users = UserDirectory(store, passwords, place=nowhere, clock=lambda: 0.0)
    with pytest.raises(NoClusterError):
        await make(users)
    assert await everything(store) == []


async def test_disabling_and_enabling_end_tokens_and_repeating_them_does_not(users: UserDirectory):
    await make(users)
    disabled = await users.put("ann", Wish(disabled=True))
    assert (disabled.record.disabled, disabled.record.generation) == (True, 2)
    assert await users.put("ann", Wish(disabled=True)) == disabled
    enabled = await users.put("ann", Wish(disabled=False))
    assert (enabled.record.disabled, enabled.record.generation) == (False, 3)


async def test_a_new_password_ends_tokens_and_the_same_again_does_not(
    users: UserDirectory, passwords: Passwords
):
    made = await make(users)
    changed = await users.set_password("ann", "a new password")
    assert changed.record.generation == 2
    assert changed.record.user_id == made.record.user_id
    assert await passwords.verify(changed.record.password_hash, "a new password")
    assert not await passwords.verify(changed.record.password_hash, PASSWORD)
    assert await users.set_password("ann", "a new password") == changed
    with pytest.raises(InvalidFieldError):
        await users.set_password("ann", "short")
    with pytest.raises(NotFoundError):
        await users.set_password("nobody", "a new password")


async def test_a_removed_user_leaves_no_key_and_its_name_is_free(users: UserDirectory, store: MetadataStore):
    made = await make(users)
    assert await users.remove("ann") == made
    assert await everything(store) == []
    assert await users.find_by_id(made.record.user_id) is None
    with pytest.raises(NotFoundError, match="if you have just deleted it"):
        await users.remove("ann")
    again = await make(users)
    assert again.record.user_id != made.record.user_id


async def test_an_id_never_finds_a_namesake(users: UserDirectory, store: MetadataStore):
    """Between the two reads of a look-up the user may go and another come by the same name."""
    made = await make(users)
    index = await store.get(keys.user_id(made.record.user_id))
    assert index is not None
    await users.remove("ann")
    await make(users)
    await store.transact(Txn(then=(Put(index.key, index.value),)))
    assert await users.find_by_id(made.record.user_id) is None


async def test_changes_at_once_are_all_made(users: UserDirectory):
    await make(users)
    await asyncio.gather(
        users.put("ann", Wish(disabled=True)),
        users.set_password("ann", "a new password"),
        users.put("ann", Wish()),
    )
    found = await users.get("ann")
    assert (found.record.disabled, found.record.generation) == (True, 3)


async def test_users_are_listed_in_pages_in_the_order_of_their_names(users: UserDirectory):
    names = ["ann", "ann.b", "ann@c", "bob", "zoe"]
    for name in reversed(names):
        await make(users, name)
    listed: list[str] = []
    more, after = True, None
    while more:
        page, more = await users.list(after, 2)
        listed += [user.username for user in page]
        after = listed[-1]
    assert listed == names
    assert await users.list("zoe", 2) == ([], False)


async def test_the_realm_has_one_id_for_ever(store: MetadataStore):
    opened = await asyncio.gather(*(open_realm(store) for _ in range(5)))
    assert len(set(opened)) == 1
    assert await open_realm(store) == opened[0]
    assert opened[0].startswith("r")


def test_ids_are_random():
    assert len({new_id("u") for _ in range(1000)}) == 1000


# --- a server killed, or a store gone, in the middle of a write --------------------------------------------


class Broken(MemoryStore):
    """Answers the next transaction by OutcomeUnknownError, after it was applied or instead."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: bool | None = None

    async def transact(self, txn: Txn) -> TxnResult:
        applied, self.fault = self.fault, None
        if applied is None:
            return await super().transact(txn)
        if applied:
            await super().transact(txn)
        raise OutcomeUnknownError("no answer")


CHANGES: dict[str, Callable[[UserDirectory], object]] = {
    "make": lambda users: users.put("bob", Wish(password=PASSWORD)),
    "disable": lambda users: users.put("ann", Wish(disabled=True)),
    "password": lambda users: users.set_password("ann", "a new password"),
}


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_retry_finishes_what_got_no_answer_and_does_it_once(
    passwords: Passwords, change: str, applied: bool
):
    store = Broken()
    users = UserDirectory(store, passwords, place=lambda: "c1", clock=lambda: 0.0)
    await make(users)
    store.fault = applied
    with pytest.raises(OutcomeUnknownError):
        await CHANGES[change](users)  # type: ignore[misc]
    done = await CHANGES[change](users)  # type: ignore[misc]
    assert done == await CHANGES[change](users)  # type: ignore[misc]
    assert done.record.generation == (1 if change == "make" else 2)
    by_id = await users.find_by_id(done.record.user_id)
    assert by_id == await users.find(done.username) == done
    assert len(await everything(store)) == (4 if change == "make" else 2)


@pytest.mark.parametrize("applied", [True, False])
async def test_a_retried_removal_is_done_or_says_that_it_was(passwords: Passwords, applied: bool):
    store = Broken()
    users = UserDirectory(store, passwords, place=lambda: "c1", clock=lambda: 0.0)
    await make(users)
    store.fault = applied
    with pytest.raises(OutcomeUnknownError):
        await users.remove("ann")
    if applied:
        with pytest.raises(NotFoundError, match="if you have just deleted it"):
            await users.remove("ann")
    else:
        await users.remove("ann")
    assert await everything(store) == []
