"""Secrets are made once, kept for their owner alone, and public parts are what verifiers expect."""

import json
import stat

import pytest

from moorage_nodes.trust import parse_trust
from moorage_operator.local.claim import claim
from moorage_operator.local.credentials import (
    ensure_admin_token,
    ensure_s3_credentials,
    ensure_signing_keys,
)
from moorage_operator.local.failure import UpError
from moorage_operator.plan import Service, build_trust

SERVICES = (Service("l1", "l1-main", "main"), Service("auth", "auth"))


@pytest.fixture
def data(tmp_path):
    with claim(tmp_path / "data") as claimed:
        yield claimed


def test_a_second_start_finds_the_same_secrets(data):
    assert ensure_admin_token(data) == ensure_admin_token(data)
    assert ensure_s3_credentials(data) == ensure_s3_credentials(data)
    assert ensure_signing_keys(data, SERVICES) == ensure_signing_keys(data, SERVICES)


def test_two_directories_have_nothing_in_common(data, tmp_path):
    with claim(tmp_path / "other") as other:
        assert ensure_admin_token(data) != ensure_admin_token(other)
        assert not set(ensure_s3_credentials(data)) & set(ensure_s3_credentials(other))
        mine, others = (ensure_signing_keys(d, SERVICES) for d in (data, other))
        assert not {key.kid for key in mine} & {key.kid for key in others}


def test_every_file_with_a_secret_is_for_its_owner_alone(data):
    ensure_admin_token(data)
    ensure_s3_credentials(data)
    ensure_signing_keys(data, SERVICES)
    files = [*data.secrets.iterdir(), data.admin_header]
    assert len(files) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (data.root, data.secrets)} == {0o700}


def test_the_header_file_is_what_curl_sends(data):
    token = ensure_admin_token(data)
    assert len(token) >= 43
    assert data.admin_header.read_text() == f"Authorization: Bearer {token}\n"


def test_each_s3_server_reads_the_same_credentials(data):
    access, secret = ensure_s3_credentials(data)
    kept = json.loads(data.s3_credentials.read_text())
    assert kept == {"access_key_id": access, "secret_access_key": secret}
    assert f"MINIO_ROOT_USER={access}\nMINIO_ROOT_PASSWORD={secret}\n" in data.minio_environment.read_text()
    (identity,) = json.loads(data.seaweedfs_identities.read_text())["identities"]
    assert identity["credentials"] == [{"accessKey": access, "secretKey": secret}]


def test_servers_accept_the_trust_file_that_is_built_of_the_keys(data):
    keys = ensure_signing_keys(data, SERVICES)
    trust = parse_trust(json.dumps(build_trust(keys, SERVICES, 1)).encode())
    assert {key.issuer for key in trust.keys.values()} == {"l1", "auth"}


def test_a_key_of_another_kind_is_a_clear_error(data):
    data.signing_key("auth").write_text(
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
        "-----END PRIVATE KEY-----\n"
    )
    with pytest.raises(UpError, match=r"auth.pem is not a P-256 private key"):
        ensure_signing_keys(data, SERVICES)
