"""`moorage-nodes fsck --settings FILE`: check a live metadata cluster, and the bytes that it names.

Exit codes: 0 clean, 1 findings, 2 could not look (wrong arguments or settings, a store away): nothing is proved then.
"""

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import uvloop
from rich.console import Console
from rich.status import Status
from rich.table import Column, Table

from moorage.core.errors import MoorageError
from moorage_nodes.fsck.check import Progress, Result, check_store, sort_findings
from moorage_nodes.fsck.findings import KINDS, LISTED_EACH, Finding
from moorage_nodes.fsck.opening import open_cluster
from moorage_nodes.fsck.repair import Repairs
from moorage_nodes.observe import configure_logging
from moorage_nodes.settings import CheckSettings, load_check_settings

TOLD_EVERY = 0.2  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="moorage-nodes fsck", description="Check a live metadata cluster and the bytes that it names."
    )
    parser.add_argument("--settings", required=True, type=Path, metavar="FILE")
    parser.add_argument("--deep", action="store_true", help="read all bytes again, and compare their hashes")
    parser.add_argument("--repair", action="store_true", help="do the repairs that are provably safe")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args(argv)
    configure_logging("error")
    spare_collections()
    try:
        settings = load_check_settings(arguments.settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(run_fsck(settings, deep=arguments.deep, repair=arguments.repair))
    except (MoorageError, OSError) as error:
        detail = error.detail if isinstance(error, MoorageError) else str(error)
        sys.stderr.write(f"moorage-nodes fsck: could not look: {detail}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        sys.stdout.write(json.dumps(outcome.as_json()) + "\n")
    else:
        outcome.show(Console())
    return 0 if outcome.result.is_clean else 1


class Outcome:
    """What a run found and did. `repaired`: with --repair, of each finding that has a repair, whether it was done."""

    def __init__(
        self, server_key: str, result: Result, seconds: float, repaired: dict[Finding, bool] | None
    ) -> None:
        self.server_key = server_key
        self.result = result
        self.seconds = seconds
        self.repaired = repaired

    def as_json(self) -> dict[str, Any]:
        counts = self.result.findings.counts
        return {
            "server_key": self.server_key,
            "clean": self.result.is_clean,
            "findings": [
                {
                    "kind": finding.kind,
                    "level": KINDS[finding.kind].level,
                    "namespace": finding.namespace,
                    "subject": finding.subject,
                    "detail": finding.detail,
                    "remedy": KINDS[finding.kind].remedy,
                    "repair": KINDS[finding.kind].repair or None,
                    **({} if self.repaired is None else {"repaired": self.repaired.get(finding)}),
                }
                for finding in sort_findings(self.result.findings.listed)
            ],
            "kinds": dict(sorted(counts.items())),
            "checked": {"namespaces": self.result.namespaces, **self.result.counts},
            "bytes_read": self.result.bytes_read,
            "seconds": round(self.seconds, 3),
        }

    def show(self, console: Console) -> None:
        findings, counts = self.result.findings, self.result.counts
        if findings.listed:
            whole = [Column(name, overflow="fold") for name in ("namespace", "subject")]  # to be copied
            table = Table("kind", *whole, "what", title=f"metadata cluster {self.server_key}")
            for finding in sort_findings(findings.listed):
                table.add_row(finding.kind, finding.namespace, finding.subject, finding.detail)
            console.print(table)
        for word, number in sorted(findings.counts.items()):
            kind = KINDS[word]
            more = f" (the first {LISTED_EACH} are listed)" if number > LISTED_EACH else ""
            console.print(f"{word}: {number}{more}. {kind.meaning} {kind.remedy}", highlight=False)
        self._show_repairs(console)
        read = f", {self.result.bytes_read:,} bytes read again" if self.result.bytes_read else ""
        console.print(
            f"{self.server_key}: {'clean' if self.result.is_clean else 'NOT CLEAN'}: "
            f"{findings.total()} findings in {self.result.namespaces} namespaces, {counts.get('files', 0):,} files, "
            f"{counts.get('directories', 0):,} directories, {counts.get('chunks', 0):,} chunks, "
            f"{counts.get('objects', 0):,} objects{read}; {self.seconds:.1f} s.",
            highlight=False,
        )

    def _show_repairs(self, console: Console) -> None:
        able = [finding for finding in self.result.findings.listed if KINDS[finding.kind].repair]
        if self.repaired is None and able:
            console.print(f"--repair would look again at {len(able)} of them and, where it is still so:")
            for word in sorted({finding.kind for finding in able}):
                console.print(f"  {word}: {KINDS[word].repair}", highlight=False)
        for finding, done in (self.repaired or {}).items():
            told = (
                KINDS[finding.kind].repair
                if done
                else "left alone: not so any more, or a person has to choose"
            )
            console.print(f"  {finding.kind} {finding.subject}: {told}", highlight=False)


def spare_collections() -> None:
    """Rows by the million hold no cycles: Python's own collector need not look for them every time (an eighth less
    CPU).
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


async def run_fsck(settings: CheckSettings, *, deep: bool, repair: bool) -> Outcome:
    started = time.monotonic()
    async with open_cluster(settings) as cluster:
        with _Terminal() as terminal:
            result = await check_store(cluster.store, cluster.pools, deep=deep, on_progress=terminal.tell)
        repaired: dict[Finding, bool] | None = None
        if repair:
            repairs = Repairs(cluster.store, cluster.pools, cluster.incarnation)
            able = [finding for finding in result.findings.listed if finding.kind in repairs.kinds]
            repaired = {finding: await repairs.repair(finding) for finding in able}
    return Outcome(settings.cluster.server_key, result, time.monotonic() - started, repaired)


class _Terminal:
    """A line that moves, where somebody looks."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._told = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._status = Console(stderr=True).status("looking …")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def tell(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._status is None or now - self._told < TOLD_EVERY:
            return
        self._told = now
        self._status.update(
            f"{progress.namespaces:,} namespaces done · {progress.keys:,} keys · {progress.files:,} files · "
            f"{progress.chunks:,} chunks · {progress.bytes_read / 1e6:,.0f} MB read · {progress.findings:,} findings"
        )


if __name__ == "__main__":
    sys.exit(main())
