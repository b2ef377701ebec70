"""When a request is sent again (PROTOCOL.md, Errors): every call may be, so an outage shorter than this is only a pause."""

PATIENCE = 60.0
"""Seconds from the first failure on: a rolling upgrade or a crashed server is over well before."""
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0


def plan_retry(
    tried: int, *, waited: float, patience: float, jitter: float, retry_after: float | None = None
) -> float | None:
    """Seconds to wait after the `tried`-th try (from 1) failed in a way that may pass; None: give up.

    `waited`: seconds since the first failure, of `patience` at most. `jitter` in [0, 1) keeps many clients of one outage
    apart. The server's `retry_after` is kept to, also when it is longer than the pause would have been.
    """
    pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tried - 1, 10))
    pause *= 0.5 + jitter / 2
    if retry_after is not None:
        pause = max(pause, retry_after)
    return pause if waited + pause <= patience else None
