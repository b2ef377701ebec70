"""What a failed gRPC call to etcd means for the caller: nothing written, unknown, or refused. Pure.

Conservative: a failed write is `OutcomeUnknownError` unless it is certain that etcd did not apply it.
"""

from grpc import StatusCode

from moorage.core.errors import (
    CompactedError,
    MoorageError,
    OutcomeUnknownError,
    RequestRefusedError,
    StoreUnavailableError,
)

_NOSPACE = "database space exceeded"
_TOO_MANY_REQUESTS = "too many requests"
_MESSAGE_TOO_LARGE = "larger than max"
_COMPACTED = "has been compacted"
# What grpc says when it had no connection to send the call on.
_NEVER_SENT = ("failed to connect to all addresses", "DNS resolution failed", "Name resolution failure")
_REFUSED = (StatusCode.INVALID_ARGUMENT, StatusCode.OUT_OF_RANGE, StatusCode.NOT_FOUND)
_UNREACHABLE = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)


def is_unreachable(code: StatusCode) -> bool:
    """Whether another endpoint may do better."""
    return code in _UNREACHABLE


def is_never_sent(code: StatusCode, details: str) -> bool:
    """Whether the call certainly did not leave this process."""
    return code is StatusCode.UNAVAILABLE and any(phrase in details for phrase in _NEVER_SENT)


def build_error(code: StatusCode, details: str, *, write: bool) -> MoorageError:
    """The error to raise for a call that failed with `code` and `details`.

    Its sentence may reach a user, so it names no address; who logs it finds them in the cause.
    """
    if code is StatusCode.OUT_OF_RANGE and _COMPACTED in details:
        return CompactedError("etcd has compacted the revision that was asked for.")
    if code in _REFUSED:
        return RequestRefusedError(f"etcd refused the request: {details}")
    if code is StatusCode.RESOURCE_EXHAUSTED:
        if _NOSPACE in details:
            return StoreUnavailableError(
                "etcd's database is full: it takes no writes until it is compacted, defragmented and its alarm disarmed."
            )
        if _TOO_MANY_REQUESTS in details:
            return StoreUnavailableError("etcd has too many requests queued; try again.")
        if _MESSAGE_TOO_LARGE in details:
            return RequestRefusedError(f"etcd refused the request: {details}")
    if code in {StatusCode.PERMISSION_DENIED, StatusCode.UNAUTHENTICATED}:
        return StoreUnavailableError("etcd does not let this server in.")
    if write and not is_never_sent(code, details):
        return OutcomeUnknownError(
            f"The metadata store did not answer a write ({code.name}); it may have been applied."
        )
    return StoreUnavailableError(f"The metadata store cannot be reached ({code.name}).")
