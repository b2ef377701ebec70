"""What is wrong with a manifest is said with its document, the path of the field and what was expected."""

import pytest

from moorage_operator.spec.load import parse_realm

AP, MC, BP, NF = "AccessPoint/home", "MetadataCluster/main", "BlockPool/main", "Notifier/main"
A_NAME = "expected lower-case letters, digits and inner dashes, at most 40 characters"
A_DURATION = "expected a duration such as 90s, 15m, 1h30m or 30d"

WRONG_FIELDS = [
    (MC, "spec.serverKey", "Main", f'{A_NAME}, got "Main"'),
    (MC, "spec.serverKey", "a" * 41, f'{A_NAME}, got "{"a" * 41}"'),
    (MC, "spec.serverKey", 7, "expected text, got 7"),
    (MC, "spec.serverKey", "l1/../x", f'{A_NAME}, got "l1/../x"'),
    (MC, "spec.retention.versions", 0, "expected at least 1, got 0"),
    (MC, "spec.retention.versions", "20", 'expected an integer, got "20"'),
    (MC, "spec.retention.versions", 1.5, "expected an integer, got 1.5"),
    (MC, "spec.retention.versions", True, "expected an integer, got true"),
    (MC, "spec.retention.uploads", "7 days", f'{A_DURATION}, got "7 days"'),
    (MC, "spec.retention.uploads", "", f'{A_DURATION}, got ""'),
    (MC, "spec.retention.uploads", 604800, "expected text, got 604800"),
    (MC, "spec.retention.uploads", "30s", 'expected a duration from 1m to 90d, got "30s"'),
    (MC, "spec.gc.dryRun", "yes", 'expected true or false, got "yes"'),
    (MC, "spec.gc.schedule", "nightly", 'expected a cron schedule of five fields, such as 17 3 * * *, got "nightly"'),
    (MC, "spec.placement.weight", -1, "expected at least 0, got -1"),
    (MC, "spec.etcd.type", "managed", "expected 'Managed' or 'External', got \"managed\""),
    (MC, "spec.etcd.managed.replicas", 2, "expected 1, 3 or 5, got 2"),
    (MC, "spec.etcd.managed.storage.size", "10 GB", 'expected a quantity such as 500m, 2 or 8Gi, got "10 GB"'),
    (MC, "spec.etcd.managed.storage.size", "1Mi", 'expected a quantity of at least 1Gi, got "1Mi"'),
    (MC, "spec.blockPools", "main", 'expected a list, got "main"'),
    (MC, "spec.blockPools.0.mode", "WriteOnly", "expected 'ReadWrite' or 'ReadOnly', got \"WriteOnly\""),
    (MC, "spec.blockPools", [], "expected 1 or more entries, got a list"),
    (MC, "spec.tiers.l2.replicas", 0, "expected at least 1, got 0"),
    (MC, "spec.deletionPolicy", "Keep", "expected 'Retain' or 'Delete', got \"Keep\""),
    (BP, "spec.store", "s3", 'expected a mapping, got "s3"'),
    (BP, "spec.store.managed.image", "not an image!", 'expected an image reference such as registry.example.com/name:tag, got "not an image!"'),
    (BP, "spec.store.managed.servers", 2, "expected 1, or at least 4"),
    (NF, "spec.ackDeadline", "91d", 'expected a duration from 1s to 90d, got "91d"'),
    (NF, "spec.queueLimit", 1, "expected at least 10, got 1"),
    (AP, "spec.publicURL", "http://x/y", 'expected a URL of scheme, host and optional port, such as https://files.example.com, got "http://x/y"'),
    (AP, "spec.auth.tokenTTL", "25h", 'expected a duration from 1m to 24h, got "25h"'),
    (AP, "spec.auth.registration", "Open", "expected 'AdminOnly', got \"Open\""),
    (AP, "spec.clusters", [{"name": "main"}, {"name": "main"}], "holds 'main' twice"),
    (AP, "metadata.namespace", "kube system", 'expected lower-case letters, digits and inner dashes, at most 63 characters, got "kube system"'),
]  # fmt: skip

