"""A certificate authority that speaks for devices (provisioning-and-pki 3.6)."""

from typing import Literal

import msgspec

AuthorityState = Literal["unverified", "active"]


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """certificate: DER. code: what the proof of possession must be made out to, until ``code_expires``; empty for
    none asked for. Times are Unix seconds.
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
