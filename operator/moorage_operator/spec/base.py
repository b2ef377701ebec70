"""What all resources share: the model base, lifecycle fields and metadata (group `moorage.dev/v1alpha1`).

The models are read by two: `moorage up` validates manifests with them, and the CRDs are generated from them.
So they hold what a structural schema can say, and every field carries a sentence for `kubectl explain`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from moorage_operator.spec.rules import Rule
from moorage_operator.spec.scalars import NamespaceName, ObjectName, ResourceName

GROUP = "moorage.dev"
API_VERSION = "moorage.dev/v1alpha1"

_INITIALISMS = {"url": "URL", "urls": "URLs", "ttl": "TTL"}


def to_field_name(name: str) -> str:
    """`public_url` → `publicURL`: camelCase with the initialisms that Kubernetes' conventions spell in capitals."""
    first, *rest = name.split("_")
    return first + "".join(_INITIALISMS.get(word, word.capitalize()) for word in rest)


class SpecModel(BaseModel):
    """Unknown fields are refused, values are never converted (`"3"` is no integer), instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_field_name)
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler(schema)
        if cls.rules:
            handler.resolve_ref_schema(found)["x-kubernetes-validations"] = [
                rule.as_validation() for rule in cls.rules
            ]
        return found


class ObjectMeta(SpecModel):
    """The part of Kubernetes' metadata that a manifest may carry; what only a server writes is accepted unread."""

    name: ResourceName = Field(
        description="Name of the resource, unique for its kind in its namespace; parts are named after it."
    )
    namespace: NamespaceName = Field(
        default="default", description="Namespace of the resource and of all it names."
    )
    labels: Mapping[str, str] = Field(default={}, description="Labels of the resource.")
    annotations: Mapping[str, str] = Field(default={}, description="Annotations of the resource.")
    uid: Any = Field(default=None, description="Written by the API server.")
    generation: Any = Field(default=None, description="Written by the API server.")
    resource_version: Any = Field(default=None, description="Written by the API server.")
    creation_timestamp: Any = Field(default=None, description="Written by the API server.")
    managed_fields: Any = Field(default=None, description="Written by the API server.")
    owner_references: Any = Field(
        default=None, description="Owners of the resource; it is collected with the last one."
    )
    finalizers: Any = Field(default=None, description="Who must act before the resource may vanish.")
    generate_name: Any = Field(default=None, description="Read by the API server where there is no name.")
    self_link: Any = Field(default=None, description="Written by the API server.")
    deletion_timestamp: Any = Field(default=None, description="Written by the API server.")
    deletion_grace_period_seconds: Any = Field(default=None, description="Written by the API server.")


class Lifecycle(SpecModel):
    """Fields that every kind has. They steer the operator and mean nothing to `moorage up`."""

    paused: bool = Field(
        default=False,
        description="While true the operator changes nothing that belongs to this resource; what runs goes on running.",
    )
    hibernated: bool = Field(
        default=False,
        description="While true no server of this resource runs; its data is kept and served again afterwards.",
    )
    deletion_policy: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="What becomes of the data when the resource is deleted: kept for a resource of the same name, or deleted.",
    )


class LocalRef(SpecModel):
    """A reference to a resource of a known kind in the same namespace."""

    name: ResourceName = Field(description="Name of the resource in the same namespace.")


class SecretRef(SpecModel):
    """A reference to a Secret in the same namespace. The operator never reads it; pods mount it."""

    name: ObjectName = Field(description="Name of the Secret in the same namespace.")
