"""Devices that the hub's own authority issues certificates to: keys are made here, requests go over REST."""

from pathlib import Path
from typing import Any, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conversations.https_peer import Answer, request
from hubkeep.testing import HubInThread

CERTIFICATES = "/api/certificates"


def csr(key: Any, name: str | list[str] | None, *extensions: x509.ExtensionType, digest: Any = None) -> Any:
    """A certificate request. name: common name or names; None for an empty subject."""
    names = [name] if isinstance(name, str) else name or []
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for each in extensions:
        builder = builder.add_extension(each, critical=False)
    return builder.sign(key, digest or hashes.SHA256())


def pem(request_or_certificate: Any) -> str:
    return str(request_or_certificate.public_bytes(serialization.Encoding.PEM).decode())


class OwnCertificate(NamedTuple):
    key: Any
    chain: list[str]  # PEM, the leaf first
    record: dict[str, Any]

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.chain[0].encode())

    @classmethod
    def issued(cls, hub: HubInThread, device_id: str, key: Any = None, **wanted: Any) -> Self:
        """To a device or module that is registered."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        module = f"/{wanted['moduleId']}" if "moduleId" in wanted else ""
        answer = asked(hub, device_id, csr(key, device_id + module), **wanted)
        assert answer.status == 200, answer
        return cls(key, answer.body["chain"], answer.body)

    def file(self, folder: Path, *, chain: int = 1) -> Path:
        """Key, certificate, and the certificates between it and the root in one file. chain: how many, its own too."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = folder / f"{self.record['serial']}.pem"
        path.write_text(private.decode() + "".join(self.chain[:chain]))
        return path


def asked(hub: HubInThread, device_id: str, signing_request: Any, **wanted: Any) -> Answer:
    text = signing_request if isinstance(signing_request, str) else pem(signing_request)
    return request(hub, "POST", CERTIFICATES, {"deviceId": device_id, "csr": text, **wanted})


def revoke(hub: HubInThread, **what: Any) -> Answer:
    return request(hub, "POST", f"{CERTIFICATES}/revoke", what)
