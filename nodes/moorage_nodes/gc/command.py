"""`moorage-nodes gc --settings FILE`: one collection.

Exit codes: 0 complete (or a dry run that saw everything), 1 aborted or namespaces left out, 2 wrong arguments or
settings, 3 another collector is at work, 4 stopped at `gc.maxDeletions`: run it again.
"""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from moorage.core.errors import InvalidFieldError, MoorageError, StoreUnavailableError
from moorage_nodes.gc.age import read_clock
from moorage_nodes.gc.opening import open_collector, parse_sections, stand_back
from moorage_nodes.gc.report import Report, RunMetrics
from moorage_nodes.gc.tenure import CollectorBusyError, TenureLostError
from moorage_nodes.observe import configure_logging
from moorage_nodes.server import Shared, open_shared
from moorage_nodes.settings import Settings, load_settings
from moorage_nodes.stores.opening import open_etcd

log = logging.getLogger("moorage.gc")
BUSY = 3


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="moorage-nodes gc", description="Collect a metadata cluster once: what nothing holds any more."
    )
    parser.add_argument("--settings", required=True, type=Path, metavar="FILE")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object on stdout")
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="write Prometheus text there at the end")
    arguments = parser.parse_args(argv)
    configure_logging("warning")
    stand_back()
    try:
        settings = load_settings(arguments.settings)
        if settings.role != "gc":
            parser.error(f"{arguments.settings} is for the role {settings.role}, not gc")
        parse_sections(settings)
        shared = open_shared(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(collect(settings, shared, dry_run=arguments.dry_run))
    except CollectorBusyError as error:
        sys.stderr.write(f"moorage-nodes gc: {error.detail}\n")
        return BUSY
    except (MoorageError, OSError) as error:
        detail = error.detail if isinstance(error, MoorageError) else str(error)
        sys.stderr.write(f"moorage-nodes gc: {detail}\n")
        return 1 if isinstance(error, StoreUnavailableError | TenureLostError) else 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("moorage-nodes gc: stopped; the next run goes on\n")
        return 130
    if arguments.metrics is not None:
        _write_metrics(arguments.metrics, report)
    if arguments.json:
        sys.stdout.write(report.as_json().decode() + "\n")
    else:
        Console().print(build_table(report))
    return report.exit_code()


async def collect(settings: Settings, shared: Shared, *, dry_run: bool) -> Report:
    """One collection of the cluster that the settings name; a line on a terminal tells where it is."""
    if settings.etcd is None:
        raise InvalidFieldError("A collector needs `etcd` in its settings.", field="settings.etcd")
    store = open_etcd(settings.etcd, shared.metrics.store("etcd"))
    console = Console(stderr=True)
    try:
        collector = await open_collector(store, settings, shared, dry_run=dry_run)
        with console.status("collecting") as line:
            running = asyncio.ensure_future(
                collector.run(lambda namespace: line.update(f"collecting {namespace}"))
            )
            # What is under way is done or not; the tenure is given back, so that the next one need not wait.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
            return await running
    finally:
        shared.peers.close()
        await store.close()


def build_table(report: Report) -> Table:
    """What a person wants to know."""
    table = Table("", "", title=f"Collection of {report.server_key}", show_header=False)
    for name, value in report.rows():
        table.add_row(name, value)
    return table


def _write_metrics(path: Path, report: Report) -> None:
    metrics = RunMetrics()
    metrics.observe(report, read_clock())
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(metrics.render())
    temporary.replace(path)
