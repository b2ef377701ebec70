"""Fields of running parts: their template, their number, their storage, and the etcd that they live in."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from moorage_operator.spec.base import LocalRef, SecretRef, SpecModel
from moorage_operator.spec.rules import OneOf, Rule, Unique, field_error, immutable
from moorage_operator.spec.scalars import AtLeast, Image, KeyPrefix, Quantity, ServiceURL

Replicas = Annotated[int, Field(ge=1, le=100)]


class ResourceList(SpecModel):
    """Amounts of compute resources."""

    cpu: Quantity | None = Field(default=None, description="Processor time in cores, such as 500m or 2.")
    memory: Quantity | None = Field(default=None, description="Memory in bytes, such as 256Mi.")


class Resources(SpecModel):
    """What a container asks for and may use."""

    requests: ResourceList = Field(
        default=ResourceList(),
        description="What the scheduler reserves for the container; what is named neither here nor in limits is what an "
        "idle one needs.",
    )
    limits: ResourceList = Field(default=ResourceList(), description="What the container may use at most.")


class Toleration(SpecModel):
    """A taint that the pods tolerate, as in a pod's `tolerations`."""

    key: str | None = Field(
        default=None, max_length=317, description="Key of the taint; none matches every key."
    )
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", description="How key and value are compared."
    )
    value: str | None = Field(
        default=None, max_length=63, description="Value of the taint when the operator is Equal."
    )
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; none matches every effect."
    )
    toleration_seconds: int | None = Field(
        default=None,
        ge=0,
        le=10 * 365 * 86_400,
        description="How many seconds a NoExecute taint is tolerated; none means for ever.",
    )
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.key) || self.operator == 'Exists'", "key is required when operator is Equal"),
        Rule("!has(self.value) || self.operator == 'Equal'", "value is only allowed when operator is Equal"),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds is only allowed when effect is NoExecute",
        ),
    )

    @model_validator(mode="after")
    def _valid_for_a_pod(self) -> Self:
        if self.key is None and self.operator == "Equal":
            raise field_error("key", "required when operator is Equal")
        if self.value is not None and self.operator == "Exists":
            raise field_error("value", "only allowed when operator is Equal")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise field_error("toleration_seconds", "only allowed when effect is NoExecute")
        return self


class Placement(SpecModel):
    """Where pods may run."""

    node_selector: Mapping[str, str] = Field(default={}, description="Labels that a node must have.")
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=50, description="Taints that the pods tolerate."
    )
    priority_class_name: str | None = Field(
        default=None, max_length=253, description="Priority class of the pods."
    )


class PodTemplate(SpecModel):
    """How pods look, their image aside."""

    resources: Resources = Field(
        default=Resources(), description="Compute resources of the part's container."
    )
    placement: Placement = Field(default=Placement(), description="Where the part's pods may run.")
    annotations: Mapping[str, str] = Field(default={}, description="Annotations added to the part's pods.")
    image_pull_secrets: Annotated[tuple[SecretRef, ...], Unique("name")] = Field(
        default=(), max_length=10, description="Secrets with the credentials of the image's registry."
    )


class Template(PodTemplate):
    """How the pods of one part look."""

    image: Image | None = Field(
        default=None, description="Image of the part's container; none means the operator's default."
    )


class ScaledPart(SpecModel):
    """A stateless part whose number of servers an autoscaler may own."""

    replicas: Replicas | None = Field(
        default=None,
        description="Number of servers; when unset the number is left to whoever scales the Deployment.",
    )
    template: Template = Field(default=Template(), description="How the pods of this part look.")


class Storage(SpecModel):
    """A persistent volume of each replica."""

    size: Annotated[str, AtLeast(low="1Gi")] = Field(
        default="8Gi", description="Size of the volume; it can only grow."
    )
    storage_class: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Storage class of the volume; none means the cluster's default. Immutable.",
    )


class ExternalEtcd(SpecModel):
    """An etcd that somebody else runs."""

    rules: ClassVar[tuple[Rule, ...]] = immutable("endpoints", "prefix")
    endpoints: tuple[ServiceURL, ...] = Field(
        min_length=1, max_length=9, description="Client URLs of the members. Immutable."
    )
    tls_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with ca.crt, tls.crt and tls.key for the connection; none means the system's certificates.",
    )
    prefix: KeyPrefix = Field(
        default="/moorage/", description="What every key of ours begins with. Immutable."
    )


class ManagedEtcd(SpecModel):
    """An etcd that the operator runs."""

    replicas: Literal[1, 3, 5] = Field(default=3, description="Number of members. Immutable for now.")
    storage: Storage = Field(default=Storage(), description="Volume of each member.")
    template: Template = Field(default=Template(), description="How the members' pods look.")


def _same(field: str, value: str) -> Rule:
    """What an optional field comes to is immutable; `value` tells it of `{0}`, the object before or after."""
    now, before = value.format("self"), value.format("oldSelf")
    return Rule(f"({now}) == ({before})", f"{field} is immutable")


def _grows(field: str, value: str) -> Rule:
    now, before = value.format("self"), value.format("oldSelf")
    return Rule(f"quantity({now}).compareTo(quantity({before})) >= 0", f"{field} can only grow")


_STORAGE_CLASS = (
    "has({0}.managed) && has({0}.managed.storage.storageClass) ? {0}.managed.storage.storageClass : ''"
)


class ClusterEtcd(SpecModel):
    """Where the metadata of a cluster lives: an etcd of its own or one that is there."""

    type: Literal["Managed", "External"] = Field(description="Who runs the etcd. Immutable.")
    managed: ManagedEtcd | None = Field(
        default=None, description="The etcd to run when type is Managed; may be left out."
    )
    external: ExternalEtcd | None = Field(default=None, description="The etcd to use when type is External.")

    members: ClassVar[OneOf] = OneOf({"Managed": "managed", "External": "external"}, optional=("managed",))
    rules: ClassVar[tuple[Rule, ...]] = (
        *members.build_rules(),
        *immutable("type"),
        _same("managed.replicas", "has({0}.managed) ? {0}.managed.replicas : 3"),
        _same("managed.storage.storageClass", _STORAGE_CLASS),
        _grows("managed.storage.size", "has({0}.managed) ? {0}.managed.storage.size : '8Gi'"),
    )

    @model_validator(mode="after")
    def _one_member(self) -> Self:
        self.members.check(self)
        return self


class SharedEtcd(SpecModel):
    """Where users, or a notifier's queues, live: the etcd of a metadata cluster or one that is there."""

    type: Literal["Cluster", "External"] = Field(description="Whose etcd is used. Immutable.")
    cluster: LocalRef | None = Field(
        default=None, description="The MetadataCluster whose etcd is used when type is Cluster."
    )
    external: ExternalEtcd | None = Field(default=None, description="The etcd to use when type is External.")

    members: ClassVar[OneOf] = OneOf({"Cluster": "cluster", "External": "external"})
    rules: ClassVar[tuple[Rule, ...]] = (
        *members.build_rules(),
        *immutable("type"),
        _same("cluster.name", "has({0}.cluster) ? {0}.cluster.name : ''"),
    )

    @model_validator(mode="after")
    def _one_member(self) -> Self:
        self.members.check(self)
        return self
