"""`moorage-nodes scrub --settings FILE`: read all chunks of a metadata cluster again, slowly, and mark the damaged.

Exit codes: 0 the pass is complete and no chunk is newly damaged, 1 damage was found, 2 could not go on (a store away,
wrong settings, another scrub took over): the next run goes on from there.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.status import Status

from moorage.core.errors import MoorageError
from moorage_nodes.fsck.opening import open_cluster
from moorage_nodes.metadata.records import ScrubState
from moorage_nodes.observe import configure_logging
from moorage_nodes.scrub.pace import Pace
from moorage_nodes.scrub.scrubber import Report, Scrubber
from moorage_nodes.settings import CheckSettings, load_check_settings


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="moorage-nodes scrub", description="Read all chunks again, slowly, and mark the damaged."
    )
    parser.add_argument("--settings", required=True, type=Path, metavar="FILE")
    parser.add_argument("--rate", type=int, metavar="BYTES", help="bytes a second, instead of the settings'")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args(argv)
    if arguments.rate is not None and arguments.rate < 1:
        parser.error("--rate must be at least 1")
    configure_logging("error")
    try:
        settings = load_check_settings(arguments.settings)
        rate = arguments.rate or settings.scrub_bytes_per_second
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(run_scrub(settings, rate))
    except (MoorageError, OSError) as error:
        detail = error.detail if isinstance(error, MoorageError) else str(error)
        sys.stderr.write(f"moorage-nodes scrub: stopped: {detail}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        sys.stdout.write(json.dumps(build_answer(settings.cluster.server_key, report)) + "\n")
    else:
        _show(settings.cluster.server_key, report, Console())
    return 1 if report.state.damaged else 0


async def run_scrub(settings: CheckSettings, bytes_per_second: int) -> Report:
    status = Console(stderr=True).status("looking …") if sys.stderr.isatty() else None

    def tell(state: ScrubState) -> None:
        if status is not None:
            status.update(_progress(state))

    async with open_cluster(settings) as cluster:
        scrubber = Scrubber(
            cluster.store,
            cluster.pools,
            Pace(bytes_per_second, time.monotonic),
            incarnation=cluster.incarnation,
            clock=time.time,
            on_progress=tell,
        )
        return await _shown(status, scrubber)


async def _shown(status: Status | None, scrubber: Scrubber) -> Report:
    if status is None:
        return await scrubber.run()
    with status:
        return await scrubber.run()


def build_answer(server_key: str, report: Report) -> dict[str, Any]:
    state = report.state
    return {
        "server_key": server_key,
        "pass": state.number,
        "chunks": state.chunks,
        "bytes": state.bytes,
        "damaged": state.damaged,
        "readable_again": state.readable,
        "seconds": round((state.finished - state.started) / 1000, 3),
        "damaged_chunks": [{"namespace": ns, "hash": found} for ns, found in report.damaged],
        "readable_chunks": [{"namespace": ns, "hash": found} for ns, found in report.readable],
    }


def _progress(state: ScrubState) -> str:
    return (
        f"pass {state.number}: {state.chunks:,} chunks, {state.bytes / 1e6:,.0f} MB read, {state.damaged} damaged, "
        f"{state.readable} readable again"
    )


def _show(server_key: str, report: Report, console: Console) -> None:
    for word, found in (("damaged", report.damaged), ("readable again", report.readable)):
        for namespace, chunk_hash in found:
            console.print(f"{word}: {chunk_hash} of {namespace}", highlight=False)
    console.print(f"{server_key}: {_progress(report.state)}.", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
