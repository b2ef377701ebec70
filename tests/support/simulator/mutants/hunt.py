"""Looking for planted bugs, and the table of what found them."""

import logging
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from simulator.mutants.planting import Mutant, StaleMutantError, build_variant, planted_mutant
from simulator.mutants.table import MUTANTS
from simulator.scenario import simulate


@dataclass(frozen=True)
class Found:
    """`invariant` that did not hold at seed number `seeds` - 1; empty: not found in so many."""

    mutant: str
    seeds: int
    invariant: str
    seconds: float


def hunt(mutant: Mutant, seeds: int) -> Found:
    """Seeds in their order, until one finds it."""
    logging.disable(logging.CRITICAL)
    started = time.monotonic()
    with planted_mutant(mutant):
        for seed in range(seeds):
            result = simulate(seed)
            if result.violation is not None:
                return Found(mutant.name, seed + 1, result.invariant, time.monotonic() - started)
    return Found(mutant.name, seeds, "", time.monotonic() - started)


def hunt_all(seeds: int, jobs: int, only: str) -> int:
    """Print the table; 1 when a bug is not found or its place has changed."""
    wanted = [mutant for mutant in MUTANTS if only in {"", mutant.name}]
    for mutant in wanted:
        try:
            build_variant(mutant)
        except StaleMutantError as error:
            print(f"stale mutant: {error}")
            return 1
    print(f"{'mutant':<44} {'seeds':>6} {'seconds':>8}  found by")
    survived = 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for found in pool.map(hunt, wanted, [seeds] * len(wanted)):
            survived += not found.invariant
            by = found.invariant or "NOT FOUND"
            print(f"{found.mutant:<44} {found.seeds:>6} {found.seconds:>8.1f}  {by}", flush=True)
    print(f"{len(wanted) - survived} of {len(wanted)} found")
    return 1 if survived else 0
