"""The certificates of a managed etcd: what is due, in which order, and what is never lost on the way."""

import datetime as dt
import itertools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from moorage_operator.resources.pki import Lifetimes, Subject, advance_pki, found_pki, recover_pki
from moorage_operator.resources.pki_secrets import (
    build_pki_secrets,
    build_subject,
    leaf_secrets,
    parse_mounted,
    parse_pki,
)

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
SUBJECT = build_subject("main", "files", 3)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def pki():
    return found_pki(SUBJECT, START, new_key)


def advance(pki, now, *, loaded=True, subject=SUBJECT):
    return advance_pki(pki, subject, now, new_key, bundle_loaded=loaded)


def test_every_member_is_named_and_clients_and_members_have_authorities_of_their_own(pki):
    names = pki.leaves["server"].parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [
        "localhost",
        "main-etcd.files.svc",
        "main-etcd-0.main-etcd.files.svc",
        "main-etcd-1.main-etcd.files.svc",
        "main-etcd-2.main-etcd.files.svc",
    ]
    pki.leaves["peer"].parsed.verify_directly_issued_by(pki.authorities["peer"].current.parsed)
    for leaf in ("server", "client"):
        pki.leaves[leaf].parsed.verify_directly_issued_by(pki.authorities["client"].current.parsed)


def test_nothing_is_done_while_nothing_is_due(pki):
    assert advance(pki, START + 59 * DAY) is pki


def test_a_leaf_is_renewed_in_good_time_and_no_member_restarts(pki):
    later = advance(pki, START + 61 * DAY)
    assert later.leaves != pki.leaves
    assert later.authorities == pki.authorities
    assert later.bundle_revision == pki.bundle_revision
    assert all(leaf.parsed.not_valid_after_utc >= START + 150 * DAY for leaf in later.leaves.values())


def test_an_authority_is_trusted_before_it_signs_and_signs_before_the_old_one_goes(pki):
    now = START + 2500 * DAY
    trusted = advance(pki, now)
    assert trusted.bundle_revision != pki.bundle_revision
    for kind, authority in trusted.authorities.items():
        assert authority.signer == pki.authorities[kind].current
        assert authority.bundle.count(b"BEGIN CERTIFICATE") == 2
    # Not before everybody has it, however long that takes.
    assert advance(trusted, now + 10 * DAY, loaded=False).authorities == trusted.authorities
    assert advance(trusted, now + dt.timedelta(minutes=1)) is trusted
    signing = advance(trusted, now + DAY)
    assert signing.bundle_revision == trusted.bundle_revision
    assert all(authority.signing == "following" for authority in signing.authorities.values())
    assert all(
        signing.leaves[leaf].parsed.issuer and signing.leaves[leaf] != trusted.leaves[leaf]
        for leaf in signing.leaves
    )
    done = advance(signing, now + 2 * DAY)
    assert done.bundle_revision not in {pki.bundle_revision, trusted.bundle_revision}
    assert all(authority.following is None for authority in done.authorities.values())
    assert done.leaves == signing.leaves
    assert advance(done, now + 3 * DAY) is done


def test_at_every_step_every_leaf_is_trusted_by_the_bundle_of_the_step_before_and_after(pki):
    """Members and clients load bundles at different times: leaves of either side must be good for both."""
    now, steps = START + 2500 * DAY, [pki]
    for _ in range(6):
        now += DAY
        steps.append(advance(steps[-1], now))
    for before, after in itertools.pairwise(steps):
        for one, other in ((before, after), (after, before)):
            for leaf, credential in one.leaves.items():
                kind = "peer" if leaf == "peer" else "client"
                trusted = x509.load_pem_x509_certificates(other.authorities[kind].bundle)
                assert any(signed_by(credential.parsed, authority) for authority in trusted)


def signed_by(certificate, authority) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:
        return False
    return True


def test_lost_authorities_are_replaced_without_locking_anybody_out(pki):
    secrets = build_pki_secrets("main", pki)
    leaves, bundles = parse_mounted({leaf: secrets[name] for leaf, name in leaf_secrets("main").items()})
    now = START + DAY
    recovered = recover_pki(leaves, bundles, SUBJECT, now, new_key)
    assert recovered.leaves == pki.leaves
    assert recovered.bundle_revision != pki.bundle_revision
    for kind, authority in recovered.authorities.items():
        assert authority.bundle.startswith(pki.authorities[kind].bundle)
    # Nothing is signed by what is lost, be it due or named otherwise.
    late = advance(recovered, now + 80 * DAY, loaded=False, subject=Subject(SUBJECT.name, ("localhost",)))
    assert late.leaves == pki.leaves
    signing = advance(recovered, now + DAY)
    for leaf, credential in signing.leaves.items():
        kind = "peer" if leaf == "peer" else "client"
        following = recovered.authorities[kind].following
        assert following is not None
        assert signed_by(credential.parsed, following.parsed)
    done = advance(signing, now + 2 * DAY)
    assert all(authority.bundle.count(b"BEGIN CERTIFICATE") == 1 for authority in done.authorities.values())


def test_what_does_not_belong_together_is_not_recovered(pki):
    other = found_pki(SUBJECT, START, new_key)
    bundles = {kind: authority.bundle for kind, authority in other.authorities.items()}
    with pytest.raises(ValueError, match="Nobody"):
        recover_pki(pki.leaves, bundles, SUBJECT, START, new_key)
    with pytest.raises(ValueError, match="does not hold"):
        parse_mounted({"peer": {}, "server": {}, "client": {}})


def test_other_names_make_other_leaves(pki):
    other = advance(pki, START, subject=Subject(SUBJECT.name, ("localhost",)))
    assert other.leaves["server"] != pki.leaves["server"]
    assert other.leaves["client"] == pki.leaves["client"]


def test_the_secrets_hold_the_state_and_what_each_mounts(pki):
    secrets = build_pki_secrets("main", pki)
    assert list(secrets) == [
        "main-etcd-authority",
        "main-etcd-peer-tls",
        "main-etcd-server-tls",
        "main-etcd-client-tls",
    ]
    assert parse_pki(secrets["main-etcd-authority"]) == pki
    rotating = advance(pki, START + 2500 * DAY)
    assert parse_pki(build_pki_secrets("main", rotating)["main-etcd-authority"]) == rotating
    assert all(set(data) == {"ca.crt", "tls.crt", "tls.key"} for data in list(secrets.values())[1:])


@pytest.mark.parametrize("data", [{}, {"pki.json": "bm90aGluZw=="}, {"pki.json": "e30="}, {"pki.json": "%"}])
def test_what_somebody_else_wrote_is_not_taken_for_the_state(data):
    with pytest.raises(ValueError, match="does not hold"):
        parse_pki(data)


def test_no_key_is_shown(pki):
    assert "PRIVATE" not in repr(pki)


def test_a_life_that_is_short_is_renewed_by_its_share():
    lifetimes = Lifetimes(leaf=dt.timedelta(hours=3))
    pki = found_pki(SUBJECT, START, new_key, lifetimes)
    assert (
        advance_pki(
            pki, SUBJECT, START + dt.timedelta(hours=1), new_key, bundle_loaded=True, lifetimes=lifetimes
        )
        is pki
    )
    later = START + dt.timedelta(hours=2, minutes=5)
    assert advance_pki(pki, SUBJECT, later, new_key, bundle_loaded=True, lifetimes=lifetimes) is not pki
