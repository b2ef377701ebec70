"""Many small worlds, each with the bad luck of its seed: every invariant holds in all of them, and a seed is enough to
see a failure again.

Run as a command of its own, since the order of sets is part of what a seed decides. `make simulate` runs more.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulator.mutants import MUTANTS, StaleMutantError
from simulator.mutants.planting import Mutant, build_variant

SUPPORT = Path(__file__).parents[1] / "support"
SEEDS = 300


def simulator(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    return subprocess.run(
        [sys.executable, "-m", "simulator", *arguments], env=environment, capture_output=True, text=True
    )


@pytest.mark.timeout(1200)
def test_every_invariant_holds_in_many_small_worlds():
    done = simulator("seeds", "--seeds", str(SEEDS))
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert f"seeds 0 to {SEEDS - 1}: every invariant held" in done.stdout


@pytest.mark.timeout(300)
def test_a_planted_bug_is_found_and_its_seed_alone_shows_it_again():
    found = simulator("mutants", "--only", MUTANTS[0].name, "--seeds", "40")
    assert found.returncode == 0, found.stdout + found.stderr
    seed = int(found.stdout.splitlines()[1].removeprefix(MUTANTS[0].name).split()[0]) - 1
    shown = [simulator("seed", str(seed), "--mutant", MUTANTS[0].name) for _ in range(2)]
    assert [each.returncode for each in shown] == [1, 1]
    assert shown[0].stdout == shown[1].stdout
    assert f"seed {seed}:" in shown[0].stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_still_fits_the_code_that_it_changes(mutant: Mutant):
    _, name, original, variant = build_variant(mutant)
    assert variant is not original
    assert variant.__name__ == name


def test_a_mutant_whose_code_has_changed_says_so():
    mutant = Mutant("gone", "moorage_nodes.metadata.l1.repeats", "plan_once", "what never stood there", "")
    with pytest.raises(StaleMutantError, match="0 times"):
        build_variant(mutant)
    with pytest.raises(StaleMutantError, match="has no"):
        build_variant(Mutant("gone", "moorage_nodes.metadata.l1.repeats", "no_function", "", ""))
