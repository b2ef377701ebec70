"""What the operator reports of each kind. Conditions are Kubernetes' own shape, a list-map by type."""

from typing import Annotated, Literal

from pydantic import Field

from moorage_operator.spec.base import SecretRef, SpecModel
from moorage_operator.spec.rules import Unique
from moorage_operator.spec.scalars import ObjectName, Text

Word = Annotated[str, Text(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", "a word in CamelCase", 128)]


class Condition(SpecModel):
    """One aspect of the resource's state."""

    type: Word = Field(description="What the condition is about, such as Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec that the condition was judged by."
    )
    last_transition_time: str = Field(
        max_length=64,
        json_schema_extra={"format": "date-time"},
        description="When the status last changed.",
    )
    reason: Word = Field(description="Why, in one word for programs.")
    message: str = Field(max_length=32_768, description="Why, and what a person can do about it.")


class PartStatus(SpecModel):
    """How much of one running part is there."""

    name: ObjectName = Field(description="Name of the part's workload.")
    ready: int = Field(ge=0, description="Pods that are ready.")
    desired: int = Field(ge=0, description="Pods that are wished for.")


class Status(SpecModel):
    """What all kinds report."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec that this status is about."
    )
    conditions: Annotated[tuple[Condition, ...], Unique("type")] = Field(
        default=(), max_length=32, description="Ready, Reconciling, Stalled, and what the kind adds."
    )
    parts: Annotated[tuple[PartStatus, ...], Unique("name")] = Field(
        default=(), max_length=32, description="Running parts of the resource, each with its pods."
    )


class Claim(SpecModel):
    """The AccessPoint that a resource belongs to."""

    name: ObjectName = Field(description="Name of the AccessPoint in the same namespace.")
    uid: str = Field(max_length=64, description="Which object of that name it is.")


class ClaimedStatus(Status):
    """What kinds report that belong to an AccessPoint."""

    access_point: Claim | None = Field(
        default=None, description="The AccessPoint that the resource belongs to."
    )


class MetadataClusterStatus(ClaimedStatus):
    """The observed state of a metadata cluster."""


class ScaledStatus(ClaimedStatus):
    """What the scale subresource reads."""

    replicas: int = Field(default=0, ge=0, description="Servers that there are; read by autoscalers.")
    selector: str = Field(
        default="", max_length=1024, description="Label selector of the servers' pods; read by autoscalers."
    )


class BlockPoolStatus(ScaledStatus):
    """The observed state of a pool."""


class NotifierStatus(ScaledStatus):
    """The observed state of a notifier."""


class SigningKeyStatus(SpecModel):
    """How far the rotation of one component's signing key is."""

    name: ObjectName = Field(description="Name of the component's workload.")
    phase: Literal["Publishing", "Signing", "Retiring", "Settled"] = Field(
        description="Publishing the next key, Signing with it, Retiring the one before, or Settled on one."
    )
    since: str = Field(
        max_length=64, json_schema_extra={"format": "date-time"}, description="When the phase began."
    )
    current: str = Field(max_length=64, description="Identifier of the key that signs.")
    other: str | None = Field(
        default=None, max_length=64, description="Identifier of the key that comes or goes."
    )


class AccessPointStatus(Status):
    """The observed state of an access point."""

    urls: tuple[Annotated[str, Field(max_length=512)], ...] = Field(
        default=(), max_length=17, description="URLs under which the servers are reached."
    )
    admin_secret_ref: SecretRef | None = Field(
        default=None, description="Secret with the admin token in `token`."
    )
    routing_revision: int | None = Field(
        default=None, ge=0, description="Revision of the routing table that servers are told."
    )
    trust_revision: int | None = Field(
        default=None, ge=0, description="Revision of the trust file that servers are told."
    )
    keys: Annotated[tuple[SigningKeyStatus, ...], Unique("name")] = Field(
        default=(), max_length=1024, description="Signing keys of the realm's components."
    )
