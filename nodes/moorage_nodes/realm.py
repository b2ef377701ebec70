"""The realm that servers belong to: its id is the auth servers', and each etcd holds it from its first use on."""

from msgspec import Struct

from moorage.core.errors import MoorageError
from moorage_nodes.peers import PeerClient


class WrongRealmError(MoorageError):
    """The etcd that the settings name belongs to another realm's users."""

    word = "wrong_realm"


class RealmAnswer(Struct, frozen=True, kw_only=True):
    realm_id: str


async def fetch_realm(auth: PeerClient) -> str:
    """The realm's id, from its auth servers; StoreUnavailableError when none answers."""
    return (await auth.get("/internal/realm", RealmAnswer)).realm_id
