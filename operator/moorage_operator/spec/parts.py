"""Fields of running parts: their template, their number, their storage, and the etcd that they live in."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from moorage_operator.spec.base import LocalRef, SecretRef, SpecModel
from moorage_operator.spec.scalars import AtLeast, Image, KeyPrefix, Quantity, ServiceURL

Replicas = Annotated[int, Field(ge=1, le=100)]


def field_error(field: str, message: str) -> PydanticCustomError:
    """An error of one field that only the whole model can see; `field` in Python's spelling."""
    return PydanticCustomError("field", "{message}", {"field": field, "message": message})


def require_member(model: SpecModel, members: Mapping[str, str], *, optional: tuple[str, ...] = ()) -> None:
    """Holds a union together: `type` names the one member that is set (`members`: type → field).

    `optional` members may be left out where their type is chosen. PydanticCustomError with the field's name.
    """
    chosen = members.get(model.type)  # type: ignore[attr-defined]
    for kind, field in members.items():
        present = getattr(model, field) is not None
        if field == chosen and not present and field not in optional:
            raise field_error(field, f"required when type is {kind}")
        if field != chosen and present:
            raise field_error(field, f"only allowed when type is {kind}")


class ResourceList(SpecModel):
    """Amounts of compute resources."""

    cpu: Quantity | None = Field(default=None, description="Processor time in cores, such as 500m or 2.")
    memory: Quantity | None = Field(default=None, description="Memory in bytes, such as 256Mi.")


class Resources(SpecModel):
    """What a container asks for and may use."""

    requests: ResourceList = Field(
        default=ResourceList(), description="What the scheduler reserves for the container."
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
        description="How many seconds a NoExecute taint is tolerated; none means for ever.",
    )


class Placement(SpecModel):
    """Where pods may run."""

    node_selector: Mapping[str, str] = Field(default={}, description="Labels that a node must have.")
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=50, description="Taints that the pods tolerate."
    )
    priority_class_name: str | None = Field(
        default=None, max_length=253, description="Priority class of the pods."
    )


class Template(SpecModel):
    """How the pods of one part look."""

    image: Image | None = Field(
        default=None, description="Image of the part's container; none means the operator's default."
    )
    resources: Resources = Field(
        default=Resources(), description="Compute resources of the part's container."
    )
    placement: Placement = Field(default=Placement(), description="Where the part's pods may run.")
    annotations: Mapping[str, str] = Field(default={}, description="Annotations added to the part's pods.")
    image_pull_secrets: tuple[SecretRef, ...] = Field(
        default=(), max_length=10, description="Secrets with the credentials of the image's registry."
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

    endpoints: tuple[ServiceURL, ...] = Field(
        min_length=1, max_length=9, description="Client URLs of the members. Immutable."
    )
    tls_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with ca.crt, tls.crt and tls.key for the connection; none means no client certificate.",
    )
    prefix: KeyPrefix = Field(
        default="/moorage/", description="What every key of ours begins with. Immutable."
    )


class ManagedEtcd(SpecModel):
    """An etcd that the operator runs."""

    replicas: Literal[1, 3, 5] = Field(default=3, description="Number of members. Immutable for now.")
    storage: Storage = Field(default=Storage(), description="Volume of each member.")
    template: Template = Field(default=Template(), description="How the members' pods look.")


class ClusterEtcd(SpecModel):
    """Where the metadata of a cluster lives: an etcd of its own or one that is there."""

    type: Literal["Managed", "External"] = Field(description="Who runs the etcd. Immutable.")
    managed: ManagedEtcd | None = Field(
        default=None, description="The etcd to run when type is Managed; may be left out."
    )
    external: ExternalEtcd | None = Field(default=None, description="The etcd to use when type is External.")

    @model_validator(mode="after")
    def _one_member(self) -> Self:
        require_member(self, {"Managed": "managed", "External": "external"}, optional=("managed",))
        return self


class SharedEtcd(SpecModel):
    """Where users, or a notifier's queues, live: the etcd of a metadata cluster or one that is there."""

    type: Literal["Cluster", "External"] = Field(description="Whose etcd is used. Immutable.")
    cluster: LocalRef | None = Field(
        default=None, description="The MetadataCluster whose etcd is used when type is Cluster."
    )
    external: ExternalEtcd | None = Field(default=None, description="The etcd to use when type is External.")

    @model_validator(mode="after")
    def _one_member(self) -> Self:
        require_member(self, {"Cluster": "cluster", "External": "external"})
        return self
