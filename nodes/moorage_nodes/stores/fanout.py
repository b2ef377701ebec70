"""One failure told to many callers: those whose requests travelled together, and those who waited behind them."""

from moorage.core.errors import MoorageError, StoreUnavailableError

LINE_SECONDS = 0.5
"""Who has waited for so long behind a call that the store did not answer does not wait for a second one: whatever the
length of the line, each is told within this and the time of one call.
"""


def build_own(error: Exception) -> Exception:
    """An error for one caller alone: one that is raised in several tasks gathers the tracebacks of all."""
    if not isinstance(error, MoorageError):
        return error
    own = type(error)(error.detail)
    own.__cause__ = error
    return own


def build_behind(error: Exception) -> StoreUnavailableError:
    """An error for one who waited in line behind a call that failed with `error`: nothing of it was sent."""
    own = StoreUnavailableError("The store does not answer those who are first in line; nothing was written.")
    own.__cause__ = error
    return own


def should_fail_too(error: BaseException, since: float, now: float) -> bool:
    """Whether one who waits in line since `since` is told with those that failed with `error` at `now` (seconds)."""
    return isinstance(error, StoreUnavailableError) and now - since >= LINE_SECONDS