UNKNOWN_FIELDS = [
    (MC, "spec.serverkey", "unknown field; did you mean serverKey?"),
    (MC, "spec.blockPools.0.weight", "unknown field; expected one of mode, name"),
    (MC, "spec.tiers.L1", "unknown field; expected one of l1, l2, l3"),
    (MC, "spec.retention.version", "unknown field; did you mean versions?"),
    (BP, "spec.store.s3", "unknown field; expected one of external, managed, type"),
    (AP, "spec.publicUrl", "unknown field; did you mean publicURL?"),
    (AP, "spec.auth.etcd.cluster.namespace", "unknown field; did you mean name?"),
    (AP, "metadata.label", "unknown field; did you mean labels?"),
    (NF, "data", "unknown field; did you mean metadata?"),
]

MISSING_FIELDS = [
    (MC, "spec.serverKey"),
    (MC, "spec.etcd.type"),
    (MC, "spec.blockPools.0.name"),
    (BP, "spec.store"),
    (BP, "spec.store.managed.image"),
    (NF, "spec"),
    (AP, "spec.auth.etcd"),
    (AP, "spec.clusters"),
]

UNIONS = [
    (MC, "spec.etcd.type", "External", ["spec.etcd.managed: only allowed when type is Managed"]),
    (MC, "spec.etcd.external", {"endpoints": ["http://etcd:2379"]}, ["spec.etcd.external: only allowed when type is External"]),
    (BP, "spec.store.type", "External", ["spec.store.external: required when type is External"]),
    (AP, "spec.auth.etcd.type", "External", ["spec.auth.etcd.cluster: only allowed when type is Cluster"]),
    (AP, "spec.exposure", {"type": "gateway"}, ["spec.exposure.gateway: required when type is gateway"]),
    (AP, "spec.exposure", {"type": "none", "ingress": {}}, ["spec.exposure.ingress: only allowed when type is ingress"]),
]  # fmt: skip


def test_the_quickstart_is_one_realm_with_all_four_kinds(manifests):
    realm = parse_realm([("quickstart", manifests.text())])
    assert realm.access_point.metadata.name == "home"
    assert [c.spec.server_key for c in realm.clusters] == ["main"]
    assert [p.metadata.name for p in realm.pools] == ["main"]
    assert [n.metadata.name for n in realm.notifiers] == ["main"]
    assert realm.unused == ()


def test_what_is_left_out_has_its_default(manifests):
    cluster = parse_realm([("quickstart", manifests.text())]).clusters[0].spec
    assert cluster.retention.model_dump() == {
        "versions": 20, "deleted": "30d", "uploads": "7d", "feed": "90d",
    }  # fmt: skip
    assert cluster.block_pools[0].mode == "ReadWrite"
    assert cluster.deletion_policy == "Retain"


@pytest.mark.parametrize("path", ["spec.retention", "spec.retention.deleted", "spec.blockPools.0.mode"])
def test_what_is_null_has_its_default_too(manifests, path):
    """So the API server takes it, and so a key that was left empty in a file ends."""
    cluster = parse_realm([("quickstart", manifests.set(MC, path, None).text())]).clusters[0].spec
    assert (cluster.retention.deleted, cluster.block_pools[0].mode) == ("30d", "ReadWrite")


@pytest.mark.parametrize(("title", "path"), MISSING_FIELDS)
def test_what_is_required_and_null_is_named(manifests, title, path):
    assert f"{title}: {path.replace('.0', '[0]')}: required" in manifests.set(title, path, None).problems()


@pytest.mark.parametrize(("title", "path", "value", "message"), WRONG_FIELDS)
def test_a_wrong_value_is_refused_with_what_was_expected(manifests, title, path, value, message):
    problems = manifests.set(title, path, value).problems()
    shown = path.replace(".0", "[0]")
    assert f"{title}: {shown}: {message}" in problems


@pytest.mark.parametrize(("title", "path", "message"), UNKNOWN_FIELDS)
def test_an_unknown_field_is_refused_with_the_known_ones(manifests, title, path, message):
    assert manifests.set(title, path, {}).problems() == [f"{title}: {path.replace('.0', '[0]')}: {message}"]


@pytest.mark.parametrize(("title", "path"), MISSING_FIELDS)
def test_a_missing_field_is_named(manifests, title, path):
    assert f"{title}: {path.replace('.0', '[0]')}: required" in manifests.drop(title, path).problems()


