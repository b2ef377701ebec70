"""Notifier: servers that push changes and deletions to clients, with their queues in etcd."""

from typing import Annotated, Literal

from pydantic import Field

from moorage_operator.spec.base import Lifecycle, ObjectMeta, SpecModel
from moorage_operator.spec.parts import Replicas, SharedEtcd, Template
from moorage_operator.spec.scalars import Between


class NotifierSpec(Lifecycle):
    """The wished state of a notifier."""

    replicas: Replicas = Field(default=2, description="Number of notification servers.")
    template: Template = Field(
        default=Template(), description="How the pods of the notification servers look."
    )
    ack_deadline: Annotated[str, Between(low="1s", high="90d")] = Field(
        default="24h", description="How long a deletion waits for the clients' acknowledgements."
    )
    queue_limit: int = Field(
        default=10_000,
        ge=10,
        le=1_000_000,
        description="Messages kept for one client; beyond it the client is told to start over.",
    )
    etcd: SharedEtcd = Field(description="Where queues, acknowledgements and deadlines live. Immutable.")


class Notifier(SpecModel):
    """Servers that push changes and deletions to clients."""

    api_version: Literal["moorage.dev/v1alpha1"] = Field(description="Version of this resource's schema.")
    kind: Literal["Notifier"] = Field(description="Kind of this resource.")
    metadata: ObjectMeta = Field(description="Name, labels and annotations.")
    spec: NotifierSpec = Field(description="The wished state.")
