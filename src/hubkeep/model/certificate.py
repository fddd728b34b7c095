"""What the hub's own authorities issued, and what is denied whoever issued it (provisioning-and-pki 3.7, 4.9)."""

from typing import Final, Literal

import msgspec

Door = Literal["operator", "est", "provisioning", "mqtt"]
# RFC 5280 section 5.3.1, as far as they make sense for a device
RevocationReason = Literal[
    "unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation"
]
REVOCATION_REASONS: Final[tuple[str, ...]] = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
)
DenialKind = Literal["cert", "spki", "serial"]


class IssuedCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the issuance log, written before anything is signed. Times are Unix seconds; 0: never.

    serial: hexadecimal, upper case. certificate: DER, empty while it is being signed. identity_generation: of the
    identity that it was issued to; one of the same name that was made later is another. superseded: from when on a
    newer one stands in its place. key_sha256: of the public key info.
    """

    authority: str
    serial: str
    device_id: str
    module_id: str = ""
    identity_generation: str = ""
    generation: int = 1
    key_sha256: str = ""
    certificate: bytes = b""
    issued: float = 0.0
    not_before: float = 0.0
    not_after: float = 0.0
    door: Door = "operator"
    first_used: float = 0.0
    last_used: float = 0.0
    superseded: float = 0.0
    revoked: float = 0.0
    reason: str = ""

    @property
    def name(self) -> str:
        """Of the identity: what the certificate is made out to."""
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id


class CertificateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that waits, or was decided. id: SHA-256 of the public key info. Times are Unix seconds."""

    id: str
    authority: str
    device_id: str
    module_id: str = ""
    identity_generation: str = ""
    state: Literal["waiting", "approved", "refused"] = "waiting"
    asked: float = 0.0
    decided: float = 0.0
    by: str = ""


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the deny-list. mark: what a certificate is looked up by. value: hexadecimal SHA-256 of the
    certificate or of its public key info, or the serial number under ``issuer`` (RFC 4514). until: 0 for ever.
    """

    mark: str
    kind: DenialKind
    value: str
    issuer: str = ""
    reason: str = "unspecified"
    at: float = 0.0
    by: str = ""
    until: float = 0.0
