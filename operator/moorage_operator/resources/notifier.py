"""Notifier: its notification servers. Pure."""

from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import Manifest
from moorage_operator.spec.notifier import Notifier
from moorage_operator.spec.realm import Realm


def build_notifier_objects(realm: Realm, notifier: Notifier, context: ClusterContext) -> tuple[Manifest, ...]:
    """Nothing yet: there are no notification servers in the plan."""
    del realm, notifier, context
    return ()
