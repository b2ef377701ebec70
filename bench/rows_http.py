"""Rows over HTTP through NGINX: commits, batches and metadata reads beside FastAPI routes that do nothing."""

import hashlib
import itertools
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cpu import Meter
from load import Result, build_request, drive, expect_status
from measure import Row, Sample, side_by_side
from system import KEY, L1, System, front, plain_server, scratch

META = f"/meta/{KEY}"
CONTENT = b"a small file"
HASH = "sha256_" + hashlib.sha256(CONTENT).hexdigest()
CLIENTS = 64
COMMITS_EACH = 24
READS_EACH = 60

Stream = Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class User:
    name: str
    token: str

    def request(self, method: str, path: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        return build_request(method, path, host="127.0.0.1", token=self.token, body=data)


def stream_of(requests: list[bytes]) -> Stream:
    return lambda: iter(requests)


async def timed(port: int, streams: list[Stream]) -> Sample:
    """All requests, each answered 200; the CPU is that of the servers."""
    with Meter() as meter:
        result = expect_status(await drive(port, streams))
    return meter.sample(len(result.latencies), result.seconds)


def new_user(system: System, name: str) -> User:
    """A user who already holds the one chunk that all files of these rows are made of."""
    user = User(name, system.user(name))
    token = system.ask("POST", f"{META}/files/seed/update", {"client_version": 0}, token=user.token)
    upload = token["upload_token"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{system.port}/block/main/chunks/{HASH}",
        CONTENT,
        headers={"Authorization": f"Bearer {upload}"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=30):
        pass
    body = {"upload_token": upload, "new_version": 1}
    system.ask("POST", f"{META}/files/seed/commit", body, token=user.token)
    return user


async def prepare_commits(port: int, users: list[User], each: int, label: str) -> list[list[bytes]]:
    """An upload for each of `each` new files of each user; the commits' requests, a list a user."""
    chunks = [{"hash": HASH, "size": len(CONTENT)}]
    commits: list[list[bytes]] = []
    for user in users:
        names = [f"{label}-{n}" for n in range(each)]
        updates = [
            user.request("POST", f"{META}/files/{name}/update", {"client_version": 0, "chunks": chunks})
            for name in names
        ]
        result = expect_status(await drive(port, [stream_of(updates)], keep=True))
        tokens = [json.loads(body)["upload_token"] for body in result.bodies]
        commits.append(
            [
                user.request("POST", f"{META}/files/{name}/commit", {"upload_token": token, "new_version": 1})
                for name, token in zip(names, tokens, strict=True)
            ]
        )
    return commits


async def commits_row(system: System, users: list[User]) -> Row:
    labels = itertools.count()
    requests: list[list[bytes]] = []
    with front(system, {L1: [system.public(f"{L1}-0")]}) as port, plain_server() as plain:
        with front(system, {L1: [f"127.0.0.1:{plain}"]}) as nothing:

            async def ours(_: int) -> Sample:
                requests[:] = await prepare_commits(port, users, COMMITS_EACH, f"c{next(labels)}")
                return await timed(port, [stream_of(own) for own in requests])

            async def theirs(_: int) -> Sample:
                return await timed(nothing, [stream_of(own) for own in requests])

            return await side_by_side(
                f"commits over HTTP, one L1 process, {CLIENTS} clients",
                "a FastAPI route that does nothing, same path",
                ours,
                theirs,
                reach=0.5,
            )


async def batch_row(system: System, user: User) -> Row:
    labels = itertools.count()
    files = 1000
    with front(system, {L1: [system.public(f"{L1}-0")]}) as port:

        async def ours(_: int) -> Sample:
            label = f"b{next(labels)}"
            names = [f"{label}-{n}" for n in range(files)]
            chunks = [{"hash": HASH, "size": len(CONTENT)}]
            update = {"files": [{"file_id": n, "client_version": 0, "chunks": chunks} for n in names]}
            answered = await drive(
                port, [stream_of([user.request("POST", f"{META}/files:batch_update", update)])], keep=True
            )
            token = json.loads(expect_status(answered).bodies[0])["upload_token"]
            commit = {"upload_token": token, "files": [{"file_id": n, "new_version": 1} for n in names]}
            with Meter() as meter:
                result = await drive(
                    port, [stream_of([user.request("POST", f"{META}/files:batch_commit", commit)])], keep=True
                )
            outcomes = json.loads(expect_status(result).bodies[0])["files"]
            if any(outcome["status"] != "committed" for outcome in outcomes):
                raise RuntimeError(f"not all were committed: {outcomes[:2]}")
            return meter.sample(files, result.seconds)

        async def theirs(_: int) -> Sample:
            (own,) = await prepare_commits(port, [user], files, f"s{next(labels)}")
            return await timed(port, [stream_of(own[n::64]) for n in range(64)])

        return await side_by_side(
            "batch_commit of 1,000 new files", "the same by single commits, 64 at once", ours, theirs, reach=5
        )


async def read_rows(system: System, user: User) -> list[Row]:
    """Metadata of a file, the servers, a directory of 1,000."""
    with front(system, {L1: [system.public(f"{L1}-0")]}) as port:
        await fill_directory(port, user)
        rows = []
        for name, path in (
            ("GET /files/{id}/metadata", f"{META}/files/seed/metadata"),
            ("GET /get_servers", "/get_servers"),
            ("GET /list_directory of 1,000", f"{META}/list_directory/thousand"),
        ):
            request = user.request("GET", path)
            answer = expect_status(await drive(port, [stream_of([request])], keep=True)).bodies[0]
            same_bytes = len(answer) > 10_000
            with scratch() as folder:
                payload = folder / "payload"
                payload.write_bytes(answer)
                rows.append(await _read_row(system, port, name, request, payload if same_bytes else None))
        return rows


async def _read_row(system: System, port: int, name: str, request: bytes, payload: Path | None) -> Row:
    each = READS_EACH if payload is None else READS_EACH // 3
    streams = [stream_of([request] * each) for _ in range(CLIENTS)]
    with plain_server(*([] if payload is None else [str(payload)])) as plain:
        with front(system, {L1: [f"127.0.0.1:{plain}"]}) as nothing:

            async def ours(_: int) -> Sample:
                return await timed(port, streams)

            async def theirs(_: int) -> Sample:
                return await timed(nothing, streams)

            against = (
                "a FastAPI route that does nothing" if payload is None else "… that returns the same bytes"
            )
            return await side_by_side(name, against, ours, theirs, reach=0.6)


async def fill_directory(port: int, user: User) -> None:
    """A directory `thousand` of 1,000 files."""
    made = user.request(
        "PUT", f"{META}/create_directory/thousand", {"path": "/thousand", "parent_dir_id": "root"}
    )
    expect_status(await drive(port, [stream_of([made])]))
    names = [f"t-{n:04}" for n in range(1000)]
    chunks = [{"hash": HASH, "size": len(CONTENT)}]
    files = [
        {
            "file_id": name,
            "client_version": 0,
            "chunks": chunks,
            "parent_dir_id": "thousand",
            "name": f"picture {name}.jpg",
        }
        for name in names
    ]
    update = user.request("POST", f"{META}/files:batch_update", {"files": files})
    result: Result = expect_status(await drive(port, [stream_of([update])], keep=True))
    token = json.loads(result.bodies[0])["upload_token"]
    commit = {"upload_token": token, "files": [{"file_id": name, "new_version": 1} for name in names]}
    expect_status(
        await drive(port, [stream_of([user.request("POST", f"{META}/files:batch_commit", commit)])])
    )
