"""MetadataCluster: L1, L2 and L3 servers over one etcd, a unit that users are placed on."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from moorage_operator.spec.base import Lifecycle, LocalRef, ObjectMeta, SpecModel
from moorage_operator.spec.parts import ClusterEtcd, ScaledPart, Template
from moorage_operator.spec.rules import Rule, Unique, field_error, immutable
from moorage_operator.spec.scalars import Between, Cron, ResourceName, ServerKey


class Tiers(SpecModel):
    """The three roles of metadata servers, scaled apart."""

    l1: ScaledPart = Field(
        default=ScaledPart(), description="Servers of the namespace: directories, names, versions, commits."
    )
    l2: ScaledPart = Field(
        default=ScaledPart(), description="Servers of manifests: the chunks of each version."
    )
    l3: ScaledPart = Field(
        default=ScaledPart(), description="Servers of the chunk registry: where each chunk's bytes are."
    )


class PoolRef(SpecModel):
    """A BlockPool of this cluster."""

    name: ResourceName = Field(description="Name of the BlockPool in the same namespace.")
    mode: Literal["ReadWrite", "ReadOnly"] = Field(
        default="ReadWrite",
        description="Whether new chunks may go there; ReadOnly keeps serving what is there.",
    )


class Retention(SpecModel):
    """How long what is no longer current is kept."""

    versions: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="Versions of a file whose content is kept, the current one included.",
    )
    deleted: Annotated[str, Between(low="0s")] = Field(
        default="30d", description="How long a deleted file can be restored."
    )
    uploads: Annotated[str, Between(low="1m", high="90d")] = Field(
        default="7d", description="How long an upload may take at most, from its first request to its commit."
    )
    feed: Annotated[str, Between(low="1h")] = Field(
        default="90d",
        description="How long the change feed and tombstones are kept; a client away for longer starts over.",
    )


class Collector(SpecModel):
    """The collector of chunks that nothing refers to."""

    schedule: Cron = Field(default="17 3 * * *", description="When it runs, as a cron schedule in UTC.")
    grace: Annotated[str, Between(low="1m")] = Field(
        default="24h", description="How long an unreferenced chunk stays before its bytes are deleted."
    )
    dry_run: bool = Field(default=False, description="While true it only reports what it would delete.")
    max_deletions: int = Field(
        default=100_000, ge=1, le=100_000_000, description="Objects deleted in one run at most."
    )
    template: Template = Field(default=Template(), description="How the pods of the collector look.")


class UserPlacement(SpecModel):
    """How new users find their cluster."""

    accept_new_users: bool = Field(default=True, description="Whether new users are placed on this cluster.")
    weight: int = Field(
        default=1,
        ge=0,
        le=1_000,
        description="Share of the new users relative to the other clusters; 0 only when none other is left.",
    )


class MetadataClusterSpec(Lifecycle):
    """The wished state of a metadata cluster."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *immutable("serverKey"),
        Rule(
            "self.blockPools.exists(pool, pool.mode == 'ReadWrite')",
            "blockPools holds at least one pool with mode ReadWrite",
        ),
    )
    server_key: ServerKey = Field(
        description="Name of this cluster in URLs and in its users' records; unique in the AccessPoint. Immutable."
    )
    tiers: Tiers = Field(default=Tiers(), description="The servers of the three tiers.")
    etcd: ClusterEtcd = Field(description="Where the metadata lives.")
    block_pools: Annotated[tuple[PoolRef, ...], Unique("name")] = Field(
        min_length=1,
        max_length=32,
        description="Pools that hold the chunks, in order of preference for new ones.",
    )
    notifier_ref: LocalRef | None = Field(
        default=None, description="The Notifier that pushes this cluster's changes."
    )
    retention: Retention = Field(
        default=Retention(), description="How long what is no longer current is kept."
    )
    gc: Collector = Field(default=Collector(), description="The collector of chunks that nothing refers to.")
    placement: UserPlacement = Field(default=UserPlacement(), description="How new users find this cluster.")

    @model_validator(mode="after")
    def _one_pool_to_write(self) -> Self:
        if all(pool.mode == "ReadOnly" for pool in self.block_pools):
            raise field_error("block_pools", "expected at least one pool with mode ReadWrite")
        return self


class MetadataCluster(SpecModel):
    """L1, L2 and L3 servers over one etcd; each user has one such cluster as home."""

    api_version: Literal["moorage.dev/v1alpha1"] = Field(description="Version of this resource's schema.")
    kind: Literal["MetadataCluster"] = Field(description="Kind of this resource.")
    metadata: ObjectMeta = Field(description="Name, labels and annotations.")
    spec: MetadataClusterSpec = Field(description="The wished state.")
