"""`python steered_up.py FOLDER ARGUMENTS`: the real `moorage up`, whose servers take the wall clock to be ahead of the
machine's by as many seconds as FOLDER/clock says at each look: as if somebody set the machine's clock.

Clocks that cannot be set (monotonic, since boot) are the machine's, and so are those of etcd, S3 and NGINX.
"""

import sys
from pathlib import Path

from moorage_operator.local import nodes_command
from moorage_operator.local.command import up

SERVER = """
import sys, time
from pathlib import Path

clock, real = Path(__file__).with_name("clock"), time.time

def steered():
    # gRPC makes a moment of its timeouts, which its own library holds against the machine's clock.
    if sys._getframe(1).f_globals.get("__name__", "").startswith("grpc."):
        return real()
    try:
        return real() + float(clock.read_text())
    except (OSError, ValueError):
        return real()

time.time = steered
time.time_ns = lambda: int(steered() * 1e9)

from moorage_nodes.app import main
sys.exit(main())
"""


class Clock:
    """The clock of a store that was started so, as its test sets it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.set(0.0)

    def set(self, ahead: float) -> None:
        """Seconds that it is ahead of the machine's; at once, in all servers."""
        new = self.folder / "clock.new"
        new.write_text(str(ahead))
        new.replace(self.folder / "clock")


if __name__ == "__main__":
    server = Path(sys.argv.pop(1)) / "moorage-nodes"
    server.write_text(SERVER)
    nodes_command.find_nodes_command = lambda: (sys.executable, str(server))
    up()
