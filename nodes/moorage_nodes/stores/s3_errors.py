"""What a failed call to S3 means for the caller. Pure.

obstore has few error classes and puts the rest into the text. That text holds the address and the object's name,
so it stays in the cause and never goes into our sentence.
"""

import re

from obstore.exceptions import (
    AlreadyExistsError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from moorage.core.errors import (
    MoorageError,
    ObjectExistsError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    RangeError,
    RequestRefusedError,
    StoreUnavailableError,
)

_STATUS = re.compile(r"status code: (\d{3})")
_NO_BUCKET = "NoSuchBucket"
_NOT_CONNECTED = "kind: Connect"
_NOT_LET_IN = {401, 403}
_RANGE_NOT_SATISFIABLE = 416
# Another conditional write of that name was under way, or we ask too often: nothing was written.
_NOT_NOW = {409, 429}


def build_error(error: Exception, *, creates: bool) -> MoorageError:
    """The error to raise for `error`. A write (`creates`) that may have been carried out is
    `OutcomeUnknownError`, when that is not certain.
    """
    text = str(error)
    if _NO_BUCKET in text:
        return StoreUnavailableError("The object store's bucket does not exist.")
    if isinstance(error, FileNotFoundError):
        if creates:
            return StoreUnavailableError("The object store's bucket does not exist.")
        return ObjectNotFoundError("There is no such object.")
    if isinstance(error, AlreadyExistsError | PreconditionError):
        return ObjectExistsError("There is an object of that name already.")
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in _NOT_LET_IN:
        return StoreUnavailableError("The object store does not let this server in.")
    if _NOT_CONNECTED in text:
        return StoreUnavailableError("The object store cannot be reached.")
    if status == _RANGE_NOT_SATISFIABLE:
        return RangeError("The range ends behind the object.")
    if status in _NOT_NOW:
        return StoreUnavailableError(f"The object store is busy ({status}).")
    if 400 <= status < 500:
        return RequestRefusedError(f"The object store refused the request ({status}).")
    if creates:
        return OutcomeUnknownError("The object store did not say whether it stored an object; it may have.")
    said = f" ({status})" if status else ""
    return StoreUnavailableError(f"The object store did not answer{said}.")
