import dataclasses
import itertools
from collections.abc import AsyncIterator

import pytest
import upload_bed
from block_bed import BlockBed, block_bed

from moorage_nodes.stores.objects_memory import MemoryObjects

_numbers = itertools.count()


@pytest.fixture(scope="module")
async def running_bed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BlockBed]:
    async with block_bed(tmp_path_factory.mktemp("realm"), MemoryObjects()) as bed_of_all:
        yield bed_of_all


@pytest.fixture
def bed(running_bed: BlockBed, monkeypatch: pytest.MonkeyPatch) -> BlockBed:
    """The servers for a user whom no other test has."""
    monkeypatch.setattr(upload_bed, "NAMESPACE", f"user{next(_numbers)}")
    objects = running_bed.objects
    objects.puts, objects.reads, objects.put_error, objects.pieces_left = [], [], None, None
    return dataclasses.replace(running_bed, l1=upload_bed.Bed(running_bed.l1.store))
