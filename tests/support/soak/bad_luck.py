"""What happens to the processes of a store: killed, stopped for a while, cut off by the kernel's packet filter."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

from black_box.processes import Process
from black_box.store import RunningStore

ETCD = r"(^|/)etcd "
S3 = r"(^|/)(weed|minio) "
NGINX = r"nginx: worker|nginx: master|(^|/)nginx "
ROLES = ("l1", "l2", "l3", "block", "auth", "notify")


def can_cut_off() -> str:
    """Why connections cannot be reset here; empty where they can."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("iptables") is None:
        return "no iptables"
    done = subprocess.run(["iptables", "-w", "-L", "OUTPUT", "-n"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "iptables does not work"


def choose(rng: random.Random, *, may_cut_off: bool) -> Callable[[RunningStore, random.Random], str]:
    """Does it, and says what it did."""
    kinds = [kill_server, kill_server, kill_servers, stop_server, restart_etcd, stop_etcd, stop_s3, kill_s3]
    if may_cut_off:
        kinds += [cut_off, cut_off]
    return rng.choice(kinds)


def kill_server(store: RunningStore, rng: random.Random) -> str:
    role = rng.choice(ROLES)
    victim = rng.choice(store.servers(role))
    victim.signal(signal.SIGKILL)
    return f"kill -9 {role}"


def kill_servers(store: RunningStore, rng: random.Random) -> str:
    """One of several roles at once."""
    roles = rng.sample(ROLES, 3)
    for role in roles:
        rng.choice(store.servers(role)).signal(signal.SIGKILL)
    return f"kill -9 {', '.join(roles)}"


def stop_server(store: RunningStore, rng: random.Random) -> str:
    role, seconds = rng.choice(ROLES), rng.uniform(1.0, 4.0)
    _stop([rng.choice(store.servers(role))], seconds)
    return f"SIGSTOP {role} for {seconds:.1f} s"


def restart_etcd(store: RunningStore, rng: random.Random) -> str:
    how = rng.choice([signal.SIGKILL, signal.SIGTERM])
    for process in store.processes(ETCD):
        process.signal(how)
    return f"{how.name} etcd"


def stop_etcd(store: RunningStore, rng: random.Random) -> str:
    seconds = rng.uniform(1.0, 4.0)
    _stop(store.processes(ETCD), seconds)
    return f"SIGSTOP etcd for {seconds:.1f} s"


def stop_s3(store: RunningStore, rng: random.Random) -> str:
    seconds = rng.uniform(1.0, 4.0)
    _stop(store.processes(S3), seconds)
    return f"SIGSTOP S3 for {seconds:.1f} s"


def kill_s3(store: RunningStore, rng: random.Random) -> str:
    for process in store.processes(S3):
        process.signal(signal.SIGKILL)
    return "kill -9 S3"


def cut_off(store: RunningStore, rng: random.Random) -> str:
    """Every packet to a server's port is answered with a reset, for a while."""
    role, plane = rng.choice(ROLES), rng.choice(["public", "internal"])
    seconds = rng.uniform(0.5, 3.0)
    port = str(rng.choice(store.settings(role))["listen"][plane])
    rule = [
        "OUTPUT",
        "-p",
        "tcp",
        "-d",
        "127.0.0.1",
        "--dport",
        port,
        "-j",
        "REJECT",
        "--reject-with",
        "tcp-reset",
    ]
    subprocess.run(["iptables", "-w", "-I", *rule], check=True)
    try:
        time.sleep(seconds)
    finally:
        subprocess.run(["iptables", "-w", "-D", *rule], check=True)
    return f"reset connections to {role}'s {plane} port for {seconds:.1f} s"


def _stop(processes: list[Process], seconds: float) -> None:
    for process in processes:
        process.signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        for process in processes:
            process.signal(signal.SIGCONT)
