"""What became of one file or directory of a transfer."""

from enum import StrEnum

from msgspec import UNSET, Struct, UnsetType

from moorage.core.errors import (
    MoorageError,
    NotLoggedInError,
    StoreUnavailableError,
    ThrottledError,
    UnauthenticatedError,
)

ENDS_ALL = (NotLoggedInError, StoreUnavailableError, ThrottledError, UnauthenticatedError)
"""Errors that the next file would meet too."""


class Status(StrEnum):
    STORED = "stored"
    FETCHED = "fetched"
    UNCHANGED = "unchanged"
    LEFT_OUT = "left_out"
    FAILED = "failed"


class Outcome(Struct, frozen=True, kw_only=True):
    """`source`: its path here for an upload, in the store for a download; `target`: the other one."""

    source: str
    target: str
    status: Status
    version: int | UnsetType = UNSET
    size: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


def failed(source: str, target: str, error: MoorageError) -> Outcome:
    return Outcome(source=source, target=target, status=Status.FAILED, error=error.word, detail=error.detail)
