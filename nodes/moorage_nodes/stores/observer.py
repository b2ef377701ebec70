"""What a store tells of its work: every call with its outcome and time, and how many went together."""

import time
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from moorage.core.errors import MoorageError

T = TypeVar("T")
OK = "ok"


class Observer(Protocol):
    """Called on the hot path: must be cheap and must not raise."""

    def observe_call(self, operation: str, outcome: str, seconds: float) -> None:
        """One call to the store ended; `outcome` is `ok`, an error's word, `cancelled` or `internal`."""
        ...

    def observe_batch(self, kind: str, size: int) -> None:
        """`size` independent requests went to the store as one; `kind` is `read` or `commit`."""
        ...


class NullObserver:
    """Observes nothing."""

    def observe_call(self, operation: str, outcome: str, seconds: float) -> None:
        pass

    def observe_batch(self, kind: str, size: int) -> None:
        pass


async def observed(observer: Observer, operation: str, call: Awaitable[T]) -> T:
    """Await `call` and tell `observer` how it ended."""
    started = time.perf_counter()
    outcome = "cancelled"
    try:
        result = await call
        outcome = OK
    except MoorageError as error:
        outcome = error.word
        raise
    except Exception:
        outcome = MoorageError.word
        raise
    else:
        return result
    finally:
        observer.observe_call(operation, outcome, time.perf_counter() - started)
