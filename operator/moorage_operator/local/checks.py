"""`moorage fsck`, `moorage scrub` and `moorage gc`: check and collect the store that `moorage up` runs on this machine.

`up` writes the settings of all into its data directory, one file for each metadata cluster; here they are found and
handed to `moorage-nodes`, which does the work. Exit codes of checks: 0 clean, 1 findings or damage, 2 could not look.
"""

import fcntl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click

from moorage_operator.local.datadir import DataDir
from moorage_operator.local.failure import UpError
from moorage_operator.local.nodes_command import find_nodes_command

COULD_NOT_LOOK = 2

data_option = click.option(
    "--data",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".moorage"),
    show_default=True,
    help="The data directory of the running `moorage up`.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object for each metadata cluster."
)


@click.command()
@data_option
@click.option("--deep", is_flag=True, help="Read all bytes again, and compare their hashes.")
@click.option("--repair", is_flag=True, help="Do the repairs that are provably safe.")
@json_option
def fsck(root: Path, deep: bool, repair: bool, as_json: bool) -> None:
    """Check the running store: its metadata, and the bytes that it names.

    People may go on working meanwhile. Exit codes: 0 clean, 1 findings, 2 could not look.
    """
    options = {"--deep": deep, "--repair": repair, "--json": as_json}
    run_checks(root, "fsck", [name for name, given in options.items() if given])


@click.command()
@data_option
@click.option("--rate", type=click.IntRange(1), metavar="BYTES", help="Bytes a second. [default: 16 MiB]")
@json_option
def scrub(root: Path, rate: int | None, as_json: bool) -> None:
    """Read all chunks of the running store again, slowly, and mark the damaged ones.

    What was interrupted is gone on with. Exit codes: 0 no damage, 1 damage found, 2 could not go on.
    """
    rated = [] if rate is None else [f"--rate={rate}"]
    run_checks(root, "scrub", [*rated, *(["--json"] if as_json else [])])


@click.command()
@data_option
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@json_option
def gc(root: Path, dry_run: bool, as_json: bool) -> None:
    """Collect the running store now: let go what is past its time, and free what nothing holds.

    `up` does the same by its schedule. Exit codes: 0 complete, 1 not all of it, 2 could not begin, 3 a collection is
    under way already, 4 stopped at `maxDeletions`: once more.
    """
    options = {"--dry-run": dry_run, "--json": as_json}
    run_checks(root, "gc", [name for name, given in options.items() if given])


def run_checks(root: Path, job: str, options: Sequence[str]) -> None:
    """Run the job once for each metadata cluster, and exit as the worst of them did."""
    try:
        files = find_settings(DataDir(root.absolute()), "gc-*-0.json" if job == "gc" else "check-*.json")
        command = find_nodes_command()
    except UpError as error:
        click.echo(f"moorage {job}: {error}", err=True)
        raise SystemExit(COULD_NOT_LOOK) from None
    codes = [
        subprocess.run([*command, job, "--settings", str(file), *options], check=False).returncode
        for file in files
    ]
    raise SystemExit(
        max(code if code in {0, 1, COULD_NOT_LOOK, 3, 4, 130} else COULD_NOT_LOOK for code in codes)
    )


def find_settings(data: DataDir, pattern: str) -> list[Path]:
    """One file for each metadata cluster. UpError when no `moorage up` runs on that directory."""
    if not is_in_use(data):
        raise UpError(
            f"No `moorage up` is running on {data.root}: start it, or name its directory with --data."
        )
    files = sorted(data.run.glob(pattern))
    if not files:
        raise UpError(
            f"{data.root} is being started, or was by an older release: try again, or start it anew."
        )
    return files


def is_in_use(data: DataDir) -> bool:
    """Whether an `up` holds the directory."""
    try:
        with data.lock.open("rb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except OSError:
        return False
