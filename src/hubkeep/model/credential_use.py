"""How the credentials of identities and policies are used, so that their replacement can be planned."""

from typing import Literal

import msgspec

from .principal import Surface

CredentialSlot = Literal["primary", "secondary", "authority"]


class CredentialUse(msgspec.Struct, frozen=True, kw_only=True):
    """The uses of one credential. Times are Unix seconds; 0 means never, or not known.

    policy: the one that signed; empty for an identity's own credential. device_id: empty for a back end's.
    slot: which of two keys or thumbprints; ``authority``: a certificate that a registered authority vouches for.
    created: when what is in the slot was put there. surface, tls, client, peer: of the newest use.
    token_seconds: how long the newest token was still valid. old_tls: the newest version below 1.2, and when.
    certificate_ends: Unix seconds at which the newest certificate ends; 0 for a key.
    """

    slot: CredentialSlot
    policy: str = ""
    device_id: str = ""
    module_id: str = ""
    created: float = 0.0
    first_used: float = 0.0
    last_used: float = 0.0
    uses: int = 0
    surface: Surface | Literal[""] = ""
    tls: str = ""
    client: str = ""
    peer: str = ""
    token_seconds: int = 0
    old_tls: str = ""
    old_tls_used: float = 0.0
    certificate_ends: float = 0.0


class Replaced(msgspec.Struct, frozen=True):
    """A slot of an identity (or of a policy, whose device_id is empty) holds something new since ``at``."""

    policy: str
    device_id: str
    module_id: str
    slot: CredentialSlot
    at: float
