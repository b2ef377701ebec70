"""Measure, side by side with what each figure is compared to: `make bench`, or `python bench/run.py ROW…`.

Starts a whole `moorage up` with its data in memory. Rows: engine, commits, batch, reads, raw, base64, streaming, idle, gc,
fsck, visible, sockets, start.
`--json` prints one object a row.
"""

import argparse
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict

import uvloop
from measure import Row
from rich.console import Console
from rich.table import Table
from rows_blocks import base64_row, idle_memory_rows, raw_rows, streaming_memory_row
from rows_engine import engine_rows
from rows_fsck import fsck_rows
from rows_gc import gc_rows
from rows_http import CLIENTS, User, batch_row, commits_row, new_user, read_rows
from rows_notify import sockets_rows, start_row, visible_row
from system import System, moorage

NAMES = (
    "engine",
    "idle",
    "commits",
    "batch",
    "reads",
    "raw",
    "base64",
    "streaming",
    "gc",
    "fsck",
    "visible",
    "sockets",
    "start",
)


async def measure(wanted: list[str]) -> AsyncIterator[Row]:
    if "engine" in wanted:
        for row in await engine_rows():
            yield row
    if "gc" in wanted:
        async for row in gc_rows():
            yield row
    if "fsck" in wanted:
        async for row in fsck_rows():
            yield row
    rest = [name for name in wanted if name not in {"engine", "gc", "fsck"}]
    if not rest:
        return
    with moorage() as system:
        if "idle" in rest:
            for row in idle_memory_rows(system):
                yield row
        user = new_user(system, "bench")
        for name in rest:
            if name != "idle":
                for row in await _rows_of(name, system, user):
                    yield row


async def _rows_of(name: str, system: System, user: User) -> list[Row]:
    if name == "commits":
        return [await commits_row(system, [new_user(system, f"user-{n}") for n in range(CLIENTS)])]
    several: dict[str, Callable[[System, User], Awaitable[list[Row]]]] = {
        "reads": read_rows,
        "raw": raw_rows,
        "sockets": sockets_rows,
    }
    if name in several:
        return await several[name](system, user)
    single: dict[str, Callable[[System, User], Awaitable[Row]]] = {
        "batch": batch_row,
        "base64": base64_row,
        "streaming": streaming_memory_row,
        "visible": visible_row,
        "start": start_row,
    }
    return [await single[name](system, user)]


def table_of(rows: list[Row]) -> Table:
    table = Table("measure", "against", "ours", "theirs", "ratio", "reach", "", "CPU ms each: ours", "theirs")
    for row in rows:
        table.add_row(
            row.name,
            row.against,
            f"{row.ours:,.0f} {row.unit}",
            "" if row.theirs is None else f"{row.theirs:,.0f} {row.unit}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.reach,
            "yes" if row.reached else "NO",
            "" if row.ours_cpu is None else f"{row.ours_cpu:.3f}",
            "" if row.theirs_cpu is None else f"{row.theirs_cpu:.3f}",
        )
    return table


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of {', '.join(NAMES)}; default: all")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(NAMES)
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    console = Console(stderr=True)
    async for row in measure(arguments.rows or list(NAMES)):
        rows.append(row)
        if arguments.json:
            print(json.dumps(asdict(row)), flush=True)
        else:
            console.print(
                f"{row.name}: {row.ours:,.1f} {row.unit}" + (f", {row.ratio:.2f}" if row.ratio else "")
            )
    if not arguments.json:
        Console(width=170).print(table_of(rows))
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
