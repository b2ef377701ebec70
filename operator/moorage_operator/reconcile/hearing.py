"""Whether kopf still tells of changes: one that has gone deaf leaves a process that looks well and acts ten minutes late.

Lists that the operator makes itself now and then say what there is; by the next one kopf must have told it. The probe
of liveness cannot know that: it listens by a watch of its own.
"""

from collections.abc import Iterable, Mapping
from typing import Any


class DeafError(Exception):
    """kopf tells nothing any more: only a new process hears again."""


class Hearing:
    def __init__(self) -> None:
        self._heard: dict[str, int] = {}
        self._listed: dict[str, tuple[int, str]] = {}

    def heard(self, value: Mapping[str, Any]) -> None:
        """An object as kopf has just told it."""
        meta = value["metadata"]
        self._heard[meta["uid"]] = max(self._heard.get(meta["uid"], 0), int(meta["resourceVersion"]))

    def listed(self, values: Iterable[Mapping[str, Any]]) -> None:
        """All objects as a list has just told them. DeafError when kopf has not told what the list before had."""
        missed = [
            title for uid, (version, title) in self._listed.items() if self._heard.get(uid, 0) < version
        ]
        if missed:
            raise DeafError(f"kopf has not told of {len(missed)} resources, {missed[0]} among them.")
        metas = [value["metadata"] for value in values]
        self._listed = {
            meta["uid"]: (int(meta["resourceVersion"]), f"{meta.get('namespace')}/{meta['name']}")
            for meta in metas
        }
        self._heard = {uid: version for uid, version in self._heard.items() if uid in self._listed}
