"""`moorage up`: a whole Moorage on one machine, from the same manifests that the operator reads."""

import sys
from pathlib import Path

import click

from moorage_operator.local.failure import UpError
from moorage_operator.local.report import JsonReport, LineReport, Report
from moorage_operator.local.run import run_up
from moorage_operator.local.tools import ToolError

QUICKSTART = Path(__file__).with_name("quickstart.yaml")


@click.command()
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file of manifests; may be given again. [default: examples/quickstart.yaml]",
)
@click.option(
    "--data",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".moorage"),
    show_default=True,
    help="The directory that keeps all data.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The port to listen on. [default: that of the AccessPoint's publicURL, else 8080]",
)
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON object a line.")
def up(files: tuple[Path, ...], root: Path, host: str, port: int | None, as_json: bool) -> None:
    """Run a whole Moorage on this machine until Ctrl-C.

    Starts etcd, an S3 server, two of each server and NGINX from manifests. The next run on the same directory
    finds all data again. Exit codes: 0 stopped as asked, 1 failed, 2 wrong input (nothing was started).
    """
    report = _choose_report(as_json)
    try:
        run_up(files or (QUICKSTART,), root, host, port, report)
    except (UpError, ToolError) as error:
        report.failed(str(error))
        raise SystemExit(error.exit_code if isinstance(error, UpError) else 1) from None
    except KeyboardInterrupt:
        # Before there was anything to stop.
        raise SystemExit(130) from None
    finally:
        report.close()


def _choose_report(as_json: bool) -> Report:
    if as_json:
        return JsonReport(sys.stdout)
    if sys.stdout.isatty():
        # Only here: it takes a while to import.
        from moorage_operator.local.live import LiveReport  # noqa: PLC0415

        return LiveReport(sys.stdout, sys.stderr)
    return LineReport(sys.stdout, sys.stderr)
