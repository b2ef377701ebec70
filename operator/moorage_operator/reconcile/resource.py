"""One custom resource as the operator sees it: parsed and validated again, whatever admitted it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorage_operator.kube.cache import Cached
from moorage_operator.kube.kinds import RESOURCES, Kind
from moorage_operator.spec.documents import Document
from moorage_operator.spec.load import parse_manifest
from moorage_operator.spec.problems import render_path
from moorage_operator.spec.realm import Manifest

ResourceKey = tuple[str, str, str]
"""Kind, namespace, name."""

KIND_BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in RESOURCES}


@dataclass(frozen=True, slots=True)
class Resource:
    """`manifest` is None when the object is not valid; `problems` says then what is wrong.

    `status` is what was last reported, by whichever process.
    """

    key: ResourceKey
    uid: str
    generation: int
    created: str
    deleting: str | None
    finalizers: tuple[str, ...]
    annotations: Mapping[str, str]
    manifest: Manifest | None
    problems: tuple[str, ...]
    status: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return self.key[0]

    @property
    def namespace(self) -> str:
        return self.key[1]

    @property
    def name(self) -> str:
        return self.key[2]

    @property
    def title(self) -> str:
        return f"{self.kind}/{self.name}"

    def claim(self) -> Mapping[str, str] | None:
        """The AccessPoint that this resource last said it belongs to: `{"name", "uid"}`."""
        found = self.status.get("accessPoint")
        return found if isinstance(found, Mapping) else None


def parse_resource(cached: Cached) -> Resource:
    """Never raises for what people wrote."""
    value = cached.decode()
    meta = value["metadata"]
    manifest, wrong = parse_manifest(Document("", 0, value, {}))
    return Resource(
        key=(cached.kind.name, cached.namespace, cached.name),
        uid=cached.uid,
        generation=meta.get("generation", 0),
        created=meta.get("creationTimestamp", ""),
        deleting=meta.get("deletionTimestamp"),
        finalizers=tuple(meta.get("finalizers", ())),
        annotations=meta.get("annotations", {}),
        manifest=manifest,
        problems=tuple(f"{render_path(one.path)}: {one.message}".removeprefix(": ") for one in wrong),
        status=value.get("status") or {},
    )
