"""Whatever a condition may give as its reason, docs/operations.md says what to do about it."""

import ast
import gc
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WHERE_THE_REASON_STANDS = {"Finding": 2, "stall": 0, "Refusal": 1}
NOTHING_TO_DO = {
    "Accepted",
    "Ready",
    "Settled",
    "Progressing",
    "Quorum",
    "Enough",
    "Reached",
    "PreflightPassed",
}


def parse_undisturbed(path: Path) -> ast.Module:
    """Without a look of the garbage collector meanwhile: what it ends may run code, and then Python 3.11 loses count
    of its depth in the tree (SystemError, python/cpython#106905).
    """
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def reasons_in_code() -> Iterator[str]:
    for path in (ROOT / "operator" / "moorage_operator").rglob("*.py"):
        for node in ast.walk(parse_undisturbed(path)):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                place = WHERE_THE_REASON_STANDS.get(name)
                if place is not None and len(node.args) > place:
                    reason = node.args[place]
                    if isinstance(reason, ast.Constant) and isinstance(reason.value, str):
                        yield reason.value


def test_every_reason_is_explained():
    text = (ROOT / "docs" / "operations.md").read_text()
    reasons = set(reasons_in_code()) - NOTHING_TO_DO
    assert len(reasons) > 10
    assert {reason for reason in reasons if f"`{reason}`" not in text} == set()
