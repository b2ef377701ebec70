"""`moorage-nodes etcd-member --settings FILE`: prepare one member of a managed etcd, before etcd itself starts.

Runs to its end in an init container: it writes etcd's configuration file. `POD_NAME` says which member this is. Killed
at any point it begins anew: a member without data is removed and added again, which ends in one member of its name.
Exit codes: 0 etcd may start, 1 failed, 2 wrong settings.
"""

import asyncio
import json
import logging
import os
from pathlib import Path

from moorage.core.errors import InvalidFieldError, StoreUnavailableError
from moorage_nodes.etcd_member.members import Membership
from moorage_nodes.etcd_member.plan import (
    Member,
    build_etcd_conf,
    build_initial_cluster,
    is_mine,
    plan_beginning,
)
from moorage_nodes.etcd_member.settings import MemberSettings, load_member_settings
from moorage_nodes.observe import configure_logging

log = logging.getLogger("moorage.etcd_member")
AGAIN_SECONDS = 3.0


def run(settings_file: Path) -> int:
    """OSError and InvalidFieldError for wrong settings."""
    settings = load_member_settings(settings_file)
    configure_logging(settings.log_level)
    me = os.environ.get("POD_NAME", "")
    if me not in settings.members:
        raise InvalidFieldError("POD_NAME names no member of this etcd.", field="POD_NAME")
    asyncio.run(prepare(me, settings))
    return 0


async def prepare(me: str, settings: MemberSettings) -> None:
    """Returns when etcd may start; as long as a majority is needed and is not there, it waits."""
    membership = Membership(
        [settings.client_url(member) for member in settings.members if member != me],
        Path(settings.tls.client),
    )
    while True:
        try:
            conf = await begin(me, settings, membership)
        except StoreUnavailableError as error:
            log.warning("waiting", extra={"reason": error.detail})
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            _write(Path(settings.conf_file), json.dumps(conf, indent=2))
            return


async def begin(me: str, settings: MemberSettings, membership: Membership) -> dict[str, object]:
    """Etcd's configuration. StoreUnavailableError while it has to wait for the others."""
    has_data, founded = has_log(Path(settings.data_dir)), is_founded(Path(settings.state_file))
    listed = None if has_data else await _listed(membership)
    beginning = plan_beginning(me, settings, has_data=has_data, founded=founded, listed=listed)
    log.info("beginning", extra={"member": me, "how": beginning})
    if beginning == "wait":
        raise StoreUnavailableError(
            "This member's data is gone and no majority of the others answers. It never founds the cluster again: "
            "what was acknowledged could be lost."
        )
    if beginning == "replace":
        assert listed is not None  # the plan says so
        for member in listed:
            if is_mine(me, settings, member):
                await membership.remove(member)
        now = await membership.add(settings.peer_url(me))
        return build_etcd_conf(me, settings, "existing", build_initial_cluster(settings, now))
    initial = build_initial_cluster(settings, None)
    return build_etcd_conf(me, settings, "existing" if beginning == "resume" else "new", initial)


async def _listed(membership: Membership) -> tuple[Member, ...] | None:
    try:
        return await membership.read()
    except StoreUnavailableError:
        return None


def has_log(data_dir: Path) -> bool:
    """Whether etcd has written anything down here; the same test as its own."""
    return any((data_dir / "member" / "wal").glob("*.wal"))


def is_founded(state_file: Path) -> bool:
    return state_file.read_text().strip() == "true"


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_text(text)
    beside.replace(path)
