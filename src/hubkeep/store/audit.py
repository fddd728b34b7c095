"""The audit in the registry's file: chained rows, and where each chain ends, sealed.

The head of a chain is written with its entries and sealed under the hub's key: whoever can write to the file, and
cannot read the key, can take nothing off the end without its being seen.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from hubkeep.errors import StoreUnavailable
from hubkeep.model import AuditChain, AuditEntry, AuditHead, ChainedEntry, entry_hash
from hubkeep.ports import AuditQuery, Seal

from .group_commit import GroupCommit
from .tables import AUDIT
from .writer import Prepared, Row, read

log = logging.getLogger("hubkeep.audit")

_ENTRY: Final = AuditEntry.__struct_fields__
_COLUMNS: Final = ("sequence", "previous", "hash", *_ENTRY)
_INSERT: Final = f"INSERT INTO audit ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  # column names
_PUT_HEAD: Final = (
    "INSERT INTO audit_head (chain, sealed) VALUES (?, ?) ON CONFLICT (chain) DO UPDATE SET sealed = excluded.sealed"
)
_DROP: Final = "DELETE FROM audit WHERE chain = ? AND sequence <= ?"
_HEAD: Final = "SELECT sealed FROM audit_head WHERE chain = ?"
_HEADS: Final = "SELECT chain, sealed FROM audit_head"
_HASH: Final = "SELECT hash FROM audit WHERE chain = ? AND sequence = ?"
_LAST: Final = "SELECT max(sequence) FROM audit WHERE chain = ?"
_OF_CHAIN: Final = f"SELECT number, {', '.join(_COLUMNS)} FROM audit WHERE chain = ? ORDER BY sequence"  # noqa: S608  # column names
_NEWEST: Final = f"SELECT number, {', '.join(_COLUMNS)} FROM audit WHERE chain = ? ORDER BY sequence DESC LIMIT ?"  # noqa: S608  # column names
_DROPPED_AT_ONCE: Final = 5000  # rows


class _Anew(NamedTuple):
    """Heads that do not begin with ``prefix`` are to be sealed anew."""

    prefix: bytes


class SqlAudit:
    """See ports.AuditStore and, for the heads, ports.SealedRecords."""

    def __init__(self, commits: GroupCommit, reading: AsyncEngine, look_up: sqlite3.Connection, seal: Seal) -> None:
        self._commits, self._reading, self._look_up, self._seal = commits, reading, look_up, seal
        self._keep: Mapping[AuditChain, int] = {}
        # sealed heads that this process wrote; of two, a failed commit may have left either in the file
        self._written: dict[AuditChain, list[tuple[bytes, AuditHead]]] = {}

    async def append(self, entries: Sequence[AuditEntry], keep: Mapping[AuditChain, int]) -> None:
        self._keep = keep
        await self._commits.together(self._plan, entries, when_full=True)

    async def reseal(self, prefix: bytes) -> int:
        others = self._not_of(prefix)
        if others:
            await self._commits.together(self._plan, _Anew(prefix), when_full=True)
        return len(others)

    async def holds(self, prefix: bytes) -> bool:
        return any(sealed.startswith(prefix) for sealed in self._sealed_heads().values())

    async def find(self, query: AuditQuery) -> Sequence[ChainedEntry]:
        audit = AUDIT.c
        found = select(AUDIT).limit(query.most).order_by(audit.number.asc() if query.oldest else audit.number.desc())
        for column, value in (
            (audit.chain, query.chain),
            (audit.actor, query.actor),
            (audit.operation, query.operation),
        ):
            if value:
                found = found.where(column == value)
        if query.target:
            inside = audit.target.startswith(f"{query.target}/", autoescape=True)
            found = found.where((audit.target == query.target) | inside)
        if query.since:
            found = found.where(audit.time >= query.since)
        if query.until:
            found = found.where(audit.time < query.until)
        if query.page:
            found = found.where(audit.number > query.page if query.oldest else audit.number < query.page)
        return [_chained(row) for row in await read(self._reading, found)]

    async def heads(self) -> Mapping[AuditChain, AuditHead]:
        rows = await read(self._reading, select(AUDIT.c.chain).distinct())
        return {row["chain"]: self._head(row["chain"]) for row in rows}

    # -- appending ---------------------------------------------------------------------------------------------------

    def _plan(self, asked: Sequence[Sequence[AuditEntry] | _Anew]) -> tuple[Sequence[None], Sequence[Prepared]]:
        heads: dict[AuditChain, AuditHead] = {}
        rows: list[tuple[Any, ...]] = []
        try:
            before: dict[AuditChain, AuditHead] = {}
            for entry in (each for entries in asked if not isinstance(entries, _Anew) for each in entries):
                head = heads.get(entry.chain)
                if head is None:
                    head = before[entry.chain] = self._head(entry.chain)
                sequence = head.sequence + 1
                digest = entry_hash(head.hash, sequence, entry)
                rows.append((sequence, head.hash, digest, *msgspec.structs.astuple(entry)))
                heads[entry.chain] = msgspec.structs.replace(head, sequence=sequence, hash=digest)
            for anew in (each for each in asked if isinstance(each, _Anew)):
                for chain in self._not_of(anew.prefix):
                    if chain not in heads:
                        heads[chain] = before[chain] = self._head(chain)
            drops = [self._dropped(chain, before[chain], heads) for chain in heads]
        except sqlite3.Error as error:
            raise StoreUnavailable(reason=f"the audit cannot be read: {error}", remedy="check the disk") from None
        statements = [
            Prepared(_INSERT, rows),
            Prepared(_DROP, [each for each in drops if each is not None]),
            Prepared(_PUT_HEAD, [(chain, self._sealed(chain, head)) for chain, head in heads.items()]),
        ]
        return [None] * len(asked), statements

    def _dropped(
        self, chain: AuditChain, before: AuditHead, heads: dict[AuditChain, AuditHead]
    ) -> tuple[AuditChain, int] | None:
        """Which of the oldest entries go; the head remembers the last of them."""
        head = heads[chain]
        last = min(
            head.sequence - self._keep.get(chain, head.sequence), before.sequence, head.dropped + _DROPPED_AT_ONCE
        )
        if last <= head.dropped:
            return None
        row = self._look_up.execute(_HASH, (chain, last)).fetchone()
        if row is None:  # taken by somebody else: what is missing must stay seen
            return None
        heads[chain] = msgspec.structs.replace(head, dropped=last, dropped_hash=bytes(row[0]))
        return chain, last

    def _sealed(self, chain: AuditChain, head: AuditHead) -> bytes:
        sealed = self._seal.seal(msgspec.msgpack.encode(head), _context(chain))
        self._written[chain] = [*self._written.get(chain, ())[-1:], (sealed, head)]
        return sealed

    def _not_of(self, prefix: bytes) -> Sequence[AuditChain]:
        return [chain for chain, sealed in self._sealed_heads().items() if not sealed.startswith(prefix)]

    def _sealed_heads(self) -> Mapping[AuditChain, bytes]:
        return {chain: bytes(sealed) for chain, sealed in self._look_up.execute(_HEADS).fetchall()}

    def _head(self, chain: AuditChain) -> AuditHead:
        """As it is in the file. One that the hub did not write breaks the chain, for good and for all to see."""
        row = self._look_up.execute(_HEAD, (chain,)).fetchone()
        (last,) = self._look_up.execute(_LAST, (chain,)).fetchone()
        written = self._written.get(chain)
        if row is None:
            if not last and not written:
                return AuditHead()
            return self._broken(chain, last or 0, "its end is gone")
        sealed = bytes(row[0])
        for known, head in written or ():
            if known == sealed:
                return head
        if written:
            return self._broken(chain, last or 0, "its end was written by somebody else")
        try:
            return opened_head(self._seal, chain, sealed)
        except StoreUnavailable as error:
            return self._broken(chain, last or 0, error.reason)

    def _broken(self, chain: AuditChain, last: int, why: str) -> AuditHead:
        log.error("the audit's chain %r is broken: %s; hubkeep audit verify", chain, why)
        sequence = max([last, *(head.sequence for _, head in self._written.get(chain, ()))])
        return AuditHead(sequence=sequence + 1)  # the place that stays empty is the gap that verification finds


class AuditFile:
    """The audit of a registry that nobody need be serving. Raises sqlite3.Error: no registry, or an older one."""

    def __init__(self, registry: Path) -> None:
        self._connection = sqlite3.connect(f"{registry.absolute().as_uri()}?mode=ro", uri=True)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("BEGIN")  # rows and heads of one moment, whatever a hub writes meanwhile

    def close(self) -> None:
        self._connection.close()

    def sealed_heads(self) -> Mapping[str, bytes]:
        return {row["chain"]: bytes(row["sealed"]) for row in self._connection.execute("SELECT * FROM audit_head")}

    def entries(self, chain: AuditChain) -> Iterator[ChainedEntry]:
        """By sequence."""
        for row in self._connection.execute(_OF_CHAIN, (chain,)):
            yield _chained(dict(row))

    def newest(self, chain: AuditChain, most: int) -> Sequence[ChainedEntry]:
        """The last ``most`` of a chain, by sequence."""
        rows = self._connection.execute(_NEWEST, (chain, most)).fetchall()
        return [_chained(dict(row)) for row in reversed(rows)]

    def chains(self) -> Iterable[str]:
        """Those that have rows, whatever their name."""
        return [row["chain"] for row in self._connection.execute("SELECT DISTINCT chain FROM audit")]


def opened_head(seal: Seal, chain: AuditChain, sealed: bytes) -> AuditHead:
    """Raises StoreUnavailable: another key, or not what the hub wrote."""
    return msgspec.msgpack.decode(seal.unseal(sealed, _context(chain)), type=AuditHead)


def _context(chain: AuditChain) -> str:
    return f"audit/{chain}"


def _chained(row: Row) -> ChainedEntry:
    entry = AuditEntry(**{name: row[name] for name in _ENTRY})
    return ChainedEntry(row["number"], row["sequence"], bytes(row["previous"]), bytes(row["hash"]), entry)
