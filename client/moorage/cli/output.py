"""What commands print: tables on a terminal, tab-separated lines elsewhere, JSON for programs; and progress bars."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Literal, Self, TextIO

import click
import msgspec
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from moorage.core.text import printable
from moorage.transfers.outcomes import Outcome, Status
from moorage.transfers.progress import Progress


def is_terminal(stream: TextIO | None) -> bool:
    """A closed one is none."""
    return stream is not None and stream.isatty()


def print_json(values: Iterable[object]) -> None:
    """Always in UTF-8, whatever the terminal speaks."""
    for value in values:
        click.echo(msgspec.json.encode(value))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns whose name begins with `>` are aligned to the right."""
    if not is_terminal(sys.stdout):
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        # Nothing is cut off: ids and names are to be copied.
        table.add_column(column.removeprefix(">"), justify=justify, overflow="fold", no_wrap=column == "id")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # a name may look like markup
    Console().print(table)


def format_size(size: int) -> str:
    """Readable on a terminal, exact elsewhere."""
    return decimal(size) if is_terminal(sys.stdout) else str(size)


def format_when(text: str) -> str:
    """In the time zone of this machine on a terminal, as it came elsewhere."""
    if not is_terminal(sys.stdout):
        return text
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")


class ShownProgress(Progress):
    """Bars on stderr, if that is a terminal and nobody asked for JSON."""

    def __init__(self, verb: str, *, as_json: bool) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[files]}"),
            console=Console(stderr=True),
            disable=as_json or not is_terminal(sys.stderr),
            transient=True,
        )
        self._reading = self._bars.add_task("reading", total=0, files="", visible=False)
        self._moving = self._bars.add_task(verb, total=0, files="")
        self._size = self._files = self._done = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def expect(self, *, files: int, size: int) -> None:
        self._files, self._size = self._files + files, self._size + size
        self._bars.update(self._reading, total=self._size)
        self._bars.update(self._moving, total=self._size, files=self._count())

    def read(self, size: int) -> None:
        self._bars.update(self._reading, advance=size, visible=True)

    def moved(self, size: int) -> None:
        self._bars.advance(self._moving, size)

    def finished(self, path: str) -> None:  # noqa: ARG002 - the bar counts
        self._done += 1
        self._bars.update(self._moving, files=self._count())

    def _count(self) -> str:
        return f"{self._done}/{self._files} files"


def tell_outcomes(outcomes: Sequence[Outcome], *, as_json: bool) -> bool:
    """Print what became of a transfer; whether nothing failed."""
    failures = [outcome for outcome in outcomes if outcome.status is Status.FAILED]
    if as_json:
        print_json(outcomes)
        return not failures
    for outcome in outcomes:
        if outcome.status in {Status.FAILED, Status.LEFT_OUT}:
            said = f"{outcome.status.replace('_', ' ')}: {outcome.source}: {outcome.detail}"
            click.echo(printable(said), err=True)
    click.echo(_summary(outcomes))
    return not failures


def _summary(outcomes: Sequence[Outcome]) -> str:
    counts = {status: sum(1 for outcome in outcomes if outcome.status is status) for status in Status}
    size = sum(outcome.size or 0 for outcome in outcomes if outcome.status in {Status.STORED, Status.FETCHED})
    said = [f"{count} {status.replace('_', ' ')}" for status, count in counts.items() if count]
    return f"{', '.join(said) or 'nothing to do'} ({decimal(size)})"
