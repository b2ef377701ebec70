"""Free ports on loopback for the children of one run, and the check of the public one."""

import errno
import ipaddress
import random
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from moorage_operator.local.failure import InputError, UpError

_FIRST = 20_000
_USUAL_EPHEMERAL = 32_768


def choose_ports(
    names: Iterable[str],
    preferred: Mapping[str, int],
    is_free: Callable[[int], bool],
    rng: random.Random,
    *,
    below: int,
) -> dict[str, int]:
    """A port of its own for each name: the preferred one where it is free, else one from 20000 up to `below`.

    Ports at which the kernel begins outgoing connections are never chosen: one of those could take a child's
    port while it is being restarted. UpError when there are not enough.
    """
    chosen: dict[str, int] = {}
    taken: set[int] = set()
    names = list(names)
    for name in names:
        port = preferred.get(name)
        if port is not None and port not in taken and _FIRST <= port < below and is_free(port):
            chosen[name] = port
            taken.add(port)
    span = max(below - _FIRST, 0)
    start = rng.randrange(span) if span else 0
    candidates = (_FIRST + (start + step) % span for step in range(span))
    for name in names:
        if name in chosen:
            continue
        port = next((port for port in candidates if port not in taken and is_free(port)), None)
        if port is None:
            raise UpError("There are not enough free ports on loopback: stop what is using them.")
        chosen[name] = port
        taken.add(port)
    return {name: chosen[name] for name in names}


class Reservations:
    """Ports of one `up`, from when they are chosen until it ends: between the choice and the moment when the last
    child listens lie seconds in which another `up` would find them free.

    A port is reserved by an abstract Unix socket of its number, which the kernel gives up with the process.
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        self._numbers: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def take(self, port: int) -> bool:
        """Reserve `port` unless somebody listens there or another `up` has reserved it; True again when held."""
        if not is_free_on_loopback(port):
            return False
        if port in self._numbers:
            return True
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0moorage-up-port-{port}")
        except OSError:
            mark.close()
            return False
        self._held.enter_context(mark)
        self._numbers.add(port)
        return True


def first_ephemeral_port() -> int:
    """Where the kernel's range for outgoing connections begins."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        low = int(text.split()[0])
    except (OSError, ValueError, IndexError):
        return _USUAL_EPHEMERAL
    # Where an administrator has widened it downwards, sharing it is better than having no ports at all.
    return low if low >= _FIRST + 1_000 else _USUAL_EPHEMERAL


def is_free_on_loopback(port: int) -> bool:
    """Whether a server could listen there, on IPv6 too where there is any (MinIO listens on both)."""
    return _try_listen("127.0.0.1", port) in {None, errno.EAFNOSUPPORT} and _try_listen("::1", port) in {
        None,
        errno.EAFNOSUPPORT,
        errno.EADDRNOTAVAIL,
    }


def check_host(host: str) -> str:
    """The address to listen on. InputError unless it is an IP address or localhost."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise InputError(f"--host: expected an IP address of this machine, got {host!r}.") from None


def check_public_port(host: str, port: int) -> None:
    """UpError unless NGINX could listen there now."""
    match _try_listen(host, port):
        case None:
            return
        case errno.EADDRINUSE:
            raise UpError(
                f"Port {port} on {host} is in use: stop what listens there, or choose another with --port."
            )
        case errno.EACCES:
            raise UpError(f"Port {port} may only be used by root: choose one from 1024 up with --port.")
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            raise UpError(f"{host} is not an address of this machine: choose another with --host.")
        case code:
            raise UpError(f"Port {port} on {host} cannot be used: {errno.errorcode.get(code, code)}.")


def _try_listen(host: str, port: int) -> int | None:
    """The error number of listening there, None when it works."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as server:
            # As servers do: what a connection of the last run left in TIME_WAIT is no obstacle.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            server.bind((host, port))
            server.listen(1)
    except OSError as error:
        return error.errno or errno.EIO
    return None
