"""One tree of errors for clients and servers (PROTOCOL.md, Errors).

Every error has a stable word for programs, a sentence that says what to do for people, and optional extra
fields of the answer. `HTTP_STATUS` is the only place where an error becomes an HTTP status.
"""

from typing import Any, ClassVar


class MoorageError(Exception):
    """The root of the tree. `extra` becomes further fields of the JSON answer."""

    word: ClassVar[str] = "internal"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    def as_answer(self) -> dict[str, Any]:
        return {"error": self.word, "detail": self.detail, **self.extra}


# --- the request is wrong -------------------------------------------------------------------------------


class MalformedError(MoorageError):
    """The request cannot be parsed at all."""

    word = "malformed"


class InvalidFieldError(MoorageError):
    """A field, name or id breaks its rule; `field` is its path."""

    word = "invalid_field"

    def __init__(self, detail: str, *, field: str = "$", **extra: Any) -> None:
        super().__init__(detail, field=field, **extra)


class InvalidVersionError(MoorageError):
    word = "invalid_version"


class IdempotencyKeyReusedError(InvalidFieldError):
    """An `Idempotency-Key` came again with other arguments."""

    word = "idempotency_key_reused"


class HashMismatchError(MoorageError):
    word = "hash_mismatch"


class EmptyCommitError(MoorageError):
    word = "empty_commit"


class TooLargeError(MoorageError):
    word = "too_large"


class RangeError(MoorageError):
    """A byte range that cannot be met."""

    word = "range_not_satisfiable"


# --- who asks -------------------------------------------------------------------------------------------


class UnauthenticatedError(MoorageError):
    """No valid token or no valid credentials: one error for every reason, the reason is logged."""

    word = "unauthenticated"


class ForbiddenError(MoorageError):
    word = "forbidden"


class WrongClusterError(MoorageError):
    word = "wrong_cluster"


class ThrottledError(MoorageError):
    word = "throttled"

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.retry_after = retry_after


# --- the state does not allow it --------------------------------------------------------------------------


class NotFoundError(MoorageError):
    """Unknown, or another user's: the two are never told apart."""

    word = "not_found"


class MethodNotAllowedError(MoorageError):
    word = "method_not_allowed"


class ConflictError(MoorageError):
    """A stale version (PROTOCOL.md, Update): the answer carries `status` and `server_version`."""

    word = "conflict"

    def __init__(self, detail: str, *, server_version: int, **extra: Any) -> None:
        super().__init__(detail, status="conflict", server_version=server_version, **extra)
        self.server_version = server_version


class StateError(MoorageError):
    """The state of the namespace refuses the request: 409 with a word of its own."""

    word = "state"


class NameTakenError(StateError):
    word = "name_taken"


class IdTakenError(StateError):
    word = "id_taken"


class NotADirectoryInTheWayError(StateError):
    word = "not_a_directory"


class CycleError(StateError):
    word = "cycle"


class TooDeepError(StateError):
    """A place deeper in the tree than paths may be long."""

    word = "too_deep"


class ReplaceTargetError(StateError):
    """What a move should replace is not what it said: not there, or not a file."""

    word = "replace_target"


class PendingDeletionError(StateError):
    word = "pending_deletion"


class NotEmptyError(StateError):
    """A directory that holds something is deleted only together with that."""

    word = "not_empty"


class RootDirectoryError(StateError):
    """Everything lies below the root: it cannot be deleted."""

    word = "root_directory"


class NotDeletedError(StateError):
    word = "not_deleted"


class PlaceGoneError(StateError):
    """The directory that something was deleted from is not there any more: name another one."""

    word = "place_gone"


class TooManyClientsError(StateError):
    word = "too_many_clients"


class MissingChunksError(StateError):
    word = "missing_chunks"


class UploadTokenRequiredError(StateError):
    word = "upload_token_required"


class UserExistsError(StateError):
    word = "user_exists"


class NoClusterError(StateError):
    """No metadata cluster takes new users."""

    word = "no_cluster"


class GoneError(MoorageError):
    word = "gone"


class UploadEndedError(GoneError):
    word = "upload_ended"


# --- stores and peers ---------------------------------------------------------------------------------------


class StoreUnavailableError(MoorageError):
    """A store or peer cannot be reached. Nothing was acknowledged; the same request may be sent again."""

    word = "store_unavailable"


class OutcomeUnknownError(StoreUnavailableError):
    """A write was sent and no answer came: it may have been applied, once, or not at all."""

    word = "store_unavailable"


class CompactedError(MoorageError):
    """The revision asked for is compacted: read again at the current one."""

    word = "compacted"


class FormatError(MoorageError):
    """A record of a newer schema than this server knows: an older server must not guess."""

    word = "format_too_new"


class RequestRefusedError(MoorageError):
    """A store refused a request as such (too large, too many operations, a key put twice): a bug or a limit."""

    word = "store_refused"


class ObjectNotFoundError(MoorageError):
    word = "object_not_found"


class ObjectExistsError(MoorageError):
    word = "object_exists"


class DamagedTreeError(MoorageError):
    """A namespace's records contradict each other: nothing is guessed."""

    word = "damaged_tree"


class DamagedChunkError(MoorageError):
    """Bytes that are lost or do not match their hash are never served. A retry does not help: who has the bytes
    uploads them again, which heals the chunk.
    """

    word = "damaged_chunk"


# --- a client's own machine ---------------------------------------------------------------------------------


class LocalFileError(MoorageError):
    """A file or folder of this machine cannot be read, written or used. Nothing in the store was changed by it."""

    word = "local_file"


class NotLoggedInError(MoorageError):
    """There is no login on this machine, or it has ended."""

    word = "not_logged_in"


HTTP_STATUS: dict[type[MoorageError], int] = {
    MoorageError: 500,
    MalformedError: 400,
    InvalidFieldError: 422,
    InvalidVersionError: 422,
    HashMismatchError: 422,
    EmptyCommitError: 422,
    TooLargeError: 413,
    RangeError: 416,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    WrongClusterError: 421,
    ThrottledError: 429,
    NotFoundError: 404,
    MethodNotAllowedError: 405,
    ConflictError: 409,
    StateError: 409,
    GoneError: 410,
    StoreUnavailableError: 503,
    DamagedChunkError: 500,
}


def http_status(error: MoorageError) -> int:
    """The status of the nearest ancestor in `HTTP_STATUS`."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)


_BY_WORD: dict[str, type[MoorageError]] = {}


def _index(kind: type[MoorageError]) -> None:
    # The first of a word is the one that promises most; `OutcomeUnknownError` shares its parent's.
    _BY_WORD.setdefault(kind.word, kind)
    for below in kind.__subclasses__():
        _index(below)


_index(MoorageError)


def error_from_answer(answer: dict[str, Any]) -> MoorageError:
    """The error that an error answer (a decoded JSON object) tells of: of the class of its word, with its
    further fields as `extra`; a plain MoorageError when the word is unknown or a field of its class missing.
    """
    word, detail = answer.get("error"), answer.get("detail")
    fields = {k: v for k, v in answer.items() if k not in {"error", "detail", "request_id", "status"}}
    kind = _BY_WORD.get(word, MoorageError) if isinstance(word, str) else MoorageError
    sentence = detail if isinstance(detail, str) else "The server gave no reason."
    try:
        return kind(sentence, **fields)
    except TypeError:
        return MoorageError(sentence)
