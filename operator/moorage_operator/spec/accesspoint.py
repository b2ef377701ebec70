"""AccessPoint: one identity realm with one user directory, one public address and one routing table."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from moorage_operator.spec.base import Lifecycle, LocalRef, ObjectMeta, SecretRef, SpecModel
from moorage_operator.spec.parts import ScaledPart, SharedEtcd
from moorage_operator.spec.rules import OneOf, Rule, Unique, field_error
from moorage_operator.spec.scalars import Between, NamespaceName, ObjectName, PublicURL


class Auth(ScaledPart):
    """The servers of users, login and placement."""

    etcd: SharedEtcd = Field(description="Where users and placement live. Immutable.")
    token_ttl: Annotated[str, Between(low="1m", high="24h")] = Field(
        default="15m", description="How long an access token is valid; clients renew it by themselves."
    )
    key_rotation: Annotated[str, Between(low="1d")] = Field(
        default="90d", description="How old a signing key becomes before the next one takes its place."
    )
    registration: Literal["AdminOnly"] = Field(
        default="AdminOnly", description="Who may make users: AdminOnly is the holder of the admin token."
    )
    admin_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with the admin token in `token`; none means a generated one, named in status.",
    )


class NginxService(SpecModel):
    """The Service in front of our NGINX."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="Type of the Service."
    )
    node_port: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        description="Port of every node that leads to the Service; none means one that the cluster chooses.",
    )
    annotations: Mapping[str, str] = Field(default={}, description="Annotations of the Service.")
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.nodePort) || self.type != 'ClusterIP'",
            "nodePort is not allowed when type is ClusterIP",
        ),
    )

    @model_validator(mode="after")
    def _node_port_where_there_is_one(self) -> Self:
        if self.node_port is not None and self.type == "ClusterIP":
            raise field_error("node_port", "not allowed when type is ClusterIP")
        return self


class NginxExposure(ScaledPart):
    """Our own NGINX."""

    service: NginxService = Field(default=NginxService(), description="The Service in front of NGINX.")
    tls_secret_ref: SecretRef | None = Field(
        default=None, description="Secret with tls.crt and tls.key; none means plain HTTP."
    )


class IngressExposure(SpecModel):
    """An Ingress for a controller that is there."""

    class_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Ingress class; none means the cluster's default.",
    )
    annotations: Mapping[str, str] = Field(default={}, description="Annotations of the Ingress.")
    tls_secret_ref: SecretRef | None = Field(
        default=None, description="Secret with tls.crt and tls.key; none means plain HTTP."
    )


class ParentRef(SpecModel):
    """A Gateway that the HTTPRoute attaches to."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: NamespaceName | None = Field(
        default=None, description="Namespace of the Gateway; none means this one."
    )
    section_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Listener of the Gateway; none means all that fit.",
    )


class GatewayExposure(SpecModel):
    """An HTTPRoute for Gateways that are there."""

    parent_refs: tuple[ParentRef, ...] = Field(
        min_length=1, max_length=32, description="Gateways that the HTTPRoute attaches to."
    )


class Exposure(SpecModel):
    """How requests reach the servers."""

    type: Literal["nginx", "ingress", "gateway", "none"] = Field(
        default="nginx", description="Who takes requests in: our own NGINX, an Ingress, a Gateway, or nobody."
    )
    nginx: NginxExposure | None = Field(
        default=None, description="Our NGINX when type is nginx; may be left out."
    )
    ingress: IngressExposure | None = Field(
        default=None, description="The Ingress when type is ingress; may be left out."
    )
    gateway: GatewayExposure | None = Field(default=None, description="The HTTPRoute when type is gateway.")

    members: ClassVar[OneOf] = OneOf(
        {"nginx": "nginx", "ingress": "ingress", "gateway": "gateway"}, optional=("nginx", "ingress")
    )
    rules: ClassVar[tuple[Rule, ...]] = members.build_rules()

    @model_validator(mode="after")
    def _one_member(self) -> Self:
        self.members.check(self)
        return self


class AccessPointSpec(Lifecycle):
    """The wished state of an access point."""

    public_url: PublicURL = Field(
        description="URL that clients use: scheme, host and optional port, no path."
    )
    extra_urls: Annotated[tuple[PublicURL, ...], Unique()] = Field(
        default=(), max_length=16, description="Further URLs under which the same servers are reached."
    )
    clusters: Annotated[tuple[LocalRef, ...], Unique("name")] = Field(
        min_length=1,
        max_length=64,
        description="Metadata clusters of this realm; pools and notifiers follow from them.",
    )
    auth: Auth = Field(description="The servers of users, login and placement.")
    exposure: Exposure = Field(default=Exposure(), description="How requests reach the servers.")


class AccessPoint(SpecModel):
    """One identity realm: one user directory, one public address, one routing table."""

    api_version: Literal["moorage.dev/v1alpha1"] = Field(description="Version of this resource's schema.")
    kind: Literal["AccessPoint"] = Field(description="Kind of this resource.")
    metadata: ObjectMeta = Field(description="Name, labels and annotations.")
    spec: AccessPointSpec = Field(description="The wished state.")
