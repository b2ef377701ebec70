"""How much one run may take away (`gc.maxDeletions`): a wrong setting, or a mistake of ours, must show before all is gone."""

from collections import defaultdict
from typing import Literal

Kind = Literal["versions", "trash", "records", "objects"]


class Budget:
    """Each kind has the whole limit for itself. What a directory in the trash holds below counts as one with it."""

    def __init__(self, limit: int) -> None:
        self._left: defaultdict[Kind, int] = defaultdict(lambda: limit)
        self.exhausted = False

    def take(self, kind: Kind, wanted: int) -> int:
        """How many of `wanted` may be done."""
        granted = min(wanted, self._left[kind])
        self._left[kind] -= granted
        self.exhausted = self.exhausted or granted < wanted
        return granted
