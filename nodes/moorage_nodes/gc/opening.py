"""From a settings file to a collector: for the command and for the server that keeps a schedule."""

import gc
import os
import time

from moorage.core.errors import InvalidFieldError
from moorage_nodes.gc.age import read_clock
from moorage_nodes.gc.collector import Collector, Rules
from moorage_nodes.gc.pools import BlockServers
from moorage_nodes.gc.schedule import check_schedule
from moorage_nodes.metadata.cluster import open_identity
from moorage_nodes.realm import fetch_realm
from moorage_nodes.server import Shared
from moorage_nodes.settings import Cluster, Gc, Settings
from moorage_nodes.stores.contracts import MetadataStore

NICE = 5


def stand_back() -> None:
    """Of the process: whoever serves people comes first where processors are scarce. And records are made by the
    hundred thousand and hold no cycles: looking for some costs a third of a collection.
    """
    os.nice(NICE)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def parse_rules(cluster: Cluster, section: Gc, *, dry_run: bool) -> Rules:
    return Rules(
        grace=section.grace,
        upload_idle=cluster.upload_idle,
        upload_max=cluster.upload_max,
        retained_versions=cluster.retained_versions,
        retained_deleted=cluster.retained_deleted,
        retained_feed=cluster.retained_feed,
        max_deletions=section.max_deletions,
        dry_run=dry_run or section.dry_run,
    )


def parse_sections(settings: Settings) -> tuple[Cluster, Gc]:
    """InvalidFieldError when the settings lack `cluster` or `gc`, or the schedule is none."""
    if settings.cluster is None or settings.gc is None:
        raise InvalidFieldError("A collector needs `cluster` and `gc` in its settings.", field="settings.gc")
    check_schedule(settings.gc.schedule)
    return settings.cluster, settings.gc


async def open_collector(
    store: MetadataStore, settings: Settings, shared: Shared, *, dry_run: bool = False
) -> Collector:
    """A collector over an open store. InvalidFieldError; StoreUnavailableError when the store or the auth servers
    cannot be reached; WrongRealmError and FormatError when it must not run on that store.
    """
    cluster, section = parse_sections(settings)
    realm_id = await fetch_realm(shared.peers.auth())
    identity = await open_identity(store, realm_id, shared.rng, writes=True)
    return Collector(
        store,
        BlockServers(shared.peers, cluster.server_key, tuple(settings.peers.block)),
        parse_rules(cluster, section, dry_run=dry_run),
        server_key=cluster.server_key,
        name=settings.name,
        incarnation=identity.incarnation.encode(),
        clock=read_clock,
        monotonic=time.monotonic,
        rng=shared.rng,
    )
