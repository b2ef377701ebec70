"""Bugs planted on purpose: what the simulation is worth shows in what it finds (docs/testing.md)."""

from simulator.mutants.planting import Mutant, StaleMutantError, planted_mutant
from simulator.mutants.table import MUTANTS

__all__ = ["MUTANTS", "Mutant", "StaleMutantError", "planted"]


def planted(name: str):  # type: ignore[no-untyped-def]
    """A context in which the bug of that name is in the code; nothing without a name."""
    return planted_mutant(next((each for each in MUTANTS if each.name == name), None) if name else None)
