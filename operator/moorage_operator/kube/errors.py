"""What the API server may answer, as one branch of the tree of errors."""

from moorage.core.errors import MoorageError


class KubeError(MoorageError):
    """Any request to the API server that did not do what was asked. `status` is 0 where no answer came."""

    word = "kubernetes"

    def __init__(self, detail: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after = retry_after


class KubeNotFoundError(KubeError):
    """404: the object, its kind or its namespace is not there."""


class KubeConflictError(KubeError):
    """409: it is there already, or a precondition does not hold."""


class KubeForbiddenError(KubeError):
    """401 or 403: the operator lacks a permission; the sentence names it."""


class KubeGoneError(KubeError):
    """410: a watch or a page is too old; start over with a list."""


class KubeInvalidError(KubeError):
    """400 or 422: the object is refused; the same again is refused again."""


class KubeUnavailableError(KubeError):
    """429, 5xx, a lost connection or a timeout: maybe done, maybe not; the same again later."""


class NotLeaderError(KubeError):
    """A write was refused by ourselves: the Lease was not renewed in time. Nothing was sent."""

    def __init__(self) -> None:
        super().__init__("This process does not hold the Lease: nothing is written.")


def build_error(status: int, message: str, retry_after: float | None = None) -> KubeError:
    """The error of an answer with this status."""
    kinds: dict[int, type[KubeError]] = {
        400: KubeInvalidError,
        401: KubeForbiddenError,
        403: KubeForbiddenError,
        404: KubeNotFoundError,
        405: KubeInvalidError,
        409: KubeConflictError,
        410: KubeGoneError,
        413: KubeInvalidError,
        415: KubeInvalidError,
        422: KubeInvalidError,
    }
    kind = kinds.get(status, KubeUnavailableError if status == 429 or status >= 500 else KubeError)
    return kind(message, status=status, retry_after=retry_after)
