"""The certificates of a managed etcd, and how they are renewed without a gap. Pure: clock and keys are handed in.

Two authorities, so that no client can pass as a member: one for members among themselves (`peer`), one for what members
show to clients and clients to members (`client`). etcd reads leaf certificates at every handshake and authorities only
when it starts, so leaves are simply replaced, and an authority changes in three steps, each taken by `advance` when its
time has come:

1. the next authority joins the bundle that everybody trusts; members are restarted one by one (`bundle_revision`);
2. once all have loaded it, leaves are signed by it;
3. when nobody can hold a leaf of the old one any more, that leaves the bundle; members are restarted one by one.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Kind = Literal["peer", "client"]
Leaf = Literal["peer", "server", "client"]
KINDS: tuple[Kind, ...] = ("peer", "client")
LEAVES: Mapping[Leaf, Kind] = {"peer": "peer", "server": "client", "client": "client"}
NewKey = Callable[[], ec.EllipticCurvePrivateKey]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """`renew`: which share of a life has passed when the next one begins."""

    authority: dt.timedelta = dt.timedelta(days=3650)
    leaf: dt.timedelta = dt.timedelta(days=90)
    settle: dt.timedelta = dt.timedelta(hours=1)
    renew: float = 2 / 3


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, PEM. `key` is secret."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Credential(…)"

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)


@dataclass(frozen=True, slots=True)
class Authority:
    """`following`: the next one, trusted already. `signing`: which of the two signs. `since`: of this state."""

    current: Credential
    since: dt.datetime
    following: Credential | None = None
    signing: Literal["current", "following"] = "current"

    @property
    def signer(self) -> Credential:
        if self.signing == "following" and self.following is not None:
            return self.following
        return self.current

    @property
    def bundle(self) -> bytes:
        """What is trusted."""
        return self.current.certificate + (self.following.certificate if self.following else b"")


@dataclass(frozen=True, slots=True)
class Pki:
    """All of one etcd."""

    authorities: Mapping[Kind, Authority]
    leaves: Mapping[Leaf, Credential]

    @property
    def bundle_revision(self) -> int:
        """Another number when a bundle is another one: members load it by a restart."""
        content = b"".join(self.authorities[kind].bundle for kind in KINDS)
        return int(hashlib.sha256(content).hexdigest()[:8], 16)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom the certificates are for: the etcd's name, and the DNS names and addresses of its members."""

    name: str
    hosts: tuple[str, ...]
    addresses: tuple[x509.GeneralName, ...] = ()


def found_pki(subject: Subject, now: dt.datetime, new_key: NewKey, lifetimes: Lifetimes = Lifetimes()) -> Pki:
    """The first certificates of an etcd."""
    authorities = {
        kind: Authority(_issue_authority(f"{subject.name} {kind}", now, new_key(), lifetimes), now)
        for kind in KINDS
    }
    leaves = {
        leaf: _issue_leaf(leaf, subject, authorities[kind].signer, now, new_key(), lifetimes)
        for leaf, kind in LEAVES.items()
    }
    return Pki(authorities, leaves)


def advance_pki(
    pki: Pki,
    subject: Subject,
    now: dt.datetime,
    new_key: NewKey,
    *,
    bundle_loaded: bool,
    lifetimes: Lifetimes = Lifetimes(),
) -> Pki:
    """The same value when nothing is due; else the next one, to be written whole. At most one step per authority.

    `bundle_loaded`: every member runs with `bundle_revision`, and clients have had time to read it.
    """
    authorities = dict(pki.authorities)
    for kind, authority in pki.authorities.items():
        authorities[kind] = _advance_authority(
            authority, f"{subject.name} {kind}", now, new_key, lifetimes, loaded=bundle_loaded
        )
    leaves = dict(pki.leaves)
    for leaf, kind in LEAVES.items():
        signer = authorities[kind].signer
        if not signer.key:
            continue  # lost; its leaves stay until the next authority signs
        if _is_due(leaves[leaf], now, lifetimes) or not _is_leaf_of(leaves[leaf], signer, subject, leaf):
            leaves[leaf] = _issue_leaf(leaf, subject, signer, now, new_key(), lifetimes)
    if authorities == pki.authorities and leaves == pki.leaves:
        return pki
    return Pki(authorities, leaves)


