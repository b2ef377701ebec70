"""The bugs. Each is one that a hurried change could really make."""

from simulator.mutants.planting import Mutant

ENGINE = "moorage_nodes.metadata.namespace"
L1 = "moorage_nodes.metadata.l1"
L3 = "moorage_nodes.metadata.l3"
BLOCKS = "moorage_nodes.blocks"
GC = "moorage_nodes.gc"
NOTIFY = "moorage_nodes.notify"

MUTANTS = (
    Mutant(
        "commit without comparing the head",
        ENGINE,
        "Namespaces._build_txn",
        "_compare_head(view),",
        "",
    ),
    Mutant(
        "a transaction sent behind another compares no head",
        ENGINE,
        "_compare_head",
        "return Compare(key, Target.VALUE, records.encode(view.follows))",
        "return Compare(keys.INCARNATION, Target.VERSION, 1)",
    ),
    Mutant(
        "an upload is remembered that another process has ended",
        "moorage_nodes.metadata.knowledge",
        "Knowledge._catch_up",
        "fresh.governed, fresh.untold, fresh.present = old.governed, old.untold, old.present",
        "fresh.governed, fresh.untold, fresh.present = old.governed, old.untold, old.present\n"
        "    fresh.uploads = old.uploads",
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
        "if False:",
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
    Mutant(
        "condemn without moving the head",
        f"{GC}.heads",
        "NamespaceHead.write",
        "Txn(compares, (Put(self.key, records.encode(moved)), *nested)),",
        "Txn(compares, (Put(self.key, records.encode(self.head)), *nested)),",
    ),
    Mutant(
        "collect without comparing the head",
        f"{GC}.heads",
        "NamespaceHead.write",
        "compares = (unchanged(self.key, self.revision), *self.fences)",
        "compares = self.fences",
    ),
    Mutant(
        "remove without a grace",
        f"{GC}.sweeping",
        "Sweep.sweep_chunks",
        "elif kv.mod_revision <= self._run.horizons.grace and",
        "elif",
    ),
    Mutant(
        "delete bytes before their record is removed",
        f"{GC}.sweeping",
        "Sweep.sweep_chunks",
        "stays.append(_name_key(digest, chunk))",
        "chunk.state == CHUNK_CONDEMNED or stays.append(_name_key(digest, chunk))",
    ),
    Mutant(
        "mark once",
        f"{GC}.sweeping",
        "Sweep.sweep_chunks",
        "if is_held:",
        "if is_held and chunk.state != CHUNK_CONDEMNED:",
    ),
    Mutant(
        "a prepared content outlives a collection",
        f"{L1}.commit",
        "_Commits._draft",
        "(prepared.base, prepared.generation) != (file.base, view.state.head.generation)",
        "prepared.base != file.base",
    ),
    Mutant(
        "the mark is not brought up to date",
        f"{GC}.marking",
        "Mark._learn",
        "self.since.update(digest for _, digest, _ in manifest.entries)",
        "pass",
    ),
    Mutant(
        "ignore a pin",
        "moorage_nodes.metadata.scan",
        "scan_references",
        "yield [digest for _, digest, _ in file.entries]",
        "pass",
    ),
    Mutant(
        "forget what was stored under an upload",
        "moorage_nodes.metadata.scan",
        "scan_references",
        "yield [digest for _, digest, _ in call.entries]",
        "pass",
    ),
    Mutant(
        "forget the segments of long lists",
        "moorage_nodes.metadata.scan",
        "scan_references",
        "async for digests in scan_long(manifest.segments, manifest.count):\n                    yield digests",
        "on_list(manifest.segments)",
    ),
    Mutant(
        "forget kept versions",
        "moorage_nodes.metadata.scan",
        "scan_references",
        "yield [entry[1] for manifest in manifests for entry in manifest.entries]",
        "newest = {kv.key[:-12]: manifest for kv, manifest in zip(kvs, manifests)}\n"
        "        yield [entry[1] for manifest in newest.values() for entry in manifest.entries]",
    ),
    Mutant(
        "forget the trash",
        f"{GC}.letting_go",
        "LettingGo.let_trash_go",
        "due = [each for each in found if each[1].mod_revision <= self._run.horizons.deleted]",
        "due = list(found)",
    ),
    Mutant(
        "drop a version too many",
        f"{GC}.letting_go",
        "LettingGo.drop_versions",
        "find_past_versions(versions, self._run.retained)",
        "find_past_versions(versions, self._run.retained - 1)",
    ),
    Mutant(
        "an open upload's objects are orphans",
        f"{GC}.sweeping",
        "Sweep.sweep_objects",
        'if name.partition("/")[0] in self._mark.open_uploads:',
        "if False:",
    ),
    Mutant(
        "a condemned chunk is committed without being revived",
        f"{L1}.targets",
        "revive",
        "view.put(kv.key, msgspec.structs.replace(chunk, state=CHUNK_LIVE))",
        "pass",
    ),
    Mutant(
        "acknowledge twice",
        f"{NOTIFY}.queue",
        "plan_acknowledge",
        "left = [each for each in notification.waiting if each != client_id]",
        "left = notification.waiting",
    ),
    Mutant(
        "one acknowledgement stands for all",
        f"{NOTIFY}.queue",
        "plan_acknowledge",
        "due=notification.due if left or notification.skipped else 0,",
        "due=0,",
    ),
    Mutant(
        "an acknowledgement is lost that is faster than L1",
        f"{NOTIFY}.routes",
        "_note",
        "if not await server.ask_l1(caller.server_key, namespace, notification_id):",
        "if True:",
    ),
    Mutant(
        "a device is not told",
        f"{L1}.devices",
        "observe_told_clients",
        "client_id != but_for",
        "client_id > but_for",
    ),
    Mutant(
        "what is parked is forgotten",
        f"{L1}.deletion",
        "plan_park",
        "view.put(keys.parked(namespace, notification_id), Work(1))",
        "pass",
    ),
)
