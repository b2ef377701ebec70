"""What NGINX is to serve, and which of it to try when not all of it is good. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_REVISION = re.compile(r"^# routing revision ([0-9]{1,18})$", re.MULTILINE)
_SERVER = re.compile(r"^\s*server ([^\s;]+)", re.MULTILINE)
_ADDRESS = re.compile(r"[0-9.]+|\[[0-9A-Fa-f:.]+\]")


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts; `key` is secret."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Certificate(…)"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One state of everything that NGINX reads. `addresses`: host → what its name stood for; NGINX looks names up
    when it loads a configuration and never again.
    """

    text: str
    certificate: Certificate | None
    addresses: Mapping[str, tuple[str, ...]]

    @property
    def revision(self) -> int | None:
        return parse_revision(self.text)


def parse_revision(text: str) -> int | None:
    """The routing table's revision, which the builder writes into the file."""
    found = _REVISION.search(text)
    return None if found is None else int(found[1])


def parse_servers(text: str) -> tuple[str, ...]:
    """The upstream servers as `host:port`, each once."""
    return tuple(dict.fromkeys(match[1] for match in _SERVER.finditer(text) if match[1] != "{"))


def parse_hosts(text: str) -> tuple[str, ...]:
    """The names of upstream servers that have to be looked up, each once."""
    hosts = (server.rpartition(":")[0] or server for server in parse_servers(text))
    return tuple(dict.fromkeys(host for host in hosts if not _ADDRESS.fullmatch(host)))


def plan_candidates(serving: Configuration | None, seen: Configuration) -> Iterator[Configuration]:
    """What to try, best first: everything that was seen; else what is new of one kind with the other as it is, so
    that a bad certificate holds up no route, and a bad route no certificate.
    """
    yield seen
    if serving is None:
        return
    if seen.text != serving.text and seen.certificate != serving.certificate:
        yield Configuration(seen.text, serving.certificate, seen.addresses)
        yield Configuration(serving.text, seen.certificate, serving.addresses)
