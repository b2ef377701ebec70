"""Stores that stop and servers that are killed: 503 in time, nothing acknowledged that is not so, recovery unaided."""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import httpx
import pytest
from black_box.http_client import check_error, check_ok
from black_box.processes import Process, wait_until
from black_box.store import RunningStore
from black_box.user import User, entry, hash_of, new_user, stored_form
from real_servers.server import wait_until_stopped

PATIENCE = 5.0
"""Seconds within which a store that does not answer must be told, beside what the machine is slow in itself."""
ETCD = r"(^|/)etcd "
S3 = r"(^|/)(weed|minio) "


@pytest.fixture
def user(frail_store: RunningStore) -> User:
    frail_store.wait_ready()
    return new_user(frail_store, "frail")


@contextlib.contextmanager
def stopped(processes: list[Process]) -> Iterator[None]:
    """They are there and do not answer, as behind a broken network."""
    assert processes
    for process in processes:
        process.signal(signal.SIGSTOP)
        wait_until_stopped(process.pid)
    try:
        yield
    finally:
        for process in processes:
            process.signal(signal.SIGCONT)


def check_all_unavailable(store: RunningStore, *asking: Callable[[], httpx.Response]) -> None:
    """Asked at once, so that none may wait for another's time-out.

    Beside them, what needs no store is asked again and again: for as long as that takes on a busy machine, an answer
    may be late through no fault of the server.
    """

    def timed(ask: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
        began = time.monotonic()
        return ask(), time.monotonic() - began

    answered = threading.Event()

    def slowest_of_others() -> float:
        slowest = 0.0
        while not answered.wait(0.05):
            response, took = timed(lambda: store.front().get("/get_servers"))
            assert response.status_code == 200
            slowest = max(slowest, took)
        return slowest

    with ThreadPoolExecutor(len(asking) + 1) as pool:
        others = pool.submit(slowest_of_others)
        results = list(pool.map(timed, asking))
        answered.set()
    for response, took in results:
        check_error(response, 503)
        assert took < PATIENCE + others.result(), response.request.url


def until_ok(ask: Callable[[], httpx.Response], seconds: float = 30) -> dict[str, Any]:
    """The answer of a client that goes on trying."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            response = ask()
            if response.status_code == 200:
                answer: dict[str, Any] = response.json()
                return answer
            assert response.status_code in {429, 503}, response.text
        assert time.monotonic() < deadline, "it did not recover by itself"
        time.sleep(0.2)


def test_while_etcd_does_not_answer_everything_that_needs_it_is_503_in_time(
    frail_store: RunningStore, user: User
):
    user.save("file", [b"before"])
    token = user.begin("file", 1)["upload_token"]
    user.store_chunks(token, {"chunk": b"after"})
    login = {"username": user.username, "password": user.password}
    with stopped(frail_store.processes(ETCD)):
        check_all_unavailable(
            frail_store,
            lambda: user.commit("file", token, 2),
            lambda: user.l1.get("/files/file/metadata"),
            lambda: user.l1.get("/list_directory/root"),
            lambda: user.l1.put("/create_directory/d", json={"path": "/d", "parent_dir_id": "root"}),
            lambda: user.l2.get("/files/file/chunks"),
            lambda: user.block.with_token(token).post("/store_chunk", json=[stored_form("x", b"y")]),
            lambda: frail_store.front().post("/auth", json=login),
        )
        assert frail_store.front().get("/get_servers").status_code == 200
        for role in ("auth", "l1", "l2", "l3"):
            assert frail_store.direct(role, "internal").get("/healthz").status_code == 200
            assert frail_store.direct(role, "internal").get("/readyz").status_code == 503
    assert until_ok(lambda: user.commit("file", token, 2))["version"] == 2
    assert user.read("file") == b"after"
    assert user.metadata("file")["version"] == 2


def test_a_killed_etcd_is_started_again_with_all_that_was_acknowledged(frail_store: RunningStore, user: User):
    texts = {f"f{number}": f"text {number}".encode() for number in range(10)}
    for file_id, text in texts.items():
        user.save(file_id, [text])
    killed = frail_store.processes(ETCD)
    for process in killed:
        process.signal(signal.SIGKILL)
    until_ok(lambda: user.l1.get("/list_directory/root"))
    frail_store.wait_ready()
    assert set(user.listing()) == set(texts)
    assert all(user.read(file_id) == text for file_id, text in texts.items())
    assert not {process.pid for process in frail_store.processes(ETCD)} & {process.pid for process in killed}


def test_while_s3_does_not_answer_bytes_are_503_and_names_go_on(frail_store: RunningStore, user: User):
    user.save("file", [b"before"])
    token = user.begin("other")["upload_token"]
    with stopped(frail_store.processes(S3)):
        server = user.block.with_token(token)
        check_all_unavailable(
            frail_store,
            lambda: server.post("/store_chunk", json=[stored_form("chunk", b"bytes")]),
            lambda: server.put("/chunks/raw", content=b"raw bytes"),
            lambda: user.block.get(f"/chunks/{hash_of(b'before')}"),
            lambda: user.block.get(f"/download_chunk/{hash_of(b'before')}"),
            lambda: user.block.get("/files/file/content"),
        )
        check_ok(user.l1.post("/move/file", json={"parent_dir_id": "root", "name": "moved"}))
        assert frail_store.direct("block", "internal").get("/readyz").status_code == 503
        check_error(user.l3.get(f"/chunks/{hash_of(b'bytes')}/metadata"), 404)
    until_ok(lambda: user.block.with_token(token).post("/store_chunk", json=[stored_form("chunk", b"bytes")]))
    check_ok(user.commit("other", token, 1))
    assert user.read("other") == b"bytes"
    assert user.read("file") == b"before"


def test_a_killed_s3_is_started_again_with_all_that_was_acknowledged(frail_store: RunningStore, user: User):
    user.save("file", [b"small bytes"])
    large = b"large" * 200_000
    token = user.begin("large")["upload_token"]
    check_ok(user.block.with_token(token).put(f"/chunks/{hash_of(large)}", content=large))
    check_ok(user.commit("large", token, 1))
    for process in frail_store.processes(S3):
        process.signal(signal.SIGKILL)
    until_ok(lambda: user.block.with_token(user.token).get("/download_chunk/" + hash_of(b"small bytes")))
    frail_store.wait_ready()
    assert user.read("file") == b"small bytes"
    assert user.read("large") == large


class Traffic:
    """Files written and read without pause by a client that sends again what was not answered with 200."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.written: dict[str, bytes] = {}
        self.acknowledged: list[str] = []
        self.problem: BaseException | None = None
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        """Until so many more files are acknowledged, or one is not."""
        enough = len(self.acknowledged) + count
        wait_until(
            lambda: self.problem or len(self.acknowledged) >= enough, 60, f"{count} more files are written"
        )

    def _run(self, worker: int) -> None:
        try:
            for number in itertools.count():
                if self._done.is_set():
                    return
                self._write_and_read(
                    f"w{worker}-{number % 20}", number // 20, f"text {number} ".encode() * 50
                )
        except BaseException as problem:
            self.problem = problem

    def _write_and_read(self, file_id: str, base: int, text: bytes) -> None:
        user, name = self.user, hash_of(text)
        begun = until_ok(lambda: user.l1.post(f"/files/{file_id}/update", json={"client_version": base}))
        upload = user.block.with_token(begun["upload_token"])
        until_ok(lambda: upload.post("/store_chunk", json=[stored_form(name, text)]))
        done = until_ok(lambda: user.commit(file_id, begun["upload_token"], base + 1, chunks=[name]))
        assert done["version"] == base + 1
        self.written[file_id] = text
        self.acknowledged.append(file_id)
        until_ok(lambda: user.l1.get(f"/files/{file_id}/metadata"))
        listed = until_ok(lambda: user.l2.get(f"/files/{file_id}/chunks"))["chunks"]
        assert [each["hash"] for each in listed] == [name]
        got = until_ok(lambda: user.block.get(f"/download_chunk/{name}"))
        assert got["metadata"]["hash"] == name


def end_replica(store: RunningStore, role: str, how: signal.Signals) -> None:
    """Ends one replica and waits until as many as before are running again."""
    replicas = store.servers(role)
    assert replicas
    ended = replicas[0]
    ended.signal(how)
    wait_until(lambda: not ended.is_alive(), 15, f"{ended.command} has ended")
    wait_until(lambda: len(store.servers(role)) >= len(replicas), 20, f"{role} is started again")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
@pytest.mark.parametrize("role", ["l1", "l2", "l3", "block", "auth"])
def test_a_replica_that_ends_costs_a_client_that_tries_again_nothing(
    frail_store: RunningStore, user: User, role: str, how: signal.Signals
):
    login = {"username": user.username, "password": user.password}
    with Traffic(user) as traffic:
        traffic.wait_for_more(5)
        end_replica(frail_store, role, how)
        until_ok(lambda: frail_store.front().post("/auth", json=login))
        traffic.wait_for_more(10)
    assert traffic.problem is None, repr(traffic.problem)
    for file_id, text in traffic.written.items():
        assert user.read(file_id) == text


@pytest.mark.parametrize("delay", [0.005, 0.05])
def test_servers_killed_in_the_middle_of_each_step_of_an_upload_do_no_damage(
    frail_store: RunningStore, user: User, delay: float
):
    """All replicas of the tiers that the step goes through die while it is on its way; the client sends it again."""
    before, after = b"before" * 1000, [os.urandom(2_000_000), b"small", b"before" * 1000]
    user.save("file", [before])
    small = [stored_form(hash_of(part), part) for part in after[1:]]
    manifest = [entry(part) for part in after]

    def killing(roles: tuple[str, ...], step: Callable[[], httpx.Response]) -> dict[str, Any]:
        doomed = [process for role in roles for process in frail_store.servers(role)]
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(until_ok, step)
            time.sleep(delay)
            for process in doomed:
                process.signal(signal.SIGKILL)
            return outcome.result()

    update = {"client_version": 1, "chunks": manifest}
    token = killing(("l1",), lambda: user.l1.post("/files/file/update", json=update))["upload_token"]
    upload = user.block.with_token(token)
    killing(("block", "l3"), lambda: upload.post("/store_chunk", json=small))
    killing(("block",), lambda: upload.put(f"/chunks/{hash_of(after[0])}", content=after[0]))
    assert until_ok(lambda: user.l1.get("/files/file/metadata"))["version"] == 1
    named = [hash_of(part) for part in after]
    done = killing(("l1", "l2"), lambda: user.commit("file", token, 2, chunks=named))
    assert done["version"] == 2
    frail_store.wait_ready()
    assert user.read("file") == b"".join(after)
    assert user.read_version("file", 1) == before
    versions = check_ok(user.l1.get("/files/file/versions"))["versions"]
    assert sorted(each["version"] for each in versions if each["version"]) == [1, 2]


def test_when_no_replica_is_left_the_front_door_says_503_in_the_one_shape(
    frail_store: RunningStore, user: User
):
    user.save("file", [b"text"])
    for role, ask in (
        ("l2", lambda: user.l2.get("/files/file/chunks")),
        ("block", lambda: user.block.get("/files/file/content")),
    ):
        for process in frail_store.servers(role):
            process.signal(signal.SIGKILL)
        seen = set()
        deadline = time.monotonic() + 30
        while 200 not in seen:
            response = ask()
            seen.add(response.status_code)
            if response.status_code != 200:
                check_error(response, 503)
            assert time.monotonic() < deadline
        assert 503 in seen, f"{role}: its servers were back before anybody could ask"
    frail_store.wait_ready()


def test_killed_nginx_is_started_again(frail_store: RunningStore, user: User):
    (master,) = frail_store.processes(r"nginx: master")
    for process in frail_store.processes(r"nginx"):
        process.signal(signal.SIGKILL)
    wait_until(lambda: not master.is_alive(), 5, "it is dead")
    until_ok(lambda: user.l1.get("/list_directory/root"))
