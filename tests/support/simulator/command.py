"""Running many seeds over the machine's cores: progress, the first that fails, and its trace."""

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

from simulator.mutants.hunt import hunt_all
from simulator.scenario import Result, simulate

SEEDS_TOGETHER = 20
TRACE_LINES = 120
HASH_SEED = "0"


def main() -> int:
    # The order of a set of strings is part of what a seed decides.
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
        return subprocess.call([sys.executable, "-m", "simulator", *sys.argv[1:]], env=environment)
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    seeds = commands.add_parser("seeds", help="simulate many seeds; exit 1 with the first that fails")
    seeds.add_argument("--seeds", type=int, default=300, help="how many")
    seeds.add_argument("--first", type=int, default=0, help="the first of them")
    seeds.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    seed = commands.add_parser("seed", help="simulate one seed and show what went on")
    seed.add_argument("seed", type=int)
    seed.add_argument("--mutant", default="", help="with this bug planted")
    mutants = commands.add_parser("mutants", help="plant bugs; exit 1 when one is not found")
    mutants.add_argument("--seeds", type=int, default=400, help="at most so many for each")
    mutants.add_argument("--only", default="", help="the mutant of this name")
    mutants.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.command == "seed":
        return _show(arguments.seed, arguments.mutant)
    if arguments.command == "mutants":
        return hunt_all(arguments.seeds, arguments.jobs, arguments.only)
    return _simulate_all(arguments.first, arguments.seeds, arguments.jobs)


def _show(seed: int, mutant: str) -> int:
    from simulator.mutants import planted

    with planted(mutant):
        result = simulate(seed)
    if result.violation is None:
        print(f"seed {seed}: {result.requests} requests, {result.revisions} revisions, no violation")
        return 0
    _print_failure(result)
    return 1


def _simulate_all(first: int, count: int, jobs: int) -> int:
    started = last = time.monotonic()
    done = requests = revisions = 0
    virtual = 0.0
    for results in _in_parallel(first, count, jobs):
        for result in results:
            if result.violation is not None:
                _print_failure(result)
                return 1
            done, requests, revisions = done + 1, requests + result.requests, revisions + result.revisions
            virtual += result.seconds
        if time.monotonic() - last > 10 or done == count:
            last = time.monotonic()
            print(
                f"{done}/{count} seeds clean, {requests} requests, {revisions} revisions, "
                f"{virtual / 86400:.1f} virtual days, {last - started:.0f} s",
                flush=True,
            )
    print(f"seeds {first} to {first + count - 1}: every invariant held")
    return 0


def _in_parallel(first: int, count: int, jobs: int) -> Iterator[list[Result]]:
    parts = iter(range(first, first + count, SEEDS_TOGETHER))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_be_quiet) as pool:
        running: set[Future[list[Result]]] = set()
        try:
            while True:
                while len(running) < 2 * jobs and (part := next(parts, None)) is not None:
                    running.add(pool.submit(run_part, part, min(part + SEEDS_TOGETHER, first + count)))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        finally:
            for each in running:
                each.cancel()


def run_part(start: int, end: int) -> list[Result]:
    """Up to the first that fails."""
    results: list[Result] = []
    for seed in range(start, end):
        results.append(simulate(seed))
        if results[-1].violation is not None:
            break
    return results


def _be_quiet() -> None:
    logging.disable(logging.CRITICAL)


def _print_failure(result: Result) -> None:
    print(*result.trace[-TRACE_LINES:], sep="\n")
    print(f"\nseed {result.seed}: {result.violation}")
    cause = result.cause
    if cause:
        print(cause)
    print(f"again, with all that went on: make simulate SEED={result.seed}")
