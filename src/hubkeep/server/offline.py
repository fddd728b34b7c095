"""What needs no running hub: a root that stays elsewhere, and why a certificate would be refused."""

import datetime as dt
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.connection.certificate_paths import DevicePaths
from hubkeep.connection.client_certificates import prove
from hubkeep.device import profiles
from hubkeep.device.authorities import check_authority, fingerprint
from hubkeep.device.requests import key_fingerprint, read_request
from hubkeep.errors import BadRequest, Unauthorized
from hubkeep.model import Authority, Identity
from hubkeep.ports import PrivateKey
from hubkeep.store.authorities import read_authorities
from hubkeep.store.signing_keys import new_key


class Judgement(NamedTuple):
    """word: of the check that failed; empty: none did. authority: what vouches for it."""

    word: str
    reason: str
    remedy: str
    authority: str
    expires: float


def new_root(name: str, algorithm: str, now: dt.datetime) -> tuple[str, PrivateKey]:
    """A root for a machine that no network reaches: its certificate (PEM) and key. Raises BadRequest."""
    key = new_key(algorithm)
    return _pem(profiles.root_certificate(key, name, now)), key


def signed_issuer(request: bytes, root: bytes, key: PrivateKey, days: float, now: dt.datetime) -> str:
    """The certificate (PEM) of an issuing authority, for the request that a hub made. Raises BadRequest."""
    asked = read_request(request)
    if len(asked.names) != 1:
        raise BadRequest("The request names no authority.")
    certificate = x509.load_pem_x509_certificate(root)
    check_authority(certificate, now.timestamp())
    if key_fingerprint(certificate.public_key()) != key_fingerprint(key.public_key()):
        raise BadRequest("The key is not that of the root.")
    return _pem(profiles.issuing_certificate(asked.public_key, asked.names[0], certificate, key, now, days))


def registered(directory: Path) -> Sequence[Authority]:
    """The authorities of a data directory, whether a hub serves it or not; none where there is no registry yet."""
    try:
        return read_authorities(directory / "registry.db")
    except (sqlite3.Error, TypeError, KeyError):
        return ()


def trusted_for(pems: Sequence[str]) -> Sequence[Authority]:
    """Authorities as they stand in files. Raises BadRequest for one that is none."""
    found = []
    for each in pems:
        certificate = x509.load_pem_x509_certificate(each.encode())
        der = certificate.public_bytes(Encoding.DER)
        name = certificate.subject.rfc4514_string()
        found.append(
            Authority(
                name=name, certificate=der, sha256=fingerprint(der), state="active", etag="", created=0, updated=0
            )
        )
    return found


def judged(chain: Sequence[bytes], name: str, authorities: Sequence[Authority], now: float) -> Judgement:
    """Whether a hub that trusts ``authorities`` takes a certificate (DER, with what is presented beside it) for the
    identity of this name; what it cannot know without the hub is left out: the issuance log, revocation, the identity.
    """
    device, _, module = name.partition("/")
    identity = Identity(device_id=device, module_id=module, authentication="certificateAuthority")
    trusted = [each for each in authorities if each.state in {"active", "retiring"} and each.kind != "root"]
    try:
        proof = prove(identity, chain, now, DevicePaths(lambda: trusted))
    except Unauthorized as refused:
        word, colon, told = refused.reason.partition(": ")
        return Judgement(word if colon else "refused", told or refused.reason, refused.remedy, "", 0.0)
    return Judgement("", "", "", proof.authority, proof.expires)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
