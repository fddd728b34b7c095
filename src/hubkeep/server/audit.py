"""Whether the audit of a data directory is whole: needs no running hub, and minds none."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from hubkeep.cloud.audit_chain import ChainState, Expected, check_chain
from hubkeep.cloud.secrets import KeyFileError
from hubkeep.errors import StoreUnavailable
from hubkeep.model import AUDIT_CHAINS, AuditChain, AuditEntry, AuditHead, ChainedEntry
from hubkeep.ports import Seal
from hubkeep.settings import Sealing
from hubkeep.store.audit import AuditFile, opened_head

from .sealing import open_ring

__all__ = ["ChainState", "Expected", "verify_audit", "verify_exported"]


def verify_audit(
    directory: Path, expected: Sequence[Expected] = (), sealing: Sealing | None = None
) -> Sequence[ChainState]:
    """Every chain, held against its sealed end and against ends that were noted before.

    sealing: where the sealing key is.

    Raises StoreUnavailable: there is no audit, or the sealing key is not there.
    """
    try:
        seal = open_ring(sealing or Sealing(), directory / "keys", create=False)
        audit = AuditFile(directory / "registry.db")
    except KeyFileError as error:
        raise StoreUnavailable(reason=str(error), remedy="put the sealing key of this directory back") from None
    except sqlite3.Error as error:
        raise StoreUnavailable(reason=f"{directory} holds no registry that can be read: {error}") from None
    try:
        sealed, rows = audit.sealed_heads(), audit.chains()
        states = [
            _with_head(chain, audit.entries(chain), sealed, seal, expected)
            for chain in AUDIT_CHAINS
            if chain in sealed or chain in rows or chain in {"changes", *(each.chain for each in expected)}
        ]
        unknown = sorted({*sealed, *rows} - {*AUDIT_CHAINS})
        return [*states, *(_foreign(chain) for chain in unknown)]
    except sqlite3.Error as error:
        remedy = "start the hub once with this version" if "no such table" in str(error) else "check the disk"
        raise StoreUnavailable(reason=f"the audit of {directory} cannot be read: {error}", remedy=remedy) from None
    finally:
        audit.close()


def verify_exported(lines: Iterable[str], expected: Sequence[Expected] = ()) -> Sequence[ChainState]:
    """What ``hubkeep audit export`` wrote: each chain from its first entry there. Raises StoreUnavailable."""
    chains: dict[AuditChain, list[ChainedEntry]] = {}
    for number, line in enumerate(lines, 1):
        try:
            exported = _exported(msgspec.json.decode(line))
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
            raise StoreUnavailable(reason=f"line {number} is no entry of an audit") from None
        chains.setdefault(exported.entry.chain, []).append(exported)
    return [check_chain(chain, entries, None, expected) for chain, entries in chains.items()]


def _with_head(
    chain: AuditChain,
    entries: Iterable[ChainedEntry],
    sealed: Mapping[str, bytes],
    seal: Seal,
    expected: Sequence[Expected],
) -> ChainState:
    head: AuditHead | None = None
    if chain not in sealed:
        fault = "its sealed end is gone, or it never began"
    else:
        try:
            head, fault = opened_head(seal, chain, sealed[chain]), ""
        except StoreUnavailable as error:
            fault = f"its end was not sealed by this hub: {error.reason}"
    state = check_chain(chain, entries, head, expected)
    return state._replace(breaks=(fault, *state.breaks)) if fault else state


def _foreign(chain: str) -> ChainState:
    return ChainState(chain, 0, 0, 0, 0, 0, b"", ("no chain of the hub has this name",))


def _exported(line: dict[str, object]) -> ChainedEntry:
    renamed = {"time": "milliseconds", "tracking_id": "trackingId"}
    members = {name: line[renamed.get(name, name)] for name in AuditEntry.__struct_fields__}
    previous, digest = (bytes.fromhex(str(line[name])) for name in ("previous", "hash"))
    entry = msgspec.convert(members, AuditEntry)
    number, sequence = (msgspec.convert(line[name], int) for name in ("number", "sequence"))
    return ChainedEntry(number, sequence, previous, digest, entry)
