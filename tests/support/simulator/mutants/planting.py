"""Planting a bug: one function of the servers is replaced by a wrong variant of itself, in this process.

A mutant names the text it changes. When that text is not there exactly once, the code has changed its shape and the
mutant proves nothing any more: `StaleMutantError`, never a silent miss.
"""

import contextlib
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


class StaleMutantError(Exception):
    """The code that a mutant changes is not what it was written for."""


@dataclass(frozen=True)
class Mutant:
    """`function` of `module` (`name` or `Class.name`) has `old` exactly once; `new` stands there instead."""

    name: str
    module: str
    function: str
    old: str
    new: str


def build_variant(mutant: Mutant) -> tuple[Any, str, Any, Any]:
    """(who holds the function, under which name, the function as it is, the wrong one)."""
    module = importlib.import_module(mutant.module)
    holder: Any = module
    *path, name = mutant.function.split(".")
    try:
        for each in path:
            holder = getattr(holder, each)
        original = inspect.getattr_static(holder, name)
        source = textwrap.dedent(inspect.getsource(original))
    except (AttributeError, OSError, TypeError) as error:
        raise StaleMutantError(f"{mutant.name}: {mutant.module} has no {mutant.function}: {error}") from None
    if source.count(mutant.old) != 1:
        raise StaleMutantError(
            f"{mutant.name}: {mutant.function} has {mutant.old!r} {source.count(mutant.old)} times, not once"
        )
    namespace = vars(module)
    found: dict[str, Any] = {}
    code = compile(
        source.replace(mutant.old, mutant.new), f"<mutant {mutant.name}>", "exec", dont_inherit=True
    )
    exec(code, namespace, found)
    return holder, name, original, found[name]


@contextlib.contextmanager
def planted_mutant(mutant: Mutant | None) -> Iterator[None]:
    """The bug is in the code, wherever a module has imported the function."""
    if mutant is None:
        yield
        return
    holder, name, original, variant = build_variant(mutant)
    places = [(holder, name)]
    if inspect.ismodule(holder):
        places = list(_importers(original))
    for place, attribute in places:
        setattr(place, attribute, variant)
    try:
        yield
    finally:
        for place, attribute in places:
            setattr(place, attribute, original)


def _importers(function: Callable[..., Any]) -> Iterator[tuple[Any, str]]:
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(("moorage", "moorage_nodes")):
            for attribute, value in list(vars(module).items()):
                if value is function:
                    yield module, attribute
