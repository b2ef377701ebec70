"""A bounded memory of what was used last, for values that cost a question to somebody else."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """At most `capacity` in sum of the entries' weights (entries, or bytes: the caller's unit); what was used
    longest ago leaves first. For one event loop: no call awaits.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Remember `value` in place of what `key` had. One that is heavier than the whole capacity is not kept."""
        self.drop(key)
        if weight > self._capacity:
            return
        self._entries[key] = value, weight
        self.weight += weight
        while self.weight > self._capacity:
            _, (_, gone) = self._entries.popitem(last=False)
            self.weight -= gone

    def drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.weight -= entry[1]
