"""The record of who did what: entries in chains, each bound to the one before it by SHA-256."""

from hashlib import sha256
from typing import Final, Literal, get_args

import msgspec

# A chain each, so that a storm of one kind never pushes out what is rare and matters more.
AuditChain = Literal["changes", "commands", "disclosures", "logins", "refusals"]
AUDIT_CHAINS: Final[tuple[AuditChain, ...]] = get_args(AuditChain)
BEFORE_FIRST: Final = bytes(32)  # what the first entry of a chain follows


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who did what to what, from where, with which credential, and how it ended. No secret in any text.

    time: Unix milliseconds. actor: an identity or ``policy NAME``; as claimed where it was refused. credential: kind,
    and which key or authority. peer: address:port. target: what was acted on, by its path. detail: what became of it.
    """

    chain: AuditChain
    time: int
    actor: str
    credential: str = ""
    surface: str = ""
    peer: str = ""
    operation: str
    target: str = ""
    outcome: str
    detail: str = ""
    tracking_id: str = ""


class ChainedEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry in its place. number: over all chains, in the order of writing. previous: the hash of the one before."""

    number: int
    sequence: int  # from 1, without a gap, within its chain
    previous: bytes
    hash: bytes
    entry: AuditEntry


class AuditHead(msgspec.Struct, frozen=True, gc=False):
    """Where a chain ends, and what was dropped of its beginning: the last such entry, with its hash."""

    sequence: int = 0
    hash: bytes = BEFORE_FIRST
    dropped: int = 0
    dropped_hash: bytes = BEFORE_FIRST


def entry_hash(previous: bytes, sequence: int, entry: AuditEntry) -> bytes:
    """SHA-256 over ``previous`` and a JSON array of the sequence and the entry's members, in their order above."""
    return sha256(previous + msgspec.json.encode((sequence, *msgspec.structs.astuple(entry)))).digest()