def recover_pki(
    leaves: Mapping[Leaf, Credential],
    bundles: Mapping[Kind, bytes],
    subject: Subject,
    now: dt.datetime,
    new_key: NewKey,
    lifetimes: Lifetimes = Lifetimes(),
) -> Pki:
    """When the authorities' keys are lost and what they signed is not: new authorities that are trusted beside the old
    ones first, and sign when everybody has loaded them. Nobody is locked out on the way. ValueError when leaves and
    bundles do not belong together.
    """
    authorities: dict[Kind, Authority] = {}
    for leaf, kind in LEAVES.items():
        trusted = x509.load_pem_x509_certificates(bundles[kind])
        signers = [one for one in trusted if _is_signed_by(leaves[leaf].parsed, one)]
        if not signers:
            raise ValueError(f"Nobody in the bundle has signed the certificate for {leaf}.")
        others = [one for one in trusted if one is not signers[0]]
        lost = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (signers[0], *others))
        if kind not in authorities:
            following = _issue_authority(f"{subject.name} {kind}", now, new_key(), lifetimes)
            authorities[kind] = Authority(Credential(lost, b""), now, following)
    return Pki(authorities, dict(leaves))


def _advance_authority(
    authority: Authority,
    name: str,
    now: dt.datetime,
    new_key: NewKey,
    lifetimes: Lifetimes,
    *,
    loaded: bool,
) -> Authority:
    if authority.following is None:
        if not _is_due(authority.current, now, lifetimes):
            return authority
        return replace(authority, following=_issue_authority(name, now, new_key(), lifetimes), since=now)
    settled = loaded and now >= authority.since + lifetimes.settle
    if not settled:
        return authority
    if authority.signing == "current":
        return replace(authority, signing="following", since=now)
    return Authority(authority.following, now)


def _is_due(credential: Credential, now: dt.datetime, lifetimes: Lifetimes) -> bool:
    certificate = credential.parsed
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now >= certificate.not_valid_before_utc + life * lifetimes.renew


def _is_leaf_of(leaf: Credential, signer: Credential, subject: Subject, kind: Leaf) -> bool:
    certificate = leaf.parsed
    if not _is_signed_by(certificate, signer.parsed):
        return False
    if kind == "client":
        return True
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(names.get_values_for_type(x509.DNSName)) == subject.hosts


def _is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _issue_authority(
    name: str, now: dt.datetime, key: ec.EllipticCurvePrivateKey, lifetimes: Lifetimes
) -> Credential:
    subject = _name(f"{name} authority")
    builder = _certificate(subject, subject, key, now, lifetimes.authority)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return _credential(builder.sign(key, hashes.SHA256()), key)


def _issue_leaf(
    leaf: Leaf,
    subject: Subject,
    signer: Credential,
    now: dt.datetime,
    key: ec.EllipticCurvePrivateKey,
    lifetimes: Lifetimes,
) -> Credential:
    authority = signer.parsed
    signing_key = serialization.load_pem_private_key(signer.key, None)
    assert isinstance(signing_key, ec.EllipticCurvePrivateKey)  # we made it
    builder = _certificate(_name(f"{subject.name} {leaf}"), authority.subject, key, now, lifetimes.leaf)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    # A member is both: it connects to others, and its own gateway to itself.
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if leaf != "client":
        uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
        names = [*map(x509.DNSName, subject.hosts), *subject.addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    builder = builder.add_extension(of_issuer, critical=False)
    return _credential(builder.sign(signing_key, hashes.SHA256()), key)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ a little; a certificate that is not valid yet would be refused.
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _credential(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credential:
    return Credential(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
