"""Servers on real etcd and S3, and one user of its own for each test."""

import itertools
from collections.abc import AsyncIterator

import pytest
import upload_bed
from block_bed import BlockBed
from patient import Patient, admit, real_bed

_numbers = itertools.count()


@pytest.fixture(scope="module")
async def running_bed(tmp_path_factory, etcd_endpoint, s3_seaweedfs) -> AsyncIterator[BlockBed]:
    async with real_bed(tmp_path_factory.mktemp("realm"), etcd_endpoint, s3_seaweedfs) as running:
        yield running


@pytest.fixture
def patient(running_bed: BlockBed, monkeypatch: pytest.MonkeyPatch) -> Patient:
    namespace = f"user{next(_numbers)}"
    monkeypatch.setattr(upload_bed, "NAMESPACE", namespace)
    return admit(running_bed, namespace)
