"""What a failed call means (stores/etcd_errors.py, s3_errors.py): written down as tables."""

import pytest
from grpc import StatusCode
from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError

from moorage.core.errors import (
    CompactedError,
    ObjectExistsError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    RangeError,
    RequestRefusedError,
    StoreUnavailableError,
)
from moorage_nodes.stores import etcd_errors, s3_errors
from moorage_nodes.stores.s3 import is_payload_safe_unsigned

NO_CONNECTION = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.7:2379: Connection refused"
)


@pytest.mark.parametrize(
    ("code", "details", "of_a_read", "of_a_write"),
    [
        (StatusCode.UNAVAILABLE, NO_CONNECTION, StoreUnavailableError, StoreUnavailableError),
        (StatusCode.UNAVAILABLE, "Socket closed", StoreUnavailableError, OutcomeUnknownError),
        (StatusCode.UNAVAILABLE, "etcdserver: request timed out", StoreUnavailableError, OutcomeUnknownError),
        (StatusCode.UNAVAILABLE, "etcdserver: leader changed", StoreUnavailableError, OutcomeUnknownError),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", StoreUnavailableError, OutcomeUnknownError),
        (StatusCode.CANCELLED, "", StoreUnavailableError, OutcomeUnknownError),
        (StatusCode.UNKNOWN, "?", StoreUnavailableError, OutcomeUnknownError),
        (StatusCode.INTERNAL, "?", StoreUnavailableError, OutcomeUnknownError),
        (StatusCode.DATA_LOSS, "?", StoreUnavailableError, OutcomeUnknownError),
        (StatusCode.RESOURCE_EXHAUSTED, "?", StoreUnavailableError, OutcomeUnknownError),
        (
            StatusCode.FAILED_PRECONDITION,
            "etcdserver: not leader",
            StoreUnavailableError,
            OutcomeUnknownError,
        ),
        (
            StatusCode.RESOURCE_EXHAUSTED,
            "etcdserver: mvcc: database space exceeded",
            StoreUnavailableError,
            StoreUnavailableError,
        ),
        (
            StatusCode.RESOURCE_EXHAUSTED,
            "etcdserver: too many requests",
            StoreUnavailableError,
            StoreUnavailableError,
        ),
        (
            StatusCode.RESOURCE_EXHAUSTED,
            "grpc: received message larger than max (9 vs. 8)",
            RequestRefusedError,
            RequestRefusedError,
        ),
        (StatusCode.PERMISSION_DENIED, "no", StoreUnavailableError, StoreUnavailableError),
        (StatusCode.UNAUTHENTICATED, "no", StoreUnavailableError, StoreUnavailableError),
        (
            StatusCode.INVALID_ARGUMENT,
            "etcdserver: request is too large",
            RequestRefusedError,
            RequestRefusedError,
        ),
        (
            StatusCode.INVALID_ARGUMENT,
            "etcdserver: duplicate key given in txn request",
            RequestRefusedError,
            RequestRefusedError,
        ),
        (
            StatusCode.NOT_FOUND,
            "etcdserver: requested lease not found",
            RequestRefusedError,
            RequestRefusedError,
        ),
        (
            StatusCode.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision is a future revision",
            RequestRefusedError,
            RequestRefusedError,
        ),
        (
            StatusCode.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted",
            CompactedError,
            CompactedError,
        ),
    ],
)
def test_what_a_failed_call_to_etcd_means(code, details, of_a_read, of_a_write):
    assert type(etcd_errors.build_error(code, details, write=False)) is of_a_read
    assert type(etcd_errors.build_error(code, details, write=True)) is of_a_write


def test_no_address_reaches_a_user():
    for write in (True, False):
        assert (
            "10.0.0.7"
            not in etcd_errors.build_error(StatusCode.UNAVAILABLE, NO_CONNECTION, write=write).detail
        )
    text = "Error performing PUT http://10.0.0.7/bucket/secret-name - status code: 500"
    for creates in (True, False):
        detail = s3_errors.build_error(GenericError(text), creates=creates).detail
        assert "10.0.0.7" not in detail
        assert "secret-name" not in detail


@pytest.mark.parametrize(
    ("error", "of_a_read", "of_a_create"),
    [
        (FileNotFoundError("<Code>NoSuchKey</Code>"), ObjectNotFoundError, StoreUnavailableError),
        (FileNotFoundError("<Code>NoSuchBucket</Code>"), StoreUnavailableError, StoreUnavailableError),
        (AlreadyExistsError("412"), ObjectExistsError, ObjectExistsError),
        (PermissionDeniedError("403"), StoreUnavailableError, StoreUnavailableError),
        (GenericError("inner: HttpError { kind: Connect,"), StoreUnavailableError, StoreUnavailableError),
        (GenericError("inner: HttpError { kind: Request,"), StoreUnavailableError, OutcomeUnknownError),
        (GenericError("non-2xx status code: 500 Internal"), StoreUnavailableError, OutcomeUnknownError),
        (GenericError("non-2xx status code: 503 Slow Down"), StoreUnavailableError, OutcomeUnknownError),
        (GenericError("non-2xx status code: 409 Conflict"), StoreUnavailableError, StoreUnavailableError),
        (GenericError("non-2xx status code: 416 Range"), RangeError, RangeError),
        (GenericError("non-2xx status code: 400 Bad"), RequestRefusedError, RequestRefusedError),
        (TimeoutError(), StoreUnavailableError, OutcomeUnknownError),
        (ConnectionResetError(), StoreUnavailableError, OutcomeUnknownError),
    ],
)
def test_what_a_failed_call_to_s3_means(error, of_a_read, of_a_create):
    assert type(s3_errors.build_error(error, creates=False)) is of_a_read
    assert type(s3_errors.build_error(error, creates=True)) is of_a_create


@pytest.mark.parametrize(
    ("endpoint", "safe"),
    [
        ("https://s3.example.com", True),
        ("http://s3.example.com", False),
        ("http://127.0.0.1:9000", True),
        ("http://[::1]:9000", True),
        ("http://localhost:9000", True),
        ("http://10.0.0.7:9000", False),
        ("http://localhost.example.com", False),
    ],
)
def test_a_body_goes_unsigned_only_where_nobody_can_change_it(endpoint, safe):
    assert is_payload_safe_unsigned(endpoint) is safe
