"""The models as the schema that `kubectl explain` will show."""

from collections.abc import Iterator
from typing import Any

import pytest

from moorage_operator.spec.base import to_field_name
from moorage_operator.spec.load import KINDS
from moorage_operator.spec.scalars import parse_duration, parse_quantity


def objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield schema["title"], schema
    yield from schema["$defs"].items()


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_a_sentence(kind):
    schema = KINDS[kind].model_json_schema()

    def sentence(field: dict[str, Any]) -> str:
        # A field that says what its object says of itself is a mere reference in the schema.
        return field.get("description") or schema["$defs"][field["$ref"].rpartition("/")[2]]["description"]

    bare = [
        f"{title}.{name}"
        for title, described in objects(schema)
        for name, field in described["properties"].items()
        if not sentence(field).endswith(".")
    ]
    assert bare == []


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_fields_are_refused_everywhere(kind):
    assert all(
        schema["additionalProperties"] is False for _, schema in objects(KINDS[kind].model_json_schema())
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_list_and_text_of_a_spec_is_bounded(kind):
    def unbounded(field: dict[str, Any]) -> bool:
        members = field.get("anyOf", [field])
        return any(
            (m.get("type") == "array" and "maxItems" not in m)
            or (m.get("type") == "string" and not {"maxLength", "enum", "const"} & m.keys())
            or (m.get("type") == "integer" and not {"maximum", "enum", "minimum"} & m.keys())
            for m in members
        )

    found = [
        f"{title}.{name}"
        for title, schema in objects(KINDS[kind].model_json_schema())
        for name, field in schema["properties"].items()
        if title != "ObjectMeta" and unbounded(field)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "spelled"),
    [("server_key", "serverKey"), ("public_url", "publicURL"), ("extra_urls", "extraURLs"), ("l1", "l1"),
     ("token_ttl", "tokenTTL"), ("tls_secret_ref", "tlsSecretRef"), ("gc", "gc")],
)  # fmt: skip
def test_fields_are_spelled_as_kubernetes_does(name, spelled):
    assert to_field_name(name) == spelled


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("30d", 2_592_000), ("1d1h1m1s", 90_061)],
)
def test_a_duration_is_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "1.5h", "-1s", "1m1h", "1s1s", "1w", " 1s", "1s\n", "٣s", "1234567s"])  # fmt: skip
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", 0), ("2", 2), ("500m", 0.5), ("8Gi", 8 * 2**30), ("1.5G", 1.5e9), ("3k", 3000), ("1Pi", 2**50)],
)
def test_a_quantity_is_read(text, amount):
    assert float(parse_quantity(text)) == amount


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "-1", "1e3", "1GiB", "0x10", "1..5"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError):
        parse_quantity(text)


def test_instances_are_immutable(manifests):
    pool = KINDS["BlockPool"].model_validate_json(
        '{"apiVersion": "moorage.dev/v1alpha1", "kind": "BlockPool", "metadata": {"name": "a"}, "spec": {"store":'
        ' {"type": "Managed", "managed": {"image": "x"}}}}'
    )
    with pytest.raises(ValueError, match="frozen"):
        pool.spec.replicas = 3
