"""Carrying out commits: one file, or up to a thousand of one upload (PROTOCOL.md, Update).

A batch is a row of plans, each of as many files as one transaction should hold, and each planned while the one before
it is written. Between two of them the process may die: what is committed is committed, once; the same call again finds
it done and goes on with the rest.
"""

import asyncio
from collections.abc import Sequence

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.metadata.l1.commit import MAX_PLAN_FILES, plan_commit, plan_commits
from moorage_nodes.metadata.l1.context import L1, Caller, change
from moorage_nodes.metadata.l1.file_commit import FileCommit, Prepared
from moorage_nodes.metadata.l1.preparation import prepare_commit
from moorage_nodes.metadata.l1.repeats import Repeat, plan_recall
from moorage_nodes.metadata.l1.targets import NotPreparedError

MAX_PREPARATIONS = 8


async def commit_file(
    server: L1, caller: Caller, upload_id: str, commit: FileCommit, repeat: Repeat | None = None
) -> int:
    """The file's new version. Refusals as `commit.plan_commit`; `StoreUnavailableError`. Exactly once: the same
    commit again answers the same.
    """
    prepared: Prepared | None = None
    for _ in range(MAX_PREPARATIONS):
        try:
            return await change(server, caller, plan_commit(upload_id, commit, prepared), repeat, int)
        except NotPreparedError:
            prepared = await prepare_commit(server, caller.namespace, upload_id, commit)
    raise StoreUnavailableError("Chunks are being collected at the same time; try again.")


async def commit_files(
    server: L1,
    caller: Caller,
    upload_id: str,
    commits: Sequence[FileCommit],
    repeat: Repeat | None = None,
) -> list[int | MoorageError]:
    """Each file's new version, or why there is none, in the order of `commits`. What was committed under a key is
    kept under it when all were; the others are judged anew.

    `StoreUnavailableError`: some may be committed; the same call again answers for all. `IdempotencyKeyReusedError`.
    """
    if repeat is None:
        return await _commit_parts(server, caller, upload_id, commits, "")
    known = await server.namespaces.read(caller.namespace, plan_recall(repeat, list[int]))
    if known is not None:
        return list(known)
    results = await _commit_parts(server, caller, upload_id, commits, repeat.key)
    versions = [result for result in results if isinstance(result, int)]
    if len(versions) == len(results):
        await change(server, caller, lambda _: versions, repeat, list[int])
    return results


async def _commit_parts(
    server: L1, caller: Caller, upload_id: str, commits: Sequence[FileCommit], request: str
) -> list[int | MoorageError]:
    """All parts wait in line together, so that each is planned while the one before it is written."""
    parts = [commits[at : at + MAX_PLAN_FILES] for at in range(0, len(commits), MAX_PLAN_FILES)]
    done = await asyncio.gather(
        *(
            _commit_in_turn(
                server, caller, upload_id, part, request, others=() if at else commits[len(part) :]
            )
            for at, part in enumerate(parts)
        ),
        return_exceptions=True,
    )
    results: list[int | MoorageError] = []
    for part in done:
        if isinstance(part, BaseException):
            raise part
        results.extend(part)
    return results


async def _commit_in_turn(
    server: L1,
    caller: Caller,
    upload_id: str,
    commits: Sequence[FileCommit],
    request: str,
    *,
    others: Sequence[FileCommit],
) -> list[int | MoorageError]:
    """`others`: what these need is read at once too, by the first of the plans."""
    results: list[int | MoorageError] = []
    while len(results) < len(commits):
        left = commits[len(results) :]
        plan = plan_commits(upload_id, left, others=() if results else others)
        outcomes = await server.namespaces.change(caller.namespace, plan, request=request)
        for commit, outcome in zip(left, outcomes, strict=False):
            if isinstance(outcome, NotPreparedError):
                results.append(await _commit_alone(server, caller, upload_id, commit))
            else:
                results.append(outcome)
    return results


async def _commit_alone(server: L1, caller: Caller, upload_id: str, commit: FileCommit) -> int | MoorageError:
    try:
        return await commit_file(server, caller, upload_id, commit)
    except StoreUnavailableError:
        raise
    except MoorageError as refusal:
        return refusal