@pytest.mark.parametrize(("title", "path", "value", "messages"), UNIONS)
def test_type_and_member_of_a_union_belong_together(manifests, title, path, value, messages):
    assert manifests.set(title, path, value).problems() == [f"{title}: {message}" for message in messages]


def test_every_error_of_every_document_is_listed_in_the_order_of_the_file(manifests):
    manifests.set(AP, "spec.publicURL", "ftp://x").set(MC, "spec.serverKey", "A").set(BP, "spec.x", 1)
    manifests.set(NF, "spec.queueLimit", 0).set(MC, "spec.retention.versions", 0)
    titles = [problem.split(": ")[0:2] for problem in manifests.problems()]
    assert titles == [
        [AP, "spec.publicURL"],
        [MC, "spec.serverKey"],
        [MC, "spec.retention.versions"],
        [BP, "spec.x"],
        [NF, "spec.queueLimit"],
    ]


def test_a_reference_to_a_broken_document_is_not_called_missing_as_well(manifests):
    problems = manifests.set(BP, "spec.replicas", 0).problems()
    assert problems == [f"{BP}: spec.replicas: expected at least 1, got 0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "m.yaml:1: not YAML: expected the node content, but found '<stream end>'"),
        ("kind: x\nkind: y", "m.yaml:2: document 1: kind: is written twice"),
        ("- 1", "m.yaml:1: document 1: expected a mapping with apiVersion and kind, got a list"),
        ("hello", 'm.yaml:1: document 1: expected a mapping with apiVersion and kind, got "hello"'),
        ("1: 2", "m.yaml:1: document 1: expected text as the name of a field"),
        (
            "x: !!python/object:os.system {}",
            "m.yaml:1: document 1: x: expected plain data, not tag:yaml.org,2002:python/object:os.system",
        ),
        ("x: &a\n  y: *a", "m.yaml:1: document 1: x.y: an alias refers to what it is part of"),
        ("<<: {a: 1}", "m.yaml:1: document 1: merge keys (<<) are not supported; write the fields out"),
        ("x: \x07", "m.yaml:1: holds characters that YAML does not allow"),
        ("x: !!binary aGk=", "m.yaml:1: document 1: x: expected plain data, not tag:yaml.org,2002:binary"),
    ],
)
def test_text_that_is_no_manifest_is_refused_with_its_line(problems_of, text, message):
    assert any(problem.startswith(message) for problem in problems_of(text)), problems_of(text)


def test_aliases_that_expand_without_end_are_refused(problems_of):
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    assert problems_of("a0: &a0 [x]\n" + levels)[0].endswith("holds more than 100000 values")


def test_nesting_without_end_is_refused(problems_of):
    assert problems_of("[" * 20_000) == ["m.yaml:1: nested too deeply"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("apiVersion", "moorage.dev/v1", 'expected moorage.dev/v1alpha1, got "moorage.dev/v1"'),
        ("kind", "BlockPol", 'expected AccessPoint, MetadataCluster, BlockPool or Notifier, got "BlockPol"'),
    ],
)
def test_another_group_or_kind_is_refused(manifests, field, value, message):
    manifests.document(BP)[field] = value
    assert any(problem.endswith(f"{field}: {message}") for problem in manifests.problems())


def test_a_status_as_kubectl_shows_it_is_left_alone(manifests):
    manifests.document(BP)["status"] = {"conditions": []}
    manifests.document(BP)["metadata"] |= {"uid": "x", "resourceVersion": "1", "generation": 2}
    assert parse_realm([("m", manifests.text())]).pools


def test_the_line_is_that_of_the_field(problems_of, manifests):
    text = manifests.text()
    line = next(n for n, words in enumerate(text.splitlines(), 1) if "serverKey" in words)
    assert problems_of(text.replace("serverKey: main", "serverKey: M"))[0].startswith(f"m.yaml:{line}: ")


def test_manifests_may_be_spread_over_files(manifests):
    one, *others = manifests.documents
    manifests.documents = others
    rest = manifests.text()
    manifests.documents = [one]
    assert parse_realm([("a.yaml", rest), ("b.yaml", manifests.text())]).clusters
