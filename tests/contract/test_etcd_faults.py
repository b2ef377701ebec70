"""What EtcdStore does when etcd is stopped, hangs, restarts, is full or is one of several: with real servers."""

import asyncio
import datetime as dt
import ipaddress
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from real_servers.engines import Etcd, run_etcd
from real_servers.server import free_ports

from moorage.core.errors import OutcomeUnknownError, StoreUnavailableError
from moorage_nodes.stores.contracts import Put, Range, Txn, absent
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.etcd_channel import Tls

SOON = 4.0  # seconds within which a store that cannot answer must be told


@pytest.fixture(scope="module")
def own_etcd() -> Iterator[Etcd]:
    """An etcd that these tests may stop; each leaves it running."""
    with run_etcd() as etcd:
        yield etcd


@pytest.fixture
async def store(own_etcd):
    store = EtcdStore.open([own_etcd.endpoint], prefix=f"/{time.time_ns()}/")
    await store.check()
    yield store
    await store.close()


def create(key: bytes, value: bytes = b"") -> Txn:
    return Txn((absent(key),), (Put(key, value),))


async def timed(call):
    """The error of a call that must fail, and how long it took."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError) as raised:
        await call
    return raised.value, time.monotonic() - started


async def scan_all(store):
    return [kv async for page in store.scan(b"a", b"z") for kv in page]


def every_call(store):
    return {
        "get": lambda: store.get(b"k"),
        "get_many": lambda: store.get_many([b"k", b"j"]),
        "range": lambda: store.range(b"a", b"z"),
        "scan": lambda: scan_all(store),
        "transact": lambda: store.transact(create(b"k")),
        "grant_lease": lambda: store.grant_lease(10),
        "keep_alive": lambda: store.keep_alive(7),
        "revoke_lease": lambda: store.revoke_lease(7),
        "check": lambda: store.check(),
    }


async def until_it_answers(store):
    async with asyncio.timeout(15):
        while True:
            try:
                return await store.check()
            except StoreUnavailableError:
                await asyncio.sleep(0.1)


async def test_a_stopped_etcd_is_told_soon_by_every_call_and_it_recovers_by_itself(own_etcd, store):
    own_etcd.server.kill()
    try:
        for name, call in every_call(store).items():
            _, seconds = await timed(call())
            assert seconds < SOON, name
        # Nothing can have been sent any more, so nothing is unknown.
        error, seconds = await timed(store.transact(create(b"k")))
        assert not isinstance(error, OutcomeUnknownError)
        assert seconds < 1
    finally:
        own_etcd.server.start()
    await until_it_answers(store)
    assert (await store.transact(create(b"k"))).succeeded


async def test_an_etcd_that_hangs_is_told_soon_and_writes_are_unknown(own_etcd, store):
    own_etcd.server.freeze()
    try:
        names, calls = zip(*every_call(store).items(), strict=True)
        results = await asyncio.gather(*(timed(call()) for call in calls))
        for name, (error, seconds) in zip(names, results, strict=True):
            assert seconds < SOON, name
            writes = name in {"transact", "grant_lease", "revoke_lease"}
            assert isinstance(error, OutcomeUnknownError) is writes, name
    finally:
        own_etcd.server.thaw()
    await until_it_answers(store)


async def test_a_write_whose_answer_was_lost_happened_once_or_not_at_all(own_etcd, store):
    """etcd is killed in the middle of a burst: what is there afterwards are whole transactions, none twice."""
    names = [b"%03d" % n for n in range(200)]
    writes = [
        asyncio.create_task(store.transact(Txn(then=(Put(b"a" + name, b""), Put(b"b" + name, b"")))))
        for name in names
    ]
    while not any(write.done() for write in writes):
        await asyncio.sleep(0)
    own_etcd.server.kill()
    results = await asyncio.gather(*writes, return_exceptions=True)
    own_etcd.server.start()
    await until_it_answers(store)
    acknowledged = {
        name for name, result in zip(names, results, strict=True) if not isinstance(result, Exception)
    }
    found, _ = await store.range(b"a", b"z")
    stored = {kv.key for kv in found.kvs}
    assert {kv.version for kv in found.kvs} <= {1}
    assert {name[1:] for name in stored if name[:1] == b"a"} == {
        name[1:] for name in stored if name[:1] == b"b"
    }
    assert acknowledged
    assert acknowledged <= {name[1:] for name in stored}
    for name, result in zip(names, results, strict=True):
        if isinstance(result, Exception) and not isinstance(result, OutcomeUnknownError):
            assert isinstance(result, StoreUnavailableError)
            assert b"a" + name not in stored


async def test_a_watch_lives_through_a_restart_and_misses_nothing(own_etcd, store):
    now = (await store.transact(Txn(then=(Put(b"start", b""),)))).revision
    seen: list[bytes] = []

    async def follow():
        async with store.watch(b"k", b"l", from_revision=now + 1) as batches:
            async for batch in batches:
                assert not batch.resync
                seen.extend(event.kv.value for event in batch.events)
                if b"last" in seen:
                    return

    following = asyncio.create_task(follow())
    expected = []
    for round_ in range(3):
        for n in range(20):
            expected.append(b"%d-%d" % (round_, n))
            await store.transact(Txn(then=(Put(b"k", expected[-1]),)))
        if round_ < 2:
            own_etcd.server.kill()
            own_etcd.server.start()
            await until_it_answers(store)
    await store.transact(Txn(then=(Put(b"k", b"last"),)))
    async with asyncio.timeout(20):
        await following
    assert seen == [*expected, b"last"]


async def test_a_watch_that_hangs_is_left_for_another(own_etcd, store, monkeypatch):
    monkeypatch.setattr("moorage_nodes.stores.etcd_watch.PROGRESS_SECONDS", 0.3)
    now = (await store.transact(Txn(then=(Put(b"k", b"1"),)))).revision
    async with store.watch(b"k", b"l", from_revision=now) as batches, asyncio.timeout(30):
        assert (await anext(batches)).events[0].kv.value == b"1"
        own_etcd.server.freeze()
        waiting = asyncio.create_task(anext(batches))
        await asyncio.sleep(2)
        assert not waiting.done()
        own_etcd.server.thaw()
        await until_it_answers(store)
        await store.transact(Txn(then=(Put(b"k", b"2"),)))
        batch = await waiting
        while not batch.events:
            batch = await anext(batches)
        assert [event.kv.value for event in batch.events] == [b"2"]


async def test_a_watch_waits_for_an_etcd_that_is_down(own_etcd):
    own_etcd.server.kill()
    store = EtcdStore.open([own_etcd.endpoint], prefix=f"/{time.time_ns()}/")
    async with store.watch(b"a", b"z", from_revision=1) as batches:
        waiting = asyncio.create_task(anext(batches))
        await asyncio.sleep(0.5)
        own_etcd.server.start()
        await until_it_answers(store)
        await store.transact(create(b"k"))
        async with asyncio.timeout(15):
            batch = await waiting
            while not batch.events:
                batch = await anext(batches)
        assert batch.events[0].kv.key == b"k"
    await store.close()


async def test_a_closed_store_says_so(own_etcd):
    store = EtcdStore.open([own_etcd.endpoint], prefix="/closed/")
    await store.check()
    await store.close()
    for call in every_call(store).values():
        await timed(call())


async def test_calls_go_on_at_another_endpoint_when_one_is_down_or_hangs(own_etcd):
    """The dead endpoint is a port that nobody listens on, the hanging one a server that never answers."""
    (dead,) = free_ports(1)
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(3600), "127.0.0.1", 0)
    hanging = silent.sockets[0].getsockname()[1]
    for other, calls in ((dead, 1), (hanging, 3)):
        for _ in range(4):  # which is asked first is left to chance
            store = EtcdStore.open(
                [f"127.0.0.1:{other}", f"http://{own_etcd.endpoint}/"], prefix=f"/{time.time_ns()}/"
            )
            for attempt in range(calls):
                try:
                    assert (await store.transact(create(b"k%d" % attempt))).succeeded
                    assert await store.get(b"k%d" % attempt) is not None
                    break
                except OutcomeUnknownError:
                    assert other == hanging  # it may have been sent: not sent again by itself
            else:
                pytest.fail("no call came through")
            await store.close()
    silent.close()


async def test_a_name_of_a_host_is_looked_up(own_etcd):
    port = own_etcd.endpoint.rpartition(":")[2]
    store = EtcdStore.open([f"http://localhost:{port}"], prefix=f"/{time.time_ns()}/")
    assert (await store.transact(create(b"k"))).succeeded
    await store.close()


async def test_a_full_etcd_takes_no_writes_and_is_still_read():
    with run_etcd("--quota-backend-bytes", str(4 * 1024 * 1024)) as etcd:
        store = EtcdStore.open([etcd.endpoint], prefix="/full/")
        assert (await store.transact(create(b"k", b"v"))).succeeded

        async def fill():
            """etcd looks at its size when it commits to its file, not with every write."""
            async with asyncio.timeout(30):
                while True:
                    await store.transact(Txn(then=(Put(b"large", bytes(1024 * 1024)),)))

        with pytest.raises(StoreUnavailableError, match="full") as raised:
            await fill()
        assert not isinstance(raised.value, OutcomeUnknownError)
        assert (await store.get(b"k")).value == b"v"
        await store.close()


async def test_a_scan_takes_pages_where_the_server_has_no_range_stream(own_etcd, store, monkeypatch):
    """An older server answers that it does not know the call: here it is asked for one that none knows."""
    for start in range(0, 1200, 100):
        await store.transact(Txn(then=tuple(Put(b"k%05d" % n, b"") for n in range(start, start + 100))))
    endpoint = store._endpoints.current
    unknown = endpoint.channel.unary_stream(
        "/etcdserverpb.KV/NoSuchCall", request_serializer=lambda request: request.SerializeToString()
    )
    monkeypatch.setattr(endpoint, "range_stream", unknown)
    pages = [page async for page in store.scan(b"k", b"l")]
    assert [kv.key for page in pages for kv in page] == [b"k%05d" % n for n in range(1200)]
    assert len(pages) == 3
    first = (await store.get(b"k00000")).mod_revision
    assert sum([len(page) async for page in store.scan(b"k", b"l", revision=first)]) == 100


async def test_a_server_is_known_by_its_certificate_and_so_are_we(tmp_path):
    certificates = Certificates(tmp_path)
    options = ["--cert-file", certificates.write("server"), "--key-file", tmp_path / "server.key"]
    options += ["--trusted-ca-file", tmp_path / "ca.pem", "--client-cert-auth"]
    with run_etcd(*map(str, options), scheme="https") as etcd:
        store = EtcdStore.open([f"https://{etcd.endpoint}"], prefix="/tls/", tls=certificates.tls("reader"))
        assert (await store.transact(create(b"k"))).succeeded
        await store.close()
        strangers = {
            "nobody": Tls(certificates.tls("reader").ca),
            "who trusts another": Certificates(tmp_path / "other").tls("reader"),
        }
        for tls in strangers.values():
            stranger = EtcdStore.open([f"https://{etcd.endpoint}"], prefix="/tls/", tls=tls)
            _, seconds = await timed(stranger.transact(Txn(then=(Range(b"k"),))))
            assert seconds < SOON
            await stranger.close()


class Certificates:
    """A certificate authority for one test."""

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self._ca = self._sign(self._name, self._key.public_key(), authority=True)
        self._save("ca.pem", self._ca.public_bytes(serialization.Encoding.PEM))

    def write(self, name: str) -> Path:
        """Make `<name>.pem`, signed by us for 127.0.0.1, and `<name>.key`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._save(f"{name}.key", private)
        signed = self._sign(subject, key.public_key(), authority=False)
        return self._save(f"{name}.pem", signed.public_bytes(serialization.Encoding.PEM))

    def tls(self, name: str) -> Tls:
        certificate = self.folder / f"{name}.pem"
        if not certificate.exists():
            self.write(name)
        key = certificate.with_suffix(".key")
        return Tls((self.folder / "ca.pem").read_bytes(), certificate.read_bytes(), key.read_bytes())

    def _sign(self, subject, public_key, *, authority: bool):
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )

    def _save(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path
