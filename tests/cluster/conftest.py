"""Tests of the operator on a real kube-apiserver. No kubelet and no controllers run: tests set what those would set."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from operator_bed.bed import Bed, PatientKube, connect
from operator_bed.cluster import grant, install_definitions
from real_servers.kubernetes import ApiServer

from moorage_operator.kube.client import Kube

TEST_SECONDS = 400
"""For the test alone: its fixtures may have to build the API server first."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.xdist_group("cluster"))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TEST_SECONDS, func_only=True))


@pytest.fixture(scope="session")
async def closing() -> AsyncIterator[None]:
    """TLS connections that were closed are gone some rounds of the loop later: it must not end before."""
    yield
    await asyncio.sleep(0.5)


@pytest.fixture
async def kube(api_server: ApiServer, closing: None) -> AsyncIterator[Kube]:
    """All rights, no gate."""
    client = PatientKube(connect(api_server))
    yield client
    await client.close()


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A namespace of the test's own. Without a namespace controller it stays."""
    return make_namespace(api_server)


@pytest.fixture
def other_namespace(api_server: ApiServer, definitions: None) -> str:
    """One more, with the operator's rights."""
    name = make_namespace(api_server)
    grant(api_server, name)
    return name


def make_namespace(api_server: ApiServer) -> str:
    name = f"test-{secrets.token_hex(4)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    status, answer = api_server.request("POST", "/api/v1/namespaces", body)
    assert status == 201, answer
    return name


@pytest.fixture(scope="session")
def definitions(api_server: ApiServer) -> None:
    """The custom resources are known to the API server."""
    install_definitions(api_server)


@pytest.fixture
def bed(api_server: ApiServer, namespace: str, kube: Kube, definitions: None) -> Bed:
    """An operator with exactly the rights that the chart gives it."""
    grant(api_server, namespace)
    return Bed(api_server, namespace, kube)


@pytest.fixture
def closed_namespace(api_server: ApiServer) -> str:
    """One in which the operator has no rights."""
    return make_namespace(api_server)


@pytest.fixture
def make_bed_namespace(api_server: ApiServer, definitions: None) -> Callable[[], str]:
    """Makes further namespaces with the operator's rights."""

    def make() -> str:
        name = make_namespace(api_server)
        grant(api_server, name)
        return name

    return make
