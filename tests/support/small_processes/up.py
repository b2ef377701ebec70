"""`python -m small_processes.up ARGUMENTS`: the real `moorage up`, but for our servers, which are stand-ins.

What it does with etcd, S3 and NGINX can be tested so in a second, without waiting for the servers.
"""

import sys
from pathlib import Path

from moorage_operator.local import nodes_command
from moorage_operator.local.command import up

STAND_IN = Path(__file__).with_name("stand_in.py")

if __name__ == "__main__":
    nodes_command.find_nodes_command = lambda: (sys.executable, str(STAND_IN))
    up()
