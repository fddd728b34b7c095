"""The trust bundle for devices: which roots they should hold, signed and versioned (provisioning-and-pki 4.4).

A JWS in compact form, ES256. A device knows the signers from its firmware, and takes a bundle by its signature, its
scope and its version alone: no clock and no trusted connection is needed. A published version never changes.
"""

import datetime as dt
import hashlib
import json
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from hubkeep.errors import NotFound

from .server_certificates import WriteSecret

_SIGNERS: Final = ("B1", "B2")  # the second one signs nothing until the first is lost
_REFRESH: Final = dt.timedelta(days=365)
_COORDINATE: Final = 32  # bytes, of P-256


class SignedBundle:
    """scope: the id scope, which every device is told. hosts: as in the document. states: of roots, by SHA-256."""

    def __init__(
        self,
        directory: Path,
        pem: Path,
        scope: str,
        hosts: Callable[[], Mapping[str, list[str]]],
        write_secret: WriteSecret,
        now: Callable[[], float],
    ) -> None:
        self._folder, self._pem, self._scope, self._hosts = directory / "bundles", pem, scope, hosts
        self._write_secret, self._now = write_secret, now
        self._keys = {each: _key(directory / "keys" / f"bundle-{each}.key", write_secret) for each in _SIGNERS}
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.version = max((int(each.stem) for each in self._folder.glob("*.jws")), default=0)

    def refresh(self, states: Mapping[str, str], removed: Mapping[str, float]) -> None:
        """Publish a new version if what it would say has changed. removed: roots to forget, by SHA-256, and when."""
        said = self._said(states, removed)
        if self.version and _payload(self.of(self.version)) | said == _payload(self.of(self.version)):
            return
        now = dt.datetime.fromtimestamp(int(self._now()), dt.UTC)
        document = {
            "format": "hubkeep-trust/1",
            "scope": self._scope,
            "version": self.version + 1,
            "issuedAt": _stamp(now),
            "refreshBy": _stamp(now + _REFRESH),
            **said,
        }
        self._write_secret(self._folder / f"{self.version + 1}.jws", self._signed(document))
        self.version += 1

    def of(self, version: int) -> bytes:
        """Raises NotFound."""
        try:
            return (self._folder / f"{version}.jws").read_bytes()
        except FileNotFoundError:
            raise NotFound(reason=f"there is no trust bundle {version}: the newest is {self.version}") from None

    def since(self, root: str) -> int:
        """The first version from which on every one lists the root with this SHA-256; behind the newest: none does."""
        first = self.version + 1
        while first > 1 and any(each["sha256"] == root for each in _payload(self.of(first - 1))["anchors"]):
            first -= 1
        return first

    def _said(self, states: Mapping[str, str], removed: Mapping[str, float]) -> dict[str, Any]:
        anchors = []
        for number, each in enumerate(x509.load_pem_x509_certificates(self._pem.read_bytes()), 1):
            der = each.public_bytes(Encoding.DER)
            sha256 = hashlib.sha256(der).hexdigest()
            state = states.get(sha256, "active")
            anchors.append({"id": f"R{number}", "use": ["server"], "state": state, "sha256": sha256, "der": _text(der)})
        signers = [{"kid": kid, "alg": "ES256", "jwk": _jwk(key.public_key())} for kid, key in self._keys.items()]
        remove = [
            {"sha256": each, "after": _stamp(dt.datetime.fromtimestamp(int(at), dt.UTC))}
            for each, at in removed.items()
        ]
        return {"anchors": anchors, "remove": remove, "hosts": dict(self._hosts()), "signers": signers}

    def _signed(self, document: Mapping[str, Any]) -> bytes:
        header = {"alg": "ES256", "kid": _SIGNERS[0], "typ": "hubkeep-trust+jws"}
        text = b".".join(_url(json.dumps(each, separators=(",", ":")).encode()) for each in (header, document))
        r, s = decode_dss_signature(self._keys[_SIGNERS[0]].sign(text, ec.ECDSA(hashes.SHA256())))
        return text + b"." + _url(r.to_bytes(_COORDINATE, "big") + s.to_bytes(_COORDINATE, "big"))


def _key(path: Path, write_secret: WriteSecret) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    found = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return found


def _jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    x, y = (_url(each.to_bytes(_COORDINATE, "big")).decode() for each in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def _payload(jws: bytes) -> dict[str, Any]:
    part = jws.split(b".")[1]
    document: dict[str, Any] = json.loads(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    return document


def _url(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")


def _text(content: bytes) -> str:
    return b64encode(content).decode()


def _stamp(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
