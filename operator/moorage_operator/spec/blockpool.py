"""BlockPool: block servers over one S3 bucket."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from moorage_operator.spec.base import Lifecycle, ObjectMeta, SecretRef, SpecModel
from moorage_operator.spec.parts import PodTemplate, Replicas, Storage, Template
from moorage_operator.spec.rules import OneOf, Rule, field_error, immutable
from moorage_operator.spec.scalars import BucketName, Image, KeyPrefix, ServiceURL, Text

Region = Annotated[str, Text(r"[a-zA-Z0-9-]{1,64}", "a region such as eu-central-1", 64)]


class ExternalStore(SpecModel):
    """An S3 bucket that is there."""

    rules: ClassVar[tuple[Rule, ...]] = immutable("endpoint", "bucket", "prefix")
    endpoint: ServiceURL = Field(description="URL of the S3 service. Immutable.")
    region: Region = Field(default="us-east-1", description="Region that requests are signed for.")
    bucket: BucketName = Field(description="Bucket that holds the chunks. Immutable.")
    prefix: KeyPrefix = Field(default="", description="What every object's key begins with. Immutable.")
    credentials_secret_ref: SecretRef = Field(
        description="Secret with access_key_id and secret_access_key; it is mounted by the block servers alone."
    )
    ca_secret_ref: SecretRef | None = Field(
        default=None, description="Secret with ca.crt of the service; none means the system's certificates."
    )


class ManagedStore(SpecModel):
    """An S3 server that the operator runs."""

    engine: Literal["minio"] = Field(default="minio", description="Which S3 server runs.")
    image: Image = Field(
        description="Image of the S3 server; required, since no public image can be recommended."
    )
    servers: int = Field(
        default=1,
        ge=1,
        le=32,
        description="Number of servers: 1, or at least 4 that spread the data. Immutable.",
    )
    storage: Storage = Field(default=Storage(), description="Volume of each server.")
    template: PodTemplate = Field(default=PodTemplate(), description="How the servers' pods look.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.servers == 1 || self.servers >= 4", "servers is 1, or at least 4"),
        *immutable("engine", "servers"),
        Rule(
            "(has(self.storage.storageClass) ? self.storage.storageClass : '') == "
            "(has(oldSelf.storage.storageClass) ? oldSelf.storage.storageClass : '')",
            "storage.storageClass is immutable",
        ),
        Rule(
            "quantity(self.storage.size).compareTo(quantity(oldSelf.storage.size)) >= 0",
            "storage.size can only grow",
        ),
    )

    @model_validator(mode="after")
    def _one_or_spread(self) -> Self:
        if 1 < self.servers < 4:
            raise field_error("servers", "expected 1, or at least 4")
        return self


class Store(SpecModel):
    """Where the pool's bytes live."""

    type: Literal["External", "Managed"] = Field(description="Who runs the S3 service. Immutable.")
    external: ExternalStore | None = Field(
        default=None, description="The bucket to use when type is External."
    )
    managed: ManagedStore | None = Field(
        default=None, description="The S3 server to run when type is Managed."
    )

    members: ClassVar[OneOf] = OneOf({"External": "external", "Managed": "managed"})
    rules: ClassVar[tuple[Rule, ...]] = (*members.build_rules(), *immutable("type"))

    @model_validator(mode="after")
    def _one_member(self) -> Self:
        self.members.check(self)
        return self


class BlockPoolSpec(Lifecycle):
    """The wished state of a pool."""

    replicas: Replicas = Field(default=2, description="Number of block servers.")
    template: Template = Field(default=Template(), description="How the pods of the block servers look.")
    store: Store = Field(description="Where the pool's bytes live.")


class BlockPool(SpecModel):
    """Block servers over one S3 bucket that holds chunk bytes."""

    api_version: Literal["moorage.dev/v1alpha1"] = Field(description="Version of this resource's schema.")
    kind: Literal["BlockPool"] = Field(description="Kind of this resource.")
    metadata: ObjectMeta = Field(description="Name, labels and annotations.")
    spec: BlockPoolSpec = Field(description="The wished state.")
