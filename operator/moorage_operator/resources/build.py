"""All objects of one resource, whatever its kind. Pure."""

from moorage_operator.resources.accesspoint import build_accesspoint_objects
from moorage_operator.resources.blockpool import build_blockpool_objects
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import Manifest
from moorage_operator.resources.metadatacluster import build_metadatacluster_objects
from moorage_operator.resources.notifier import build_notifier_objects
from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.realm import Manifest as Resource
from moorage_operator.spec.realm import Realm


def build_objects(realm: Realm, resource: Resource, context: ClusterContext) -> tuple[Manifest, ...]:
    """Every object that `resource` of the realm wants, in the order of phases; what is not in here is pruned."""
    if isinstance(resource, AccessPoint):
        return build_accesspoint_objects(realm, resource, context)
    if isinstance(resource, MetadataCluster):
        return build_metadatacluster_objects(realm, resource, context)
    if isinstance(resource, BlockPool):
        return build_blockpool_objects(realm, resource, context)
    return build_notifier_objects(realm, resource, context)
