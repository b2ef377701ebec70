"""The report on a terminal: while things start and stop, a list of all parts that changes in place."""

import time
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from moorage_operator.local.report import LineReport, State

_STYLES = {"ready": "green", "crashed": "red", "starting": "yellow", "stopping": "yellow"}


class LiveReport(LineReport):
    """Drawn only when something changes: a thread that draws would be one more at every fork."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        super().__init__(out, errors)
        self._console = Console(file=out, highlight=False)
        self._live: Live | None = None
        self._states: dict[str, tuple[State, str]] = {}
        self._since: dict[str, float] = {}

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def state(self, part: str, state: State, detail: str = "") -> None:
        if state in {"starting", "stopping"}:
            self._since[part] = time.monotonic()
        else:
            seconds = time.monotonic() - self._since.pop(part, time.monotonic())
            detail = detail or f"{seconds:.1f} s"
        self._states[part] = (state, detail)
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(self._table(), refresh=True)

    def crashed(self, part: str, why: str, delay: float) -> None:
        super().crashed(part, why, delay)
        self._since.pop(part, None)
        if self._live is not None:
            self.state(part, "crashed", why)

    def ready(self, url: str, first_user: str) -> None:
        self.close()
        super().ready(url, first_user)

    def failed(self, text: str) -> None:
        self.close()
        super().failed(text)

    def stopped(self) -> None:
        self.close()
        super().stopped()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for part, (state, detail) in self._states.items():
            table.add_row(part, f"[{_STYLES.get(state, 'default')}]{state}", detail)
        return table
