"""A certificate authority that speaks for devices, or a root above one (provisioning-and-pki 3.6, 4.3)."""

from typing import Literal

import msgspec

AuthorityState = Literal["unverified", "waiting", "staged", "active", "retiring", "revoked"]
AuthorityKind = Literal["registered", "root", "issuing"]
RevocationMode = Literal["off", "soft", "hard"]


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """certificate: DER. code: what the proof of possession must be made out to, until ``code_expires``; empty for
    none asked for. Times are Unix seconds.

    state: ``unverified`` until its key was proved; ``waiting`` for its certificate from a root elsewhere; ``staged``
    is known and not trusted; ``retiring`` is trusted for identities already seen under it.
    kind: a ``root`` of the hub's own vouches for its ``issuing`` authorities, never for devices.
    chain: certificates above it (DER), the nearest first. key: where its private key lies (``file``, or a PKCS#11 URI);
    empty: not with this hub. vouched: an administrator's word stands in for the proof.
    allowed_ids: patterns of the identities that it may speak for (``press-*``); none: all.
    days: how long certificates last that it issues.
    manual_approval: somebody approves each request that a device makes.
    revocation: what becomes of a device when the list or the answer of ``crl_url``, ``ocsp_url`` is not to be had:
    ``soft`` lets it in and tells, ``hard`` refuses; ``off`` asks nobody.
    """

    name: str
    certificate: bytes
    sha256: str
    state: AuthorityState
    etag: str
    created: float
    updated: float
    code: str = ""
    code_expires: float = 0.0
    kind: AuthorityKind = "registered"
    chain: tuple[bytes, ...] = ()
    key: str = ""
    vouched: bool = False
    allowed_ids: tuple[str, ...] = ()
    days: float = 0.0
    revocation: RevocationMode = "off"
    crl_url: str = ""
    ocsp_url: str = ""
    manual_approval: bool = False

    @property
    def is_own(self) -> bool:
        """Whether the hub made it: what it issued stands in the issuance log."""
        return self.kind != "registered"
