"""How old what stands in etcd is, by revisions: the only clock that the collector goes by (docs/adr). Pure.

The cluster's *age* is a number in etcd that only rises. Each run adds the time since the last one, and leaves a
sample: everything up to this revision was written before this age. So "written at least a grace ago" is a comparison
of revisions, and no time that some server has written into a record is ever trusted.

The time between two runs is told by the machine's uptime when both ran since the same boot: no step of the clock
changes that. Else the clocks of the wall must do: one that went backwards counts as no time, and one that went
ahead as `MAX_UNSEEN` at most, so a clock that is years wrong lets go of nothing.
"""

from collections.abc import Callable
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime, time

from msgspec import Struct
from msgspec.structs import replace

from moorage_nodes.metadata.records import CollectorState

MAX_UNSEEN = 8 * 24 * 3600 * 1000  # milliseconds between two runs of different boots
MAX_SAMPLES = 512


class Reading(Struct, frozen=True, kw_only=True):
    """The clocks of a machine, in milliseconds: `wall` since 1970, `uptime` since the boot that `boot` names."""

    wall: int
    uptime: int
    boot: str


Clock = Callable[[], Reading]


def read_clock() -> Reading:
    """Linux: suspended time counts. Where a boot has no name only the wall is left."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return Reading(wall=int(time() * 1000), uptime=int(clock_gettime(CLOCK_BOOTTIME) * 1000), boot=boot)


def advance(state: CollectorState, now: Reading) -> CollectorState:
    """The state with the age as it is `now`."""
    if not state.wall:
        passed = 0
    elif now.boot and now.boot == state.boot and now.uptime >= state.uptime:
        passed = now.uptime - state.uptime
    else:
        passed = min(max(now.wall - state.wall, 0), MAX_UNSEEN)
    return replace(state, age=state.age + passed, wall=now.wall, boot=now.boot, uptime=now.uptime)


def add_sample(state: CollectorState, revision: int) -> CollectorState:
    """Everything up to `revision` was written before the state's age."""
    samples = [*state.samples, (revision, state.age)]
    if len(samples) > MAX_SAMPLES:
        # Of the older half every other one goes: what is long ago is told more coarsely, so later.
        old, young = samples[: MAX_SAMPLES // 2], samples[MAX_SAMPLES // 2 :]
        samples = old[::2] + young
    return replace(state, samples=samples)


def horizon(state: CollectorState, seconds: int) -> int:
    """The newest revision known to be at least `seconds` old; 0 when there is none."""
    wanted = state.age - seconds * 1000
    return max((revision for revision, age in state.samples if age <= wanted), default=0)
