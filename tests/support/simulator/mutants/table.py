"""The bugs. Each is one that a hurried change could really make."""

from simulator.mutants.planting import Mutant

ENGINE = "moorage_nodes.metadata.namespace"
L1 = "moorage_nodes.metadata.l1"
L3 = "moorage_nodes.metadata.l3"
BLOCKS = "moorage_nodes.blocks"

MUTANTS = (
    Mutant(
        "commit without comparing the head",
        ENGINE,
        "Namespaces._build_txn",
        "unchanged(keys.head(view.namespace), state.head_revision),",
        "",
    ),
    Mutant(
        "read what is remembered",
        ENGINE,
        "Namespaces.read",
        "state = await self._known.current(namespace)",
        "state = self._known.kept(namespace) or await self._known.current(namespace)",
    ),
    Mutant(
        "lost idempotency",
        f"{L1}.repeats",
        "plan_once",
        "if known is not None:",
        "if known is not None and known.arguments != repeat.arguments:",
    ),
    Mutant(
        "an upload is used again after its commit",
        f"{L1}.commit",
        "_Commits.run",
        "del files[version.draft.file.file_id]",
        "pass",
    ),
    Mutant(
        "register a chunk before its bytes are durable",
        f"{BLOCKS}.storing",
        "Storing.store",
        "await self._put_all(destination, call, planned, different)\n",
        "later = self._put_all(destination, call, planned, different)\n    import asyncio\n"
        "    asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(later))\n",
    ),
    Mutant(
        "a version's number is not compared",
        f"{L1}.targets",
        "observe_base",
        "if node.version != base:",
        "if node.version < base:",
    ),
    Mutant(
        "the walk forgets to raise versions",
        f"{L1}.deletion",
        "_Walk._walk_directory",
        "self._bytes += _raise_version(view, child.id, *files[child.id])",
        "self._bytes += 1",
    ),
    Mutant(
        "a deleted directory hides only itself",
        f"{L1}.tree",
        "should_be_readable",
        "located.node.state == LIVE and all(node.state == LIVE for _, node in located.ancestors)",
        "located.node.state == LIVE",
    ),
    Mutant(
        "a late end of a deletion that was cancelled",
        f"{L1}.trash",
        "_bring_back",
        "end_deletion(view, node.deletion)",
        "pass",
    ),
    Mutant(
        "a manifest before its segments",
        f"{L1}.preparation",
        "_place_segments",
        "await write_segments(server.store, namespace, {base: entries}, server.incarnation.encode())",
        "import asyncio\n    asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future("
        "write_segments(server.store, namespace, {base: entries}, server.incarnation.encode())))",
    ),
    Mutant(
        "a call that is registered twice",
        f"{L3}.registration",
        "plan_registration",
        "Compare(upload.key, Target.CREATE, upload.create_revision),",
        "",
    ),
)
