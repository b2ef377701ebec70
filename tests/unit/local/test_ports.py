"""Ports for one run: free, distinct, kept where possible, and clear words when the public one is not to be had."""

import random
import socket

import pytest

from moorage_operator.local.failure import InputError, UpError
from moorage_operator.local.ports import (
    Reservations,
    check_host,
    check_public_port,
    choose_ports,
    first_ephemeral_port,
    is_free_on_loopback,
)


def choose(names, preferred=None, is_free=lambda _: True, below=20_010):
    return choose_ports(names, preferred or {}, is_free, random.Random(4), below=below)


def test_each_name_gets_a_port_of_its_own():
    ports = choose("abcdefghij")
    assert list(ports) == list("abcdefghij")
    assert sorted(ports.values()) == list(range(20_000, 20_010))


def test_ports_of_the_last_run_are_taken_again_where_they_are_free():
    preferred = {"a": 20_003, "b": 20_004, "gone": 20_005, "low": 80, "high": 40_000, "twin": 20_003}
    ports = choose(["a", "b", "low", "high", "twin"], preferred, lambda port: port != 20_004)
    assert ports["a"] == 20_003
    assert 20_004 not in ports.values()
    assert len(set(ports.values())) == 5
    assert all(20_000 <= port < 20_010 for port in ports.values())


def test_too_few_free_ports_are_a_clear_error():
    with pytest.raises(UpError, match="not enough free ports"):
        choose("abc", is_free=lambda port: port < 20_002)


def test_chosen_ports_lie_below_those_of_outgoing_connections():
    assert first_ephemeral_port() > 21_000


def test_a_port_is_free_unless_somebody_listens():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free_on_loopback(port)
        with pytest.raises(UpError, match=rf"Port {port} on 127.0.0.1 is in use: .*--port"):
            check_public_port("127.0.0.1", port)
    assert is_free_on_loopback(port)
    check_public_port("127.0.0.1", port)


def test_a_listener_on_all_addresses_counts():
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert not is_free_on_loopback(server.getsockname()[1])


def test_a_port_in_time_wait_is_free():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()
            client.recv(1)
    assert is_free_on_loopback(port)


def test_an_address_of_another_machine_is_a_clear_error():
    with pytest.raises(UpError, match="not an address of this machine"):
        check_public_port("192.0.2.1", 8080)


@pytest.mark.parametrize(
    ("host", "address"), [("localhost", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::1", "::1"), ("0::1", "::1")]
)
def test_a_host_is_an_address_or_localhost(host, address):
    assert check_host(host) == address


@pytest.mark.parametrize("host", ["", "example.com", "127.0.0.1:80", "300.1.1.1", "0.0.0.0; x"])
def test_another_host_is_wrong_input(host):
    with pytest.raises(InputError, match="--host"):
        check_host(host)


def test_a_port_that_another_up_has_chosen_is_not_free_though_nobody_listens_yet():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with Reservations() as first, Reservations() as second:
        assert first.take(port)
        assert first.take(port)
        assert not second.take(port)
    with Reservations() as third:
        assert third.take(port)
        with socket.create_server(("127.0.0.1", port)):
            assert not third.take(port)
