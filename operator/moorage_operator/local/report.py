"""What `moorage up` tells while it works: a live list on a terminal, lines elsewhere, JSON for programs."""

import json
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

State = str
"""starting, ready, crashed, stopping or stopped."""


class Report(Protocol):
    """Where progress goes. None of these calls ever raises because of what is reported."""

    def progress(self, text: str) -> None:
        """One line about work that takes time before anything runs."""

    def note(self, text: str) -> None:
        """Something that a person should know."""

    def state(self, part: str, state: State, detail: str = "") -> None: ...

    def crashed(self, part: str, why: str, delay: float) -> None: ...

    def ready(self, url: str, first_user: str) -> None: ...

    def failed(self, text: str) -> None: ...

    def stopping(self) -> None: ...

    def stopped(self) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was. Idempotent."""


class JsonReport:
    """One JSON object a line, each with `event` and `time` (unix seconds)."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.time) -> None:
        self._out = out
        self._clock = clock

    def _emit(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, "time": round(self._clock(), 3), **fields})
        self._out.write(line + "\n")
        self._out.flush()

    def progress(self, text: str) -> None:
        self._emit("progress", detail=text)

    def note(self, text: str) -> None:
        self._emit("note", detail=text)

    def state(self, part: str, state: State, detail: str = "") -> None:
        self._emit("state", part=part, state=state, **({"detail": detail} if detail else {}))

    def crashed(self, part: str, why: str, delay: float) -> None:
        self._emit("state", part=part, state="crashed", detail=why, restart_in=delay)

    def ready(self, url: str, first_user: str) -> None:
        self._emit("ready", url=url, first_user=first_user)

    def failed(self, text: str) -> None:
        self._emit("error", detail=text)

    def stopping(self) -> None:
        self._emit("stopping")

    def stopped(self) -> None:
        self._emit("stopped")

    def close(self) -> None:
        return


class LineReport:
    """Plain lines: each change of state is one."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        self._out = out
        self._errors = errors
        self._is_up = False

    def _say(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def progress(self, text: str) -> None:
        self._say(text)

    def note(self, text: str) -> None:
        self._say(f"note: {text}")

    def state(self, part: str, state: State, detail: str = "") -> None:
        self._say(f"{part}: {state}" + (f" ({detail})" if detail else ""))

    def crashed(self, part: str, why: str, delay: float) -> None:
        self._say(f"{part}: crashed ({why}), starting it again in {delay:g} s")

    def ready(self, url: str, first_user: str) -> None:
        self._say(f"ready {url}")
        self._say(f"Make the first user:\n    {first_user}\nCtrl-C stops everything; the data stays.")

    def failed(self, text: str) -> None:
        self._errors.write(f"moorage up: {text}\n")
        self._errors.flush()

    def stopping(self) -> None:
        self._say("stopping")

    def stopped(self) -> None:
        self._say("stopped")

    def close(self) -> None:
        return
