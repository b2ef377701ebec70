"""The command of our own servers."""

import shutil
import sys
from pathlib import Path

from moorage_operator.local.failure import UpError


def find_nodes_command() -> tuple[str, ...]:
    """How our own servers are started: the script beside this Python, else the one on PATH."""
    beside = Path(sys.executable).with_name("moorage-nodes")
    command = str(beside) if beside.exists() else shutil.which("moorage-nodes")
    if command is None:
        raise UpError("The servers are not installed: pip install 'moorage[local]'.")
    return (command,)
