"""A collector and servers on a store in memory."""

import pytest
from collector_bed import CollectorBed
from upload_bed import make_cluster

from moorage_nodes.stores.memory import MemoryStore


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await make_cluster(store)
    return store


@pytest.fixture
def bed(store: MemoryStore) -> CollectorBed:
    return CollectorBed(store)


@pytest.fixture
def other(bed: CollectorBed) -> CollectorBed:
    """Another process on the same store."""
    return bed.beside()
