"""One failure told to many callers whose requests travelled together."""

from moorage.core.errors import MoorageError


def build_own(error: Exception) -> Exception:
    """An error for one caller alone: one that is raised in several tasks gathers the tracebacks of all."""
    if not isinstance(error, MoorageError):
        return error
    own = type(error)(error.detail)
    own.__cause__ = error
    return own
