"""Keys and records of the auth store."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.core.errors import FormatError
from moorage_nodes.auth import keys
from moorage_nodes.auth.keys import RealmRecord, ThrottleRecord, UserIdRecord, UserRecord

RECORDS = [
    UserRecord(1, "u1", "$argon2id$...", 3, "c1", False, 1_800_000_000_000),
    UserIdRecord(1, "ann"),
    RealmRecord(1, "r1"),
    ThrottleRecord(1, 4, 1_800_000_000_000),
]


def test_keys_are_what_the_documentation_says():
    assert keys.user("ann@example.org") == b"a/u/ann@example.org"
    assert keys.user_id("u1") == b"a/i/u1"
    assert keys.REALM == b"a/realm"
    assert keys.users_range(None) == (b"a/u/", b"a/u0")
    assert keys.users_range("ann") == (b"a/u/ann\x00", b"a/u0")
    assert keys.parse_user_key(keys.user("ann")) == "ann"


@given(st.text())
def test_a_throttle_key_is_short_and_tells_no_name(name: str):
    key = keys.throttle(name)
    assert len(key) == 20
    assert key.startswith(b"a/t/")
    assert int(key[4:], 16) >= 0


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_read_as_it_was_written(record: keys._Record):
    assert keys.decode(type(record), keys.encode(record)) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_fields_appended_by_a_newer_server_are_left_alone(record: keys._Record):
    fields = [*msgspec.msgpack.decode(keys.encode(record)), "later"]
    assert keys.decode(type(record), msgspec.msgpack.encode(fields)) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_of_a_newer_schema_is_refused(record: keys._Record):
    _, *fields = msgspec.msgpack.decode(keys.encode(record))
    with pytest.raises(FormatError):
        keys.decode(type(record), msgspec.msgpack.encode([2, *fields]))
