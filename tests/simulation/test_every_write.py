"""A server dies, or an answer is lost, before and after every write to etcd and S3 that a request makes, in whichever
process: every invariant holds at each moment, and the same request again succeeds.
"""

import pytest
from simulator.steps import ROWS, carry_out

from moorage_nodes.stores.faulty import Fault

FAULTS = [Fault.CANCELLED_BEFORE, Fault.CANCELLED_AFTER, Fault.LOST_ANSWER]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ROWS)
def test_whoever_dies_at_whichever_write_the_retry_succeeds(row: str):
    whole = carry_out(row, -1, Fault.UNREACHABLE)
    assert whole.violation is None, whole.trace
    assert len(whole.writes) >= 4
    for number, write in enumerate(whole.writes):
        for fault in FAULTS:
            outcome = carry_out(row, number, fault)
            assert outcome.violation is None, (
                f"{fault.value} at write {number} ({write})",
                str(outcome.violation),
                outcome.trace,
            )
            # Up to the fault the row was the one that was counted, so every write was met.
            assert outcome.writes[: number + 1] == whole.writes[: number + 1]
